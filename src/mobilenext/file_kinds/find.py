"""Find what a file or a folder is."""

from __future__ import annotations

import os
from pathlib import Path

from mobilenext.file_kinds.archives import kind_of_zip, names_in_tar, names_in_zip
from mobilenext.file_kinds.folders import kind_of_folder
from mobilenext.file_kinds.heads import HEAD, is_tar, kind_of_head
from mobilenext.file_kinds.kinds import IMAGE_NAME, MNN, NCNN, OF_EXPORTED, OPENVINO, Kind

_TAIL = 65536  # where a ZIP archive lists its entries


def kind_of(path: str | os.PathLike[str]) -> Kind | None:
    """Return the kind of a file or folder; None if it is not known or cannot be read."""
    path = Path(path)
    try:
        if path.is_dir():
            return kind_of_folder(path)
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            head = stream.read(HEAD)
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - _TAIL))
            tail = stream.read(_TAIL)
        if head.startswith(b"PK\x03\x04"):
            return kind_of_zip(names_in_zip(tail))
        if is_tar(head) and any(map(IMAGE_NAME.search, names_in_tar(path))):
            return Kind("archive", "a tar archive of images", "Unpack it, and give the folder")
        # Nothing in the first bytes of an MNN model tells what it is.
        return _beside(path) or kind_of_head(head) or (MNN if path.suffix == ".mnn" else None)
    except (OSError, ValueError):
        return None


def _beside(path: Path) -> Kind | None:
    """Return the kind of a file that is recognized by the file beside it."""
    if path.name == "mobilenext.json":
        return Kind("sidecar", "the description of an exported folder", OF_EXPORTED)
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        return OPENVINO
    if path.suffix == ".bin" and path.with_suffix(".param").is_file():
        return NCNN
    return None


def other_kind(path: str | os.PathLike[str], *fitting: str) -> str | None:
    """Return a sentence for a file or folder that is plainly something else: what it is, and which option takes it.

    Args:
        fitting: names of the kinds that may be what is expected here.
    """
    kind = kind_of(path)
    return None if kind is None or kind.name in fitting else f"this is {kind.what}. {kind.advice}"
