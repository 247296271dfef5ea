"""What files and folders are, against what their own writers make where those are at hand, else by their formats."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from mobilenext.data.images import find_images, read_image
from mobilenext.data.list_file import read_list
from mobilenext.errors import DataError, ImageError
from mobilenext.file_kinds import kind_of, kind_of_head, other_kind
from mobilenext.sources.find import find_subject
from mobilenext.weights.pretrained import locate
from mobilenext.weights.read import read_weights


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return buffer.getvalue()


def tarred(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 700
            archive.addfile(member, io.BytesIO(bytes(700)))
    return buffer.getvalue()


def image(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x08\x07\x12\x07pytorch\x1a\x052.4.0:\x80\x01", "onnx"),
        (b"\x08\x0a:\x99\x03\n\x10", "onnx"),  # the graph at once
        (b"\x08\x08B\x04\n\x00\x10\x11:\x10", "onnx"),  # the opsets first
        (b"\x08\x04\x12\x0a\n\x08\n\x05image\x12", "coreml"),
        (b"\x1c\0\0\0TFL3\x14\0 \0", "tflite"),
        (b" \0\0\0ORTM", "ort"),
        (b"GGUF\x03\0\0\0", "gguf"),
        (b"\x89HDF\r\n\x1a\n", "hdf5"),
        (b"\x93NUMPY\x01\0v\0{'descr'", "npy"),
        (b"\n\xb7\x03\x08\x00\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x1a", "paddle-inference"),
        (b'{"base_code":{"magic":"pir","trainable":true,"version":1},"program"', "paddle-inference"),
        (b'<?xml version="1.0"?>\n<net name="Model0" version="11">', "openvino"),
        (b"7767517\n75 83\nInput  in0 0 1 in0\n", "ncnn"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "lfs"),
        (b"<!DOCTYPE html>", "html"),
        (b'{"a": 1}', "json"),
        (b"\xef\xbb\xbf[1]", "json"),
        (b"val_1.JPEG 65\nval_2.JPEG 3\n", "list"),
        (b"BMW_1.jpg,3\nGIF8.png\t4\n", "list"),
        (b"BMW\nAudi\n", "text"),
        ("été\nhiver\n".encode(), "text"),
        (b"%PDF-1.7\n\xff", "pdf"),
        (bytes(64), "pdiparams"),
        (image("PNG"), "image"),
        (image("JPEG"), "image"),
        (image("BMP"), "image"),
        (image("WEBP"), "image"),
        (image("TIFF"), "image"),
        (tarred("notes.md"), "archive"),
        (struct.pack("<Q", 64) + b'{"a":{}}', "weights"),
        (b"\x80\x04\x95", "weights"),
    ],
)
def test_files_by_their_first_bytes(content: bytes, name: str) -> None:
    kind = kind_of_head(content)
    assert kind is not None
    assert kind.name == name


@pytest.mark.parametrize("content", [b"", b"\xde\xad\xbe\xef", b"\x08", b"\x08\xff\xff\xff", b"\x01\x02\x03\x04" * 9])
def test_what_is_not_known(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    assert kind_of(tmp_path / "x") is None
    assert other_kind(tmp_path / "x", "onnx") is None
    assert kind_of(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (zipped("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"), "TorchScript"),
        (zipped("m/data.pkl", "m/data/0"), "checkpoint of PyTorch"),
        (zipped("metadata.json", "config.json", "model.weights.h5"), "Keras"),
        (zipped("serialized_exported_program.json"), "torch.export"),
        (zipped("a.npy", "b.npy"), "NumPy"),
        (zipped("photos/cat/1.jpg"), "ZIP archive of images"),
        (zipped("[Content_Types].xml"), "a ZIP archive"),
        (tarred("tiny20/labels.txt", "tiny20/imgs/a.JPEG"), "tar archive of images"),
    ],
)
def test_archives_by_their_names(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    kind = kind_of(tmp_path / "x")
    assert kind is not None
    assert what in kind.what


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (("mobilenext.json", "model.onnx"), "exported"),
        (("run.json", "log.jsonl", "best.safetensors", "result.json"), "run"),
        (("result.json", "predictions.jsonl"), "evaluation"),
        (("journal.jsonl",), "evaluation"),
        (("bench.json", "bench.md"), "bench"),
        (("saved_model.pb",), "saved-model"),
        (("inference.pdmodel", "inference.pdiparams"), "paddle-folder"),
        (("inference.json", "inference.pdiparams"), "paddle-folder"),
        (("model.xml", "model.bin"), "openvino-folder"),
        (("model.onnx", "model.onnx.data"), "onnx-folder"),
        (("config.json", "model.safetensors"), "hf-folder"),
        ((".metadata", "__0_0.distcp"), "distributed"),
        (("val_list.txt", "labels.txt"), "data"),
        (("a.jpg", "b.PNG"), "images"),
        (("notes.md",), None),
    ],
)
def test_folders_by_what_is_in_them(names: tuple[str, ...], name: str | None, tmp_path: Path) -> None:
    for each in names:
        (tmp_path / each).touch()
    kind = kind_of(tmp_path)
    assert (kind and kind.name) == name


def test_files_that_need_another(tmp_path: Path) -> None:
    for name in ("model.bin", "model.xml", "net.bin", "net.param", "pytorch_model.bin", "a.mnn"):
        (tmp_path / name).write_bytes(b"\x01\x02")
    kinds: Mapping[str, str | None] = {"model": "openvino", "net": "ncnn", "pytorch_model": None}
    for stem, name in kinds.items():
        kind = kind_of(tmp_path / f"{stem}.bin")
        assert (kind and kind.name) == name
    kind = kind_of(tmp_path / "a.mnn")
    assert kind is not None
    assert kind.name == "mnn", "its name alone tells"


def test_an_option_names_what_it_was_given(tmp_path: Path) -> None:
    weights, exported, onnx = tmp_path / "w.onnx", tmp_path / "exported", tmp_path / "m"
    safetensors.numpy.save_file({"w": np.zeros(2)}, weights)
    exported.mkdir()
    (exported / "mobilenext.json").touch()
    onnx.write_bytes(b"\x08\x07\x12\x07pytorch:\x80\x01")
    for options, sentence in (
        ({"onnx": weights}, "--onnx .*this is a safetensors file. Give it to --weights"),
        ({"onnx": exported}, "--onnx .*this is a folder of `mobilenext export` or quantize. Give it to --exported"),
        ({"exported": onnx}, "--exported .*this is an ONNX model. Give it to --onnx"),
        ({"exported": weights}, "--exported .*Give it to --weights"),
    ):
        with pytest.raises(DataError, match=sentence):
            find_subject(**options)
    assert find_subject(onnx=onnx).kind == "onnx"


def test_what_is_given_as_an_image(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(DataError, match="this is the folder of a training run"):
        list(find_images([tmp_path]))
    (tmp_path / "page.jpg").write_bytes(b"<!DOCTYPE html><html>")
    with pytest.raises(ImageError, match=r'begins with "<!DOCTYPE ht" and is an HTML or XML page\. Convert it'):
        read_image(tmp_path / "page.jpg")


def test_names_of_classes_are_no_list(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("0 n02124075 Egyptian cat\n1 n04067472 reel\n")
    with pytest.raises(DataError, match="names of the classes: --labels"):
        read_list(tmp_path, tmp_path / "labels.txt")


def test_a_run_is_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("run.json", "log.jsonl", "best.safetensors"):
        (tmp_path / "mine" / name).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"Its weights are best\.safetensors in it"):
        read_weights(locate(None, "mine"))
