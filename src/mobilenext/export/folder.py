"""The folder of an export: it appears as a whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mobilenext.errors import OutputError, UsageError
from mobilenext.export.sidecar import SIDECAR
from mobilenext.machine.stopping import defer_signals
from mobilenext.machine.temporary import temporary_beside, temporary_folder


@contextlib.contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Give a folder to write into that becomes `output` at the end, or vanishes after an error.

    Raises:
        UsageError: `output` is there and is no earlier export. OutputError: it cannot be written.
    """
    if output.exists() and not (output / SIDECAR).is_file() and (output.is_file() or any(output.iterdir())):
        raise UsageError(f"{output} is there and is no earlier export; choose another --output or remove it")
    # Beside the output; within it where that alone can be written to, such as a folder mounted into a container.
    within = output.is_dir() and (output.is_mount() or not os.access(output.absolute().parent, os.W_OK))
    place = output if within else output.parent
    try:
        with temporary_folder(temporary_beside(place / output.absolute().name)) as temporary:
            yield temporary
            with defer_signals():
                _give_name(temporary, output, within=within)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}; choose another --output") from error


def _give_name(temporary: Path, output: Path, *, within: bool) -> None:
    """Put a finished folder in the place of the earlier export, if there is one."""
    if not within:
        if output.exists():
            shutil.rmtree(output)
        temporary.rename(output)
        return
    (output / SIDECAR).unlink(missing_ok=True)  # from here on, and until the new one is there, it is no export
    for path in output.iterdir():
        if path.is_dir() and path != temporary:
            shutil.rmtree(path)
        elif path != temporary:
            path.unlink()
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == SIDECAR):
        path.rename(output / path.name)
