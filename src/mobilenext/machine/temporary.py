"""Temporary files and folders: their names, their places, and how those of killed processes are removed.

A killed process cannot clean up, so the next one does. It must not remove what a living process uses. Two signs tell:
the name holds the number of its process, and the file or folder is locked (flock) while that process uses it. The
kernel drops the lock when the process ends, in whatever way:

    TMPDIR/mobilenext-PID-RANDOM    a scratch folder
    FOLDER/.NAME.PID.tmp            what becomes FOLDER/NAME when it is whole
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from mobilenext.errors import MobileNeXtError, OutputError
from mobilenext.machine.stopping import defer_signals

ROOM_BYTES = 256 << 20  # a network in some formats, and what converters need; a place with less is the second choice
VARIABLES = ("TMPDIR", "TEMP", "TMP")
_PLACES = ("/tmp", "/var/tmp", "/usr/tmp")
_OLD_S = 60.0
_current: list[Path] = []  # scratch folders of this process that are in use


@contextlib.contextmanager
def scratch_folder(output: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Make a folder for temporary files and remove it at the end, with those of killed processes beside it.

    Args:
        output: where results go: the place of last resort.

    Raises:
        OutputError: there is no folder that can be written to, or the one that was found has become full.
    """
    with contextlib.ExitStack() as stack:
        folder = _new_scratch_folder(stack, output)
        _current.append(folder)
        stack.callback(_current.remove, folder)
        try:
            yield folder
        except OutputError:
            raise
        except (OSError, RuntimeError, MobileNeXtError) as error:  # converters say it in their own ways
            if shutil.disk_usage(folder).free >= 1 << 20:
                raise  # there is room, so the error is another one
            raise OutputError(
                f"{folder.parent}, where temporary files go, is full: make room there, or set TMPDIR to another folder"
            ) from error


def worker_environment() -> dict[str, str]:
    """Return variables for a process that this one starts: its temporary files go into this one's scratch folder."""
    return {name: str(_current[-1]) for name in VARIABLES} if _current else {}


def temporary_beside(path: Path) -> Path:
    """Return the name of a file that becomes `path` when it is whole; remove those of killed processes."""
    folder = path.parent
    prefix = f".{path.name}."
    with contextlib.suppress(OSError):  # nothing there, or not ours to list
        for name in os.listdir(folder):  # noqa: PTH208 - faster, in folders of many files
            if name.startswith(prefix) and (match := re.fullmatch(r"(\d+)\.tmp", name.removeprefix(prefix))):
                _clear(folder / name, int(match[1]))
    return folder / f"{prefix}{os.getpid()}.tmp"


@contextlib.contextmanager
def temporary_folder(folder: Path, mode: int = 0o777) -> Iterator[Path]:
    """Make `folder`, which must be new, lock it, and remove it at the end unless it has been renamed."""
    lock = None
    try:
        with defer_signals():  # a folder without a lock would never be removed, or too early
            folder.mkdir(mode, parents=True)
            lock = os.open(folder, os.O_RDONLY)
            lock_file(lock)
        yield folder
    finally:
        if lock is not None:  # else it was there, or could not be made
            # First the folder, then the lock: the other way round another process could remove it at the same time.
            with defer_signals():
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def lock_file(descriptor: int) -> None:
    """Lock an open temporary file, if the file system can (NFS may not); closing it frees the lock."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def temporary_places() -> list[Path]:
    """Return the usual folders for temporary files that can be written to, the preferred first."""
    named = [os.environ.get(name, "") for name in VARIABLES]
    places = dict.fromkeys(Path(name) for name in (*named, *_PLACES) if name)
    return [place for place in places if _writable(place)]


def _new_scratch_folder(stack: contextlib.ExitStack, output: str | os.PathLike[str] | None) -> Path:
    places = temporary_places()
    for more in (Path("/dev/shm"), _existing(output)):
        if more is not None and more not in places and _writable(more):
            places.append(more)
    room = {place: min(ROOM_BYTES, shutil.disk_usage(place).free) for place in places}
    for place in sorted(places, key=lambda place: -room[place]):  # where there is room enough, the order stays
        _clear_scratch_folders(place)
        folder = place / f"mobilenext-{os.getpid()}-{os.urandom(4).hex()}"
        with contextlib.suppress(OSError):  # no room for a folder's entry, or a limit of this user
            return stack.enter_context(temporary_folder(folder, 0o700)).absolute()
    tried = ", ".join(dict.fromkeys((*(os.environ[name] for name in VARIABLES if os.environ.get(name)), *_PLACES)))
    raise OutputError(
        f"no folder for temporary files can be written to (tried {tried}, /dev/shm"
        f"{f' and {output}' if output else ''}): set TMPDIR to a folder that can"
    )


def _existing(output: str | os.PathLike[str] | None) -> Path | None:
    """Return `output` or the nearest folder above it that exists."""
    if output is None:
        return None
    path = Path(output).absolute()
    return next((folder for folder in (path, *path.parents) if folder.is_dir()), None)


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _clear_scratch_folders(place: Path) -> None:
    with contextlib.suppress(OSError):
        for path in place.iterdir():
            if match := re.fullmatch(r"mobilenext-(\d+)-[0-9a-f]{8}", path.name):
                _clear(path, int(match[1]))


def _clear(path: Path, pid: int) -> None:
    """Remove a file or folder that a process of this user left, if that process has ended."""
    with contextlib.suppress(OSError):
        facts = path.lstat()
        folder = stat.S_ISDIR(facts.st_mode)
        if facts.st_uid != os.geteuid() or not (folder or stat.S_ISREG(facts.st_mode)):
            return
        # TMPDIR is open to all users: a link that somebody put there must not be followed.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its process uses it
            # Unlocked, but perhaps only just made: a process locks a moment after making. So it stays for a minute if
            # a process of that number lives. That may be quite another process (in containers every command may be
            # number 1), so it does not stay for ever.
            if pid != os.getpid() and _alive(pid) and time.time() - facts.st_mtime < _OLD_S:
                return
            if folder:
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        finally:
            os.close(descriptor)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
