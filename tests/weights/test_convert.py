"""Conversion from PyTorch's names to ours and back, and the certificate of what became of each tensor."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import safetensors
import safetensors.numpy

from mobilenext.errors import OutputError, UsageError, WeightsError
from mobilenext.version import __version__
from mobilenext.weights.convert import convert_checkpoint

GOLDENS = Path(__file__).parents[1] / "goldens"


def pytorch_tensors(recording: str = "mobilenext_x0.35_20classes_64px", num_classes: int = 0) -> dict[str, np.ndarray]:
    """Random tensors with the names and shapes of a recorded PyTorch network; -0, a tiny and a huge one too."""
    random = np.random.default_rng(2)
    keys = dict(json.loads((GOLDENS / f"{recording}.json").read_text())["keys"])
    if num_classes:
        keys |= {"classifier.1.weight": [num_classes, 1280], "classifier.1.bias": [num_classes]}
    tensors = {
        key: np.full(shape, 3, np.int64) if key.endswith("tracked") else random.standard_normal(shape, np.float32)
        for key, shape in keys.items()
    }
    next(iter(tensors.values())).flat[:3] = [-0.0, 1e-45, 3.4e38]
    return tensors


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file(pytorch_tensors(), path)
    return path


def sha256(content: bytes | Path) -> str:
    return hashlib.sha256(content.read_bytes() if isinstance(content, Path) else content).hexdigest()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ours_by_hand(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The two rules, written once more: batch norm's statistics are renamed, the one 2-D weight is transposed."""
    renamed = {}
    for key, tensor in tensors.items():
        if not key.endswith("num_batches_tracked"):
            name = key.replace("running_mean", "_mean").replace("running_var", "_variance")
            renamed[name] = np.ascontiguousarray(tensor.T) if tensor.ndim == 2 else tensor
    return renamed


def bits(tensors: dict[str, np.ndarray]) -> dict[str, tuple[Any, ...]]:
    return {key: (tensor.shape, tensor.dtype, tensor.tobytes()) for key, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("recording", "num_classes"),
    [
        ("mobilenext_x0.35", 0),
        ("mobilenext_x0.35", 1280),  # the linear layer is square
        ("mobilenext_x0.35", 1),
        ("mobilenext_s", 0),
        ("mobilenetv2_x0.35", 0),
    ],
)
def test_there_and_back_again_is_exact_to_the_bit(recording: str, num_classes: int, tmp_path: Path) -> None:
    tensors = pytorch_tensors(recording, num_classes)
    theirs, ours, back = (tmp_path / f"{name}.safetensors" for name in ("theirs", "ours", "back"))
    safetensors.numpy.save_file(tensors, theirs)
    convert_checkpoint(theirs, ours)
    assert bits(safetensors.numpy.load_file(ours)) == bits(ours_by_hand(tensors))
    convert_checkpoint(ours, back, to="pytorch")
    kept = {key: tensor for key, tensor in tensors.items() if not key.endswith("num_batches_tracked")}
    assert bits(safetensors.numpy.load_file(back)) == bits(kept)
    again = tmp_path / "again.safetensors"
    convert_checkpoint(back, again)
    assert again.read_bytes() == ours.read_bytes()  # tensors, metadata and all


def test_by_way_of_pdparams(theirs: Path, tmp_path: Path) -> None:
    ours, back = tmp_path / "ours.pdparams", tmp_path / "back.safetensors"
    convert_checkpoint(theirs, ours)
    loaded = {key: tensor.numpy() for key, tensor in paddle.load(str(ours)).items()}
    assert bits(loaded) == bits(ours_by_hand(pytorch_tensors()))
    certificate = convert_checkpoint(ours, back, to="pytorch")
    kept = {key: tensor for key, tensor in pytorch_tensors().items() if not key.endswith("num_batches_tracked")}
    assert bits(safetensors.numpy.load_file(back)) == bits(kept)
    assert certificate["source"]["names"] == "paddle"
    assert any("identity divisor" in note for note in certificate["notes"])  # this format has no room for it


