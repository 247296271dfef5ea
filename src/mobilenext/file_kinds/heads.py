"""What a file is, by its first bytes."""

from __future__ import annotations

import re
from collections.abc import Callable

from mobilenext.file_kinds.kinds import (
    DOWNLOAD_THE_FILE,
    IMAGE,
    JSON,
    LIST,
    NCNN,
    OF_EXPORTED,
    OF_WEIGHTS,
    ONNX,
    OPENVINO,
    OTHER_PROGRAM,
    PADDLE_PROGRAM,
    PADDLE_VALUES,
    TEXT,
    UNPACK,
    Kind,
)

HEAD = 4096  # bytes that are enough to tell
_LIST_LINE = re.compile(r"\S.*\.[A-Za-z0-9]{2,5}[\"']?[ \t,;]+[\"']?-?[0-9]+[\"']?")
_LINES = 50


def _is_onnx(head: bytes) -> bool:
    """Recognize a ModelProto: IR version, then producer, domain and so on (text), until the graph or the opsets."""
    if head[:1] != b"\x08" or not 0 < int.from_bytes(head[1:2], "little") < 32:
        return False
    position = 2
    while position < len(head):
        tag = head[position]
        if tag in (0x3A, 0x42):  # graph, opset_import
            return True
        value, position = _varint(head, position + 1)
        if tag in (0x12, 0x1A, 0x22, 0x32):  # producer_name, producer_version, domain, doc_string
            if not all(byte >= 32 or byte in b"\t\n\r" for byte in head[position : position + value]):
                return False
            position += value
        elif tag != 0x28:  # model_version
            return False
    return position > 4


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 63:
        byte = data[position]
        value |= (byte & 127) << shift
        shift += 7
        position += 1
        if byte < 128:
            break
    return value, position


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) < 512 or error.start < len(head) - 3:  # not only a character that the end cuts
            return False
        text = head[: error.start].decode("utf-8-sig")
    return all(character >= " " or character in "\t\n\r\f" for character in text)


def _is_html(head: bytes) -> bool:
    return head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<svg"))


def is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _is_json(head: bytes) -> bool:
    return _is_text(head) and head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def _is_list(head: bytes) -> bool:
    lines = [line.strip() for line in head.decode("utf-8", "replace").splitlines()[:_LINES] if line.strip()]
    lines = lines[:-1] if len(head) == HEAD and len(lines) > 1 else lines
    return bool(lines) and sum(_LIST_LINE.fullmatch(line) is not None for line in lines) > len(lines) / 2


def _starts(*beginnings: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(beginnings)


def _has(position: int, *words: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[position:].startswith(words)


_FILES: tuple[tuple[Callable[[bytes], bool], Kind], ...] = (
    (lambda head: _is_text(head) and _is_list(head), LIST),  # first: its names may begin with anything
    (
        lambda head: head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 10_000_000,
        Kind("weights", "a safetensors file", OF_WEIGHTS),
    ),
    (
        lambda head: head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"),
        Kind("weights", "a checkpoint of PyTorch or Paddle", OF_WEIGHTS),
    ),
    (_is_onnx, ONNX),
    (_has(4, b"TFL3"), Kind("tflite", "a TFLite model", f"{OF_EXPORTED}, if `mobilenext export` wrote it")),
    (_has(4, b"ORTM"), Kind("ort", "a model in ONNX Runtime's own format", "Give the .onnx file that it was made of")),
    (_starts(b"GGUF", b"lmgg", b"tjgg"), Kind("gguf", "a GGUF or GGML model (llama.cpp)", OTHER_PROGRAM)),
    (_starts(b"\x89HDF\r\n"), Kind("hdf5", "an HDF5 file (Keras?)", OTHER_PROGRAM)),
    (_starts(b"\x93NUMPY"), Kind("npy", "a NumPy array", "It has no names: save the state dict of the network")),
    (_starts(b"ptrt", b"ftrt"), Kind("tensorrt", "a TensorRT engine", OTHER_PROGRAM)),
    (_starts(b"RKNN"), Kind("rknn", "an RKNN model", OTHER_PROGRAM)),
    (lambda head: head[:1] == b"\n" and b"\x08\x00\x10\xff\xff\xff\xff" in head[2:24], PADDLE_PROGRAM),
    (lambda head: _is_json(head) and b'"pir"' in head and b"base_code" in head, PADDLE_PROGRAM),
    (lambda head: b"<net " in head and _is_html(head), OPENVINO),
    (_starts(b"7767517"), NCNN),
    (
        lambda head: head[:1] == b"\x08" and head[2:3] == b"\x12",
        Kind("coreml", "a protocol buffer that is no ONNX model (Core ML?)", OTHER_PROGRAM),
    ),
    (
        lambda head: is_tar(head) and head.startswith((b"sys_info\0", b"pickle\0", b"storages\0", b"tensors\0")),
        Kind(
            "torch-tar",
            "a checkpoint of PyTorch 0.1, a tar archive of pickles, which is not read here",
            "Load it with a PyTorch from 0.2 on and save its state dict again with `torch.save`",
        ),
    ),
    (is_tar, Kind("archive", "a tar archive", UNPACK)),
    (_starts(b"\x1f\x8b"), Kind("archive", "a gzip archive", UNPACK)),
    (
        _starts(b"7z\xbc\xaf", b"Rar!\x1a", *(b"BZh%d" % level for level in range(1, 10)), b"\xfd7zXZ", b"(\xb5/\xfd"),
        Kind("archive", "a compressed archive", UNPACK),
    ),
    (_starts(b"PK\x05\x06"), Kind("archive", "an empty ZIP archive", UNPACK)),
    (_starts(b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  "), IMAGE),
    (lambda head: head[:2] == b"BM" and head[6:10] == bytes(4), IMAGE),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", IMAGE),
    (_has(4, b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1"), IMAGE),
    (_starts(b"%PDF"), Kind("pdf", "a PDF document", "It is none that a network or images are read from")),
    (
        _starts(b"version https://git-lfs"),
        Kind(
            "lfs",
            "a Git LFS pointer, not the file it stands for",
            "Fetch the content with `git lfs pull`, or download the file from the web page of the repository",
        ),
    ),
    (_is_html, Kind("html", "an HTML or XML page", DOWNLOAD_THE_FILE)),
    (_starts(b"\0\0\0\0\0\0\0\0"), PADDLE_VALUES),
    (_is_json, JSON),
    (_is_text, TEXT),
)


def kind_of_head(head: bytes) -> Kind | None:
    """Return the kind of the file that begins with `head`; None if it is not known, and for a ZIP archive."""
    if not head or head.startswith(b"PK\x03\x04"):
        return None
    return next((kind for is_it, kind in _FILES if is_it(head)), None)
