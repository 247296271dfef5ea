"""The command line: verbs that parse, make one call and print.

Results go to standard output; progress, notes and errors to standard error. Exit codes: 0 done, 1 a check failed,
2 usage, 3 data, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mobilenext import __version__
from mobilenext.errors import MobileNeXtError

RUNTIME_NAMES = "openvino, onnxruntime, paddle-inference, paddle, ncnn or tflite"  # importing them takes numpy


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        options = parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has printed what it had to say
        return int(stop.code or 0)
    return guarded(lambda: int(options.run(options)), own_process=arguments is None)


def guarded(call: Callable[[], int], *, own_process: bool = True) -> int:
    """The exit code of a command; what it raises becomes a sentence on standard error.

    Args:
        call: the command, which returns its exit code.
        own_process: whether this process is the command's, so that its streams and signals may be set.
    """
    if own_process:
        _keep_results_apart()
        signal.signal(signal.SIGTERM, _terminated)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for file names that are no text
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in ("httpx", "httpcore", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.environ.setdefault("GLOG_minloglevel", "2")  # read when Paddle is imported: its C++ greets every predictor
    warnings.filterwarnings("ignore", message="No ccache found")  # and its Python remarks on building extensions
    try:
        code = call()
        sys.stdout.flush()
        return code
    except MobileNeXtError as error:
        print(f"mobilenext: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a folder that may not be entered, a disk that fails
        if isinstance(error, BrokenPipeError):  # the reader of our output has gone, `| head` for one
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"mobilenext: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("mobilenext: interrupted", file=sys.stderr)
        return 130


def _terminated(*_: object) -> None:
    """Leave as after Ctrl-C, so that workers end and temporary folders go."""
    raise SystemExit(143)


def _keep_results_apart() -> None:
    """From here on only Python's ``sys.stdout`` is standard output; what C++ libraries print there is not a result."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        results = os.dup(1)
        os.dup2(2, 1)
        sys.stdout = open(results, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)  # noqa: SIM115, PTH123