def test_the_certificate(theirs: Path, tmp_path: Path) -> None:
    output = tmp_path / "ours.safetensors"
    certificate = convert_checkpoint(theirs, output, preprocessing={"image_size": 64})
    assert json.loads((tmp_path / "ours.safetensors.certificate.json").read_text(encoding="utf-8")) == certificate
    tensors = pytorch_tensors()
    assert certificate["source"] == {
        "name": "theirs.safetensors",
        "sha256": sha256(theirs),
        "names": "pytorch",
        "kind": "raw",
    }
    assert certificate["first_source"] == {"name": "theirs.safetensors", "sha256": sha256(theirs), "published": None}
    assert certificate["output"] == {"name": "ours.safetensors", "sha256": sha256(output), "names": "paddle"}
    assert (certificate["model"], certificate["num_classes"], certificate["identity_divisor"]) == (
        "mobilenext_x0_35",
        20,
        1,
    )
    assert certificate["preprocessing"]["image_size"] == 64
    assert certificate["mobilenext"] == __version__
    assert sorted(certificate["dropped"]) == sorted(key for key in tensors if key.endswith("num_batches_tracked"))
    assert any("identity divisor cannot be read" in note for note in certificate["notes"])

    rows = {row["source"]: row for row in certificate["tensors"]}
    assert len(rows) == len(certificate["tensors"])
    assert rows.keys() | set(certificate["dropped"]) == tensors.keys()  # nothing is left out
    written = safetensors.numpy.load_file(output)
    assert {row["output"] for row in rows.values()} == written.keys()
    for key, row in rows.items():
        assert row["source_shape"] == list(tensors[key].shape)
        assert row["output_shape"] == list(written[row["output"]].shape)
        assert row["sha256"] == sha256(written[row["output"]].tobytes())
        assert row["transposed"] == (key == "classifier.1.weight")


def test_the_certificate_of_the_way_back(theirs: Path, tmp_path: Path) -> None:
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.safetensors"
    convert_checkpoint(theirs, ours, identity_divisor=2)
    certificate = convert_checkpoint(ours, back, to="pytorch")
    assert certificate["source"] == {"name": ours.name, "sha256": sha256(ours), "names": "paddle", "kind": "raw"}
    assert certificate["first_source"]["name"] == "theirs.safetensors"
    assert certificate["first_source"]["sha256"] == sha256(theirs)
    assert certificate["output"]["names"] == "pytorch"
    assert (certificate["identity_divisor"], certificate["dropped"], certificate["notes"]) == (2, [], [])
    assert [row["output"] for row in certificate["tensors"] if row["transposed"]] == ["classifier.1.weight"]
    tensors = pytorch_tensors()
    assert {row["output"]: row["sha256"] for row in certificate["tensors"]} == {
        key: sha256(tensor.tobytes()) for key, tensor in tensors.items() if not key.endswith("num_batches_tracked")
    }
    same = convert_checkpoint(ours, tmp_path / "same.safetensors")
    assert not any(row["transposed"] for row in same["tensors"])
    with safetensors.safe_open(back, "numpy") as stream:
        assert stream.metadata()["identity_divisor"] == "2"  # it goes along with PyTorch's names as well


