"""``python -m mobilenext.tipc VERB``: the drivers' flags in, the command line's verbs behind.

train, eval     the commands ``mobilenext train`` and ``evaluate``
export          ``mobilenext export`` (or ``quantize``), written into the folder of the run
infer           ``mobilenext.predict`` on an exported folder: ``<name>TAB[[ids],[scores]]`` for each image
prepare         the data and weights of a configuration and mode
compare         an inference's output with a reference file
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mobilenext.cli import program
from mobilenext.cli.grammar import parser
from mobilenext.errors import DataError, OutputError, UsageError, nearest
from mobilenext.export import FORMATS
from mobilenext.machine.ranks import launched
from mobilenext.tipc.flags import Option, boolean, count, number, parse, points

log = logging.getLogger(__name__)
EVALUATION = "evaluation"  # beside the weights, what evaluating them gave
FORMAT_NAMES = {"json": "paddle", "pdmodel": "paddle-legacy"}
# PaddleClas' output folder is one above the run, which is named after the network.
_ABOVE_THE_RUN = "global.output_dir"

_DEVICE = (
    Option("device", ("--device", "global.device")),
    Option("use_gpu", ("--use-gpu", "global.use_gpu"), boolean),
)
_MODEL = Option("model", ("--model", "--model-name", "--arch", "arch.name"))
_DATA = Option("data", ("--data", "--data-path", "--data-dir", "--dataset", "dataloader.train.dataset.image_root"))
_PRETRAINED = Option(
    "weights", ("--pretrained", "--pretrained-model", "--weights", "--model-path", "global.pretrained_model")
)
_THREADS = Option("threads", ("--cpu-threads", "--threads", "--cpu-num-threads", "global.cpu_num_threads"), count)
_BATCH_SIZE = (
    "--batch-size", "--batch", "--train-batch-size", "global.batch_size", "dataloader.train.sampler.batch_size",
    "dataloader.eval.sampler.batch_size",
)  # fmt: skip
_WORKERS = Option("workers", ("--workers", "--num-workers", "-j", "dataloader.train.loader.num_workers"), number)

OPTIONS: Mapping[str, tuple[Option, ...]] = {
    "train": (
        _DATA,
        _MODEL,
        Option("output", ("--output-dir", "--output", "--save-dir", "--save-model-dir")),
        Option("above_output", (_ABOVE_THE_RUN,)),
        Option("epochs", ("--epochs", "--epoch", "--epoch-num", "global.epochs"), count),
        Option("batch_size", _BATCH_SIZE, count),
        _PRETRAINED,
        *_DEVICE,
        Option("recipe", ("--recipe",)),
        Option("settings", ("--set",), repeated=True),
        Option("num_classes", ("--num-classes", "--class-num", "arch.class_num"), count),
        Option("seed", ("--seed", "global.seed"), number),
        Option("log_every", ("--log-every", "--print-freq", "--print-batch-step", "global.print_batch_step"), count),
        Option("amp", ("--use-amp", "--amp", "global.use_amp", "amp.use_amp"), boolean),
        Option("to_static", ("--to-static", "global.to_static"), boolean),
        _THREADS,
        _WORKERS,
    ),
    "eval": (
        _DATA,
        _MODEL,
        _PRETRAINED,
        Option("output", ("--output-dir", "--output", "--save-dir", "global.output_dir")),
        Option("batch_size", _BATCH_SIZE, count),
        *_DEVICE,
        _THREADS,
        _WORKERS,
    ),
    "export": (
        _MODEL,
        _PRETRAINED,
        Option(
            "output",
            (
                "--save-inference-dir", "--save-infer-dir", "--save-dir", "--output-dir", "--output",
                "global.save_inference_dir",
            ),
        ),
        Option("format", ("--format",)),
        Option("images", ("--images", "--image-dir"), repeated=True),
        Option("calibration", ("--calibration", "--quantize-with")),
        Option("max_drop", ("--max-drop",), points),
    ),
    "infer": (
        Option("exported", ("--model-dir", "--inference-model-dir", "global.inference_model_dir")),
        Option(
            "images",
            (
                "--image-dir", "--image-path", "--img-path", "--images", "--infer-imgs", "global.infer_imgs",
                "infer.infer_imgs",
            ),
        ),
        *_DEVICE,
        Option("mkldnn", ("--use-mkldnn", "--enable-mkldnn", "--use-onednn", "global.enable_mkldnn"), boolean),
        Option("tensorrt", ("--use-tensorrt", "--use-trt", "global.use_tensorrt"), boolean),
        _THREADS,
        Option("batch_size", _BATCH_SIZE, count),
        Option("precision", ("--precision",)),
        Option("fp16", ("--use-fp16", "global.use_fp16"), boolean),
        Option("topk", ("--topk", "--top-k", "postprocess.topk.topk"), count),
        Option("benchmark", ("--benchmark", "global.benchmark"), boolean),
    ),
    "compare": (
        Option("expected", ("--gt-file", "--expected")),
        Option("found", ("--log-file", "--found")),
        Option("atol", ("--atol",), points),
    ),
}  # fmt: skip

_SCALING = "mixed precision scales its loss dynamically here"
WITHOUT_EFFECT: Mapping[str, Mapping[str, str]] = {
    "train": {
        "global.print_mem_info": "the last line of the log has the peak of the memory",
        "global.log_ranks": "the first process speaks for all",
        **{f"{section}.{key}": _SCALING for section in ("global", "amp") for key in (
            "scale_loss", "use_dynamic_loss_scaling", "level",
        )},
    },
    "eval": {"global.log_ranks": "the first process speaks for all"},
    "export": {},
    "infer": {"--save-log-path": "the log is standard output and standard error"},
    "compare": {"--rtol": "scores are probabilities, so --atol alone decides"},
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code, as ``mobilenext`` does."""
    if arguments is None:
        arguments = sys.argv[1:]
    return program.guarded(partial(run, arguments))


