"""Read checkpoint files of PyTorch, Paddle and safetensors without executing them, and without those frameworks.

    file = read_foreign("MobileNeXt_x1_0.pth.tar")    # any of four formats -> a tree of plain data and NumPy arrays
    state = select_state_dict(file)                   # the weights in it, raw or averaged, with clean names

A checkpoint is usually a pickle, and a pickle is a program: loading one that somebody else made runs whatever they put
in it. Here it is interpreted by a machine that can only build data (`_pickle_machine`), asks for names in a fixed table
(`_pickle_names`), and never trusts a size that a file claims (`_arrays`).
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.errors import UsageError, WeightsError, nearest
from mobilenext.weights._arrays import Array, Budget
from mobilenext.weights._paddle_files import STRUCTURED_NAMES, read_paddle_pickle
from mobilenext.weights._recognise import HEAD, recognise
from mobilenext.weights._refusal import SAVE_STATE_DICT, Refusal, shown
from mobilenext.weights._safetensors_files import read_safetensors
from mobilenext.weights._torch_files import read_torch_stream, read_torch_zip

_LARGEST_FILE = 8 * 2**30  # far above any mobile network; the file is held in memory
_MOST_LISTED = 8
_USES = ("auto", "raw", "ema")
_EMA = "state_dict_ema"
_SECTIONS = ("state_dict", _EMA, "model")
_PARALLEL = "module."  # what torch.nn.DataParallel puts before every name


@dataclass(frozen=True)
class ForeignFile:
    """What a checkpoint file holds.

    Attributes:
        format: "pytorch-zip", "pytorch-stream", "paddle-pickle" or "safetensors".
        content: dict, list, tuple, set, str, bytes, numbers, None and NumPy arrays; a Namespace is a dict.
        metadata: safetensors' own, else empty.
        sha256: of the whole file, in hex.
        size: in bytes.
    """

    path: Path
    format: str
    content: Any = field(repr=False)
    metadata: dict[str, str]
    sha256: str
    size: int


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
        kind = recognise(data[:HEAD])
        content, metadata = _parse(kind, data)
    except Refusal as refusal:
        raise WeightsError(f"{path}: {refusal}") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}.") from error
    return ForeignFile(path, kind, content, metadata, hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class StateDict:
    """The weights chosen from a file.

    Attributes:
        tensors: by name, in the file's order, without `module.` before the names.
        section: "" for the whole file, else "state_dict", "state_dict_ema" or "model".
        kind: "ema" for weights averaged over training, else "raw".
        notes: what was chosen, stripped or dropped, one sentence each.
    """

    tensors: dict[str, Array] = field(repr=False)
    section: str
    kind: str
    notes: tuple[str, ...]


def select_state_dict(file: ForeignFile, use: str = "auto") -> StateDict:
    """The state dict in `file`: the whole of it, or what lies under state_dict, state_dict_ema or model.

    Args:
        use: "raw" or "ema" (averaged) weights; "auto" takes the averaged ones where the file has them.

    A `module.` that stands before all names is stripped, and Paddle's entry of parameter names is dropped; both are
    noted. BatchNorm's `num_batches_tracked` stays.

    Raises:
        UsageError: `use` is none of the three.
        WeightsError: no state dict, none of the kind asked for, an empty one, an entry that is not a tensor, or a
            `module.` before some names only.
    """
    if use not in _USES:
        raise UsageError(f"use={use!r} is not one of {', '.join(_USES)}{nearest(use, _USES)}.")
    section, notes = _choose_section(file, use)
    entries: Mapping[Any, Any] = file.content[section] if section else file.content
    if STRUCTURED_NAMES in entries:
        entries = {name: value for name, value in entries.items() if name != STRUCTURED_NAMES}
        notes.append(f"Dropped {STRUCTURED_NAMES}, Paddle's table of parameter names.")
    tensors = _strip_parallel(file, _checked_tensors(file, section, entries), notes)
    return StateDict(tensors, section, "ema" if section == _EMA else "raw", tuple(notes))


def git_blob_id(path: str | os.PathLike[str]) -> str:
    """The id Git gives to a file with this content: SHA-1 of b"blob <size>\\0" and the bytes, in hex.

    Raises:
        WeightsError: the file cannot be read, or changed its size meanwhile.
    """
    try:
        with Path(path).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
            read = 0
            while chunk := stream.read(2**20):
                digest.update(chunk)
                read += len(chunk)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if read != size:
        raise WeightsError(
            f"{path}: had {size:,} bytes and then {read:,}: it was written to while it was read. Try again."
        )
    return digest.hexdigest()


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
    if path.is_dir():
        raise Refusal(f"a folder, not a file; it holds {_listed(path)}", "Give one of the files in it")
    if not path.exists():
        raise _missing(path)
    if not path.is_file():
        raise Refusal("a device or a pipe, not a file", "Give a checkpoint file")
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        with path.open("rb") as stream:
            recognise(stream.read(HEAD))  # to be told that it is a tar archive, say, is of more use
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


# --- Choosing ---------------------------------------------------------------------------------------------------------


def _choose_section(file: ForeignFile, use: str) -> tuple[str, list[str]]:
    """The section to use ("" for the whole file) and the notes about the choice."""
    if not isinstance(file.content, dict):
        raise WeightsError(f"{file.path}: holds {shown(file.content)}, not a state dict. {SAVE_STATE_DICT}.")
    sections = [name for name in _SECTIONS if isinstance(file.content.get(name), dict)]
    notes = [
        f"Passed over {name}, which is {shown(file.content[name])}."
        for name in _SECTIONS
        if name in file.content and name not in sections and not isinstance(file.content[name], np.ndarray)
    ]
    there = (
        f"sections with weights: {', '.join(sections)}" if sections else "no sections; the whole file is one state dict"
    )
    if use == "ema" and _EMA not in sections:
        raise WeightsError(
            f"{file.path}: averaged (ema) weights were asked for, and there is no {_EMA} in the file ({there}). "
            f"Ask for use='raw' or 'auto'."
        )
    if _EMA in sections and use != "raw":
        return _EMA, [*notes, f"Took {_EMA}, the weights averaged over training ({there})."]
    raw = [name for name in sections if name != _EMA]
    if raw:
        return raw[0], [*notes, f"Took {raw[0]} ({there})."]
    if sections:
        raise WeightsError(
            f"{file.path}: raw weights were asked for, and there is only {_EMA}. Ask for use='ema' or 'auto'."
        )
    return "", notes


def _checked_tensors(file: ForeignFile, section: str, entries: Mapping[Any, Any]) -> dict[str, Array]:
    where = f"{file.path}: {section or 'the file'}"
    if not entries:
        raise WeightsError(f"{where} has no tensors at all. {SAVE_STATE_DICT}.")
    for name, value in entries.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            hint = "" if section else f" A checkpoint with more than weights has them under {', '.join(_SECTIONS)}."
            raise WeightsError(
                f"{where} is not a state dict: its entry {shown(name)} is {shown(value)}, not a tensor.{hint} "
                f"{SAVE_STATE_DICT}."
            )
    return dict(entries)


def _strip_parallel(file: ForeignFile, tensors: dict[str, Array], notes: list[str]) -> dict[str, Array]:
    """`tensors` without `module.` before the names. All or none have it, so no two names can become one."""
    prefixed = [name for name in tensors if name.startswith(_PARALLEL)]
    if not prefixed:
        return tensors
    if len(prefixed) != len(tensors):
        bare = next(name for name in tensors if not name.startswith(_PARALLEL))
        raise WeightsError(
            f"{file.path}: {len(prefixed)} of {len(tensors)} names begin with {_PARALLEL!r} and the rest do not "
            f"({shown(prefixed[0])}, {shown(bare)}), so two networks may be mixed. {SAVE_STATE_DICT}."
        )
    notes.append(f"Stripped {_PARALLEL!r} (torch.nn.DataParallel) from all {len(tensors)} names.")
    return {name.removeprefix(_PARALLEL): value for name, value in tensors.items()}
