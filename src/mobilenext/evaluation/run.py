"""Evaluate a checkpoint on a data set: every image exactly once, the same counts however the work is divided.

    weights file ──> prepared network ──┐
                                        ├──> worker processes: read, preprocess, predict ──> journal ──> result
    data set ──> checked records ───────┘

On a CPU each worker process does all three steps by itself, which is what keeps every core busy; on a GPU the
workers read and preprocess, and this process predicts. Several processes, started by Paddle's launcher, share the
images; the first of them keeps the journal and writes the result.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from PIL import Image

from mobilenext.classification.comparison import compare
from mobilenext.classification.diagnosis import diagnose, size_problems
from mobilenext.classification.metrics import Counts, Prediction
from mobilenext.data import LabelledDataset as Dataset
from mobilenext.data import LabelledImage as Record
from mobilenext.data import Preprocessing, open_dataset, pixels_of
from mobilenext.data.check import unreadable_images
from mobilenext.data.class_names import classes_without_images, with_classes
from mobilenext.data.problems import raise_unreadable
from mobilenext.errors import DataError, ImageError, OutputError, UsageError
from mobilenext.evaluation.latency import measure_latency
from mobilenext.evaluation.pipeline import Job, Plan, make_plan, predict_together, warm_up
from mobilenext.files import write_atomically
from mobilenext.machine.environment import environment
from mobilenext.machine.pool import WorkerPool, available_cores, watched_scratch_folder
from mobilenext.machine.ranks import Ranks, launched_here
from mobilenext.origin import now, origin
from mobilenext.runs.journal import JOURNAL, PREDICTIONS, RESULT, Journal, encoded, line_of, setup_digest
from mobilenext.runs.result import read_result
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import find_subject
from mobilenext.sources.options import Labels
from mobilenext.sources.prepare import Prepared, prepare

log = logging.getLogger(__name__)
LATENCY_IMAGES = 20

_WAY_OUT = "count them as wrong: --unreadable wrong"

Progress = Callable[[int, int, int], None]  # images done, images in all, correct so far


def evaluate(
    data: str | os.PathLike[str],
    *,
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    exported: str | os.PathLike[str] | None = None,
    onnx: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    list_file: str | os.PathLike[str] | None = None,
    split: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    identity_divisor: int | None = None,
    use: str | None = None,
    section: str | None = None,
    labels: Labels | None = None,
    output_name: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    runtime: str = "auto",
    engine: str = "auto",
    precision: str | None = None,
    limit: int | None = None,
    unreadable: str = "stop",
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Top-1 and top-5 of a checkpoint on a data set, its latency, and how it compares with a published number.

    Args:
        data: a folder in one of the layouts of :func:`mobilenext.data.open_dataset`.
        model: a model's name, or ``model.tag``; recognised from the weights when not given.
        weights: a file, a tag of the model's card, or None for the card's first.
        exported: in place of model and weights, a folder made by ``mobilenext export``, or one with a Paddle Inference
            model of another project, of which `preprocessing` says what it expects.
        onnx: any classifier in ONNX, likewise.
        output: a folder for ``result.json``, ``predictions.jsonl`` and the journal; None keeps nothing.
        list_file: another list than ``val_list.txt``.
        split: another part than the validation, ``test`` or ``train`` for one.
        preprocessing: fields of :class:`mobilenext.Preprocessing` that replace those of the weights.
        identity_divisor: replaces that of the weights.
        use: ``raw``, ``ema`` or ``auto``.
        section: key path of the weights in a checkpoint that has several.
        labels: a file of class names, or the names, in place of those of the weights.
        output_name: the output of a foreign model that has the scores, where several can.
        batch_size, workers, threads: how the work is divided; the counts do not depend on it.
        device: ``auto``, ``cpu`` or ``gpu``.
        runtime: ``auto`` or a key of ``mobilenext.runtime.RUNTIMES``; engine: of Paddle Inference on a CPU.
        precision: ``fp32``, ``bf16`` or ``int8``; None: what the files are, float32 for weights.
        limit: only the first images; the result is stamped as partial.
        unreadable: ``stop``, or ``wrong`` to count an unreadable image as a wrong answer.
        resume: go on with the journal in `output`.
        progress: called at the start, with what a resumed journal holds, and after each chunk.

    Returns:
        What is written to ``result.json``.

    Raises:
        UsageError: an option that cannot work. DatasetError, ImageError, WeightsError, DownloadError: what was read.
        OutputError: what could not be written. CheckFailed: no runtime computes what the network does.
    """
    started = now()
    if unreadable not in ("stop", "wrong"):
        raise UsageError(f"unreadable is {unreadable!r}; expected stop or wrong")
    if resume and output is None:
        raise UsageError("resume was asked for without an output folder, where the journal would be")
    plan = make_plan(device, workers, threads, batch_size)
    subject = find_subject(
        model=model, weights=weights, exported=exported, onnx=onnx, use=use, section=section,
        identity_divisor=identity_divisor, preprocessing=preprocessing, labels=labels, output_name=output_name,
    )  # fmt: skip
    # A problem of the data set should not wait for the network.
    dataset = open_dataset(data, list_file=list_file, limit=limit, split=split, check_classes=False, one_class=True)
    if unreadable == "stop" and dataset.unreadable:
        _refuse_unreadable(dataset.records, plan)

    with watched_scratch_folder(output) as scratch:
        choice = Choice(runtime, engine, plan.device, plan.threads, precision)
        # A process of its own: this one stays small, and the latency is measured while nothing else runs.
        with WorkerPool(1, plan.environment()) as single:
            prepared = single.call(prepare, subject, scratch, choice)
            found = prepared.record
            if batch_size is None and prepared.spec.form is not None and prepared.spec.form.batch is not None:
                plan = replace(plan, batch_size=prepared.spec.form.batch)
            dataset = open_dataset(
                data, list_file=list_file, num_classes=found.num_classes, limit=limit, split=split, check_classes=False,
                one_class=True,
            )  # fmt: skip
            dataset = with_classes(dataset, found.num_classes, found.labels, assumed=prepared.labels_assumed)
            names = dataset.class_names or found.labels
            warnings = _warnings(dataset, found.num_classes, names)
            for note in (*prepared.notes, *dataset.all_notes()):
                log.info("%s", note)
            log.info("model: %s, %d classes, from %s", found.model, found.num_classes, subject.path)
            assumed = f" (assumed: {', '.join(found.assumed)})" if found.assumed else ""
            log.info("preprocessing: %s%s", found.preprocessing.describe(), assumed)
            log.info(
                "data: %d images of %s (%s); %s on %s, %d processes of %d threads",
                len(dataset), data, dataset.layout, prepared.spec.describe(), plan.device, plan.workers, plan.threads,
            )  # fmt: skip
            for warning in warnings:
                log.warning("%s", warning)
            setup = _setup(dataset, prepared)
            ranks = Ranks()
            # All processes keep a journal of all rows; that of the first is the one to be resumed.
            folder = Path(output) if output is not None and ranks.first else scratch / "output"
            finished = _finished(folder, setup) if resume and ranks.first else None
            if ranks.sum([finished is not None])[0]:
                log.info("%s is finished already", output)
                kept: dict[str, Any] = ranks.from_first(finished)
                return kept
            journal = Journal(folder, setup, resume=resume)
            timed = _readable_images(dataset, found.preprocessing) if ranks.first else []
            size_remarks = size_problems([_size_of(path) for path in timed], found.preprocessing)
            if {"image_size", "crop_pct"} & set(found.assumed):
                warnings += size_remarks
                for remark in size_remarks:
                    log.warning("%s", remark)
            latency = single.call(measure_latency, prepared.spec, found.preprocessing, timed) if ranks.first else None
            latency = ranks.from_first(latency)

        job = Job(prepared.spec, found.preprocessing, plan.batch_size, unreadable)
        try:
            counts, speed = _run(journal, dataset, job, plan, found.num_classes, progress, ranks)
        finally:
            journal.close()
        result = {
            **_headline(prepared, dataset, plan, setup),
            "warnings": warnings,
            "processes": ranks.world,
            **counts.summary(),
            **counts.scores().summary(),
            "classes_with_images": int((counts.by_class[:, 0] > 0).sum()),
            "latency_ms": latency["median"],
            "latency": latency,
            **speed,
            "comparison": compare(found.published, counts, dataset, found, prepared.spec.precision),
            "diagnosis": diagnose(journal.rows, found.num_classes, size_remarks),
            "per_class": counts.per_class(names),
            "class_names": list(names) if names else None,
            **origin(started),
            "environment": environment(),
        }
        if ranks.first:
            _write(folder, journal, result)
    return result


