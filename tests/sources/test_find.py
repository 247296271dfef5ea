from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from mobilenext.errors import DataError, UsageError
from mobilenext.sources.find import find_subject, sample_for, weights_of

if TYPE_CHECKING:
    from tests.conftest import World


def test_options_that_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exported was given together with weights, use; it already describes"):
        find_subject(exported=tmp_path, weights="a.pdparams", use="ema")
    with pytest.raises(UsageError, match="exported was given together with onnx"):
        find_subject(exported=tmp_path, onnx="a.onnx")
    with pytest.raises(UsageError, match="onnx was given together with model"):
        find_subject(onnx=tmp_path, model="mobilenext_x1_0")
    with pytest.raises(
        DataError, match=r"is no folder; expected one made by `mobilenext export` \(an ONNX file: --onnx"
    ):
        find_subject(exported=tmp_path / "absent")
    with pytest.raises(DataError, match="is no file; expected an ONNX model"):
        find_subject(onnx=tmp_path / "absent.onnx")
    with pytest.raises(DataError, match="is no file; expected an ONNX model"):
        find_subject(onnx=tmp_path)
    (tmp_path / "a.onnx").touch()
    for source in ({"onnx": tmp_path}, {"exported": tmp_path}):
        with pytest.raises(DataError, match=r"a folder with an ONNX model. Give the .onnx file in it to --onnx"):
            find_subject(**source)
    (tmp_path / "mobilenext.json").touch()
    with pytest.raises(DataError, match=r"a folder of `mobilenext export` or quantize. Give it to --exported"):
        find_subject(onnx=tmp_path)
    with pytest.raises(UsageError, match=r"output_name was given, but .*mobilenext.json says what the output is"):
        find_subject(exported=tmp_path, output_name="logits")
    with pytest.raises(UsageError, match="output_name was given without onnx or exported"):
        find_subject(model="mobilenext_x0_35.digits", output_name="logits")


def test_the_sample_of_weights(tmp_path: Path) -> None:
    sample = sample_for(model="ssdlite320_mobilenext_x0_35.bccd")
    with Image.open(sample) as picture:
        assert (picture.format, picture.size) == ("JPEG", (640, 480))
    assert sample.stat().st_size < 60_000
    with pytest.raises(UsageError, match=r"digits\.safetensors comes without a sample; expected image"):
        sample_for(model="mobilenext_x0_35.digits")
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(UsageError, match=r"no image is named, and net\.onnx comes without a sample"):
        sample_for(onnx=tmp_path / "net.onnx")


def test_names_in_place_of_those_of_weights(world: World, tmp_path: Path) -> None:
    names = tuple(f"name {number}" for number in range(8))
    (tmp_path / "names.txt").write_text("\n".join(names))
    for labels in (names, tmp_path / "names.txt"):
        assert weights_of(find_subject(weights=world.weights, labels=labels)).labels == names