def run(arguments: Sequence[str]) -> int:
    """As `main`, with exceptions."""
    verbs: Mapping[str, Callable[[dict[str, Any]], int]] = {
        "train": _train, "eval": _eval, "export": _export, "infer": _infer, "compare": _compare,
    }  # fmt: skip
    verb, *rest = arguments or ["--help"]
    if verb in ("-h", "--help") or rest in (["-h"], ["--help"]):
        print(_help([verb] if verb in OPTIONS else list(OPTIONS)))
        return 0
    if verb == "prepare":
        from mobilenext.tipc.prepare import prepare

        if not 2 <= len(rest) <= 3:
            raise UsageError("expected: prepare CONFIG MODE [ARCHIVE or FOLDER of images with their lists]")
        prepare(Path(rest[0]), rest[1], Path(rest[2]) if len(rest) == 3 else None)
        return 0
    if verb not in verbs:
        known = (*verbs, "prepare")
        raise UsageError(f"unknown verb {verb!r}{nearest(verb, known)}; expected {', '.join(known)}")
    values = parse(rest, OPTIONS[verb], WITHOUT_EFFECT[verb])
    if "use_gpu" in values:
        values["device"] = "gpu" if values.pop("use_gpu") else "cpu"
    return verbs[verb](values)


def _help(verbs: Sequence[str]) -> str:
    lines = ["usage: python -m mobilenext.tipc VERB --key=value ...", __doc__ or ""]
    for verb in verbs:
        lines.append(f"{verb}:")
        lines += [f"    {option.keys[0]:<24}also {', '.join(option.keys[1:])}" for option in OPTIONS[verb]]
    return "\n".join(lines)


def _need(values: Mapping[str, Any], name: str, key: str) -> Any:
    if name not in values:
        raise UsageError(f"{key} is missing; expected {key}=...")
    return values[name]


def _command(*words: Any) -> int:
    """Run a command of ``mobilenext``."""
    return program.run(parser().parse_args([str(word) for word in words]))


def _flags(values: Mapping[str, Any], *names: str) -> list[str]:
    """Those of the values that the command takes under the same name."""
    return [f"--{name.replace('_', '-')}={values[name]}" for name in names if name in values]


def _train(values: dict[str, Any]) -> int:
    data = _need(values, "data", "--data")
    if "above_output" in values:
        run = Path(values["above_output"]) / _need(values, "model", "--model")
    else:
        run = Path(_need(values, "output", "--output-dir"))
    settings = [f"{name}={values[name]}" for name in ("epochs", "batch_size") if name in values]
    settings += values.get("settings", [])
    if values.get("amp"):
        settings.append("precision=fp16")
    if launched()[0] == 0:
        _remove_earlier_run(run)
    given = ("model", "weights", "recipe", "num_classes", "seed", "device", "threads", "workers", "log_every")
    words = [data, f"--output={run}", *_flags(values, *given), *(f"--set={setting}" for setting in settings)]
    if values.get("to_static"):
        words.append("--to-static")
    return _command("train", *words)


def _remove_earlier_run(run: Path) -> None:
    """A driver trains into the same folder each time."""
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


def _eval(values: dict[str, Any]) -> int:
    from mobilenext.runs.journal import JOURNAL
    from mobilenext.weights.pretrained import locate

    data = _need(values, "data", "--data")
    weights = locate(values.get("model"), _need(values, "weights", "--pretrained"))
    output = Path(values.get("output", weights.parent / EVALUATION))
    if launched()[0] == 0 and (output / JOURNAL).is_file():
        log.warning("the unfinished evaluation in %s is begun anew", output)
        (output / JOURNAL).unlink()
    given = ("model", "batch_size", "device", "threads")
    workers = [f"--workers={max(1, values['workers'])}"] if "workers" in values else []
    return _command(
        "evaluate", data, f"--weights={weights}", f"--output={output}", "--runtime=paddle", *_flags(values, *given),
        *workers,
    )  # fmt: skip


