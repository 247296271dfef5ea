"""Files that are whole or not there, and their checksums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from mobilenext.errors import OutputError, UsageError, WeightsError
from mobilenext.machine.temporary import lock_file, temporary_beside


class FileProblem(Exception):
    """Why a file cannot be read."""


def read_bounded(path: Path, largest: int, expected: str) -> bytes:
    """Return the content of a file of up to `largest` bytes.

    Args:
        expected: what the file should be, for the message.

    Raises:
        FileProblem: one that cannot be read, or a larger one.
    """
    try:
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except (OSError, ValueError) as error:  # ValueError: a null in the name
        raise FileProblem(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > largest:
        raise FileProblem(f"more than {largest:,} bytes; expected {expected}")
    return content


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` beside `path` and rename it, so that `path` is either whole or as it was before.

    Raises:
        OutputError: no folder, no permission, no space.
    """
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                lock_file(stream.fileno())
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:  # a full disk, or a signal
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; nothing was changed there") from error


def names_apart(names: Sequence[str]) -> list[str]:
    """Return the names of files for one folder; where a name is taken the later file gets a number."""
    apart: list[str] = []
    taken: set[str] = set()
    for name in names:
        path, free, number = Path(name), name, 1
        while free.casefold() in taken:  # some file systems do not tell a.png from A.png
            number += 1
            free = f"{path.stem}_{number}{path.suffix}"
        taken.add(free.casefold())
        apart.append(free)
    return apart


def refuse_overwriting(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Raise UsageError if one of the files to write is one of those that are read."""
    read = {path.resolve(): path for path in inputs}
    for path in outputs:
        if path.resolve() in read:
            raise UsageError(
                f"output is {path}, which would be written over the image {read[path.resolve()]}; name another folder"
            )


def sha256_of(path: Path) -> str:
    """Return the checksum of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def git_blob_id(path: str | os.PathLike[str]) -> str:
    """Return the id Git gives to a file with this content: SHA-1 of b"blob <size>\\0" and the bytes, in hex.

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