def parser() -> argparse.ArgumentParser:
    """The grammar of all verbs."""
    top = argparse.ArgumentParser(
        prog="mobilenext",
        description="MobileNeXt on PaddlePaddle: from a checkpoint to an accuracy and latency table.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"mobilenext {__version__}")
    verbs = top.add_subparsers(metavar="COMMAND", required=True)

    def verb(name: str, run: Any, summary: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        added.set_defaults(run=run)
        return added

    command = verb("list", _list, "models: sizes, published accuracy, weights, licence")
    _json_flag(command)

    command = verb("convert", _convert, "a PyTorch or Paddle checkpoint to safetensors or .pdparams, or back")
    command.add_argument("source", help="a .pth, .pth.tar, .pdparams or .safetensors file, or model.tag of a card")
    command.add_argument("-o", "--output", required=True, help="a .safetensors or .pdparams file")
    command.add_argument("--to", choices=("paddle", "pytorch"), default="paddle", help="names and layouts to write")
    command.add_argument("--model", help="what it must be; recognised when not given")
    command.add_argument("--labels", help="a text file with the name of one class on each line, stored in the output")
    _weights_options(command)
    _json_flag(command)

    command = verb("evaluate", _evaluate, "top-1, top-5 and latency of a checkpoint on a data set")
    command.add_argument("data", help="a folder: imgs/ + val_list.txt, or a folder for each class")
    _model_options(command)
    command.add_argument("-o", "--output", help="folder for result.json, predictions.jsonl and evaluate.log")
    command.add_argument("--list", dest="list_file", help="another list file: an image name and a label on each line")
    command.add_argument("--batch-size", type=int, help="images a call of the network (CPU: 1, GPU: 64)")
    command.add_argument("--workers", type=int, help="processes (default: one for each core)")
    command.add_argument("--limit", type=int, help="only the first N images; the result is stamped PARTIAL")
    command.add_argument(
        "--unreadable", choices=("stop", "wrong"), default="stop", help="what an unreadable image does"
    )
    command.add_argument("--resume", action="store_true", help="go on with the unfinished evaluation in --output")
    _json_flag(command)

    command = verb("predict", _predict, "the top classes of images")
    command.add_argument("images", nargs="+", help="files, and folders that are searched through")
    _model_options(command)
    command.add_argument("--topk", type=int, default=5, help="classes for each image (default 5)")
    command.add_argument("--batch-size", type=int, default=1, help="images a call of the network (default 1)")
    _json_flag(command)

    command = verb("train", _train, "train a network: from scratch, from given weights, or on from where a run stopped")
    command.add_argument("data", nargs="?", help="imgs/ + train_list.txt + val_list.txt, or train/ and val/ of folders")
    command.add_argument("-o", "--output", help="folder of the run, new")
    command.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    command.add_argument("--model", help="a name of `mobilenext list`; with --weights it may be left out")
    command.add_argument("--recipe", help="a name of `mobilenext recipes` (default released)")
    command.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="another value of the recipe"
    )
    command.add_argument("--weights", help="a file or a tag to begin with (default: freshly initialised)")
    command.add_argument("--num-classes", type=int, help="default: the data's; a fresh classifier where weights differ")
    command.add_argument("--identity-divisor", type=int, help="the shortcut's share of the channels is 1/N")
    command.add_argument("--seed", type=int, help="of initialisation, order, augmentation and dropout (default 0)")
    command.add_argument("--train-list", metavar="FILE", help="another list file of the training images")
    command.add_argument("--val-list", metavar="FILE", help="another list file of the validation images")
    command.add_argument("--labels", help="a text file with the name of one class on each line, stored in the weights")
    command.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    command.add_argument("--threads", type=int, help="of each process (CPU; default 1)")
    command.add_argument("--workers", type=int, help="processes that read images (default: none for small data)")
    command.add_argument(
        "--max-unreadable",
        type=int,
        default=0,
        metavar="N",
        help="so many unreadable training images may be left out",
    )
    command.add_argument("--log-every", type=int, default=20, metavar="STEPS", help="a line of the log (default 20)")
    command.add_argument(
        "--save-every", type=float, default=600, metavar="SECONDS", help="a checkpoint within an epoch (default 600)"
    )
    command.add_argument(
        "--to-static", action="store_true", help="compile the network to a graph by paddle.jit (slower on a CPU)"
    )
    command.add_argument("--visualdl", action="store_true", help="scalars for VisualDL in RUN/visualdl, too")
    _json_flag(command)

    command = verb("recipes", _recipes, "the recipes of `mobilenext train`: source, expected accuracy, cost, fields")
    command.add_argument("name", nargs="?", help="one of them, with all its fields")
    _json_flag(command)

    command = verb("compare", _compare, "training runs side by side: a table, and curves with --output")
    command.add_argument("runs", nargs="+", metavar="RUN", help="folders of `mobilenext train`")
    command.add_argument("-o", "--output", metavar="FILE", help="a picture of the curves, .png or .svg")
    _json_flag(command)

    command = verb("export", _export, "weights to a folder that other programs run, compared with Paddle")
    command.add_argument("--model", help="a name of `mobilenext list`, or model.tag; recognised from the weights")
    command.add_argument("--weights", help="a file, or a tag of the model's card (default: the card's first)")
    command.add_argument("-o", "--output", required=True, help="the folder; an earlier export in it is replaced")
    command.add_argument(
        "--format", default="onnx", help="onnx (default), paddle, paddle-legacy, openvino, ncnn or tflite"
    )
    command.add_argument("--images", nargs="+", help="files and folders to compare on (default: scikit-learn's photos)")
    _weights_options(command)
    _json_flag(command)

    command = verb("quantize", _quantize, "an int8 folder, with what it costs in accuracy and gains in speed")
    command.add_argument("--model", help="a name of `mobilenext list`, or model.tag; recognised from the weights")
    command.add_argument("--weights", help="a file, or a tag of the model's card (default: the card's first)")
    command.add_argument("--exported", metavar="DIR", help="a float32 folder of `mobilenext export --format onnx`")
    command.add_argument("--onnx", metavar="FILE", help="any classifier in ONNX, with its --mean, --std, --image-size")
    command.add_argument("-o", "--output", required=True, help="the folder; an earlier export in it is replaced")
    command.add_argument("--calibration", required=True, metavar="DATA", help="a data set, or a folder of images")
    command.add_argument("--calibration-list", metavar="FILE", help="another list file of it")
    command.add_argument("--calibration-images", type=int, default=256, help="so many at most (default 256)")
    command.add_argument("--data", help="the data set to measure on (default: the other images of --calibration)")
    command.add_argument("--list", dest="list_file", help="another list file of --data")
    command.add_argument("--max-drop", type=float, default=1.0, help="points of top-1 that may be lost (default 1.0)")
    command.add_argument("--keep-float", nargs="+", default=[], metavar="LAYER", help="layers that stay float32")
    _weights_options(command)
    _json_flag(command)

    command = verb("bench", _bench, "latency of models and runtimes, interleaved in one run")
    command.add_argument("--model", nargs="+", default=[], help="names of `mobilenext list`, or model.tag")
    command.add_argument("--weights", help="a file, or a tag; without it a model is freshly initialised")
    command.add_argument("--exported", nargs="+", default=[], metavar="DIR", help="folders of `mobilenext export`")
    command.add_argument("--onnx", nargs="+", default=[], metavar="FILE", help="ONNX files")
    command.add_argument(
        "--runtime", nargs="+", default=["auto"], help=f"auto, all, NAME:ENGINE or some of {RUNTIME_NAMES}"
    )
    command.add_argument("--engine", default="auto", help="of paddle-inference: openvino, onednn or native")
    command.add_argument("--precision", help="fp32, bf16 or int8 (default: that of the files)")
    command.add_argument("--threads", type=_numbers, default=(1,), metavar="N,N", help="each of them (default 1)")
    command.add_argument("--batch-size", type=_numbers, default=(1,), metavar="N,N", help="each of them (default 1)")
    command.add_argument("--identity-divisor", type=_numbers, default=(1,), metavar="N,N", help="each of them")
    command.add_argument("--image-size", type=int, help="pixels (default 224, or that of the weights)")
    command.add_argument("--samples", type=int, default=50, help="timed calls of each row (default 50, at least 30)")
    command.add_argument("-o", "--output", help="folder for bench.json, bench.md and bench.png")
    _json_flag(command)

    command = verb("check-data", _check_data, "read a data set's list and decode every image")
    command.add_argument("data")
    command.add_argument("--list", dest="list_file", help="another list file")
    command.add_argument("--num-classes", type=int, help="labels must be below it (1000 compares with ImageNet too)")
    command.add_argument("--workers", type=int, help="processes (default: one for each core)")
    command.add_argument("--no-decode", action="store_true", help="check the list only")
    _json_flag(command)

    command = verb("quickstart", _quickstart, "evaluate the bundled model on handwritten digits; needs no data")
    command.add_argument("-o", "--output", default="runs/quickstart", help="folder (default runs/quickstart)")
    command.add_argument("--workers", type=int, help="processes (default: one for each core)")
    _json_flag(command)

    command = verb("tipc", _tipc, "a train, eval, export and infer chain of a TIPC configuration, each step checked")
    command.add_argument("config", metavar="CONFIG", help="test_tipc/configs/..., in any of the three layouts")
    command.add_argument(
        "mode",
        metavar="MODE",
        help="lite_train_lite_infer, lite_train_whole_infer, whole_train_whole_infer, whole_infer",
    )
    command.add_argument(
        "--layout", help="specification, prod or paddleclas (default: from the file's name and length)"
    )
    command.add_argument("-o", "--output", help="folder (default test_tipc/output/<model>/<mode>)")
    command.add_argument("--data", help="an archive or folder to prepare the data from (default: digits)")
    command.add_argument("--no-prepare", action="store_true", help="take the data and weights that lie there")
    command.add_argument("--keep-going", action="store_true", help="go on after a failure with what can still run")
    command.add_argument("--timeout", type=float, metavar="SECONDS", help="for each command (default: none)")
    _json_flag(command)

    command = verb("info", _info, "versions, processor and other facts that a result depends on")
    _json_flag(command)
    return top


def _json_flag(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--json", action="store_true", help="print JSON on standard output, all else on standard error"
    )


def _weights_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--use", choices=("auto", "raw", "ema"), help="which weights of a checkpoint (auto: EMA if any)"
    )
    command.add_argument("--identity-divisor", type=int, help="the shortcut's share of the channels is 1/N")
    group = command.add_argument_group("preprocessing (default: that of the weights)")
    group.add_argument("--image-size", type=int, help="side of the crop, pixels")
    group.add_argument("--crop-pct", type=float, help="crop side / short side")
    group.add_argument("--interpolation", help="nearest, box, bilinear, hamming, bicubic or lanczos")
    group.add_argument("--mean", nargs=3, type=float, metavar=("R", "G", "B"))
    group.add_argument("--std", nargs=3, type=float, metavar=("R", "G", "B"))