def _export(values: dict[str, Any]) -> int:
    from mobilenext.export.sidecar import SIDECAR

    folder = Path(_need(values, "output", "--save-inference-dir"))
    weights = _need(values, "weights", "--pretrained")
    form = FORMAT_NAMES.get(values.get("format", "json"), values.get("format", "json"))
    apart = folder / f".export.{os.getpid()}"  # the folder has more in it than an export
    if "calibration" in values:
        from mobilenext.quantization.quantize import quantize_model
        from mobilenext.report.tables import quantization_lines

        data = Path(values["calibration"])
        report = quantize_model(
            apart, model=values.get("model"), weights=weights, calibration=data,
            calibration_list=data / "train_list.txt", data=data, max_drop=values.get("max_drop", 1.0),
        )  # fmt: skip
        print("\n".join(quantization_lines(report)))
    else:
        from mobilenext.export.folder import export_model
        from mobilenext.report.tables import parity_lines

        images = values.get("images")
        parity = export_model(apart, format=form, model=values.get("model"), weights=weights, images=images)
        print("\n".join(parity_lines(parity)))
    try:
        _remove_earlier_export(folder)
        # The description last: where it is, all of it is.
        for file in sorted(apart.iterdir(), key=lambda each: each.name == SIDECAR):
            file.replace(folder / file.name)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}; choose another folder") from error
    finally:
        shutil.rmtree(apart, ignore_errors=True)
    log.info("written: %s", folder)
    return 0


def _remove_earlier_export(folder: Path) -> None:
    """Tools that look for one format must not find an older one beside it."""
    from mobilenext.export.sidecar import SIDECAR

    (folder / SIDECAR).unlink(missing_ok=True)
    for form in FORMATS.values():
        stem = form.file.partition(".")[0]
        for left in folder.glob(f"{stem}.*"):
            left.unlink()


def _infer(values: dict[str, Any]) -> int:
    from mobilenext.evaluation.prediction import StageTimes, predict
    from mobilenext.export.images import sample_photo_files
    from mobilenext.export.sidecar import read_sidecar

    folder = Path(_need(values, "exported", "--model-dir"))
    if not folder.is_dir():
        raise DataError(f"{folder}: {'this is a file' if folder.exists() else 'no such folder'}; expected an export")
    sidecar = read_sidecar(folder)
    runtime, engine = _engine(values, sidecar.format)
    device = values.get("device", "auto")
    precision = "fp16" if values.get("fp16") else values.get("precision", sidecar.precision)
    topk, threads = values.get("topk", 5), values.get("threads", 1)
    batch_size = values.get("batch_size", 1)
    times = StageTimes()
    if "images" in values:
        images = [Path(values["images"])]
    else:
        images = sample_photo_files()
        log.info("no images were named: the %d sample photos of scikit-learn are taken", len(images))
    rows = predict(
        images, exported=folder, topk=min(topk, sidecar.record.num_classes), batch_size=batch_size, threads=threads,
        device=device, runtime=runtime, engine=engine, precision=precision, times=times,
    )  # fmt: skip
    errors = [row["error"] for row in rows if "error" in row]
    for row in rows:
        if "error" not in row:
            print(f"{_name(Path(row['path']), images)}\t{json.dumps([row['classes'], row['scores']])}")
    if values.get("benchmark"):
        from mobilenext.tipc.benchmark import report_lines

        lines = report_lines(
            model=sidecar.record.model, precision=precision, batch_size=batch_size,
            image_size=sidecar.record.preprocessing.image_size, device="cpu" if device == "auto" else device,
            threads=threads, runtime=runtime, engine=engine, times=times,
        )  # fmt: skip
        print("\n".join(lines))
    for error in errors:
        log.error("mobilenext: %s", error)
    return 3 if errors else 0


def _name(path: Path, given: Sequence[Path]) -> str:
    """An image's name in the output: below the folder that was given, with slashes."""
    folder = next((each for each in given if each.is_dir()), path.parent)
    return path.relative_to(folder).as_posix()


def _engine(values: Mapping[str, Any], form: str) -> tuple[str, str]:
    """The runtime and its engine that the flags ask for, given the format that lies there."""
    asked = [name for name in ("mkldnn", "tensorrt") if values.get(name)]
    if not form.startswith("paddle"):
        if asked:
            raise UsageError(
                f"use_{asked[0]}=True belongs to Paddle Inference, and the folder holds {form}; leave it out, or "
                "export with --format=json"
            )
        return ("onnxruntime" if form == "onnx" else "auto"), "auto"
    if values.get("device") == "gpu":
        return "paddle-inference", "tensorrt" if values.get("tensorrt") else "gpu"
    if values.get("tensorrt"):
        raise UsageError("use_tensorrt=True needs a GPU; give use_gpu=True, or leave it out")
    # Left to itself, oneDNN is on: only asking for Paddle's own kernels turns it off.
    return "paddle-inference", {True: "onednn", False: "native"}.get(values.get("mkldnn"), "auto")  # type: ignore[arg-type]


def _compare(values: dict[str, Any]) -> int:
    from mobilenext.tipc.compare import compare_files

    expected, found = _need(values, "expected", "--gt-file"), _need(values, "found", "--log-file")
    print("\n".join(compare_files(expected, found, values.get("atol", 1e-3))))
    return 0
