"""Post-training int8: calibrate, quantise, and measure on other images what it costs and what it gains.

network -> ONNX -> calibration images: ranges -> int8 ONNX -> both evaluated on other images -> gate -> folder
"""

from __future__ import annotations

import filecmp
import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.arrays import Floats, Outputs
from mobilenext.data import LabelledDataset, LabelledImage, find_images, open_dataset, pixels_of
from mobilenext.data.class_names import with_classes
from mobilenext.data.dataset import open_training
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import CheckFailed, DatasetError, UsageError
from mobilenext.evaluation.latency import interleaved_latency
from mobilenext.evaluation.run import evaluate
from mobilenext.export.folder import new_folder
from mobilenext.export.sidecar import write_sidecar
from mobilenext.machine.environment import environment, processor
from mobilenext.machine.packages import require
from mobilenext.machine.pool import WorkerPool, watched_scratch_folder
from mobilenext.origin import now, origin
from mobilenext.runs.journal import read_predictions
from mobilenext.runtime import RuntimeSpec, check_precision, open_runtime
from mobilenext.runtime.form import Form
from mobilenext.runtime.self_check import probe
from mobilenext.sources.choice import Choice, choose
from mobilenext.sources.find import Subject, find_subject
from mobilenext.sources.options import Labels
from mobilenext.sources.prepare import Prepared, prepare

log = logging.getLogger(__name__)
REPORT = "quantization.json"
FILE = "model.onnx"
FEWEST = 16  # calibration images
MOST = 256
BATCH = 8
LAYER_IMAGES = 16

Progress = Callable[[int, int, int], None]


