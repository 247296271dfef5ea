"""What an archive is, by the names of its entries."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from mobilenext.file_kinds.heads import is_tar
from mobilenext.file_kinds.kinds import IMAGE_NAME, OF_WEIGHTS, OTHER_PROGRAM, UNPACK, Kind

_MOST_NAMES = 2000
_MOST_MEMBERS = 50


def kind_of_zip(names: Iterable[str]) -> Kind:
    """Return the kind of the ZIP archive with these entries."""
    names = list(names)
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends:
        return Kind("torchscript", "a TorchScript archive", OTHER_PROGRAM)
    if "data.pkl" in ends:
        return Kind("weights", "a checkpoint of PyTorch", OF_WEIGHTS)
    if "serialized_exported_program.json" in ends or "archive_format" in ends:
        return Kind("torch-export", "a program of torch.export (.pt2)", OTHER_PROGRAM)
    if "model.weights.h5" in ends:
        return Kind("keras", "a Keras model", OTHER_PROGRAM)
    if ends and all(name.endswith(".npy") for name in ends):
        return Kind("npz", "NumPy's arrays (.npz)", "Save the state dict of the network with safetensors")
    if any(map(IMAGE_NAME.search, names)):
        return Kind("archive", "a ZIP archive of images", "Unpack it, and give the folder")
    return Kind("archive", "a ZIP archive", UNPACK)


def names_in_zip(tail: bytes) -> list[str]:
    """Return the names in the part of a ZIP archive's directory that is in its last bytes."""
    names: list[str] = []
    position = tail.find(b"PK\x01\x02")
    while position >= 0 and len(names) < _MOST_NAMES and position + 46 <= len(tail):
        (length,) = struct.unpack_from("<H", tail, position + 28)
        names.append(tail[position + 46 : position + 46 + length].decode("utf-8", "replace"))
        position = tail.find(b"PK\x01\x02", position + 46)
    return names


def names_in_tar(path: Path) -> list[str]:
    """Return the names of a tar archive's first members."""
    names: list[str] = []
    position = 0
    with path.open("rb") as stream:
        while len(names) < _MOST_MEMBERS:
            stream.seek(position)
            header = stream.read(512)
            size = header[124:136].strip(b"\0 ")
            if not is_tar(header) or not size.isdigit():
                break
            names.append(header[:100].rstrip(b"\0").decode("utf-8", "replace"))
            position += 512 + -(-int(size, 8) // 512) * 512
    return names
