"""What an evaluation is about and what comes of it: its setup, its result, and the files that appear at the end."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mobilenext.data import Dataset
from mobilenext.errors import OutputError, UsageError
from mobilenext.evaluation.pipeline import ChunkWork
from mobilenext.files import write_atomically
from mobilenext.runs.journal import JOURNAL, PREDICTIONS, RESULT, Journal, encoded, line_of, setup_digest
from mobilenext.runs.result import read_result
from mobilenext.sources.choice import Choice
from mobilenext.sources.prepare import Prepared
from mobilenext.task import Task
from mobilenext.tasks import DEFAULT

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """A network and its data, ready to be evaluated."""

    task: Task
    prepared: Prepared
    dataset: Dataset  # as the network sees it
    choice: Choice
    options: Mapping[str, Any] = field(default_factory=dict)  # of `Task.options_of`

    def task_field(self) -> dict[str, str]:
        """Return the name of the task, as it is stored: absence means classification."""
        return {} if self.task.name == DEFAULT else {"task": self.task.name}

    @property
    def facts(self) -> dict[str, Any]:
        """Return what the task must know of the network and the options to read outputs and rows."""
        return self.task.evaluation.facts(self.prepared.record, self.options)

    def read_row(self, value: Any, index: int) -> Any:
        """Return the row of image number `index` from JSON; Unfit where it is not of that image."""
        record = self.dataset.records[index] if index < len(self.dataset) else None
        return self.task.evaluation.read_row(value, index, self.facts, record)

    def setup(self) -> dict[str, Any]:
        """Return everything that decides what the predictions are, and nothing that only decides how fast they come."""
        weights = self.prepared.record
        section = {"section": weights.section} if weights.section else {}  # earlier journals do not have it
        return {
            **self.task_field(),
            **section,
            "data_sha256": self.dataset.digest(),
            "images": len(self.dataset),
            "weights_sha256": weights.sha256,
            "files": dict(self.prepared.files),
            "kind": weights.kind,
            "model": weights.model,
            **self.facts,
            "identity_divisor": weights.identity_divisor,
            "preprocessing": weights.preprocessing.to_dict(),
            "runtime": self.prepared.spec.describe(),
            "device": self.prepared.spec.device,
            **self.prepared.setup,
        }

    @property
    def images_of_worker(self) -> int:
        """Return how many images each worker process reads, about."""
        return len(self.dataset) // self.choice.workers

    def work(self, unreadable: str) -> ChunkWork:
        """Return what the worker processes do."""
        spec, preprocessing = self.prepared.spec, self.prepared.record.preprocessing
        return ChunkWork(
            spec, preprocessing, self.choice.batch_size, unreadable, self.task.evaluation, self.facts,
            flip=self.options.get("flip", False), images=self.images_of_worker,
        )  # fmt: skip

    def headline(self, setup: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the result that say what was evaluated and how."""
        weights, dataset, spec, choice = self.prepared.record, self.dataset, self.prepared.spec, self.choice
        return {
            **self.task_field(),
            "model": weights.model,
            "weights": {
                "file": weights.path.name,
                "sha256": weights.sha256,
                "card": weights.card,
                "kind": weights.kind,
                "section": weights.section,
                "source_name": weights.source_name,
                "source_sha256": weights.source_sha256,
            },
            "weights_sha256": weights.sha256,
            **self.facts,
            "identity_divisor": weights.identity_divisor,
            "preprocessing": weights.preprocessing.to_dict(),
            "data": {
                "folder": dataset.root.name,
                "layout": dataset.layout,
                "list_file": dataset.list_file.name if dataset.list_file else None,
                "images_in_list": dataset.total,
                "sha256": setup["data_sha256"],
            },
            "partial": len(dataset) < dataset.total,
            "runtime": spec.runtime,
            "engine": spec.engine,
            "precision": spec.precision,
            "device": choice.device,
            "workers": choice.workers,
            "threads": choice.threads,
            "batch_size": choice.batch_size,
            "notes": list(self.prepared.notes),
            "setup_digest": setup_digest(setup),
        }


def finished_result(folder: Path, setup: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the result in `folder`, if it is of this setup and no evaluation is under way there.

    Raises:
        UsageError: the result is of another setup. DataError: it is damaged.
    """
    if not (folder / RESULT).is_file() or (folder / JOURNAL).is_file():
        return None
    result = read_result(folder / RESULT)
    if result.get("setup_digest") != setup_digest(setup):
        raise UsageError(
            f"{folder / RESULT} is of another evaluation; choose another output folder, or leave out --resume"
        )
    return result


def write_outcome(
    folder: Path, journal: Journal, result: Mapping[str, Any], files: Mapping[str, bytes] | None = None
) -> None:
    """Write the predictions and the task's `files` first and the result last: a folder with a result has everything.

    Raises:
        OutputError: the disk is full.
    """
    result_file = folder / RESULT
    if result_file.is_file():
        log.warning("the earlier result in %s is replaced", folder)
        result_file.unlink()  # it is not of the predictions that come now
    free = shutil.disk_usage(folder).free
    files = files or {}
    needed = journal.path.stat().st_size + sum(map(len, files.values()))
    if free < needed:
        raise OutputError(f"{folder}: {free} bytes are free, {needed} are needed; --resume finishes when there is room")
    write_atomically(folder / PREDICTIONS, b"".join(line_of(row.to_dict()) for row in journal.rows))
    for name, content in files.items():
        write_atomically(folder / name, content)
    write_atomically(result_file, encoded(json.dumps(result, indent=1, ensure_ascii=False) + "\n"))
    journal.remove()