def _model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", help="a name of `mobilenext list`, or model.tag; recognised from the weights")
    command.add_argument("--weights", help="a file, or a tag of the model's card (default: the card's first)")
    command.add_argument("--exported", metavar="DIR", help="a folder of `mobilenext export`, in place of the two")
    command.add_argument("--onnx", metavar="FILE", help="any classifier in ONNX, with its --mean, --std, --image-size")
    _weights_options(command)
    command.add_argument("--threads", type=int, help="of each process (default 1)")
    command.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    command.add_argument("--runtime", default="auto", help=f"auto (the fastest that works), {RUNTIME_NAMES}")
    command.add_argument(
        "--engine", default="auto", help="of paddle-inference: openvino, onednn, native; gpu, tensorrt"
    )
    command.add_argument("--precision", help="fp32, bf16 or int8 (default: that of the files)")


def _preprocessing(options: argparse.Namespace) -> dict[str, Any]:
    names = ("image_size", "crop_pct", "interpolation", "mean", "std")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _shared(options: argparse.Namespace) -> dict[str, Any]:
    """What evaluate and predict have in common."""
    networks = ("model", "weights", "exported", "onnx", "use", "identity_divisor")
    names = (*networks, "device", "runtime", "engine", "precision")
    return {name: getattr(options, name) for name in names} | {"preprocessing": _preprocessing(options)}


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))  # ASCII: right in every locale


