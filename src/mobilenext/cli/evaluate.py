"""``evaluate`` and ``quickstart``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from mobilenext.cli.options import (
    BATCH_SIZE,
    DATA,
    JSON,
    LIST,
    OUTPUT,
    RESUME,
    SPLIT,
    WORKERS,
    add_flags,
    add_network,
    add_scoring,
    execution_of,
    print_json,
    source_of,
    values_of,
)  # fmt: skip
from mobilenext.cli.verb import Verb
from mobilenext.sources.options import Scoring, Selection


def _declare_evaluate(command: argparse.ArgumentParser) -> None:
    add_flags(command, DATA)
    add_network(command)
    add_flags(
        command,
        OUTPUT(help="folder for result.json, predictions.jsonl and evaluate.log (default: none is written)"),
        LIST(help="list file to use instead of val_list.txt: an image name and a label per line"),
        SPLIT(help="part of the data set to use: test, train, ... (default: val; of a detector: test if there is one)"),
        BATCH_SIZE,
        WORKERS,
    )
    command.add_argument(
        "--limit", type=int, metavar="N", help="evaluate the first N images only; the result is marked PARTIAL"
    )
    command.add_argument(
        "--unreadable",
        choices=("stop", "wrong"),
        default="stop",
        help="stop at an unreadable image (default), or count it as wrong",
    )
    add_flags(command, RESUME(action="store_true", help="continue the unfinished evaluation in --output"), JSON)
    add_scoring(command, clip="no, as the published scores are computed")


def _evaluate(options: argparse.Namespace) -> int:
    arguments = {
        **source_of(options),
        **execution_of(options),
        **values_of(options, *Selection.__annotations__, *Scoring.__annotations__, "workers", "unreadable", "resume"),
    }
    return _evaluate_and_print(options.data, options.output, options.json, arguments)


def _evaluate_and_print(data: str | Path, output: str | None, as_json: bool, arguments: dict[str, Any]) -> int:
    from mobilenext.evaluation.run import evaluate
    from mobilenext.machine.console import log_file, print_and_log, progress_bar
    from mobilenext.machine.ranks import launched
    from mobilenext.runs.journal import LOG
    from mobilenext.runs.tables import result_lines

    if launched()[0] > 0:  # the first process reports; the others would report the same
        logging.getLogger().setLevel(logging.WARNING)
        evaluate(data, output=output, **arguments)
        return 0
    with log_file(output, LOG), progress_bar("correct") as progress:
        result = evaluate(data, output=output, progress=progress, **arguments)
        text = "\n".join(result_lines(result))
        (logging.getLogger("mobilenext.table").info if as_json else print_and_log)(text)
        if output:
            files = (str(Path(output) / name) for name in ("result.json", "predictions.jsonl"))
            logging.info("written: %s", ", ".join(files))
    if as_json:
        print_json(result)
    verdict = (result.get("comparison") or {}).get("verdict")
    return 1 if verdict == "differs" else 0


def _declare_quickstart(command: argparse.ArgumentParser) -> None:
    add_flags(
        command, OUTPUT(default="runs/quickstart", help="folder to write (default: runs/quickstart)"), WORKERS, JSON
    )


def _quickstart(options: argparse.Namespace) -> int:
    from mobilenext.data.digits import write_digits
    from mobilenext.runs.journal import JOURNAL

    output = Path(options.output)
    data = write_digits(output / "digits")
    logging.info(
        "A demonstration: handwritten digits (scikit-learn, 8 x 8 pixels) and a MobileNeXt x0.35 trained on others of "
        "them.\nThe same with your own: mobilenext evaluate DATA --model MODEL --weights FILE -o FOLDER\n"
    )
    # An unfinished quickstart is resumed: it has no options in which the two could differ.
    arguments = {"model": "mobilenext_x0_35.digits", "workers": options.workers, "resume": (output / JOURNAL).is_file()}
    code = _evaluate_and_print(data, str(output), options.json, arguments)
    if not options.json:
        _show_quickstart(output, data)
    return code


def _show_quickstart(output: Path, data: Path) -> None:
    """Print a picture of the result, and write a report page."""
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


EVALUATE = Verb(
    "evaluate",
    "measure the score of a network on a data set (top-1 and top-5, or average precision), and its latency",
    _declare_evaluate,
    _evaluate,
    (
        "evaluate DATA --model mobilenext_x1_0 --weights mobilenext_x1_0.safetensors -o runs/x1_0",
        "evaluate DATA --exported exported/x1_0 --limit 1000",
        "evaluate DATA --onnx other.onnx --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --labels names.txt",
    ),
)
QUICKSTART = Verb(
    "quickstart",
    "evaluate the bundled model on handwritten digits; needs no data set",
    _declare_quickstart,
    _quickstart,
    ("quickstart", "quickstart -o runs/first"),
)
