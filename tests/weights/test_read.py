"""Reading weights: the network, the preprocessing and everything else that belongs to them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import safetensors
import safetensors.numpy

from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import UsageError, WeightsError
from mobilenext.models import MODELS
from mobilenext.weights import read
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import FORMAT
from mobilenext.weights.write import write_weights
from weights_files import pytorch_tensors, save


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_read_from_a_pytorch_file(file: Path) -> None:
    weights = read_weights(file)
    theirs = pytorch_tensors()
    assert (weights.model, weights.num_classes, weights.dialect, weights.kind) == (
        "mobilenext_x0_35",
        20,
        "pytorch",
        "raw",
    )
    assert weights.identity_divisor == 1
    assert weights.preprocessing == Preprocessing()
    assert weights.path == file
    assert weights.sha256 == weights.source_sha256 == sha256(file)
    assert weights.source_name == "theirs.safetensors"
    assert weights.card is None
    assert weights.published is None
    assert weights.labels is None
    assert sorted(weights.dropped) == sorted(key for key in theirs if key.endswith(".num_batches_tracked"))
    assert len(weights.dropped) == 74
    assert any("74 num_batches_tracked counters dropped" in note for note in weights.notes)
    assert any("the identity divisor cannot be read from the file: 1 is assumed" in note for note in weights.notes)
    assert len(weights.tensors) == 372
    assert np.array_equal(weights.tensors["features.0.1._mean"], theirs["features.0.1.running_mean"])
    assert np.array_equal(weights.tensors["features.0.1._variance"], theirs["features.0.1.running_var"])
    assert np.array_equal(weights.tensors["classifier.1.weight"], theirs["classifier.1.weight"].T)


def test_no_note_about_a_divisor_that_is_given_or_that_does_not_exist(file: Path, tmp_path: Path) -> None:
    assert not any("divisor" in note for note in read_weights(file, identity_divisor=2).notes)
    other = tmp_path / "s.safetensors"
    safetensors.numpy.save_file(pytorch_tensors("mobilenext_s"), other)
    assert not any("divisor" in note for note in read_weights(other).notes)


def test_the_suffix_may_be_left_out(file: Path, tmp_path: Path) -> None:
    assert read_weights(file.with_suffix("")).path == file
    write_weights(read_weights(file), tmp_path / "other_x0.35.pdparams")
    assert read_weights(tmp_path / "other_x0.35").path == tmp_path / "other_x0.35.pdparams"
    with pytest.raises(WeightsError, match=r"there is no such file.*theirs\.safetensors"):
        read_weights(tmp_path / "theirs.pth")


def test_another_model_than_asked_for(file: Path) -> None:
    assert read_weights(file, model="MobileNeXt_x0_35").model == "mobilenext_x0_35"
    with pytest.raises(WeightsError) as caught:
        read_weights(file, model="mobilenext_x1_0")
    assert "holds mobilenext_x0_35 (20 classes); asked for mobilenext_x1_0" in str(caught.value)
    with pytest.raises(UsageError, match="unknown model 'mobilenext_x0_36'; did you mean"):
        read_weights(file, model="mobilenext_x0_36")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"features.7.conv.3.weight": None}, ["features.7.conv.3.weight", "[32, 104, 1, 1]", "-"]),
        ({"extra.weight": np.zeros((2, 3), np.float32)}, ["extra.weight", "-", "[2, 3]"]),
        ({"features.0.1.bias": np.zeros(17, np.float32)}, ["features.0.1.bias", "[16]", "[17]"]),
    ],
)
def test_what_does_not_fit_is_shown_on_both_sides(changes: dict[str, Any], expected: list[str], tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        read_weights(save(tmp_path / "odd.safetensors", changes))
    lines = [line for line in str(caught.value).splitlines() if line.startswith(expected[0])]
    assert [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines] == [expected]


def test_float16_is_exact(tmp_path: Path) -> None:
    halves = {key: t.astype(np.float16) for key, t in pytorch_tensors().items() if t.dtype == np.float32}
    weights = read_weights(save(tmp_path / "half.safetensors", halves))
    assert {tensor.dtype for tensor in weights.tensors.values()} == {np.dtype(np.float32)}
    bias = "classifier.1.bias"
    assert np.array_equal(weights.tensors[bias].astype(np.float16), halves[bias])
    assert not any("rounded" in note for note in weights.notes)


def test_float64_is_rounded_and_said_so(tmp_path: Path) -> None:
    bias = np.full(20, 1 / 3)
    weights = read_weights(save(tmp_path / "double.safetensors", {"classifier.1.bias": bias}))
    assert weights.tensors["classifier.1.bias"].tolist() == [float(np.float32(1 / 3))] * 20
    assert "1 float64 tensors rounded to float32" in weights.notes
    exact = read_weights(save(tmp_path / "exact.safetensors", {"classifier.1.bias": np.full(20, 0.5)}))
    assert not any("rounded" in note for note in exact.notes)


@pytest.mark.parametrize(
    "bad",
    [np.full(20, np.nan, np.float32), np.full(20, -np.inf, np.float32), np.full(20, 1e300)],
    ids=["nan", "infinity", "too large for float32"],
)
def test_what_is_not_finite_is_refused(bad: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"classifier\.1\.bias holds values that are not finite"):
        read_weights(save(tmp_path / "bad.safetensors", {"classifier.1.bias": bad}))


def test_integers_are_not_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"classifier\.1\.bias has the type int32; expected floating point"):
        read_weights(save(tmp_path / "bad.safetensors", {"classifier.1.bias": np.ones(20, np.int32)}))


@pytest.mark.parametrize("divisor", [0, -1, 2.0, True])
def test_an_impossible_divisor(divisor: Any, file: Path) -> None:
    with pytest.raises(UsageError, match=r"identity_divisor is .*; expected"):
        read_weights(file, identity_divisor=divisor)


def test_a_divisor_for_a_network_that_has_none(tmp_path: Path) -> None:
    path = tmp_path / "v2.safetensors"
    safetensors.numpy.save_file(pytorch_tensors("mobilenetv2_x0.35"), path)
    assert read_weights(path, identity_divisor=1).identity_divisor == 1
    with pytest.raises(UsageError, match="mobilenetv2_x0_35 has no partial shortcut"):
        read_weights(path, identity_divisor=2)


def test_preprocessing_of_the_caller(file: Path) -> None:
    weights = read_weights(file, preprocessing={"image_size": 160, "interpolation": "bilinear"})
    assert weights.preprocessing == Preprocessing(image_size=160, interpolation="bilinear")
    with pytest.raises(UsageError, match=r"'image_siz'.*did you mean 'image_size'"):
        read_weights(file, preprocessing={"image_siz": 160})


def test_labels(file: Path, tmp_path: Path) -> None:
    names = tuple(f"клас {index}" for index in range(20))
    weights = read_weights(file, labels=names)
    assert weights.labels == names
    write_weights(weights, tmp_path / "ours.safetensors")
    assert read_weights(tmp_path / "ours.safetensors").labels == names
    with pytest.raises(UsageError, match="19 labels for 20 classes: expected one name for each class"):
        read_weights(file, labels=names[1:])


def test_metadata_of_our_file(file: Path, tmp_path: Path) -> None:
    weights = read_weights(file, identity_divisor=2, preprocessing={"image_size": 64})
    ours, again = tmp_path / "ours.safetensors", tmp_path / "again.safetensors"
    write_weights(weights, ours)
    with safetensors.safe_open(ours, "numpy") as stream:
        metadata = stream.metadata()
    assert metadata["model"] == "mobilenext_x0_35"
    assert metadata["num_classes"] == "20"
    assert metadata["identity_divisor"] == "2"
    assert metadata["source_name"] == "theirs.safetensors"
    assert metadata["source_sha256"] == sha256(file)
    assert json.loads(metadata["preprocessing"]) == {
        "image_size": 64,
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }

    second = read_weights(ours)
    assert (second.model, second.num_classes, second.identity_divisor) == ("mobilenext_x0_35", 20, 2)
    assert (second.preprocessing.image_size, second.dialect, second.dropped) == (64, "paddle", ())
    assert (second.source_name, second.source_sha256) == ("theirs.safetensors", sha256(file))
    assert second.sha256 == sha256(ours)
    assert second.notes == ()
    assert second.tensors.keys() == weights.tensors.keys()
    assert all(np.array_equal(second.tensors[key], tensor) for key, tensor in weights.tensors.items())
    write_weights(second, again)
    assert again.read_bytes() == ours.read_bytes()
    assert read_weights(ours, identity_divisor=4).identity_divisor == 4  # the caller's word counts


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("identity_divisor", "0"),
        ("identity_divisor", "half"),
        ("preprocessing", "{"),
        ("preprocessing", "[]"),
        ("preprocessing", '{"image_size": 224}'),
        ("preprocessing", '{"image_size": -1, "crop_pct": 1, "interpolation": "box", "mean": [0,0,0], "std": [1,1,1]}'),
        ("labels", "["),
        ("labels", "7"),
        ("labels", "[1, 2]"),
        ("labels", '["only", "two"]'),
    ],
)
def test_damaged_metadata(name: str, text: str, tmp_path: Path) -> None:
    metadata = {"format": FORMAT, "identity_divisor": "1", name: text}
    path = save(tmp_path / "ours.safetensors", {}, **metadata)
    with pytest.raises(WeightsError, match=f"metadata.*{name}"):
        read_weights(path)


def test_metadata_of_others_says_nothing(tmp_path: Path) -> None:
    weights = read_weights(save(tmp_path / "pt.safetensors", {}, format="pt", identity_divisor="0", preprocessing="{"))
    assert (weights.identity_divisor, weights.preprocessing) == (1, Preprocessing())


@pytest.mark.parametrize(("use", "kind"), [(None, "ema"), ("raw", "raw"), ("ema", "ema")])
def test_raw_or_averaged(use: str | None, kind: str, tmp_path: Path) -> None:
    tensors = {key: t for key, t in pytorch_tensors().items() if not key.endswith("tracked")}
    averaged = tensors | {"classifier.1.bias": np.full(20, 9.0, np.float32)}
    paddle.save({"epoch": 3, "state_dict": tensors, "state_dict_ema": averaged}, str(tmp_path / "both.pdparams"))
    weights = read_weights(tmp_path / "both.pdparams", use=use)
    assert weights.kind == kind
    assert (weights.tensors["classifier.1.bias"] == 9).all() == (kind == "ema")


def test_published_weights_bring_their_card(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = MODELS["mobilenext_x1_0"]
    half = dataclasses.replace(card.weights[1], preprocessing=Preprocessing(image_size=160))
    asked: list[dict[str, str]] = []

    def find(**ids: str) -> Any:
        asked.append(ids)
        return card, half

    monkeypatch.setattr(read, "find_weights_card", find)
    weights = read_weights(file)
    content = file.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert asked == [{"git_blob": blob, "sha256": sha256(file)}]
    assert (weights.card, weights.identity_divisor, weights.preprocessing.image_size) == (
        "mobilenext_x1_0.in1k_half_id",
        2,
        160,
    )
    assert weights.published is MODELS["mobilenext_x1_0"].weights[1]
    write_weights(weights, tmp_path / "ours.safetensors")
    asked.clear()
    again = read_weights(tmp_path / "ours.safetensors")
    assert not asked  # the file says it itself
    assert (again.card, again.identity_divisor) == (weights.card, 2)
