"""The journal of an evaluation, which survives being killed, and the predictions that it becomes.

``journal.jsonl`` grows while an evaluation runs: a first line that says what is evaluated, then a line for each image,
in order. After the last image, its rows are written to ``predictions.jsonl`` and it is removed. What a row holds is
the task's business: a class, or the boxes of all outputs of a network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mobilenext import tasks
from mobilenext.errors import DataError, OutputError, UsageError
from mobilenext.json_files import Unfit, check, lines_of, optional, parse, read_json_lines, record, text
from mobilenext.runs.setups import changes

JOURNAL, PREDICTIONS, RESULT, LOG = "journal.jsonl", "predictions.jsonl", "result.json", "evaluate.log"
ReadRow = Callable[[Any, int], Any]  # the row number N of a task from JSON; raises Unfit
_REMEDY = "delete the file to start anew"
log = logging.getLogger(__name__)


def setup_digest(setup: Mapping[str, Any]) -> str:
    """Return a checksum of everything that decides what the predictions are."""
    return hashlib.sha256(json.dumps(setup, sort_keys=True).encode()).hexdigest()


def line_of(values: Mapping[str, Any]) -> bytes:
    """Return one line of JSON."""
    return encoded(json.dumps(values, ensure_ascii=False, separators=(", ", ": ")) + "\n")


def read_predictions(folder: Path, task: str | None = None) -> list[Any]:
    """Return the rows that a finished evaluation left in a folder; `task` is the name in its result.

    Raises:
        DataError: there are none, or they are damaged.
    """
    read_row = tasks.find_task(task).evaluation.read_row
    missing = "is missing; expected what `mobilenext evaluate -o` writes"
    return list(predictions_of(folder, lambda value, place: read_row(value, place, {}, None), missing))


def predictions_of(folder: Path, read_row: ReadRow, missing: str) -> Iterator[Any]:
    """Yield the rows of a finished evaluation one by one; `missing` is the message where there are none.

    Raises:
        DataError: there are none, or they are damaged.
    """
    path, remedy = folder / PREDICTIONS, "evaluate again"
    for number, value in read_json_lines(path, remedy=remedy, missing=missing):
        try:
            yield read_row(value, number - 1)
        except Unfit as error:
            raise DataError(f"{path}: line {number} is damaged: {error}; {remedy}") from error


def encoded(text: str) -> bytes:
    """Encode JSON as UTF-8; file names that are no text come as surrogates and are escaped (\\udcff)."""
    return text.encode(errors="backslashreplace")


class Journal:
    """The rows of one evaluation, on disk as soon as they are known; while it is open, no other can be opened there."""

    def __init__(self, folder: Path, setup: Mapping[str, Any], read_row: ReadRow, *, resume: bool) -> None:
        """Open a new journal, or with `resume` the one that is there.

        Args:
            folder: is made if need be.
            setup: everything that decides what the rows are.
            read_row: the task's reader of a row.
            resume: go on with the rows of an unfinished evaluation of the same setup.

        Raises:
            UsageError: an unfinished journal is there and `resume` was not asked for; it is of another setup; or
                another evaluation is writing it.
            DataError: the journal is damaged before its end.
            OutputError: the folder cannot be written.
        """
        self.path = folder / JOURNAL
        self.rows: list[Any] = []
        self._setup, self._read_row = dict(setup), read_row
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
        """Keep other evaluations out while the file is open; the system releases the lock if this one is killed."""
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
        """Read the rows that are to be kept, and set the position of writing behind them."""
        kept = 0
        if self.path.is_file():  # not a device, which may have no end
            if resume:
                kept = self._read(digest)
            elif (lines := sum(line.endswith(b"\n") for _, line in self._lines())) > 1:
                raise UsageError(
                    f"{self.path} is an unfinished evaluation of {lines - 1} images: add "
                    "--resume to go on with it, or delete that file to start anew"
                )
        # A journal without rows has nothing to lose.
        self._stream.truncate(kept)
        self._stream.seek(kept)
        if not kept:
            self._stream.write(line_of({"digest": digest, "setup": self._setup}))
            self._stream.flush()

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        return lines_of(self._stream, str(self.path), remedy=_REMEDY)

    def _read(self, digest: str) -> int:
        """Read the rows; return the number of bytes that are whole, as being killed may cut the last line."""
        kept, name = 0, str(self.path)
        for number, line in self._lines():
            if not line.endswith(b"\n"):
                break
            value = parse(line, name, number, remedy=_REMEDY, numbers=number == 1)
            if number == 1:
                check(value, {"digest": text(), "setup": optional(record({}))}, f"{name}: line 1", remedy=_REMEDY)
                if value["digest"] != digest:
                    raise UsageError(
                        f"{self.path} belongs to another evaluation:\n{changes(value.get('setup'), self._setup)}\n"
                        "Repeat its options to go on with it, or choose another output folder."
                    )
            else:
                try:
                    self.rows.append(self._read_row(value, number - 2))
                except Unfit as error:
                    raise DataError(f"{name}: line {number} is damaged: {error}; {_REMEDY}") from error
            kept += len(line)
        return kept

    def add(self, rows: Iterable[Any]) -> None:
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
        """Delete the journal: the evaluation is finished and its files are written."""
        self.path.unlink(missing_ok=True)  # before it is closed, which lets others in
        self.close()


def _output_error(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write to {folder}: {error.strerror or error}. Finished images are kept in {JOURNAL} if it is there; "
        "--resume goes on with them."
    )
