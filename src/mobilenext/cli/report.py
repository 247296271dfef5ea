"""``report`` and ``compare``: results of evaluations and runs on one page or in one table."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mobilenext.cli.options import DATA_OPTION, JSON, OUTPUT, WEIGHTS, add_flags, print_json, print_report
from mobilenext.cli.verb import Verb


def _declare_report(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", nargs="+", metavar="RUN", help="folders written by evaluate, train, search or bench")
    add_flags(command, OUTPUT(default="report.html", metavar="FILE", help="file to write (default: report.html)"))
    add_flags(
        command,
        DATA_OPTION(metavar="FOLDER", help="data set that was evaluated, for thumbnails of the mistakes"),
        WEIGHTS.several(
            nargs=None, help="weights that were evaluated, for heat maps; several with commas, or repeated"
        ),
        JSON,
    )


def _report(options: argparse.Namespace) -> int:
    from mobilenext.machine.console import progress_bar
    from mobilenext.report.page import write_report

    data = Path(options.data) if options.data else None
    with progress_bar(unit="") as progress:  # images, then pictures
        size = write_report([Path(run) for run in options.runs], Path(options.output), data, options.weights, progress)
    logging.info("written: %s, %.1f MB", options.output, size / 1e6)
    if options.json:
        print_json({"output": options.output, "bytes": size, "runs": options.runs})
    return 0


def _declare_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", nargs="+", metavar="RUN", help="folders written by `mobilenext train`")
    add_flags(
        command, OUTPUT(metavar="FILE", help="picture of the curves to write, .png or .svg (default: none)"), JSON
    )


def _compare(options: argparse.Namespace) -> int:
    from mobilenext.report.training_report import comparison_lines
    from mobilenext.runs.comparison import comparison
    from mobilenext.runs.curves import write_curves
    from mobilenext.runs.training_run import read_run

    runs = [read_run(Path(folder)) for folder in options.runs]
    print_report(comparison_lines(runs), options, comparison(runs))
    if options.output:
        write_curves(runs, Path(options.output))
        logging.info("written: %s", options.output)
    return 0


REPORT = Verb(
    "report", "write evaluations, trainings, searches and benches to one self-contained HTML page", _declare_report,
    _report,
    (
        "report runs/x1_0 -o report.html --data DATA --weights mobilenext_x1_0.safetensors",
        "report runs/x1_0 runs/x1_0_int8 runs/bench -o report.html",
        "report runs/cells runs/found runs/evaluation -o report.html",
    ),
)  # fmt: skip
COMPARE = Verb(
    "compare", "compare training runs: a table, and curves with --output", _declare_compare, _compare,
    ("compare runs/a runs/b", "compare runs/a runs/b -o curves.png"),
)  # fmt: skip
