"""Post-training int8: calibrate, quantize, and measure on other images what it costs and what it gains.

network -> ONNX -> calibration images: ranges -> int8 ONNX -> both evaluated on other images -> gate -> folder
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilenext.arrays import Outputs
from mobilenext.data import LabelledDataset
from mobilenext.data.class_names import with_classes
from mobilenext.errors import CheckFailed, UsageError, refuse_unknown
from mobilenext.evaluation.latency import interleaved_latency
from mobilenext.evaluation.run import evaluate
from mobilenext.export.folder import new_folder
from mobilenext.export.sidecar import write_sidecar
from mobilenext.machine.environment import processor
from mobilenext.machine.packages import require
from mobilenext.machine.pool import WorkerPool, watched_scratch_folder
from mobilenext.origin import now, origin
from mobilenext.quantization.images import ImageOptions, batches, divide, spread
from mobilenext.quantization.report import Measurements, Quantized, build_report, lost
from mobilenext.runs.journal import read_predictions
from mobilenext.runtime import RuntimeSpec, check_precision, open_runtime
from mobilenext.runtime.form import Form
from mobilenext.runtime.self_check import probe
from mobilenext.sources.choice import Choice, choose
from mobilenext.sources.find import Subject, find_subject, task_of
from mobilenext.sources.options import Source, take_options
from mobilenext.sources.prepare import Prepared, prepare
from mobilenext.task import Task
from mobilenext.tasks import DEFAULT, task_of_file

if TYPE_CHECKING:
    from typing import Unpack

log = logging.getLogger(__name__)
REPORT = "quantization.json"
FILE = "model.onnx"
LAYER_IMAGES = 16

Progress = Callable[[int, int, int], None]


class QuantizationOptions(Source, ImageOptions, total=False):
    """The options of ``quantize_model``: the network, and the images."""


def quantize_model(
    output: str | os.PathLike[str],
    *,
    calibration: str | os.PathLike[str],
    max_drop: float = 1.0,
    keep_float: Sequence[str] = (),
    progress: Progress | None = None,
    **options: Unpack[QuantizationOptions],
) -> dict[str, Any]:
    """Write an int8 folder, which ``evaluate --exported`` and ``predict --exported`` take.

    Args:
        output: the folder; an earlier export in it is replaced.
        calibration: a data set, or any folder of images, whose pixels give the ranges of the activations.
        max_drop: how much of the task's metric may be lost: points of top-1 for a classifier.
        keep_float: layers that stay float32.
        progress: called while images are evaluated.
        options: model, weights, exported, onnx, use, section, identity_divisor, preprocessing, labels and output_name
            name the network, as in ``evaluate``; calibration_list, calibration_images, data and list_file the images:
            `mobilenext.quantization.images` describes them.

    Returns:
        The content of ``quantization.json``: both accuracies, agreement, size, latency and the layers that lose most.

    Raises:
        CheckFailed: more than `max_drop` is lost; nothing is written then.
        UsageError, DataError: an option or a file is wrong; an image both calibrates and is evaluated.
    """
    started = now()
    rest: dict[str, Any] = dict(options)
    source, image_options = take_options(Source, rest), take_options(ImageOptions, rest)
    refuse_unknown(rest, (), "quantize_model")
    subject = find_subject(**source)
    task = task_of_file(task_of(subject), subject.path)
    if task.name != DEFAULT:
        raise UsageError(f"{subject.path} is of the task {task.name}; only {DEFAULT} is quantized")
    require(["onnxruntime", "onnx"], "quantize", "quantization")
    check_precision("int8", processor()[1])
    if not max_drop >= 0:
        raise UsageError(f"max_drop is {max_drop}; expected {task.metric.unit} of {task.metric.display}, from 0 up")
    calibrated, dataset = divide(calibration, image_options)
    environment = choose({"device": "cpu"}).environment()
    with watched_scratch_folder(output) as work, new_folder(Path(output)) as folder:
        counts = len(calibrated), calibration, len(dataset)
        log.info("calibrating with %d images of %s; evaluating on %d others", *counts)
        with WorkerPool(1, environment) as single:
            quantized = single.call(_quantize, subject, work, folder, calibrated, tuple(keep_float))
        for note in quantized.notes:
            log.info("%s", note)
        dataset = _fitted(dataset, quantized)
        results, rows = _evaluate_both(work, folder, dataset, task, progress)
        with WorkerPool(1, environment) as single:
            size = quantized.record.preprocessing.image_size
            latency = single.call(interleaved_latency, quantized.specs, size)
        report = build_report(quantized, Measurements(results, rows, latency), dataset, calibrated, task)
        report |= {"max_drop": max_drop, "keep_float": list(keep_float), **origin(started)}
        _check_drop(report, results, task)
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    return report


def _fitted(dataset: LabelledDataset, quantized: Quantized) -> LabelledDataset:
    record = quantized.record
    dataset = with_classes(dataset, record.num_classes, record.labels, assumed=quantized.labels_assumed)
    for note in dataset.notes:
        log.info("%s", note)
    return dataset


def _quantize(
    subject: Subject, work: Path, folder: Path, calibrated: Sequence[Path], keep_float: tuple[str, ...]
) -> Quantized:
    """Write the float folder in `work` and the int8 one in `folder`, in a process of its own."""
    from mobilenext.quantization.onnx_int8 import calibrate, layer_losses, make_ready, quantize

    if subject.kind == "paddle":
        raise UsageError(
            f"{subject.path} is a Paddle Inference model; quantization works on ONNX: convert it with paddle2onnx, and "
            "give the file to --onnx"
        )
    prepared = prepare(subject, work / "prepared", Choice(runtime="onnxruntime"))
    if prepared.spec.precision != "fp32":
        raise UsageError(f"{subject.path} is {prepared.spec.precision} already; quantize the float32 one")
    float_folder = work / "fp32"
    float_folder.mkdir()
    source = float_folder / FILE
    make_ready(prepared.spec.folder / prepared.spec.file, source)

    preprocessing = prepared.record.preprocessing
    form = prepared.spec.form or Form()
    ranges = calibrate(source, batches(calibrated, preprocessing), work, form)
    quantize(source, folder / FILE, ranges, keep_float)
    few = np.concatenate(list(batches(spread(calibrated, LAYER_IMAGES), preprocessing)))
    losses = layer_losses(source, ranges, few, prepared.spec.outputs[0], form)

    image = probe(preprocessing)
    specs = {}
    for name, where in (("fp32", float_folder), ("int8", folder)):
        spec = replace(prepared.spec, folder=where, file=FILE, precision=name, scratch=None)
        # The int8 network is described by its own outputs: its loss is measured below, and other runtimes are compared
        # with the network that was measured.
        _describe(spec, prepared, open_runtime(spec).predict(image))
        specs[name] = spec
    shutil.rmtree(work / "prepared", ignore_errors=True)
    return Quantized(
        record=prepared.record,
        labels_assumed=prepared.labels_assumed,
        notes=prepared.notes,
        specs=specs,
        layers=[asdict(loss) for loss in losses],
        bytes={name: (spec.folder / spec.file).stat().st_size for name, spec in specs.items()},
    )


def _describe(spec: RuntimeSpec, prepared: Prepared, expected: Outputs) -> None:
    # Names that are assumed stay an assumption.
    record = replace(prepared.record, labels=None) if prepared.labels_assumed else prepared.record
    write_sidecar(spec, "onnx", record, expected, {})


def _evaluate_both(
    work: Path, folder: Path, dataset: LabelledDataset, task: Task, progress: Progress | None
) -> tuple[dict[str, Mapping[str, Any]], dict[str, list[Any]]]:
    """Return the results and the rows of both networks."""
    results: dict[str, Mapping[str, Any]] = {}
    rows: dict[str, list[Any]] = {}
    for name, exported in (("fp32", work / "fp32"), ("int8", folder)):
        results[name] = _evaluate(exported, dataset, work / f"{name}-results", work / "list.txt", progress)
        rows[name] = read_predictions(work / f"{name}-results", task.name)
    return results, rows


def _evaluate(
    exported: Path, dataset: LabelledDataset, output: Path, list_file: Path, progress: Progress | None
) -> dict[str, Any]:
    list_file.write_text("".join(f"{record.path.resolve()} {record.label}\n" for record in dataset.records))
    return evaluate(
        dataset.root, exported=exported, output=output, list_file=list_file, runtime="onnxruntime", progress=progress
    )


def _check_drop(report: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]], task: Task) -> None:
    """Raise CheckFailed where more is lost than may be."""
    drop = lost(results, task)
    if drop <= report["max_drop"]:
        return
    worst = [row["layer"] for row in report["layers"][:3]]
    before, after = (task.presentation.measured(results[name]) for name in ("fp32", "int8"))
    raise CheckFailed(
        f"int8 loses {drop:.2f} {task.metric.unit} of {task.metric.display} ({before.text} to "
        f"{after.text} on {report['images']} images), more than --max-drop {report['max_drop']:g}. Layers that lose "
        f"most: {', '.join(worst)}; keep them float with --keep-float {' '.join(worst)}, or calibrate with more "
        "images. Nothing was written."
    )