def _list(options: argparse.Namespace) -> int:
    if options.json:
        from dataclasses import asdict

        from mobilenext.models import MODELS

        rows = []
        for card in MODELS.values():
            row = {
                name: getattr(card, name) for name in card.__dataclass_fields__ if name not in ("arguments", "weights")
            }
            rows.append({**row, "weights": [asdict(weights) for weights in card.weights]})
        _print_json(rows)
        return 0
    from mobilenext.report.tables import models_table

    print(models_table())
    print("\nparameters and mult-adds (multiply-accumulates, not FLOPs): 1000 classes, 224 x 224 pixels")
    return 0


def _convert(options: argparse.Namespace) -> int:
    from mobilenext.weights.convert import convert_checkpoint
    from mobilenext.weights.pretrained import source_of

    source = source_of(options.source)
    labels = tuple(_read_text(Path(options.labels)).split("\n")) if options.labels else None
    while labels and not labels[-1]:
        labels = labels[:-1]
    certificate = convert_checkpoint(
        source,
        options.output,
        to=options.to,
        model=options.model,
        use=options.use,
        identity_divisor=options.identity_divisor,
        preprocessing=_preprocessing(options),
        labels=labels,
    )
    for note in certificate["notes"]:
        logging.info("%s", note)
    if options.json:
        _print_json(certificate)
        return 0
    print(
        f"{certificate['model']}, {certificate['num_classes']} classes, identity divisor "
        f"{certificate['identity_divisor']}: {len(certificate['tensors'])} tensors, {len(certificate['dropped'])} "
        f"counters dropped\nwritten: {options.output} ({options.to} names) and {options.output}.certificate.json"
    )
    return 0