def test_the_output_is_the_same_every_time(theirs: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / str(number) / "ours.safetensors" for number in range(3)]
    certificates = [convert_checkpoint(theirs, output, labels=tuple("abcdefghijklmnopqrst")) for output in outputs]
    assert len({output.read_bytes() for output in outputs}) == 1
    for certificate in certificates:
        del certificate["started"], certificate["finished"]
    assert certificates[0] == certificates[1] == certificates[2]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_become_float32(dtype: Any, tmp_path: Path) -> None:
    tensors = {
        key: np.full_like(tensor, 0.1, dtype) if tensor.dtype == np.float32 else tensor
        for key, tensor in pytorch_tensors().items()
    }
    safetensors.numpy.save_file(tensors, tmp_path / "theirs.safetensors")
    certificate = convert_checkpoint(tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors")
    written = safetensors.numpy.load_file(tmp_path / "ours.safetensors")
    assert {tensor.dtype for tensor in written.values()} == {np.dtype(np.float32)}
    assert set(np.unique(written["classifier.1.weight"])) == {np.float32(dtype(0.1))}
    assert ("372 float64 tensors rounded to float32" in certificate["notes"]) == (dtype is np.float64)


def test_the_source_is_not_overwritten(theirs: Path) -> None:
    before = theirs.read_bytes()
    for source in (theirs, theirs.with_suffix("")):  # with the suffix left out it is the same file
        with pytest.raises(UsageError, match="is the source itself; expected another output"):
            convert_checkpoint(source, theirs)
    assert theirs.read_bytes() == before
    assert names_in(theirs.parent) == [theirs.name]


def test_what_fails_writes_nothing(theirs: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "no folder"
    blocked.write_text("")
    output = tmp_path / "ours.safetensors"
    with pytest.raises(UsageError, match="to is 'torch'; expected 'paddle' or 'pytorch'"):
        convert_checkpoint(theirs, output, to="torch")
    with pytest.raises(OutputError, match="cannot write"):
        convert_checkpoint(theirs, blocked / "ours.safetensors")
    with pytest.raises(UsageError, match=r"suffix '\.pth'; expected \.safetensors or \.pdparams"):
        convert_checkpoint(theirs, tmp_path / "ours.pth")
    with pytest.raises(UsageError, match=r"suffix '\.pdparams'; expected \.safetensors \(PyTorch reads it"):
        convert_checkpoint(theirs, tmp_path / "ours.pdparams", to="pytorch")
    with pytest.raises(WeightsError, match="asked for mobilenext_x0_75"):
        convert_checkpoint(theirs, output, model="mobilenext_x0_75")
    with pytest.raises(UsageError, match="2 labels for 20 classes"):
        convert_checkpoint(theirs, output, labels=("a", "b"))
    with pytest.raises(WeightsError, match="no such file"):
        convert_checkpoint(tmp_path / "absent.pth", output)
    assert names_in(tmp_path) == ["no folder", theirs.name]


def test_one_of_several_sections(tmp_path: Path) -> None:
    source, output = tmp_path / "both.pdparams", tmp_path / "ours.safetensors"
    student, teacher = pytorch_tensors(), pytorch_tensors()
    teacher["classifier.1.bias"] = np.full(20, 7, np.float32)
    both = {f"Student.{key}": tensor for key, tensor in student.items()} | {
        f"Teacher.{key}": tensor for key, tensor in teacher.items()
    }
    source.write_bytes(pickle.dumps({"state_dict": both, "epoch": 3}, 4))
    with pytest.raises(UsageError, match=r"2 sections of raw weights.*state_dict/Student\..*--section"):
        convert_checkpoint(source, output)
    certificate = convert_checkpoint(source, output, section="state_dict/Teacher.")
    assert certificate["section"] == "state_dict/Teacher."
    assert "Stripped 'Teacher.' from all 446 names." in certificate["notes"]
    assert safetensors.numpy.load_file(output)["classifier.1.bias"].tolist() == [7] * 20


def test_what_fits_nothing_lists_the_sections(tmp_path: Path) -> None:
    source = tmp_path / "other.pdparams"
    tensors = pytorch_tensors()
    del tensors["features.7.conv.3.weight"]
    content = {
        "net": {f"module.{key}": tensor for key, tensor in tensors.items()},
        "teacher": {"fc.weight": np.zeros(3)},
    }
    source.write_bytes(pickle.dumps(content, 4))
    with pytest.raises(WeightsError) as caught:
        convert_checkpoint(source, tmp_path / "ours.safetensors")
    message = str(caught.value)
    assert "the nearest is mobilenext_x0_35, with 1 differences" in message
    assert "net (raw, 445 tensors), teacher (raw, 1 tensors)" in message


def test_a_keyword_that_convert_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"convert_checkpoint\(\) got an unexpected keyword argument 'sections'"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "a.safetensors", sections="ema")