def _warnings(dataset: Dataset, num_classes: int, names: Sequence[str] | None) -> list[str]:
    """What to know before trusting a score: classes without images, unless a limit has left them out."""
    if len(dataset) < dataset.total:
        return []
    missing = classes_without_images((record.label for record in dataset.records), num_classes, names)
    return [missing] if missing else []


def _setup(dataset: Dataset, prepared: Prepared) -> dict[str, Any]:
    """Everything that decides what the predictions are; what only decides how fast they come is left out."""
    weights = prepared.record
    section = {"section": weights.section} if weights.section else {}  # earlier journals know nothing of it
    return {
        **section,
        "data_sha256": dataset.digest(),
        "images": len(dataset),
        "weights_sha256": weights.sha256,
        "files": dict(prepared.files),
        "kind": weights.kind,
        "model": weights.model,
        "num_classes": weights.num_classes,
        "identity_divisor": weights.identity_divisor,
        "preprocessing": weights.preprocessing.to_dict(),
        "runtime": prepared.spec.describe(),
        "device": prepared.spec.device,
        **prepared.setup,
    }


def _headline(prepared: Prepared, dataset: Dataset, plan: Plan, setup: Mapping[str, Any]) -> dict[str, Any]:
    weights = prepared.record
    return {
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
        "num_classes": weights.num_classes,
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
        "runtime": prepared.spec.runtime,
        "engine": prepared.spec.engine,
        "precision": prepared.spec.precision,
        "device": plan.device,
        "workers": plan.workers,
        "threads": plan.threads,
        "batch_size": plan.batch_size,
        "notes": list(prepared.notes),
        "setup_digest": setup_digest(setup),
    }