def _read_text(path: Path) -> str:
    from mobilenext.errors import DataError

    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _evaluate(options: argparse.Namespace) -> int:
    names = ("list_file", "batch_size", "workers", "threads", "limit", "unreadable", "resume")
    arguments = _shared(options) | {name: getattr(options, name) for name in names}
    return _evaluate_and_print(options.data, options.output, options.json, arguments)


def _evaluate_and_print(data: str | Path, output: str | None, as_json: bool, arguments: dict[str, Any]) -> int:
    from mobilenext.distributed import launched
    from mobilenext.evaluation.evaluate import evaluate
    from mobilenext.evaluation.journal import LOG
    from mobilenext.report.tables import result_lines

    if launched()[0] > 0:  # what all of them would say, the first one says
        logging.getLogger().setLevel(logging.WARNING)
        evaluate(data, output=output, **arguments)
        return 0
    with _log_file(output, LOG), _progress_bar() as progress:
        result = evaluate(data, output=output, progress=progress, **arguments)
        text = "\n".join(result_lines(result))
        (logging.getLogger("mobilenext.table").info if as_json else _print_and_log)(text)
        if output:
            logging.info("written: %s", ", ".join(str(Path(output) / n) for n in ("result.json", "predictions.jsonl")))
    if as_json:
        _print_json(result)
    verdict = (result["comparison"] or {}).get("verdict")
    return 1 if verdict == "differs" else 0


def _print_and_log(text: str) -> None:
    """To standard output, and to the log file but not to standard error as well."""
    print(text, flush=True)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.makeLogRecord({"msg": text, "levelno": logging.INFO, "levelname": "INFO"}))


@contextlib.contextmanager
def _log_file(output: str | None, name: str) -> Iterator[None]:
    """Everything that is logged also goes to the file `name`, once the output folder can be written."""
    if output is None:
        yield
        return
    from mobilenext.errors import OutputError, UsageError

    log = Path(output) / name
    made = [folder for folder in (log.parent, *log.parent.parents) if not folder.exists()]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(f"cannot write to {output}: {error.strerror or error}; choose another --output") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    except MobileNeXtError as error:
        if not isinstance(error, UsageError) and log.is_file() and log.stat().st_size:  # a refusal is not the log's
            handler.emit(logging.makeLogRecord({"msg": str(error), "levelno": logging.ERROR, "levelname": "ERROR"}))
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk: what is lost is the log's last line
            handler.close()
        if log.is_file() and not log.stat().st_size:  # refused before anything happened: leave nothing behind
            with contextlib.suppress(OSError):
                log.unlink()
                for folder in made:
                    folder.rmdir()


@contextlib.contextmanager
def _progress_bar(*, accuracy: bool = True, unit: str = " images") -> Iterator[Any]:
    """A bar with images/s, running top-1 and time left; none when standard error is not a terminal."""
    from tqdm import tqdm

    bar = tqdm(unit=unit, disable=None, dynamic_ncols=True, file=sys.stderr)

    def show(done: int, total: int, correct: int = 0) -> None:
        if bar.total != total or done < bar.n:  # the first call says where it starts; what was there costs no time
            bar.reset(total)
            bar.initial = bar.n = done
        if accuracy and done:
            bar.set_postfix_str(f"top-1 {100 * correct / done:.2f} %", refresh=False)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        bar.close()


