"""The exceptions of this package. Each message says what was found, what was expected and what to do next.

    MobileNeXtError            exit code 1: a check failed
    ├── CheckFailed            1  a measured number or a parity check is outside its bounds
    ├── UsageError             2  an option, a name or a combination that cannot work
    │   └── MissingDependency  2  an optional package is not installed
    ├── PeerLost               3  another process of a distributed run has ended
    ├── WorkerDied             3  a worker process was killed or crashed
    └── DataError              3  what was read or had to be written is not as it should be
        ├── DatasetError       3  a data set folder or list file
        ├── ImageError         3  one image file
        ├── WeightsError       3  a checkpoint: unreadable, or not of this model
        ├── DownloadError      3  published weights could not be fetched or verified
        └── OutputError        3  a result could not be written

    KeyboardInterrupt
    └── Stopped                128 + the signal's number: a run was asked to stop, and has left a checkpoint

The command line turns any of them into its message on standard error and its exit code; anything else is a bug
and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MobileNeXtError(Exception):
    """Base class: ``str(error)`` is a complete message for the user."""

    exit_code = 1


class CheckFailed(MobileNeXtError):
    """A measurement was made and is outside its stated bounds."""


class UsageError(MobileNeXtError):
    """The request itself cannot be carried out as it was written."""

    exit_code = 2


class MissingDependency(UsageError):
    """An optional package is needed and is not installed."""


class PeerLost(MobileNeXtError):
    """Another process of the run has gone."""

    exit_code = 3


class WorkerDied(MobileNeXtError):
    """A worker process was killed or crashed."""

    exit_code = 3


class DataError(MobileNeXtError):
    """Something read from outside is not as it should be, or a result could not be written."""

    exit_code = 3


class DatasetError(DataError):
    """A data set folder or its list file."""


class ImageError(DataError):
    """One image file that cannot be turned into pixels."""


class WeightsError(DataError):
    """A checkpoint that cannot be read, or does not belong to the model."""


class DownloadError(DataError):
    """Published weights could not be fetched or did not verify."""


class OutputError(DataError):
    """A result could not be written."""


class Stopped(KeyboardInterrupt):
    """The run has stopped because a signal asked for it; ``str(stopped)`` says where, and how to go on."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def refuse_unknown(names: Iterable[str], known: Iterable[str], function: str) -> None:
    """Raise TypeError, as Python does, for a keyword that `function` does not have."""
    known = set(known)
    for name in names:
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to `name`, or an empty string.

    The only one that begins with `name` is the closest.
    """
    names = list(known)
    matches = [other for other in names if name and other.startswith(name.lower())]
    if len(matches) != 1:
        matches = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
