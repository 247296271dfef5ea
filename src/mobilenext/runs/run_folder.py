"""The folder of a training run.

run.json                  what was asked for: model, recipe, seed, data, environment
checkpoint.safetensors    the whole state, to go on from
best.safetensors          the best validation accuracy so far, raw or averaged weights
last.safetensors          the last weights, when the run is finished; last_ema.safetensors: their average
log.jsonl                 a line every few steps and for every epoch
train.log                 the messages of the run
result.json               the outcome, when all weights are there
train_list.txt            with val_split: the images that were drawn for the training; val_list.txt: for the validation
curves.png                loss, accuracy and learning rate, drawn from the log
architecture.json         of a search: the architecture that it has found so far
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mobilenext.errors import DataError, OutputError, UsageError
from mobilenext.file_kinds import other_kind
from mobilenext.files import write_atomically
from mobilenext.json_files import Fields, check, optional, parse, read_json, read_lines, record, text, whole

CONFIG, CHECKPOINT, LOG_LINES, LOG, CURVES, RESULT = (
    "run.json", "checkpoint.safetensors", "log.jsonl", "train.log", "curves.png", "result.json",
)  # fmt: skip
BEST, LAST, LAST_EMA = "best.safetensors", "last.safetensors", "last_ema.safetensors"
TRAIN_LIST, VAL_LIST = "train_list.txt", "val_list.txt"
ARCHITECTURE = "architecture.json"
RUN_FILES = (
    CONFIG, CHECKPOINT, BEST, LAST, LAST_EMA, LOG_LINES, LOG, RESULT, CURVES, TRAIN_LIST, VAL_LIST, ARCHITECTURE,
)  # fmt: skip
LOCK = ".lock"
NOT_COMPARED = ("environment", "data_folder", "started", "command")  # may differ when a run goes on

REMEDY = "start the run anew"
_LOG_REMEDY = "restore it, or delete that line"
_ROW = record({"event": text(), "global_step": whole(0), "epoch": optional(whole(0))})


def config_digest(config: Mapping[str, Any]) -> str:
    """Return a checksum of everything that decides what a run computes."""
    return hashlib.sha256(json.dumps(deciding(config), sort_keys=True).encode()).hexdigest()


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``run.json`` that decides what a run computes."""
    return {name: value for name, value in config.items() if name not in NOT_COMPARED}


def read_config(folder: Path, fields: Fields | None = None, *, remedy: str = REMEDY) -> dict[str, Any]:
    """Return what ``run.json`` holds, with these fields checked.

    Raises:
        DataError: there is no run, or it is damaged.
    """
    path = folder / CONFIG
    if not path.is_file():
        problem = f"no {CONFIG} there" if folder.is_dir() else "not a folder" if folder.exists() else "no such folder"
        problem = other_kind(folder, "run") or problem
        raise DataError(f"{folder}: {problem}; expected the folder of a training run")
    return read_json(path, fields, remedy=remedy)


class RunFolder:
    """The files of one run, while it is under way; no other run can write there at the same time."""

    def __init__(self, folder: Path) -> None:
        """Make the folder and lock it.

        Raises:
            OutputError: the folder cannot be written.
            UsageError: another run is writing to it.
        """
        self.folder = folder
        self._begun = False
        try:
            self._new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / ".lock")
            self._lock.acquire(timeout=0)
            for name in RUN_FILES:  # of a killed run
                for left in folder.glob(f".{name}.*.tmp"):
                    left.unlink()
        except Timeout as error:
            raise UsageError(f"another run is writing to {folder}; wait for it, or choose another output") from error
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error.strerror or error}; choose another output") from error

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock; remove a folder in which no run has begun."""
        self._lock.release()
        if not (self.folder / CONFIG).exists():
            with contextlib.suppress(OSError):  # something else is in it
                (self.folder / LOCK).unlink()
                for path in self._new_folders:
                    path.rmdir()

    @property
    def checkpoint(self) -> Path:
        """Return the path of the file of the whole state."""
        return self.folder / CHECKPOINT

    def check_new(self) -> None:
        """Raise UsageError where the folder holds a run already."""
        if self.checkpoint.exists():
            raise UsageError(
                f"{self.folder} holds a run already; go on with it by --resume {self.folder}, or choose another output"
            )

    def begin(self, config: Mapping[str, Any], lists: Mapping[str, bytes] | None = None) -> None:
        """Write the configuration of a new run, and the lists of its images by their names."""
        (self.folder / LOG_LINES).unlink(missing_ok=True)
        for name, content in (lists or {}).items():
            write_atomically(self.folder / name, content)
        write_json(self.folder / CONFIG, config)

    def keep_log_until(self, global_step: int, epochs: int) -> None:
        """Drop the log lines of steps after the checkpoint, and of epochs that it has not finished: they are repeated.

        Raises:
            DataError: a line before the last is damaged.
        """
        path = self.folder / LOG_LINES
        if not path.is_file():
            return
        kept, damaged = [], None
        for number, line in read_lines(path, remedy=_LOG_REMEDY):
            if damaged:
                raise damaged
            try:
                row = parse(line, str(path), number, remedy=_LOG_REMEDY, numbers=False)
                check(row, _ROW, f"{path}: line {number}", remedy=_LOG_REMEDY)
            except DataError as error:
                damaged = error  # the last one was being written when the run was killed
                continue
            finished = row["event"] != "epoch" or (row.get("epoch") or 0) <= epochs
            if line.endswith(b"\n") and row["global_step"] <= global_step and finished:
                kept.append(line)
        write_atomically(path, b"".join(kept))

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the run beside the others, whole or not at all."""
        write_atomically(self.folder / name, content)

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a line to the log."""
        try:
            with (self.folder / LOG_LINES).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.folder}: {error.strerror or error}; the last checkpoint is kept: make room and "
                f"go on with --resume {self.folder}"
            ) from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())