def _readable_images(dataset: Dataset, preprocessing: Preprocessing) -> list[Path]:
    """The first images that can be read, for timing; what is wrong with the others, the evaluation says."""
    paths = []
    for record in dataset.records[: 2 * LATENCY_IMAGES]:
        try:
            pixels_of(record.path, preprocessing)
        except ImageError:
            continue
        paths.append(record.path)
    return paths[:LATENCY_IMAGES]


def _size_of(path: Path) -> tuple[int, int]:
    """Width and height of an image that has been read before, by its header."""
    with Image.open(path) as image:
        return image.size


def _run(
    journal: Journal,
    dataset: Dataset,
    job: Job,
    plan: Plan,
    num_classes: int,
    progress: Progress | None,
    ranks: Ranks,
) -> tuple[Counts, dict[str, Any]]:
    """Predict what the journal does not hold yet; the counts of all rows, and the speed of the new ones."""
    counts = Counts(num_classes)
    done = int(ranks.sum([len(journal.rows) if ranks.first else 0])[0])
    if done and ranks.world > 1:
        rows_of_first = ranks.from_first([row.to_dict() for row in journal.rows] if ranks.first else None)
        if not ranks.first:
            journal.add(Prediction.from_dict(values) for values in rows_of_first)
    if done:
        _check_resumed(journal, dataset, job.unreadable)
        for row in journal.rows:
            counts.add(row)
        log.info("resumed: %d of %d images were there", done, len(dataset))
    if progress:
        progress(done, len(dataset), counts.top1)
    remaining = dataset.records[done:]
    problems: list[str] = []
    seconds = 0.0
    if remaining:
        # A run that leaves cores free does not claim any, or two such runs would claim the same.
        share = plan.threads if plan.workers * plan.threads * launched_here() >= available_cores() else None
        with WorkerPool(plan.workers, plan.environment(), threads=share) as pool:
            # Starting the processes is left out of the speed.
            list(pool.map(warm_up, [job] * plan.workers))
            started = time.perf_counter()
            for rows in predict_together(ranks, pool, job, remaining):
                if job.unreadable == "stop" and (problems := [row.error for row in rows if row.error is not None]):
                    break  # the journal keeps the chunks before this one, for --resume
                journal.add(rows)
                for row in rows:
                    counts.add(row)
                    if row.error is not None:
                        log.warning("counted as wrong: %s", row.error)
                if progress:
                    progress(counts.images, len(dataset), counts.top1)
            seconds = time.perf_counter() - started
    if problems:
        if ranks.world > 1:
            raise_unreadable(problems, _WAY_OUT, complete=False)
        log.warning("an image cannot be read; looking for others: %s", problems[0])
        _refuse_unreadable(dataset.records[rows[-1].index + 1 :], plan, problems, job.preprocessing)
    if counts.images != len(dataset):
        raise DataError(f"{counts.images} predictions for {len(dataset)} images; the journal is not complete")
    return counts, {
        "images_per_second": round(len(remaining) / seconds, 2) if remaining else None,
        "resumed_images": done,
    }


