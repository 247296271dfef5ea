"""Networks that are in no card: written, read, run, exported and counted by what their task builds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

import brightness
import mobilenext
from mobilenext.data import Preprocessing
from mobilenext.errors import WeightsError
from mobilenext.export.checked import write_checked
from mobilenext.export.sidecar import read_sidecar
from mobilenext.models.counting import count
from mobilenext.runtime.self_check import probe
from mobilenext.sources.prepare import count_mult_adds
from mobilenext.weights import naming
from mobilenext.weights.builders import network_for
from mobilenext.weights.convert import convert_checkpoint
from mobilenext.weights.load import network_of
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import NetworkRecord, Weights
from mobilenext.weights.write import write_weights


@pytest.fixture(scope="module")
def architecture() -> dict[str, Any]:
    from mobilenext.models.block_plan import BlockPlan

    first = BlockPlan(8, 4, 16, 2, first_depthwise=True, last_depthwise=True, shortcut=False, kernel_size=5)
    second = BlockPlan(16, 4, 16, 1, first_depthwise=True, last_depthwise=True, shortcut=True)
    return {"blocks": [dataclasses.asdict(first), dataclasses.asdict(second)]}


@pytest.fixture(scope="module")
def weights(architecture: dict[str, Any]) -> Weights:
    network = network_for(
        NetworkRecord(
            model="two_blocks", num_classes=1, identity_divisor=1, task=brightness.NAME, architecture=architecture
        )
    )
    return Weights(
        model="two_blocks", num_classes=1, identity_divisor=1, task=brightness.NAME, architecture=architecture,
        preprocessing=Preprocessing(image_size=32), labels=None, path=Path("a.safetensors"), sha256="",
        source_name="a test", source_sha256="", card=None, kind="raw", notes=(), dialect="paddle", dropped=(),
        tensors={name: tensor.numpy() for name, tensor in network.state_dict().items()},
        entries=naming.entries_of(network),
    )  # fmt: skip


@pytest.fixture(scope="module")
def path(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "two.safetensors"
    write_weights(weights, path)
    return path


def test_it_is_read_as_it_was_written(weights: Weights, path: Path, tmp_path: Path) -> None:
    stored = read_weights(path)
    assert (stored.model, stored.architecture, stored.task) == ("two_blocks", weights.architecture, "brightness")
    convert_checkpoint(path, tmp_path / "two.pdparams")
    convert_checkpoint(tmp_path / "two.pdparams", tmp_path / "pytorch.safetensors", to="pytorch")
    for file in (path, tmp_path / "two.pdparams", tmp_path / "pytorch.safetensors"):
        again = read_weights(file)
        assert again.architecture == weights.architecture
        assert list(again.tensors) == list(weights.tensors)
        assert all(np.array_equal(tensor, again.tensors[name]) for name, tensor in weights.tensors.items())


def test_it_answers_is_exported_and_counted(weights: Weights, path: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    network = network_of(read_weights(path))
    image = weights.preprocessing.normalize(weights.preprocessing.pixels(brightness.Image.fromarray(pixels))[None])
    with paddle.no_grad():
        expected = network(paddle.to_tensor(image)).item()
        assert mobilenext.create_model(weights=path)(paddle.to_tensor(image)).item() == pytest.approx(expected)
    for runtime in ("paddle", "onnxruntime"):
        (row,) = mobilenext.predict(pixels, weights=path, runtime=runtime, device="cpu")
        assert row["brightness"] == pytest.approx(expected, abs=1e-5)
    write_checked(read_weights(path), "onnx", tmp_path, None, lambda expected, outputs: ({}, None))
    record = read_sidecar(tmp_path).record
    assert record.architecture == weights.architecture
    assert read_sidecar(tmp_path).expected_outputs()[0] == pytest.approx(
        network(paddle.to_tensor(probe(weights.preprocessing))).numpy(), abs=1e-5
    )
    assert count_mult_adds(record) == count(network, 32).mult_adds


def test_what_does_not_fit_is_refused(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert weights.architecture is not None
    wider = {"blocks": [{**weights.architecture["blocks"][0], "kernel_size": 3}, weights.architecture["blocks"][1]]}
    write_weights(dataclasses.replace(weights, architecture=wider), path)
    with pytest.raises(WeightsError, match=r"do not fit the two_blocks that its metadata describes; 2 differences"):
        read_weights(path)
    write_weights(dataclasses.replace(weights, task=None), path)
    with pytest.raises(WeightsError, match=r"two_blocks has an architecture that cannot be used: schema is missing"):
        read_weights(path)
    write_weights(dataclasses.replace(weights, task="other"), path)
    with pytest.raises(WeightsError, match=r"a\.safetensors: two_blocks has an architecture that nothing of the task"):
        read_weights(path)
    write_weights(weights, path)
    with pytest.raises(WeightsError, match=r"holds two_blocks \(1 classes\); asked for mobilenext_x1_0"):
        read_weights(path, model="mobilenext_x1_0")
