"""Checkpoints of networks of cells, in the authors' names, to files of ours and back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import safetensors.numpy

import mobilenext
from cell_recordings import formula_maps
from golden import formula_weights
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import UsageError, WeightsError
from mobilenext.models import build_network
from mobilenext.weights import own_names
from mobilenext.weights.naming import COUNTER, entries_of
from mobilenext.weights.read import read_weights


def pytorch_file(path: Path, auxiliary: bool, prefix: str = "", **changes: Any) -> dict[str, np.ndarray]:
    """Write what the authors' script saves: the state dict of darts_v2_cifar with counters, and return its tensors."""
    tensors = {}
    for entry in entries_of(build_network("darts_v2_cifar", auxiliary=auxiliary), training=True):
        shape = list(entry.shape("pytorch"))
        tensors |= formula_weights([(entry.pytorch_name, shape)], "cells")
        if entry.counter:
            tensors[entry.counter] = np.array(7, np.int64)
    tensors = {prefix + name: tensor for name, tensor in (tensors | changes).items()}
    safetensors.numpy.save_file(tensors, path)
    return tensors


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    path = tmp_path_factory.mktemp("cells") / "cifar10_model.safetensors"
    return path, pytorch_file(path, auxiliary=True)


@pytest.fixture(scope="module")
def converted(published: tuple[Path, dict[str, np.ndarray]]) -> tuple[Path, dict[str, Any]]:
    output = published[0].with_name("ours.safetensors")
    return output, mobilenext.convert_checkpoint(published[0], output, model="darts_v2_cifar")


def test_there_and_back_is_equal_to_the_bit(
    published: tuple[Path, dict[str, np.ndarray]], converted: tuple[Path, dict[str, Any]]
) -> None:
    path, tensors = published
    file, certificate = converted
    assert (certificate["model"], certificate["num_classes"]) == ("darts_v2_cifar", 10)
    counters = [name for name in tensors if name.endswith(COUNTER)]
    assert sorted(certificate["dropped"]) == sorted(counters)
    assert any(
        "12 tensors of the auxiliary head, which serves training only, are kept" in n for n in certificate["notes"]
    )
    transposed = [row["source"] for row in certificate["tensors"] if row["transposed"]]
    assert transposed == ["auxiliary_head.classifier.weight", "classifier.weight"]
    ours = safetensors.numpy.load_file(file)
    assert np.array_equal(ours["classifier.weight"], tensors["classifier.weight"].T)
    back = path.with_name("back.safetensors")
    mobilenext.convert_checkpoint(file, back, to="pytorch")
    again = safetensors.numpy.load_file(back)
    assert again.keys() == tensors.keys() - set(counters)
    assert all(np.array_equal(again[name], tensors[name]) and again[name].dtype == np.float32 for name in again)


def test_networks_for_evaluation_leave_the_auxiliary_head_out(
    converted: tuple[Path, dict[str, Any]],
    published: tuple[Path, dict[str, np.ndarray]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "mobilenext"):
        network = mobilenext.create_model("darts_v2_cifar", weights=converted[0])
    assert any("the auxiliary head, which serves training only, is left out" in message for message in caplog.messages)
    assert (network.num_classes, network.auxiliary_head, network.training) == (10, None, False)
    whole = build_network("darts_v2_cifar", auxiliary=True)
    mobilenext.load_weights(whole, converted[0])
    whole.eval()
    images = paddle.to_tensor(formula_maps("cells", 1, 3, 32, 32))
    with paddle.no_grad():
        assert np.array_equal(network(images).numpy(), whole(images).numpy())
    assert np.array_equal(
        whole.auxiliary_head.classifier.weight.numpy(), published[1]["auxiliary_head.classifier.weight"].T
    )


def test_preprocessing_is_that_of_the_authors(converted: tuple[Path, dict[str, Any]]) -> None:
    weights = read_weights(converted[0])
    expected = Preprocessing(image_size=32, crop_pct=1.0, mean=(0.49139968, 0.48215827, 0.44653124),
                             std=(0.24703233, 0.24348505, 0.26158768))  # fmt: skip
    assert weights.preprocessing == expected


def test_wrappers_and_a_missing_head(tmp_path: Path) -> None:
    pytorch_file(tmp_path / "plain.safetensors", auxiliary=False, prefix="module.")
    weights = read_weights(tmp_path / "plain.safetensors")
    assert weights.model == "darts_v2_cifar"
    assert not any("auxiliary" in note for note in weights.notes)
    with pytest.raises(WeightsError, match=r"holds darts_v2_cifar .* asked for darts_v1_cifar"):
        read_weights(tmp_path / "plain.safetensors", model="darts_v1_cifar")


def test_other_cells_fit_no_model(tmp_path: Path) -> None:
    pytorch_file(
        tmp_path / "other.safetensors", False, **{"cells.3._ops.9.op.1.weight": np.zeros((36, 1, 3, 3), np.float32)}
    )
    with pytest.raises(
        WeightsError, match=r"fit none of the models; the nearest is darts_v._cifar, with 1 differences"
    ):
        read_weights(tmp_path / "other.safetensors")


def test_words_of_cells_are_known() -> None:
    names = [
        entry.pytorch_name for entry in entries_of(build_network("darts_v2_imagenet", auxiliary=True), training=True)
    ]
    assert own_names.are_of_cells(names)
    for name in names:
        assert own_names.own_name(f"cells.classifier.{name}", of_cells=True) == ("cells.classifier.", name)
        assert all(word.isdecimal() or word in own_names.WORDS for word in name.split(".")[1:-1])
    with pytest.raises(UsageError, match="num_classes is 0"):
        build_network("darts_v2_cifar", num_classes=0)
