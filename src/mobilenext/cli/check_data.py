"""``check-data``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mobilenext.cli.options import DATA, JSON, LIST, NUM_CLASSES, SPLIT, WORKERS, add_flags, print_json, values_of
from mobilenext.cli.verb import Verb


def _declare(command: argparse.ArgumentParser) -> None:
    num_classes = NUM_CLASSES(help="labels must be below this number (1000 also compares the labels with ImageNet)")
    add_flags(command, DATA, LIST, SPLIT, num_classes, WORKERS)
    command.add_argument("--no-decode", action="store_true", help="check the list only, without decoding images")
    add_flags(command, JSON)


def _check_data(options: argparse.Namespace) -> int:
    from mobilenext.data.check import check_data
    from mobilenext.machine.console import progress_bar

    arguments = values_of(options, "list_file", "split", "num_classes", "workers")
    with progress_bar() as progress:
        summary = check_data(options.data, decode=not options.no_decode, progress=progress, **arguments)
    if options.json:
        print_json(summary)
    else:
        _print_summary(summary)
    return 0 if all(verdict["usable"] for verdict in summary["verdict"].values()) else 3


def _print_summary(summary: Mapping[str, Any]) -> None:
    for name, value in summary.items():
        if name not in ("warnings", "unreadable", "verdict"):
            print(f"{name.replace('_', ' ')}: {value}")
    for sentence in (*summary["warnings"], *summary["unreadable"]):
        print(f"! {sentence}")
    for use, verdict in summary["verdict"].items():
        reason = f" ({verdict['reason']})" if verdict["reason"] else ""
        print(f"usable for {use}: {'yes' if verdict['usable'] else 'no'}{reason}")


CHECK_DATA = Verb("check-data", "check a data set: read its list and decode every image", _declare, _check_data)
