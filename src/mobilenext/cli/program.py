"""The command line: verbs that parse, make one call and print.

Results go to standard output; progress, notes and errors to standard error. Exit codes: 0 done, 1 a check failed,
2 usage, 3 data, 128 and its number after a signal (Ctrl-C: 130).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilenext.cli.grammar import MOVED, parser
from mobilenext.errors import UsageError
from mobilenext.machine.command import guarded
from mobilenext.machine.console import log_file, print_and_log, progress_bar
from mobilenext.machine.stopping import Stop, first_signal

MAX_STANDARD_INPUT = 512 << 20  # bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return guarded(lambda: run(parser().parse_args(arguments)), own_process=arguments is None)


def run(options: argparse.Namespace) -> int:
    """Carry out what was parsed, with exceptions; the exit code."""
    from mobilenext.machine.home import provide_home

    provide_home(getattr(options, "output", None))
    if options.verb in MOVED:
        raise UsageError(f"`mobilenext {options.verb}` is now {MOVED[options.verb]}, run in the root of the repository")
    return VERBS[options.verb](options)


def _preprocessing(options: argparse.Namespace) -> dict[str, Any]:
    names = ("image_size", "crop_pct", "interpolation", "mean", "std")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _shared(options: argparse.Namespace) -> dict[str, Any]:
    """What evaluate and predict have in common."""
    networks = ("model", "weights", "exported", "onnx", "use", "section", "identity_divisor")
    names = (*networks, "labels", "output_name", "device", "runtime", "engine", "precision")
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
    from mobilenext.models.tables import models_table

    print(models_table())
    print("\nparameters and mult-adds (multiply-accumulates, not FLOPs): 1000 classes, 224 x 224 pixels")
    return 0


def _convert(options: argparse.Namespace) -> int:
    from mobilenext.data.labels import read_labels
    from mobilenext.weights.convert import convert_checkpoint
    from mobilenext.weights.pretrained import source_of

    source = source_of(options.source)
    certificate = convert_checkpoint(
        source,
        options.output,
        to=options.to,
        model=options.model,
        use=options.use,
        section=options.section,
        identity_divisor=options.identity_divisor,
        preprocessing=_preprocessing(options),
        labels=read_labels(options.labels) if options.labels else None,
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


def _evaluate(options: argparse.Namespace) -> int:
    names = ("list_file", "split", "batch_size", "workers", "threads", "limit", "unreadable", "resume")
    arguments = _shared(options) | {name: getattr(options, name) for name in names}
    return _evaluate_and_print(options.data, options.output, options.json, arguments)


def _evaluate_and_print(data: str | Path, output: str | None, as_json: bool, arguments: dict[str, Any]) -> int:
    from mobilenext.evaluation.run import evaluate
    from mobilenext.machine.ranks import launched
    from mobilenext.report.tables import result_lines
    from mobilenext.runs.journal import LOG

    if launched()[0] > 0:  # what all of them would say, the first one says
        logging.getLogger().setLevel(logging.WARNING)
        evaluate(data, output=output, **arguments)
        return 0
    with log_file(output, LOG), progress_bar("top-1") as progress:
        result = evaluate(data, output=output, progress=progress, **arguments)
        text = "\n".join(result_lines(result))
        (logging.getLogger("mobilenext.table").info if as_json else print_and_log)(text)
        if output:
            logging.info("written: %s", ", ".join(str(Path(output) / n) for n in ("result.json", "predictions.jsonl")))
    if as_json:
        _print_json(result)
    verdict = (result.get("comparison") or {}).get("verdict")
    return 1 if verdict == "differs" else 0


def _predict(options: argparse.Namespace) -> int:
    from mobilenext.evaluation.prediction import predict

    threads = 1 if options.threads is None else options.threads
    images = [_standard_input() if name == "-" else name for name in options.images]
    rows = predict(images, topk=options.topk, batch_size=options.batch_size, threads=threads, **_shared(options))
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


def _standard_input() -> bytes:
    """The content of one image file."""
    from mobilenext.errors import DataError, UsageError

    if sys.stdin is None:
        raise UsageError("- is standard input, which is closed; expected the content of one image file there")
    content = sys.stdin.buffer.read(MAX_STANDARD_INPUT + 1)
    if len(content) > MAX_STANDARD_INPUT:
        raise DataError(f"standard input has more than {MAX_STANDARD_INPUT >> 20} MiB; expected one image file")
    return content


def _explain(options: argparse.Namespace) -> int:
    from mobilenext.explanation.pictures import explain

    names = ("model", "weights", "use", "section", "identity_divisor", "class_id", "block", "topk")
    arguments = {name: getattr(options, name) for name in names} | {"preprocessing": _preprocessing(options)}
    rows = explain(options.images, options.output, **arguments)
    errors = [row["error"] for row in rows if "error" in row]
    for error in errors:
        logging.error("mobilenext: %s", error)
    if options.json:
        _print_json(rows)
    else:
        for row in rows:
            if "error" not in row:
                print(f"{row['output']}: class {row['class']}, {100 * row['score']:.2f} %, {row['block']}")
    return 3 if errors else 0


def _diagram(options: argparse.Namespace) -> int:
    from mobilenext.explanation.diagram import write_diagram

    names = ("model", "num_classes", "identity_divisor", "image_size", "block")
    seen = write_diagram(Path(options.output), **{name: getattr(options, name) for name in names})
    if options.json:
        _print_json(seen.to_dict())
    logging.info("written: %s", options.output)
    return 0


def _train(options: argparse.Namespace) -> int:
    from mobilenext.errors import Stopped
    from mobilenext.machine.ranks import launched
    from mobilenext.runs.run_folder import CONFIG, LOG
    from mobilenext.training.run import train

    first = launched()[0] == 0
    if not first:  # what all of them would say, the first one says
        logging.getLogger().setLevel(logging.WARNING)
    asked = (
        *(
            "output",
            "model",
            "recipe",
            "weights",
            "use",
            "section",
            "num_classes",
            "identity_divisor",
            "seed",
            "train_list",
            "val_list",
        ),
        *("val_split", "resume", "threads", "workers"),
    )
    arguments = {name: value for name in asked if (value := getattr(options, name)) is not None}
    arguments |= {
        name: getattr(options, name)
        for name in ("settings", "device", "max_unreadable", "log_every", "save_every", "to_static", "visualdl")
    }
    if options.labels:
        from mobilenext.data.labels import read_labels

        arguments["labels"] = read_labels(options.labels)
    folder = options.resume or options.output
    try:
        with log_file(folder if first else None, LOG, begun=CONFIG):
            result = train(options.data, **arguments)
            if first:
                val_list = Path(folder, "val_list.txt")  # of a run that divided its images: the others were trained on
                listed = f" --list {val_list}" if val_list.is_file() else ""
                logging.info(
                    "written: %s; use it: mobilenext evaluate DATA --weights %s/best.safetensors%s",
                    folder, folder, listed,
                )  # fmt: skip
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
    from mobilenext.report.training_report import comparison_lines
    from mobilenext.runs.comparison import comparison
    from mobilenext.runs.curves import write_curves
    from mobilenext.runs.training_run import read_run

    runs = [read_run(Path(folder)) for folder in options.runs]
    (logging.info if options.json else print)("\n".join(comparison_lines(runs)))
    if options.json:
        _print_json(comparison(runs))
    if options.output:
        write_curves(runs, Path(options.output))
        logging.info("written: %s", options.output)
    return 0


def _export(options: argparse.Namespace) -> int:
    from mobilenext.export.folder import export_model
    from mobilenext.export.tables import parity_lines

    names = ("format", "model", "weights", "use", "section", "identity_divisor", "images")
    arguments = {name: getattr(options, name) for name in names} | {"preprocessing": _preprocessing(options)}
    parity = export_model(options.output, **arguments)
    (logging.info if options.json else print)("\n".join(parity_lines(parity)))
    if options.json:
        _print_json(parity)
    logging.info("written: %s; use it: mobilenext evaluate DATA --exported %s", options.output, options.output)
    return 0


def _quantize(options: argparse.Namespace) -> int:
    from mobilenext.quantization.quantize import quantize_model
    from mobilenext.quantization.tables import quantization_lines

    names = (
        *("model", "weights", "exported", "onnx", "use", "section", "identity_divisor", "calibration"),
        *("labels", "output_name"),
        *("calibration_list", "calibration_images", "data", "list_file", "max_drop", "keep_float"),
    )
    arguments = {name: getattr(options, name) for name in names} | {"preprocessing": _preprocessing(options)}
    with progress_bar("top-1") as progress:
        report = quantize_model(options.output, progress=progress, **arguments)
    (logging.info if options.json else print)("\n".join(quantization_lines(report)))
    if options.json:
        _print_json(report)
    logging.info("written: %s; use it: mobilenext evaluate DATA --exported %s", options.output, options.output)
    return 0


@contextlib.contextmanager
def _tried(output: Path | None, write: Callable[[None, Path], Any]) -> Iterator[None]:
    """What cannot be written is known before the work; a folder that was made for nothing goes again."""
    if output is None:
        yield
        return
    new = [folder for folder in (output, *output.parents) if not folder.exists()]
    write(None, output)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in new:
                folder.rmdir()
        raise


def _bench(options: argparse.Namespace) -> int:
    from mobilenext.evaluation.bench import bench
    from mobilenext.report.bench_report import bench_lines, row_line, write_bench

    output = Path(options.output) if options.output else None
    with _tried(output, write_bench), progress_bar(unit=" rows") as progress:
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
            on_row=lambda row: logging.info("%s", row_line(row)),
        )
    (logging.info if options.json else print)("\n".join(bench_lines(result)))
    if options.json:
        _print_json(result)
    if output:
        for note in write_bench(result, output):
            logging.info("%s", note)
    return 128 + (first_signal() or signal.SIGINT) if result["partial"] else 0


def _report(options: argparse.Namespace) -> int:
    from mobilenext.report.page import write_report

    data = Path(options.data) if options.data else None
    size = write_report([Path(run) for run in options.runs], Path(options.output), data, options.weights)
    logging.info("written: %s, %.1f MB", options.output, size / 1e6)
    return 0


def _check_data(options: argparse.Namespace) -> int:
    from mobilenext.data.check import check_data

    with progress_bar() as progress:
        summary = check_data(
            options.data,
            list_file=options.list_file,
            split=options.split,
            num_classes=options.num_classes,
            workers=options.workers,
            decode=not options.no_decode,
            progress=progress,
        )
    if options.json:
        _print_json(summary)
    else:
        for name, value in summary.items():
            if name not in ("warnings", "unreadable", "verdict"):
                print(f"{name.replace('_', ' ')}: {value}")
        for sentence in (*summary["warnings"], *summary["unreadable"]):
            print(f"! {sentence}")
        for use, verdict in summary["verdict"].items():
            reason = f" ({verdict['reason']})" if verdict["reason"] else ""
            print(f"usable for {use}: {'yes' if verdict['usable'] else 'no'}{reason}")
    return 0 if all(verdict["usable"] for verdict in summary["verdict"].values()) else 3


def _quickstart(options: argparse.Namespace) -> int:
    from mobilenext.data.digits import write_digits
    from mobilenext.runs.journal import JOURNAL

    output = Path(options.output)
    data = write_digits(output / "digits")
    logging.info(
        "A demonstration: handwritten digits (scikit-learn, 8 x 8 pixels) and a MobileNeXt x0.35 trained on others of "
        "them.\nThe same with your own: mobilenext evaluate DATA --model MODEL --weights FILE -o FOLDER\n"
    )
    # It has no options that a resumed one could differ in.
    arguments = {"model": "mobilenext_x0_35.digits", "workers": options.workers, "resume": (output / JOURNAL).is_file()}
    code = _evaluate_and_print(data, str(output), options.json, arguments)
    if not options.json:
        _show_quickstart(output, data)
    return code


def _show_quickstart(output: Path, data: Path) -> None:
    """A picture here, and a page to look at."""
    from mobilenext.classification.terminal import picture
    from mobilenext.errors import MissingDependency
    from mobilenext.runs.journal import read_predictions

    print("\n" + "\n".join(picture(read_predictions(output), 10, sys.stdout.encoding)) + "\n", flush=True)
    page = output / "report.html"
    try:
        from mobilenext.report.page import write_report

        write_report([output], page, data, ["mobilenext_x0_35.digits"])
    except MissingDependency as missing:
        logging.info("no report page: %s", missing)
    else:
        logging.info("written: %s, to be opened in a browser", page)


def _serve(options: argparse.Namespace) -> int:
    try:
        _serve_until_stopped(options)
    except (Stop, KeyboardInterrupt):  # while it was starting
        logging.info("stopped")
    return 0


def _serve_until_stopped(options: argparse.Namespace) -> None:
    from mobilenext.serving.server import require_extra, serve, subjects_of

    require_extra()
    from mobilenext.serving.front import Front
    from mobilenext.serving.limits import Limits

    limits = Limits(
        max_body_bytes=round(options.max_body_mb * 2**20),
        max_pixels=round(options.max_megapixels * 1e6),
        timeout_s=options.timeout,
        max_concurrency=options.max_concurrency,
        max_per_client=options.max_per_client,
        max_batch=options.max_batch,
        formats=tuple(options.formats.upper().replace(",", " ").split()),
    )
    front = Front.of(
        hosts=options.allow_host, proxies=options.trusted_proxy, prefix=options.root_path, origins=options.allow_origin
    )
    subjects = subjects_of(
        models=options.model,
        weights=options.weights,
        use=options.use,
        section=options.section,
        exported=options.exported,
        onnx=options.onnx,
        preprocessing=_preprocessing(options),
        labels=options.labels,
        output_name=options.output_name,
    )
    names = ("host", "port", "runtime", "threads", "copies")
    serve(subjects, limits, front=front, **{name: getattr(options, name) for name in names})


def _info(options: argparse.Namespace) -> int:
    from mobilenext.machine.environment import environment

    facts = environment()
    if options.json:
        _print_json(facts)
    else:
        for name, value in facts.items():
            print(f"{name}: {value}")
    return 0


VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "convert": _convert,
    "evaluate": _evaluate,
    "predict": _predict,
    "explain": _explain,
    "diagram": _diagram,
    "train": _train,
    "recipes": _recipes,
    "compare": _compare,
    "export": _export,
    "quantize": _quantize,
    "bench": _bench,
    "report": _report,
    "check-data": _check_data,
    "quickstart": _quickstart,
    "serve": _serve,
    "info": _info,
}


if __name__ == "__main__":
    sys.exit(main())
