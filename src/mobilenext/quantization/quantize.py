"""Post-training int8: calibrate, quantize, and measure on other images what it costs and what it gains.

network -> ONNX -> calibration images: ranges -> int8 ONNX -> both evaluated on other images -> gate -> folder

Of a task other than classification, layers stay float32 that its metric needs so: those that lose most alone, as many
as it takes until no more than `max_drop` is lost.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from mobilenext.export.post_processing import describe, write_post_processed
from mobilenext.export.sidecar import write_sidecar
from mobilenext.machine.environment import processor
from mobilenext.machine.packages import require
from mobilenext.machine.pool import Report, WorkerPool, watched_scratch_folder
from mobilenext.origin import now, origin
from mobilenext.quantization.images import ImageOptions, batches, divide, divide_for, spread
from mobilenext.quantization.report import Measurements, Quantized, build_report, lost, metric_of
from mobilenext.runs.journal import read_predictions
from mobilenext.runtime import RuntimeSpec, check_precision, open_runtime
from mobilenext.runtime.form import Form
from mobilenext.runtime.self_check import probe
from mobilenext.sources.choice import Choice, choose
from mobilenext.sources.find import Subject, find_subject, task_of
from mobilenext.sources.options import Source, take_options
from mobilenext.sources.prepare import Prepared, prepare
from mobilenext.task import OwnDataset, Task
from mobilenext.tasks import DEFAULT, find_task, task_of_file

if TYPE_CHECKING:
    from typing import Unpack

log = logging.getLogger(__name__)
REPORT = "quantization.json"
FILE = "model.onnx"
LAYER_IMAGES = 16
KEPT = (1, 2, 4, 8, 16, 32)  # layers in float32 that are tried, where none is named

Progress = Callable[[int, int, int | None], None]


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
        max_drop: how much of the task's metric may be lost: points of top-1 for a classifier, of mAP for a detector.
        keep_float: layers that stay float32. Of a detector, none are named: those that must are found.
        progress: called with the work done, the work in all, and the number of correct answers or None.
        options: model, weights, exported, onnx, use, section, identity_divisor, preprocessing, labels and output_name
            name the network, as in ``evaluate``; calibration_list, calibration_images, data, list_file and split the
            images: `mobilenext.quantization.images` describes them.

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
    require(["onnxruntime", "onnx"], "quantize", "quantization")
    check_precision("int8", processor()[1])
    if not max_drop >= 0:
        raise UsageError(f"max_drop is {max_drop}; expected {task.metric.unit} of {task.metric.display}, from 0 up")
    calibrated, dataset = _divided(task, calibration, image_options)
    environment = choose({"device": "cpu"}).environment()
    with watched_scratch_folder(output) as work, new_folder(Path(output)) as folder:
        counts = len(calibrated), calibration, len(dataset)
        log.info("calibrating with %d images of %s; evaluating on %d others", *counts)
        quantized = _in_a_process((subject, work, calibrated, keep_float), environment, progress)
        dataset = _fitted(dataset, quantized) if task.name == DEFAULT else dataset
        trial = _Trial(work, dataset, task, image_options, progress)
        results, rows, quantized, tried = _evaluate_until(max_drop, quantized, trial)
        shutil.copytree(quantized.specs["int8"].folder, folder, dirs_exist_ok=True)
        with WorkerPool(1, environment) as single:
            latency = single.call(interleaved_latency, quantized.specs, quantized.record.preprocessing.image_size)
        report = build_report(quantized, Measurements(results, rows, latency), dataset, calibrated, task)
        report |= {"max_drop": max_drop, "keep_float": tried[-1]["keep_float"], **origin(started)}
        report |= {} if task.name == DEFAULT else {"task": task.name, "metric": metric_of(task), "tried": tried}
        _check_drop(report, results, task)
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    return report


def _in_a_process(arguments: tuple[Any, ...], environment: Mapping[str, str], progress: Progress | None) -> Quantized:
    """Return what `_quantize` returns in a process of its own, and log its notes.

    Args:
        arguments: of `_quantize` but the last; the second is a folder for temporary files.
        environment: of the process.
        progress: is told of images and layers.
    """
    told = None if progress is None else lambda done, total: progress(done, total, None)
    with WorkerPool(1, environment) as single:
        quantized = single.call_watched(_quantize, *arguments, scratch=arguments[1], progress=told)
    for note in quantized.notes:
        log.info("%s", note)
    return quantized


def _divided(task: Task, calibration: str | os.PathLike[str], options: ImageOptions) -> tuple[list[Path], OwnDataset]:
    """Return the images to calibrate with, and the data set of others to evaluate on."""
    if task.name == DEFAULT:
        return divide(calibration, options)
    return divide_for(task, calibration, options)


def _fitted(dataset: LabelledDataset, quantized: Quantized) -> LabelledDataset:
    record = quantized.record
    dataset = with_classes(dataset, record.num_classes, record.labels, assumed=quantized.labels_assumed)
    for note in dataset.notes:
        log.info("%s", note)
    return dataset


def _quantize(
    subject: Subject, work: Path, calibrated: Sequence[Path], keep_float: Sequence[str], report: Report
) -> Quantized:
    """Write the float folder and one int8 folder for each choice of layers into `work`, in a process of its own."""
    from mobilenext.quantization.onnx_int8 import calibrate, layer_losses, layers, make_ready, quantize

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
    count, steps = len(calibrated), len(calibrated) + len(layers(source))  # a step: an image, later a layer
    ranges = calibrate(
        source, batches(calibrated, preprocessing), work, form, progress=lambda done: report(done, steps)
    )
    few = np.concatenate(list(batches(spread(calibrated, LAYER_IMAGES), preprocessing)))
    losses = layer_losses(
        source, ranges, few, prepared.spec.outputs, form, progress=lambda done: report(count + done, steps)
    )
    choices = [tuple(keep_float)]
    if prepared.record.task not in (None, DEFAULT) and not keep_float:
        choices += [tuple(loss.layer for loss in losses[:count]) for count in KEPT if count < len(losses)]
    folders = [float_folder]
    for number, kept in enumerate(choices):
        folders.append(work / f"int8-{number}")
        folders[-1].mkdir()
        quantize(source, folders[-1] / FILE, ranges, kept)
    specs = []
    for where in folders:
        precision = "fp32" if where == float_folder else "int8"
        spec = replace(prepared.spec, folder=where, file=FILE, precision=precision, scratch=None)
        # The int8 network is described by its own outputs: its loss is measured below, and other runtimes are compared
        # with the network that was measured.
        _describe(spec, prepared, open_runtime(spec).predict(probe(preprocessing)))
        specs.append(spec)
    shutil.rmtree(work / "prepared", ignore_errors=True)
    return Quantized(
        record=prepared.record,
        labels_assumed=prepared.labels_assumed,
        notes=prepared.notes,
        specs={"fp32": specs[0], "int8": specs[1]},
        layers=[loss.to_dict() for loss in losses],
        choices=tuple(zip(choices, specs[1:], strict=True)),
    )


def _describe(spec: RuntimeSpec, prepared: Prepared, expected: Outputs) -> None:
    """Write the sidecar, and what follows the network into a second file where its task has that."""
    # Names that are assumed stay an assumption.
    record = replace(prepared.record, labels=None) if prepared.labels_assumed else prepared.record
    following = None if record.task in (None, DEFAULT) else find_task(record.task).export.post_processing
    instructions = describe(following, spec.folder, record) if following else None
    if following and instructions is not None:
        instructions |= write_post_processed(following, "onnx", spec.folder / spec.file, spec.folder, record)
    write_sidecar(spec, "onnx", record, expected, {}, instructions)


@dataclass(frozen=True)
class _Trial:
    """What both networks are evaluated on."""

    work: Path
    dataset: OwnDataset
    task: Task
    options: ImageOptions
    progress: Progress | None


def _evaluate_until(
    max_drop: float, quantized: Quantized, trial: _Trial
) -> tuple[dict[str, Mapping[str, Any]], dict[str, list[Any]], Quantized, list[dict[str, Any]]]:
    """Evaluate the float network and int8 ones that keep more and more layers, until one loses no more than it may.

    Returns:
        The results and the rows of float32 and of the int8 network that was chosen (the last, where none is good
        enough), both networks, and what each choice of layers has lost.
    """
    task, unit = trial.task, trial.task.metric.difference_field("lost")
    results: dict[str, Mapping[str, Any]] = {}
    rows: dict[str, list[Any]] = {}
    results["fp32"], rows["fp32"] = _evaluated(quantized.specs["fp32"], trial)
    tried: list[dict[str, Any]] = []
    for keep_float, spec in quantized.choices:
        results["int8"], rows["int8"] = _evaluated(spec, trial)
        quantized = replace(quantized, specs={**quantized.specs, "int8": spec})
        tried.append({"keep_float": list(keep_float), unit: lost(results, task)})
        if tried[-1][unit] <= max_drop:
            break
        if len(quantized.choices) > 1:
            log.info("int8 with %d layers in float32 loses %s %s", len(keep_float), tried[-1][unit], task.metric.unit)
    return results, rows, quantized, tried


def _evaluated(spec: RuntimeSpec, trial: _Trial) -> tuple[dict[str, Any], list[Any]]:
    """Return the result and the rows of one network."""
    output = trial.work / f"{spec.folder.name}-results"
    if trial.task.name == DEFAULT:
        result = _evaluate(spec.folder, trial.dataset, output, trial.work / "list.txt", trial.progress)
    else:
        result = evaluate(
            str(trial.options["data"]), exported=spec.folder, output=output, list_file=trial.options.get("list_file"),
            split=trial.options.get("split"), runtime="onnxruntime", progress=trial.progress,
        )  # fmt: skip
    return result, read_predictions(output, trial.task.name)


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
