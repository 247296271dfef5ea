"""What each verb of the drivers does, by one call of a public function of ``mobilenext``.

Every function takes the values that ``flags.parse`` has read, by the names of ``options.OPTIONS``, and returns an exit
code. What Paddle's drivers expect of the files is arranged here: a run is trained again into the same folder, and an
export goes into the folder of the run.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mobilenext
from mobilenext.errors import DataError, OutputError, Stopped, UsageError
from mobilenext.export import FORMATS
from mobilenext.machine.console import log_file, print_and_log, progress_bar
from mobilenext.machine.ranks import launched

log = logging.getLogger(__name__)
EVALUATION = "evaluation"  # the folder of an evaluation, beside the weights
FORMAT_NAMES = {"json": "paddle", "pdmodel": "paddle-legacy"}


def _need(values: Mapping[str, Any], name: str, key: str) -> Any:
    if name not in values:
        raise UsageError(f"{key} is missing; expected {key}=...")
    return values[name]


def _some(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return those of the values that a public function takes under the same name."""
    return {name: values[name] for name in names if name in values}


def _device(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the keyword ``device`` from either flag; nothing without one."""
    if "use_gpu" in values:
        return {"device": "gpu" if values["use_gpu"] else "cpu"}
    return _some(values, "device")


def _is_first_process() -> bool:
    """Return whether this process reports; others log warnings only, since all would report the same."""
    first = launched()[0] == 0
    if not first:
        logging.getLogger().setLevel(logging.WARNING)
    return first


# Train.


def train(values: Mapping[str, Any]) -> int:
    """Train into the folder that the driver names, in place of an earlier run."""
    from mobilenext.runs.run_folder import CONFIG, LOG

    data = _need(values, "data", "--data")
    run = _run_folder(values)
    settings = [f"{name}={values[name]}" for name in ("epochs", "batch_size") if name in values]
    settings += values.get("settings", [])
    if values.get("amp"):
        settings.append("precision=fp16")
    options = _some(
        values,
        "model",
        "weights",
        "backbone",
        "recipe",
        "num_classes",
        "seed",
        "threads",
        "workers",
        "log_every",
        "to_static",
    )
    first = _is_first_process()
    if first:
        _remove_earlier_run(run)
    try:
        with log_file(str(run) if first else None, LOG, begun=CONFIG):
            mobilenext.train(data, output=run, settings=settings, **options, **_device(values))
            log.info("written: %s", run)
    except Stopped as stopped:
        log.info("mobilenext: %s", stopped)
        return stopped.exit_code
    return 0


def _run_folder(values: Mapping[str, Any]) -> Path:
    """Return the folder of the run: PaddleClas names the one above it, and the run is named after the network."""
    if "above_output" in values:
        return Path(values["above_output"], _need(values, "model", "--model"))
    return Path(_need(values, "output", "--output-dir"))


def _remove_earlier_run(run: Path) -> None:
    """Remove the files of an earlier run, since a driver trains into the same folder each time."""
    from mobilenext.runs.run_folder import CONFIG, RUN_FILES

    if not (run / CONFIG).is_file():
        return
    log.warning("the earlier run in %s is replaced", run)
    try:
        for name in RUN_FILES:
            (run / name).unlink(missing_ok=True)
        shutil.rmtree(run / EVALUATION, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write to {run}: {error.strerror or error}; choose another output") from error


# Evaluate.


def evaluate(values: Mapping[str, Any]) -> int:
    """Evaluate weights by the training engine; the results go beside them, unless the driver names a folder."""
    from mobilenext.runs.journal import JOURNAL, LOG
    from mobilenext.runs.tables import result_lines
    from mobilenext.weights.pretrained import locate

    data = _need(values, "data", "--data")
    weights = locate(values.get("model"), _need(values, "weights", "--pretrained"))
    output = Path(values.get("output", weights.parent / EVALUATION))
    first = _is_first_process()
    if first and (output / JOURNAL).is_file():
        log.warning("the unfinished evaluation in %s is begun anew", output)
        (output / JOURNAL).unlink()
    options = _some(values, "model", "batch_size", "threads")
    if "workers" in values:
        options["workers"] = max(1, values["workers"])  # 0 means this process; here that is one of its own
    call = {"weights": weights, "output": output, "runtime": "paddle", **options, **_device(values)}
    if not first:
        mobilenext.evaluate(data, **call)
        return 0
    with log_file(str(output), LOG), progress_bar("correct") as progress:
        result = mobilenext.evaluate(data, progress=progress, **call)
        print_and_log("\n".join(result_lines(result)))
        log.info("written: %s", output)
    return 1 if (result.get("comparison") or {}).get("verdict") == "differs" else 0


# Export.


def export(values: Mapping[str, Any]) -> int:
    """Export weights into a folder that has other files too, in place of an earlier export there."""
    folder = Path(_need(values, "output", "--save-inference-dir"))
    weights = _need(values, "weights", "--pretrained")
    exported = folder / f".export.{os.getpid()}"  # a folder of its own, since an export replaces the whole folder
    print("\n".join(_export_or_quantize(values, weights, exported)))
    try:
        _move_export(exported, folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}; choose another folder") from error
    finally:
        shutil.rmtree(exported, ignore_errors=True)
    log.info("written: %s", folder)
    return 0


def _export_or_quantize(values: Mapping[str, Any], weights: str, exported: Path) -> list[str]:
    """Write a float32 export, or an int8 one where the driver names calibration images; return the lines to print."""
    model = values.get("model")
    if "calibration" in values:
        from mobilenext.quantization.quantize import quantize_model
        from mobilenext.quantization.tables import quantization_lines

        data = Path(values["calibration"])
        report = quantize_model(
            exported, model=model, weights=weights, calibration=data, calibration_list=data / "train_list.txt",
            data=data, max_drop=values.get("max_drop", 1.0),
        )  # fmt: skip
        return quantization_lines(report)
    from mobilenext.export.tables import parity_lines

    form = values.get("format", "json")
    parity = mobilenext.export_model(
        exported, format=FORMAT_NAMES.get(form, form), model=model, weights=weights, images=values.get("images")
    )
    return parity_lines(parity)


def _move_export(exported: Path, folder: Path) -> None:
    """Move the files of an export into `folder`, the sidecar last: where it is, all of the export is."""
    from mobilenext.export.sidecar import SIDECAR

    # Tools that look for one format must not find an older one beside it.
    (folder / SIDECAR).unlink(missing_ok=True)
    for form in FORMATS.values():
        stem = form.file.partition(".")[0]
        for file in folder.glob(f"{stem}.*"):
            file.unlink()
    for file in sorted(exported.iterdir(), key=lambda path: path.name == SIDECAR):
        file.replace(folder / file.name)


# Infer.


def infer(values: Mapping[str, Any]) -> int:
    """Predict images by an exported folder, print a line for each, and the times where the driver asks for them."""
    from mobilenext.evaluation.prediction import StageTimes
    from mobilenext.export.sidecar import read_sidecar
    from mobilenext.tipc.compare import comparison_of

    folder = Path(_need(values, "exported", "--model-dir"))
    if not folder.is_dir():
        raise DataError(f"{folder}: {'this is a file' if folder.exists() else 'no such folder'}; expected an export")
    sidecar = read_sidecar(folder)
    device = _device(values).get("device", "auto")
    runtime, engine = _runtime_and_engine(values, device, sidecar.format)
    options = {
        "batch_size": values.get("batch_size", 1),
        "threads": values.get("threads", 1),
        "device": device,
        "runtime": runtime,
        "engine": engine,
        "precision": "fp16" if values.get("fp16") else values.get("precision", sidecar.precision),
    }
    images = _images(values)
    times = StageTimes()
    comparison = comparison_of(sidecar.record.task)
    answering = {"topk": min(values["topk"], sidecar.record.num_classes)} if "topk" in values else {}
    rows = mobilenext.predict(images, exported=folder, times=times, **answering, **options)
    errors = [row["error"] for row in rows if "error" in row]
    for row in rows:
        if "error" not in row:
            print(f"{_name(Path(row['path']), images)}\t{json.dumps(comparison.of_answer(row).columns())}")
    if values.get("benchmark"):
        from mobilenext.tipc.benchmark import report_lines

        size = sidecar.record.preprocessing.image_size
        print("\n".join(report_lines(times, model=sidecar.record.model, image_size=size, execution=options)))
    for error in errors:
        log.error("mobilenext: %s", error)
    return 3 if errors else 0


def _images(values: Mapping[str, Any]) -> list[Path]:
    """Return the images that the driver names, or sample photos: one driver names none after a training."""
    if "images" in values:
        return [Path(values["images"])]
    from mobilenext.export.images import sample_photo_files

    photos = sample_photo_files()
    log.info("no images were named: the %d sample photos of scikit-learn are taken", len(photos))
    return photos


def _name(path: Path, images: Sequence[Path]) -> str:
    """Return the name of an image in the output: its path below the folder that was named, with slashes."""
    folder = next((image for image in images if image.is_dir()), path.parent)
    return path.relative_to(folder).as_posix()


def _runtime_and_engine(values: Mapping[str, Any], device: str, form: str) -> tuple[str, str]:
    """Choose the runtime and its engine by the flags and the format of the export."""
    accelerators = [name for name in ("mkldnn", "tensorrt") if values.get(name)]
    if not form.startswith("paddle"):
        if accelerators:
            raise UsageError(
                f"use_{accelerators[0]}=True belongs to Paddle Inference, and the folder holds {form}; leave it out, "
                "or export with --format=json"
            )
        return ("onnxruntime" if form == "onnx" else "auto"), "auto"
    if device == "gpu":
        return "paddle-inference", "tensorrt" if values.get("tensorrt") else "gpu"
    if values.get("tensorrt"):
        raise UsageError("use_tensorrt=True needs a GPU; give use_gpu=True, or leave it out")
    if "mkldnn" not in values:
        return "paddle-inference", "auto"
    # Paddle 3 uses oneDNN unless it is told not to: False must ask for Paddle's own kernels.
    return "paddle-inference", "onednn" if values["mkldnn"] else "native"


# Compare.


def compare(values: Mapping[str, Any]) -> int:
    """Compare the predictions in logs with reference files, and print a line for each log."""
    from mobilenext.tipc.compare import compare_files

    expected, actual = _need(values, "expected", "--gt-file"), _need(values, "actual", "--log-file")
    print("\n".join(compare_files(expected, actual, values.get("atol", 1e-3))))
    return 0
