"""A home folder for libraries, where the user has none that can be written to.

Paddle makes ~/.cache/paddle when it is imported, and its graph compiler writes there; Numba, OpenVINO and VisualDL
have their folders, too. Without a home they fail, or make a folder called ``~`` where the user happens to be.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
from pathlib import Path

from mobilenext.errors import OutputError
from mobilenext.machine.temporary import VARIABLES, scratch_folder, temporary_places

_USERS = "MOBILENEXT_USERS_HOME"  # what HOME was before it was replaced; also for the processes that this one starts
_kept = contextlib.ExitStack()
atexit.register(_kept.close)


def user_home() -> Path:
    """Return the user's own home folder, whether it can be written to or not.

    Raises:
        RuntimeError: there is none.
    """
    if _USERS not in os.environ:
        return Path("~").expanduser()
    if not os.environ[_USERS]:
        raise RuntimeError("Could not determine home directory.")
    return Path(os.environ[_USERS])


def cache_folder() -> Path:
    """Return $MOBILENEXT_HOME, else $XDG_CACHE_HOME/mobilenext, else ~/.cache/mobilenext; not created here.

    Raises:
        OutputError: the user has no home folder and none of the variables is set.
    """
    try:
        if home := os.environ.get("MOBILENEXT_HOME"):
            return Path(home).expanduser().absolute()
        if caches := os.environ.get("XDG_CACHE_HOME"):
            return Path(caches).expanduser().absolute() / "mobilenext"
        return user_home().absolute() / ".cache" / "mobilenext"
    except RuntimeError as error:
        raise OutputError(f"no folder to keep files in: {error} Set MOBILENEXT_HOME to a folder.") from error


def provide_home(output: str | os.PathLike[str] | None = None, *, required: bool = False) -> None:
    """Let HOME, and TMPDIR where there is no other, be a temporary folder, which goes when this process ends.

    Does nothing where the user's folders can be written to. Libraries read these variables when they are imported.

    Args:
        output: where results go: the place of last resort.
        required: whether what follows cannot do without.

    Raises:
        OutputError: it is required, and no folder can be written to.
    """
    home = os.path.expanduser("~")  # noqa: PTH111 - where there is none this stays as it is
    homeless, placeless = not _can_keep_caches(Path(home)), not temporary_places()
    if not homeless and not placeless:
        return
    try:
        folder = _kept.enter_context(scratch_folder(output))
    except OutputError:
        if required and homeless:
            raise OutputError(
                f"libraries such as Paddle keep files in the home folder, and {home} cannot be written to, nor can any "
                "folder for temporary files: set HOME or TMPDIR to a folder that can"
            ) from None
        return
    if homeless:
        os.environ.setdefault(_USERS, home if Path(home).is_absolute() else "")
        os.environ["HOME"] = str(folder)
    if placeless:
        os.environ.update(dict.fromkeys(VARIABLES, str(folder)))
        tempfile.tempdir = None  # to be found anew


def remove_home() -> None:
    """Remove the folder at once, where the process is to end without Python's usual end."""
    _kept.close()


def _can_keep_caches(home: Path) -> bool:
    return home.is_absolute() and all(
        os.access(folder, os.W_OK | os.X_OK) and folder.is_dir()
        for folder in (home, home / ".cache", home / ".cache" / "paddle")
        if folder == home or folder.exists()
    )