def _predict(options: argparse.Namespace) -> int:
    from mobilenext.evaluation.predict import predict

    threads = 1 if options.threads is None else options.threads
    rows = predict(
        options.images, topk=options.topk, batch_size=options.batch_size, threads=threads, **_shared(options)
    )
    errors = [row["error"] for row in rows if "error" in row]
    for error in errors:
        logging.error("mobilenext: %s", error)
    code = 3 if errors else 0
    if options.json:
        _print_json(rows)
        return code
    for row in rows:
        if "error" in row:
            continue
        print(row["path"])
        for rank, (number, score) in enumerate(zip(row["classes"], row["scores"], strict=True)):
            name = f"  {row['labels'][rank]}" if "labels" in row else ""
            print(f"  {100 * score:6.2f} %  class {number}{name}")
    return code


def _train(options: argparse.Namespace) -> int:
    from mobilenext.distributed import launched
    from mobilenext.training.run_folder import LOG
    from mobilenext.training.stopping import Stopped
    from mobilenext.training.train import train

    first = launched()[0] == 0
    if not first:  # what all of them would say, the first one says
        logging.getLogger().setLevel(logging.WARNING)
    asked = (
        *("output", "model", "recipe", "weights", "num_classes", "identity_divisor", "seed", "train_list", "val_list"),
        *("resume", "threads", "workers"),
    )
    arguments = {name: value for name in asked if (value := getattr(options, name)) is not None}
    arguments |= {
        name: getattr(options, name)
        for name in ("settings", "device", "max_unreadable", "log_every", "save_every", "to_static", "visualdl")
    }
    if options.labels:
        arguments["labels"] = tuple(_read_text(Path(options.labels)).splitlines())
    folder = options.resume or options.output
    try:
        with _log_file(folder if first else None, LOG):
            result = train(options.data, **arguments)
            if first:
                logging.info(
                    "written: %s; use it: mobilenext evaluate DATA --weights %s/best.safetensors", folder, folder
                )
    except Stopped as stopped:
        logging.info("mobilenext: %s", stopped)
        return stopped.exit_code
    if options.json and first:
        _print_json(result)
    return 0


def _recipes(options: argparse.Namespace) -> int:
    from mobilenext.training.recipes import RECIPES, find_recipe

    recipes = [find_recipe(options.name)] if options.name else list(RECIPES.values())
    if options.json:
        _print_json([recipe.to_dict() for recipe in recipes])
    else:
        print("\n".join(line for recipe in recipes for line in recipe.lines(fields=bool(options.name))))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from mobilenext.report.training_curves import write_curves
    from mobilenext.report.training_report import comparison, comparison_lines, read_run

    runs = [read_run(Path(folder)) for folder in options.runs]
    (logging.info if options.json else print)("\n".join(comparison_lines(runs)))
    if options.json:
        _print_json(comparison(runs))
    if options.output:
        write_curves(runs, Path(options.output))
        logging.info("written: %s", options.output)
    return 0


def _export(options: argparse.Namespace) -> int:
    from mobilenext.export.export import export_model
    from mobilenext.report.tables import parity_lines

    names = ("format", "model", "weights", "use", "identity_divisor", "images")
    arguments = {name: getattr(options, name) for name in names} | {"preprocessing": _preprocessing(options)}
    parity = export_model(options.output, **arguments)
    (logging.info if options.json else print)("\n".join(parity_lines(parity)))
    if options.json:
        _print_json(parity)
    logging.info("written: %s; use it: mobilenext evaluate DATA --exported %s", options.output, options.output)
    return 0


