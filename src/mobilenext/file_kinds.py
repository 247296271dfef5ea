"""What a file or a folder is, by its content, and which option takes it; for a sentence where it is not expected.

Only the first bytes, a ZIP's or tar's names and the names in a folder are looked at; nothing is decoded or executed.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

HEAD = 4096  # bytes that are enough to tell
_TAIL = 65536  # where a ZIP archive lists its entries
_MOST_NAMES = 2000
_TORCH_STREAM = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # in a file of PyTorch before 1.6
_IMAGE_NAME = re.compile(r"\.(jpe?g|jfif|png|bmp|gif|webp|tiff?|ppm|pgm|avif|jp2)$", re.IGNORECASE)
_LIST_LINE = re.compile(r"\S.*\.[A-Za-z0-9]{2,5}[\"']?[ \t,;]+[\"']?-?[0-9]+[\"']?")
_LINES = 50


@dataclass(frozen=True)
class Kind:
    """What something is."""

    name: str
    what: str  # with its article
    advice: str  # what takes it, or what to do with it


_OF_WEIGHTS = "Give it to --weights, or to `mobilenext convert`"
_OF_ONNX = "Give it to --onnx (of evaluate, predict, bench, quantize and serve)"
_OF_EXPORTED = "Give its folder to --exported (of evaluate, predict, bench, quantize and serve)"
_OF_IMAGES = "Images are for `mobilenext predict` and `mobilenext explain`; a data set is a folder of them"
_OTHER_PROGRAM = "Give the checkpoint that was saved in training, or an ONNX file: models of that program are not read"
_DOWNLOAD_THE_FILE = "Download the file itself: the link led to a page about it, or to an error"
_UNPACK = "If what is asked for was packed into it, unpack it first"

ONNX = Kind("onnx", "an ONNX model", _OF_ONNX)
_IMAGE = Kind("image", "an image", _OF_IMAGES)
_LIST = Kind("list", "a list of images and labels", "Give it to --list (of train: --train-list, --val-list)")
_JSON = Kind("json", "a JSON file", "It is none that a network is stored in")
_TEXT = Kind("text", "a text file", _DOWNLOAD_THE_FILE)
_OPENVINO = Kind("openvino", "part of an OpenVINO model", f"{_OF_EXPORTED}, if `mobilenext export` wrote it")
_NCNN = Kind("ncnn", "part of an ncnn model", f"{_OF_EXPORTED}, if `mobilenext export` wrote it")
_PADDLE_PROGRAM = Kind("paddle-inference", "a network as Paddle Inference reads it", _OF_EXPORTED)
_PADDLE_VALUES = Kind(
    "pdiparams",
    "raw tensors without names (Paddle's .pdiparams?) or zeros",
    f"Give the .pdparams file that was saved in training. Of an exported network: {_OF_EXPORTED}",
)
_RUN = Kind(
    "run",
    "the folder of a training run",
    "Its weights are best.safetensors in it; the folder itself is for `mobilenext report`, compare and train --resume",
)
_EVALUATION = Kind("evaluation", "the folder of an evaluation", "Give it to `mobilenext report`")
_BENCH = Kind("bench", "the folder of a bench", "Give it to `mobilenext report`")
_EXPORTED = Kind("exported", "a folder of `mobilenext export` or quantize", "Give it to --exported")

# --- Folders ----------------------------------------------------------------------------------------------------------

# The names that tell, the first that fit count: all of them have to be there.
_FOLDERS: tuple[tuple[tuple[str, ...], Kind], ...] = (
    (("mobilenext.json",), _EXPORTED),
    (("run.json", "log.jsonl"), _RUN),
    (("result.json",), _EVALUATION),
    (("predictions.jsonl",), _EVALUATION),
    (("journal.jsonl",), _EVALUATION),
    (("bench.json",), _BENCH),
    (("saved_model.pb",), Kind("saved-model", "a TensorFlow SavedModel", _OTHER_PROGRAM)),
    (("Manifest.json", "Data"), Kind("coreml", "a Core ML package", _OTHER_PROGRAM)),
    ((".metadata", ".distcp"), Kind("distributed", "a distributed checkpoint of PyTorch",
        "Join it with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth`")),
    ((".pdiparams", ".pdmodel"), Kind("paddle-folder", "a folder of Paddle Inference", "Give it to --exported")),
    ((".pdiparams", ".json"), Kind("paddle-folder", "a folder of Paddle Inference", "Give it to --exported")),
    ((".xml", ".bin"), Kind("openvino-folder", "a folder of OpenVINO", "Only a folder of `mobilenext export` is read")),
    ((".onnx",), Kind("onnx-folder", "a folder with an ONNX model", "Give the .onnx file in it to --onnx")),
    (("config.json", ".safetensors"), Kind("hf-folder", "a folder as Hugging Face lays it out",
        "Give the .safetensors file in it to --weights")),
    (("val_list.txt",), Kind("data", "a data set", "Give it as DATA")),
    (("train",), Kind("data", "a data set", "Give it as DATA")),
    (("val",), Kind("data", "a data set", "Give it as DATA")),
)  # fmt: skip


def _kind_of_folder(folder: Path) -> Kind | None:
    with os.scandir(folder) as entries:
        names = [entry.name for entry, _ in zip(entries, range(_MOST_NAMES), strict=False)]
    for wanted, kind in _FOLDERS:
        if all(any(name == end or (end[0] == "." and name.endswith(end)) for name in names) for end in wanted):
            return kind
    if any(_IMAGE_NAME.search(name) for name in names):
        return Kind("images", "a folder of images", _OF_IMAGES)
    return None


# --- Files ------------------------------------------------------------------------------------------------------------


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


def _is_tar(head: bytes) -> bool:
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
    (lambda head: _is_text(head) and _is_list(head), _LIST),  # first: its names may begin with anything
    (
        lambda head: head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 10_000_000,
        Kind("weights", "a safetensors file", _OF_WEIGHTS),
    ),
    (
        lambda head: head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"),
        Kind("weights", "a checkpoint of PyTorch or Paddle", _OF_WEIGHTS),
    ),
    (_is_onnx, ONNX),
    (_has(4, b"TFL3"), Kind("tflite", "a TFLite model", f"{_OF_EXPORTED}, if `mobilenext export` wrote it")),
    (_has(4, b"ORTM"), Kind("ort", "a model in ONNX Runtime's own format", "Give the .onnx file that it was made of")),
    (_starts(b"GGUF", b"lmgg", b"tjgg"), Kind("gguf", "a GGUF or GGML model (llama.cpp)", _OTHER_PROGRAM)),
    (_starts(b"\x89HDF\r\n"), Kind("hdf5", "an HDF5 file (Keras?)", _OTHER_PROGRAM)),
    (_starts(b"\x93NUMPY"), Kind("npy", "a NumPy array", "It has no names: save the state dict of the network")),
    (_starts(b"ptrt", b"ftrt"), Kind("tensorrt", "a TensorRT engine", _OTHER_PROGRAM)),
    (_starts(b"RKNN"), Kind("rknn", "an RKNN model", _OTHER_PROGRAM)),
    (lambda head: head[:1] == b"\n" and b"\x08\x00\x10\xff\xff\xff\xff" in head[2:24], _PADDLE_PROGRAM),
    (lambda head: _is_json(head) and b'"pir"' in head and b"base_code" in head, _PADDLE_PROGRAM),
    (lambda head: b"<net " in head and _is_html(head), _OPENVINO),
    (_starts(b"7767517"), _NCNN),
    (
        lambda head: head[:1] == b"\x08" and head[2:3] == b"\x12",
        Kind("coreml", "a protocol buffer that is no ONNX model (Core ML?)", _OTHER_PROGRAM),
    ),
    (
        lambda head: _is_tar(head) and head.startswith((b"sys_info\0", b"pickle\0", b"storages\0", b"tensors\0")),
        Kind(
            "torch-tar",
            "a checkpoint of PyTorch 0.1, a tar archive of pickles, which is not read here",
            "Load it with a PyTorch from 0.2 on and save its state dict again with `torch.save`",
        ),
    ),
    (_is_tar, Kind("archive", "a tar archive", _UNPACK)),
    (_starts(b"\x1f\x8b"), Kind("archive", "a gzip archive", _UNPACK)),
    (
        _starts(b"7z\xbc\xaf", b"Rar!\x1a", *(b"BZh%d" % level for level in range(1, 10)), b"\xfd7zXZ", b"(\xb5/\xfd"),
        Kind("archive", "a compressed archive", _UNPACK),
    ),
    (_starts(b"PK\x05\x06"), Kind("archive", "an empty ZIP archive", _UNPACK)),
    (_starts(b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  "), _IMAGE),
    (lambda head: head[:2] == b"BM" and head[6:10] == bytes(4), _IMAGE),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", _IMAGE),
    (_has(4, b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1"), _IMAGE),
    (_starts(b"%PDF"), Kind("pdf", "a PDF document", "It is none that a network or images are read from")),
    (
        _starts(b"version https://git-lfs"),
        Kind(
            "lfs",
            "a Git LFS pointer, not the file it stands for",
            "Fetch the content with `git lfs pull`, or download the file from the web page of the repository",
        ),
    ),
    (_is_html, Kind("html", "an HTML or XML page", _DOWNLOAD_THE_FILE)),
    (_starts(b"\0\0\0\0\0\0\0\0"), _PADDLE_VALUES),
    (_is_json, _JSON),
    (_is_text, _TEXT),
)


def kind_of_head(head: bytes) -> Kind | None:
    """Return the kind of the file that begins with `head`; None if it is not known, and for a ZIP archive."""
    if not head or head.startswith(b"PK\x03\x04"):
        return None
    return next((kind for is_it, kind in _FILES if is_it(head)), None)


def kind_of_zip(names: Iterable[str]) -> Kind:
    """Return the kind of the ZIP archive with these entries."""
    names = list(names)
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends:
        return Kind("torchscript", "a TorchScript archive", _OTHER_PROGRAM)
    if "data.pkl" in ends:
        return Kind("weights", "a checkpoint of PyTorch", _OF_WEIGHTS)
    if "serialized_exported_program.json" in ends or "archive_format" in ends:
        return Kind("torch-export", "a program of torch.export (.pt2)", _OTHER_PROGRAM)
    if "model.weights.h5" in ends:
        return Kind("keras", "a Keras model", _OTHER_PROGRAM)
    if ends and all(name.endswith(".npy") for name in ends):
        return Kind("npz", "NumPy's arrays (.npz)", "Save the state dict of the network with safetensors")
    if any(map(_IMAGE_NAME.search, names)):
        return Kind("archive", "a ZIP archive of images", "Unpack it, and give the folder")
    return Kind("archive", "a ZIP archive", _UNPACK)


def kind_of(path: str | os.PathLike[str]) -> Kind | None:
    """Return the kind of a file or folder; None if it is not known or cannot be read."""
    path = Path(path)
    try:
        if path.is_dir():
            return _kind_of_folder(path)
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            head = stream.read(HEAD)
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - _TAIL))
            tail = stream.read(_TAIL)
        if head.startswith(b"PK\x03\x04"):
            return kind_of_zip(_names_in_zip(tail))
        if _is_tar(head) and any(map(_IMAGE_NAME.search, _names_in_tar(path))):
            return Kind("archive", "a tar archive of images", "Unpack it, and give the folder")
        return _beside(path) or kind_of_head(head)
    except (OSError, ValueError):
        return None


def _beside(path: Path) -> Kind | None:
    """Return the kind of a file that is recognized by the file beside it."""
    if path.name == "mobilenext.json":
        return Kind("sidecar", "the description of an exported folder", _OF_EXPORTED)
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        return _OPENVINO
    if path.suffix == ".bin" and path.with_suffix(".param").is_file():
        return _NCNN
    return None


def _names_in_zip(tail: bytes) -> list[str]:
    """Return the names in the part of a ZIP archive's directory that is in its last bytes."""
    names: list[str] = []
    position = tail.find(b"PK\x01\x02")
    while position >= 0 and len(names) < _MOST_NAMES and position + 46 <= len(tail):
        (length,) = struct.unpack_from("<H", tail, position + 28)
        names.append(tail[position + 46 : position + 46 + length].decode("utf-8", "replace"))
        position = tail.find(b"PK\x01\x02", position + 46)
    return names


def _names_in_tar(path: Path) -> list[str]:
    """Return the names of a tar archive's first members."""
    names: list[str] = []
    position = 0
    with path.open("rb") as stream:
        while len(names) < _LINES:
            stream.seek(position)
            header = stream.read(512)
            size = header[124:136].strip(b"\0 ")
            if not _is_tar(header) or not size.isdigit():
                break
            names.append(header[:100].rstrip(b"\0").decode("utf-8", "replace"))
            position += 512 + -(-int(size, 8) // 512) * 512
    return names


def other_kind(path: str | os.PathLike[str], *fitting: str) -> str | None:
    """Return a sentence for a file or folder that is plainly something else: what it is, and which option takes it.

    Args:
        fitting: names of the kinds that may be what is expected here.
    """
    kind = kind_of(path)
    return None if kind is None or kind.name in fitting else f"this is {kind.what}. {kind.advice}"
