"""The evaluation's files: a journal that survives being killed, and results that appear whole or not at all.

``journal.jsonl`` grows while an evaluation runs: a first line that says what is being evaluated, then one line for
each image, in order. When the last image is in, it becomes ``predictions.jsonl`` and is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mobilenext.errors import DataError, OutputError, UsageError
from mobilenext.evaluation.metrics import Prediction

JOURNAL, PREDICTIONS, RESULT, LOG = "journal.jsonl", "predictions.jsonl", "result.json", "evaluate.log"
log = logging.getLogger(__name__)


def setup_digest(setup: Mapping[str, Any]) -> str:
    """A checksum of everything that decides what the predictions are."""
    return hashlib.sha256(json.dumps(setup, sort_keys=True).encode()).hexdigest()


def line_of(values: Mapping[str, Any]) -> bytes:
    """One line of JSON."""
    return encoded(json.dumps(values, ensure_ascii=False, separators=(", ", ": ")) + "\n")


def read_predictions(folder: Path) -> list[Prediction]:
    """What a finished evaluation left in a folder.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = folder / PREDICTIONS
    try:
        return [Prediction.from_dict(json.loads(line)) for line in path.read_bytes().splitlines()]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected what `mobilenext evaluate -o` writes") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}; evaluate again") from error


def encoded(text: str) -> bytes:
    """JSON as UTF-8; a file name that is no text comes from the system as surrogates, which are escaped (\\udcff)."""
    return text.encode(errors="backslashreplace")


class Journal:
    """The rows of one evaluation, on disk as soon as they are known; while it is open, no other can be opened there."""

    def __init__(self, folder: Path, setup: Mapping[str, Any], *, resume: bool) -> None:
        """Open a new journal, or with `resume` the one that is there.

        Raises:
            UsageError: an unfinished journal is there and `resume` was not asked for; it is of another setup; or
                another evaluation is writing it.
            DataError: the journal is damaged before its end.
            OutputError: the folder cannot be written.
        """
        self.path = folder / JOURNAL
        self.rows: list[Prediction] = []
        self._setup = dict(setup)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._stream: BinaryIO = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        except OSError as error:
            raise _output_error(folder, error) from error
        try:
            self._lock()
            self._take_over(setup_digest(setup), resume)
        except BaseException as error:
            with contextlib.suppress(OSError):  # what a full disk did not take it does not take now
                self._stream.close()
            if isinstance(error, OSError):
                raise _output_error(folder, error) from error
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self) -> None:
        """Keep other evaluations out for as long as the file is open; the system lets go of it when we are killed."""
        try:
            import fcntl
        except ModuleNotFoundError:  # Windows
            return
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Removed between opening and locking: the journal of an evaluation that has just been finished.
            taken = os.fstat(self._stream.fileno()).st_nlink == 0
        except BlockingIOError:
            taken = True
        except OSError as error:
            log.warning("%s cannot be locked (%s): let no other evaluation write there", self.path, error.strerror)
            return
        if taken:
            raise UsageError(
                f"another evaluation is writing to {self.path.parent}; wait for it, or choose another output folder"
            )

    def _take_over(self, digest: str, resume: bool) -> None:
        """Read what is there, and stand behind it."""
        content = self._stream.read() if self.path.is_file() else b""  # not a device, which may have no end
        if not resume and content.count(b"\n") < 2:
            content = b""  # stopped before the first image: nothing to lose
        if content and not resume:
            images = content.count(b"\n") - 1
            raise UsageError(
                f"{self.path} is an unfinished evaluation of {images} images: add "
                "--resume to go on with it, or delete that file to start anew"
            )
        kept = self._read(content, digest) if content else 0
        self._stream.truncate(kept)
        self._stream.seek(kept)
        if not kept:
            self._stream.write(line_of({"digest": digest, "setup": self._setup}))
            self._stream.flush()

    def _read(self, content: bytes, digest: str) -> int:
        """Take the rows over; the number of bytes that are whole (being killed may cut the last line)."""
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines()
        if not lines:
            return 0
        try:
            header = json.loads(lines[0])
            same = header["digest"] == digest
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: line 1 is not a journal's header; delete the file to start anew") from error
        if not same:
            raise UsageError(
                f"{self.path} belongs to another evaluation:\n{_changes(header.get('setup'), self._setup)}\n"
                "Repeat its options to go on with it, or choose another output folder."
            )
        for number, line in enumerate(lines[1:]):
            try:
                row = Prediction.from_dict(json.loads(line))
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise DataError(f"{self.path}: line {number + 2} is damaged; delete the file to start anew") from error
            if row.index != number:
                raise DataError(f"{self.path}: line {number + 2} holds image {row.index}; expected image {number}")
            self.rows.append(row)
        return len(whole)

    def add(self, rows: Iterable[Prediction]) -> None:
        """Append rows and hand them to the operating system.

        Raises:
            OutputError: the disk is full; what is there stays readable.
        """
        rows = list(rows)
        try:
            self._stream.write(b"".join(line_of(row.to_dict()) for row in rows))
            self._stream.flush()
        except OSError as error:
            raise _output_error(self.path.parent, error) from error
        self.rows += rows

    def close(self) -> None:
        """Leave the journal as it is, for a later resume."""
        try:
            self._stream.close()
        except OSError as error:
            raise _output_error(self.path.parent, error) from error

    def remove(self) -> None:
        """The evaluation is finished and its files are written."""
        self.path.unlink(missing_ok=True)  # before it is closed, which lets others in
        self.close()


def _changes(before: Any, now: Mapping[str, Any]) -> str:
    before = before if isinstance(before, dict) else {}
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "\n".join(f"  {name}: {before.get(name)!r} there, {now.get(name)!r} now" for name in names)


def _output_error(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write to {folder}: {error.strerror or error}. Finished images are kept in {JOURNAL} if it is there; "
        "--resume goes on with them."
    )