def _quantize(options: argparse.Namespace) -> int:
    from mobilenext.quantization.quantize import quantize_model
    from mobilenext.report.tables import quantization_lines

    names = (
        *("model", "weights", "exported", "onnx", "use", "identity_divisor", "calibration", "calibration_list"),
        *("calibration_images", "data", "list_file", "max_drop", "keep_float"),
    )
    arguments = {name: getattr(options, name) for name in names} | {"preprocessing": _preprocessing(options)}
    with _progress_bar() as progress:
        report = quantize_model(options.output, progress=progress, **arguments)
    (logging.info if options.json else print)("\n".join(quantization_lines(report)))
    if options.json:
        _print_json(report)
    logging.info("written: %s; use it: mobilenext evaluate DATA --exported %s", options.output, options.output)
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    """``1,2`` to (1, 2)."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}; expected whole numbers with commas between them, such as 1,2")
    return tuple(int(part) for part in text.split(","))


def _bench(options: argparse.Namespace) -> int:
    from mobilenext.evaluation.bench import bench
    from mobilenext.report.bench_report import bench_lines, write_bench

    output = Path(options.output) if options.output else None
    if output:
        write_bench(None, output)  # what cannot be written should be known before
    with _progress_bar(accuracy=False, unit=" rows") as progress:
        result = bench(
            models=options.model,
            weights=options.weights,
            exported=options.exported,
            onnx=options.onnx,
            runtimes=options.runtime,
            engine=options.engine,
            precision=options.precision,
            threads=options.threads,
            batch_sizes=options.batch_size,
            identity_divisors=options.identity_divisor,
            image_size=options.image_size,
            samples=options.samples,
            progress=progress,
        )
    (logging.info if options.json else print)("\n".join(bench_lines(result)))
    if options.json:
        _print_json(result)
    if output:
        for note in write_bench(result, output):
            logging.info("%s", note)
    return 0


def _check_data(options: argparse.Namespace) -> int:
    from mobilenext.evaluation.check import check_data

    with _progress_bar(accuracy=False) as progress:
        summary = check_data(
            options.data,
            list_file=options.list_file,
            num_classes=options.num_classes,
            workers=options.workers,
            decode=not options.no_decode,
            progress=progress,
        )
    if options.json:
        _print_json(summary)
    else:
        for name, value in summary.items():
            if name not in ("warnings", "unreadable"):
                print(f"{name.replace('_', ' ')}: {value}")
        for sentence in (*summary["warnings"], *summary["unreadable"]):
            print(f"! {sentence}")
    return 3 if summary["unreadable"] else 0


def _quickstart(options: argparse.Namespace) -> int:
    from mobilenext.data.digits import write_digits
    from mobilenext.evaluation.journal import JOURNAL

    output = Path(options.output)
    data = write_digits(output / "digits")
    logging.info(
        "A demonstration: handwritten digits (scikit-learn, 8 x 8 pixels) and a MobileNeXt x0.35 trained on others of "
        "them.\nThe same with your own: mobilenext evaluate DATA --model MODEL --weights FILE -o FOLDER\n"
    )
    # It has no options that a resumed one could differ in.
    arguments = {"model": "mobilenext_x0_35.digits", "workers": options.workers, "resume": (output / JOURNAL).is_file()}
    return _evaluate_and_print(data, str(output), options.json, arguments)


def _tipc(options: argparse.Namespace) -> int:
    from mobilenext.report.chain_report import chain_lines
    from mobilenext.tipc.driver import failure_of, run_chain

    names = ("layout", "output", "data", "keep_going", "timeout")
    arguments = {name: getattr(options, name) for name in names}
    summary = run_chain(options.config, options.mode, prepare=not options.no_prepare, **arguments)
    (logging.info if options.json else print)("\n".join(chain_lines(summary)))
    if options.json:
        _print_json(summary)
    if failure := failure_of(summary):
        raise failure
    return 0


def _info(options: argparse.Namespace) -> int:
    from mobilenext.evaluation.environment import environment

    facts = environment()
    if options.json:
        _print_json(facts)
    else:
        for name, value in facts.items():
            print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