def quantize_model(
    output: str | os.PathLike[str],
    *,
    calibration: str | os.PathLike[str],
    calibration_list: str | os.PathLike[str] | None = None,
    calibration_images: int = MOST,
    data: str | os.PathLike[str] | None = None,
    list_file: str | os.PathLike[str] | None = None,
    max_drop: float = 1.0,
    keep_float: Sequence[str] = (),
    model: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    exported: str | os.PathLike[str] | None = None,
    onnx: str | os.PathLike[str] | None = None,
    use: str | None = None,
    section: str | None = None,
    identity_divisor: int | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    labels: Labels | None = None,
    output_name: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write an int8 folder, which ``evaluate --exported`` and ``predict --exported`` take.

    Args:
        output: the folder; an earlier export in it is replaced.
        calibration: a data set, or any folder of images, whose pixels give the ranges of the activations.
        calibration_list: the list of a data set; its ``val_list.txt`` when not given.
        calibration_images: so many of them at most, spread evenly.
        data: the data set that the loss is measured on; None: the images of `calibration` that are not used for it.
        list_file: its list.
        max_drop: points of top-1 that may be lost.
        keep_float: layers that stay float32.
        model, weights, exported, onnx, use, section, identity_divisor, preprocessing, labels, output_name: as in
            ``evaluate``.
        progress: called while images are evaluated.

    Returns:
        What is written to ``quantization.json``: both accuracies, agreement, size, latency and the layers that lose
        most.

    Raises:
        CheckFailed: more than `max_drop` points are lost; nothing is written then.
        UsageError, DataError: what was asked for or read; an image that is both calibrated and evaluated on.
    """
    started = now()
    require(["onnxruntime", "onnx"], "quantize", "quantisation")
    check_precision("int8", processor()[1])
    if not max_drop >= 0:
        raise UsageError(f"max_drop is {max_drop}; expected points of top-1, from 0 up")
    if calibration_images < FEWEST:
        raise UsageError(f"calibration_images is {calibration_images}; expected at least {FEWEST}")
    subject = find_subject(
        model=model, weights=weights, exported=exported, onnx=onnx, use=use, section=section,
        identity_divisor=identity_divisor, preprocessing=preprocessing, labels=labels, output_name=output_name,
    )  # fmt: skip
    chosen, dataset = _divide(calibration, calibration_list, calibration_images, data, list_file)
    plan = choose({"device": "cpu"})
    with watched_scratch_folder(output) as work, new_folder(Path(output)) as folder:
        log.info("calibrating with %d images of %s; evaluating on %d others", len(chosen), calibration, len(dataset))
        with WorkerPool(1, plan.environment()) as single:
            made = single.call(_quantize, subject, work, folder, chosen, tuple(keep_float))
        for note in made["notes"]:
            log.info("%s", note)
        record = made["record"]
        dataset = with_classes(dataset, record.num_classes, record.labels, assumed=made["labels_assumed"])
        for note in dataset.notes:
            log.info("%s", note)
        results = {
            name: _evaluate(where, dataset, work / f"{name}-results", work / "list.txt", progress)
            for name, where in (("fp32", work / "fp32"), ("int8", folder))
        }
        with WorkerPool(1, plan.environment()) as single:
            latency = single.call(interleaved_latency, made["specs"], made["record"].preprocessing.image_size)
        report = _report(results, latency, made, chosen, dataset, max_drop, keep_float) | origin(started)
        if report["lost_points"] > max_drop:
            worst = [row["layer"] for row in report["layers"][:3]]
            raise CheckFailed(
                f"int8 loses {report['lost_points']:.2f} points of top-1 ({report['fp32']['correct_top1']} to "
                f"{report['int8']['correct_top1']} of {len(dataset)}), more than --max-drop {max_drop:g}. Layers that "
                f"lose most: {', '.join(worst)}; keep them float with --keep-float {' '.join(worst)}, or calibrate "
                "with more images. Nothing was written."
            )
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    return report


def _divide(
    calibration: str | os.PathLike[str],
    calibration_list: str | os.PathLike[str] | None,
    count: int,
    data: str | os.PathLike[str] | None,
    list_file: str | os.PathLike[str] | None,
) -> tuple[list[Path], LabelledDataset]:
    """The images to calibrate with, and the data set of others to evaluate on."""
    if data is not None:
        paths = _calibration_paths(calibration, calibration_list)
        chosen = _spread(paths, count)
        dataset = open_dataset(data, list_file=list_file, check_classes=False)
        _check_disjoint(chosen, dataset)
        _log_notes(dataset)
        return chosen, dataset
    if list_file is not None:
        raise UsageError("a list was given without the data set that it is of (--data)")
    dataset = open_dataset(calibration, list_file=calibration_list, check_classes=False)
    _log_notes(dataset)
    # At most a third: the rest must be able to tell a point of top-1.
    chosen_records = _spread(dataset.records, min(count, len(dataset) // 3))
    _check_enough(len(chosen_records), len(dataset), calibration)
    taken = {record.index for record in chosen_records}
    rest = tuple(record for record in dataset.records if record.index not in taken)
    remaining = replace(dataset, records=rest)
    chosen = [record.path for record in chosen_records]
    _check_disjoint(chosen, remaining)
    return chosen, remaining


def _log_notes(dataset: LabelledDataset) -> None:
    for note in dataset.all_notes():
        log.info("%s", note)


def _calibration_paths(folder: str | os.PathLike[str], list_file: str | os.PathLike[str] | None) -> list[Path]:
    """Of a data set by its list, or of any folder: labels are not needed."""
    if list_file is not None or (Path(folder) / "val_list.txt").is_file():
        # Mostly a training list, which may repeat lines.
        listed = open_training(folder, list_file=list_file or Path(folder) / "val_list.txt")
        paths = list(dict.fromkeys(record.path for record in listed.records))
    else:
        paths = find_images([os.fspath(folder)])
    _check_enough(len(paths), len(paths), folder)
    return paths


def _check_enough(count: int, found: int, folder: str | os.PathLike[str]) -> None:
    if count < FEWEST:
        raise DatasetError(
            f"{folder} has {found} images, of which {count} could calibrate; expected at least {FEWEST}, and some "
            "hundreds are better"
        )


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    """`count` of the items at most, evenly over the whole."""
    if not items:
        return []
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))]


def _check_disjoint(chosen: Sequence[Path], dataset: LabelledDataset) -> None:
    """Raises DatasetError for an image that is calibrated on and evaluated; the same picture twice counts too."""
    by_size: dict[int, list[LabelledImage]] = defaultdict(list)
    for record in dataset.records:
        by_size[record.path.stat().st_size].append(record)
    for path in chosen:
        for record in by_size.get(path.stat().st_size, ()):
            if path.samefile(record.path) or filecmp.cmp(path, record.path, shallow=False):
                raise DatasetError(
                    f"{path} is among the images to calibrate with and, as {record.name}, among those to evaluate on; "
                    "the loss must be measured on images that were not calibrated with"
                )


def _quantize(
    subject: Subject, work: Path, folder: Path, chosen: Sequence[Path], keep_float: tuple[str, ...]
) -> dict[str, Any]:
    """The work, in a process of its own: the float folder in `work`, the int8 one in `folder`."""
    from mobilenext.quantization.onnx_int8 import calibrate, layer_losses, make_ready, quantize

    if subject.kind == "paddle":
        raise UsageError(
            f"{subject.path} is a Paddle Inference model; quantisation works on ONNX: convert it with paddle2onnx, and "
            "give the file to --onnx"
        )
    prepared = prepare(subject, work / "prepared", Choice(runtime="onnxruntime"))
    if prepared.spec.precision != "fp32":
        raise UsageError(f"{subject.path} is {prepared.spec.precision} already; quantise the float32 one")
    float_folder = work / "fp32"
    float_folder.mkdir()
    source = float_folder / FILE
    make_ready(prepared.spec.folder / prepared.spec.file, source)

    preprocessing = prepared.record.preprocessing
    form = prepared.spec.form or Form()
    ranges = calibrate(source, _batches(chosen, preprocessing), work, form)
    quantize(source, folder / FILE, ranges, keep_float)
    few = np.concatenate(list(_batches(_spread(chosen, LAYER_IMAGES), preprocessing)))
    losses = layer_losses(source, ranges, few, prepared.spec.outputs[0], form)

    image = probe(preprocessing)
    specs = {}
    for name, where in (("fp32", float_folder), ("int8", folder)):
        spec = replace(prepared.spec, folder=where, file=FILE, precision=name, scratch=None)
        # Of int8 its own: what it costs is measured below, and other runtimes are held against what was measured.
        _describe(spec, prepared, open_runtime(spec).predict(image))
        specs[name] = spec
    shutil.rmtree(work / "prepared", ignore_errors=True)
    return {
        "notes": prepared.notes,
        "record": prepared.record,
        "labels_assumed": prepared.labels_assumed,
        "specs": specs,
        "layers": [asdict(loss) for loss in losses],
        "bytes": {name: (spec.folder / spec.file).stat().st_size for name, spec in specs.items()},
    }


def _describe(spec: RuntimeSpec, prepared: Prepared, expected: Outputs) -> None:
    # What is assumed stays an assumption.
    record = replace(prepared.record, labels=None) if prepared.labels_assumed else prepared.record
    write_sidecar(spec, "onnx", record, expected, {})


def _batches(paths: Sequence[Path], preprocessing: Preprocessing) -> list[Floats]:
    """Normalised images [N, 3, S, S], N up to 8."""
    return [
        preprocessing.normalize(np.stack([pixels_of(path, preprocessing) for path in paths[start : start + BATCH]]))
        for start in range(0, len(paths), BATCH)
    ]


def _evaluate(
    exported: Path, dataset: LabelledDataset, output: Path, list_file: Path, progress: Progress | None
) -> dict[str, Any]:
    """The result of an evaluation, with each image's first class."""
    list_file.write_text("".join(f"{record.path.resolve()} {record.label}\n" for record in dataset.records))
    result = evaluate(
        dataset.root, exported=exported, output=output, list_file=list_file, runtime="onnxruntime", progress=progress
    )
    return {**result, "first": [row.top5[0] for row in read_predictions(output)]}


def _report(
    results: Mapping[str, Mapping[str, Any]],
    latency: Mapping[str, Any],
    made: Mapping[str, Any],
    chosen: Sequence[Path],
    dataset: LabelledDataset,
    max_drop: float,
    keep_float: Sequence[str],
) -> dict[str, Any]:
    record = made["record"]
    same = sum(a == b for a, b in zip(results["fp32"]["first"], results["int8"]["first"], strict=True))
    sides = {
        name: {
            **{key: result[key] for key in ("correct_top1", "correct_top5", "top1_percent", "top5_percent")},
            "images_per_second": result["images_per_second"],
            "latency_ms": latency[name],
            "bytes": made["bytes"][name],
        }
        for name, result in results.items()
    }
    return {
        "model": record.model,
        "num_classes": record.num_classes,
        "weights": {"name": record.source_name, "sha256": record.sha256, "kind": record.kind},
        "preprocessing": record.preprocessing.to_dict(),
        **sides,
        "images": len(dataset),
        "equal_predictions": same,
        "lost_points": round(results["fp32"]["top1_percent"] - results["int8"]["top1_percent"], 3),
        "max_drop": max_drop,
        "speedup": round(latency["fp32"]["median"] / latency["int8"]["median"], 2),
        "size_ratio": round(made["bytes"]["fp32"] / made["bytes"]["int8"], 2),
        "keep_float": list(keep_float),
        "layers": made["layers"],
        "calibration": {"images": len(chosen), "names": [path.name for path in chosen]},
        "data": {"folder": dataset.root.name, "sha256": dataset.digest()},
        "environment": environment(),
    }
