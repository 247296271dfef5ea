"""From the bytes of a checkpoint file to plain data and NumPy arrays.

A checkpoint is usually a pickle, and a pickle is a program: loading one that somebody else made runs whatever they put
in it. Here it is interpreted by a machine that can only build data (`pickle_machine`), asks for names in a fixed table
(`pickle_names`), and never trusts a size that a file claims (`arrays`).
"""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobilenext.errors import WeightsError
from mobilenext.file_kinds import kind_of
from mobilenext.weights.foreign.arrays import Budget
from mobilenext.weights.foreign.paddle_files import read_paddle_pickle
from mobilenext.weights.foreign.recognition import EXPECTED, HEAD, recognize
from mobilenext.weights.foreign.refusal import SAVE_STATE_DICT, Refusal
from mobilenext.weights.foreign.safetensors_files import read_safetensors
from mobilenext.weights.foreign.torch_files import read_torch_stream, read_torch_zip

_LARGEST_FILE = 8 * 2**30  # far above any mobile network; the file is held in memory
_MOST_LISTED = 8


@dataclass(frozen=True)
class ForeignFile:
    """What a checkpoint file holds.

    Attributes:
        format: "pytorch-zip", "pytorch-stream", "paddle-pickle" or "safetensors".
        content: dict, list, tuple, set, str, bytes, numbers, None and NumPy arrays; a Namespace is a dict.
        metadata: safetensors' own, else empty.
        sha256: of the whole file, in hex.
        git_blob: the id that Git gives to a file of these bytes, in hex.
        size: in bytes.
    """

    path: Path
    format: str
    content: Any = field(repr=False)
    metadata: dict[str, str]
    sha256: str
    size: int
    git_blob: str = ""


def read_foreign(path: str | os.PathLike[str]) -> ForeignFile:
    """Read a checkpoint as plain data. Nothing in it is executed, imported or trusted.

    Formats are told apart by their bytes, not by the file's name. Every array is its own, C-contiguous and in the
    machine's byte order, and keeps its element type, except bfloat16, which becomes float32 (exactly). Paddle stores
    bfloat16 as uint16 and leaves no sign of it, so such arrays stay uint16.

    The file is held in memory while its arrays are made, and Paddle's arrays lie inside the pickle and exist once more
    meanwhile. All that is made out of one file is limited to four times its size, or 64 MiB if that is more.

    Raises:
        WeightsError: no such file; not a checkpoint; damaged; or asking for anything but data. The message says what
            was found, what was expected and what to do.
    """
    path = Path(path)
    try:
        data = _read_bytes(path)
        kind = recognize(data[:HEAD])
        content, metadata = _parse(kind, data)
    except Refusal as refusal:
        raise WeightsError(f"{path}: {refusal}") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}.") from error
    blob = hashlib.sha1(b"blob %d\0" % len(data), usedforsecurity=False)
    blob.update(data)
    return ForeignFile(path, kind, content, metadata, hashlib.sha256(data).hexdigest(), len(data), blob.hexdigest())


# --- Reading ----------------------------------------------------------------------------------------------------------


def _parse(kind: str, data: bytes) -> tuple[Any, dict[str, str]]:
    budget = Budget(len(data))
    match kind:
        case "pytorch-zip":
            return read_torch_zip(data, budget), {}
        case "pytorch-stream":
            return read_torch_stream(data, budget), {}
        case "paddle-pickle":
            return read_paddle_pickle(data, budget), {}
        case _:
            return read_safetensors(data, budget)


def _read_bytes(path: Path) -> bytes:
    kind = kind_of(path)
    if path.is_dir():
        what, advice = (f", {kind.what}", kind.advice) if kind else ("", "Give one of the files in it")
        raise Refusal(f"a folder, not a file{what}; it holds {_listed(path)}", advice)
    if not path.exists():
        raise _missing(path)
    if not path.is_file():
        raise Refusal("a device or a pipe, not a file", "Give a checkpoint file")
    if kind and kind.name in ("openvino", "ncnn", "mnn", "sidecar"):  # known by its name, or by the file beside it
        raise Refusal(f"the file is {kind.what}; {EXPECTED}", kind.advice)
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        with path.open("rb") as stream:
            recognize(stream.read(HEAD))  # to be told that it is a tar archive, say, is of more use
        raise Refusal(f"{size:,} bytes, more than the {_LARGEST_FILE:,} that are read", SAVE_STATE_DICT)
    return path.read_bytes()


def _missing(path: Path) -> Refusal:
    if not path.parent.is_dir():
        return Refusal(f"there is no such file, and no folder {path.parent}", "Check the path")
    names = sorted(entry.name for entry in path.parent.iterdir())
    # The same name with another suffix, or none, comes first: that is how most paths go wrong.
    stem = path.name.split(".")[0].lower()
    similar = [name for name in names if name.split(".")[0].lower() == stem]
    similar += [name for name in difflib.get_close_matches(path.name, names, n=_MOST_LISTED) if name not in similar]
    if similar:
        listed = ", ".join(similar[:_MOST_LISTED])
        return Refusal(f"there is no such file. Similar names in that folder: {listed}", "Give one of them")
    return Refusal(f"there is no such file. Its folder holds {_listed(path.parent)}", "Check the path")


def _listed(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more if names else "nothing"