def _refuse_unreadable(
    records: Sequence[Record], plan: Plan, problems: Sequence[str] = (), preprocessing: Preprocessing | None = None
) -> NoReturn:
    """Raises ImageError with `problems` and those of the records."""
    further, complete = unreadable_images(records, plan.workers, preprocessing)
    raise_unreadable([*problems, *further], _WAY_OUT, complete=complete)


def _check_resumed(journal: Journal, dataset: Dataset, unreadable: str) -> None:
    """Raises UsageError where the journal's rows are not what evaluating these images now would give.

    DataError for a row that is of another image.
    """
    for row, record in zip(journal.rows, dataset.records, strict=False):
        if (row.path, row.label) != (record.name, record.label):
            raise DataError(
                f"{journal.path}: line {row.index + 2} is damaged: it is of {row.path!r} with label {row.label}; "
                f"expected {record.name!r} with label {record.label}; delete the file to start anew"
            )
        if row.error is not None and unreadable == "stop":
            raise UsageError(
                f"{journal.path} counts {record.path} as wrong, which could not be read; add --unreadable wrong, or "
                "delete the journal to start anew"
            )
        if row.bytes is not None and row.bytes != record.path.stat().st_size:
            raise UsageError(
                f"{record.path} has {record.path.stat().st_size} bytes, and had {row.bytes} when it was evaluated; "
                f"restore it, or delete {journal.path} to start anew"
            )


def _finished(folder: Path, setup: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result in `folder`, if it is of this setup and nothing is under way."""
    if not (folder / RESULT).is_file() or (folder / JOURNAL).is_file():
        return None
    result = read_result(folder / RESULT)
    if result.get("setup_digest") != setup_digest(setup):
        raise UsageError(
            f"{folder / RESULT} is of another evaluation; choose another output folder, or leave out --resume"
        )
    return result


def _write(folder: Path, journal: Journal, result: Mapping[str, Any]) -> None:
    """Predictions first, the result last: where a result is, all of it is."""
    result_file = folder / RESULT
    if result_file.is_file():
        log.warning("the earlier result in %s is replaced", folder)
        result_file.unlink()  # it is not of the predictions that come now
    free = shutil.disk_usage(folder).free
    needed = journal.path.stat().st_size
    if free < needed:
        raise OutputError(f"{folder}: {free} bytes are free, {needed} are needed; --resume finishes when there is room")
    write_atomically(folder / PREDICTIONS, b"".join(line_of(row.to_dict()) for row in journal.rows))
    write_atomically(result_file, encoded(json.dumps(result, indent=1, ensure_ascii=False) + "\n"))
    journal.remove()
