"""``predict``."""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mobilenext.cli.options import (
    BATCH_SIZE,
    IMAGES,
    JSON,
    OUTPUT,
    TOPK,
    Flag,
    add_flags,
    add_network,
    add_scoring,
    execution_of,
    print_json,
    source_of,
    values_of,
)  # fmt: skip
from mobilenext.cli.verb import Verb
from mobilenext.sources.options import Answering

CSV = Flag("--csv", action="store_true", help="print a table on standard output: a row for each class, or each box")
MAX_STANDARD_INPUT = 512 << 20  # bytes


def _declare(command: argparse.ArgumentParser) -> None:
    add_flags(
        command,
        IMAGES(
            nargs="*",
            help="image files, folders that are searched for images, or - for standard input (default: the sample of "
            "the weights, where they have one)",
        ),
    )
    add_network(command)
    add_flags(
        command,
        TOPK,
        BATCH_SIZE(default=1, help="images per call of the network (default: 1)"),
        OUTPUT(metavar="DIR", help="folder for the images with the detected boxes drawn on them"),
    )
    printed = command.add_mutually_exclusive_group()
    add_flags(printed, JSON, CSV)
    add_scoring(command, clip="yes")


def _predict(options: argparse.Namespace) -> int:
    from mobilenext.evaluation.prediction import predict
    from mobilenext.machine.console import progress_bar
    from mobilenext.sources.find import sample_for

    images = [_standard_input() if name == "-" else name for name in options.images]
    images = images or [sample_for(**source_of(options))]
    answering = values_of(options, *Answering.__annotations__)
    with progress_bar() as progress:
        rows = predict(
            images, output=options.output, progress=progress, **answering, **source_of(options), **execution_of(options)
        )
    errors = [row["error"] for row in rows if "error" in row]
    for error in errors:
        logging.error("mobilenext: %s", error)
    if options.json:
        print_json(rows)
    elif options.csv:
        _print_table(rows)
    else:
        _print_lines(rows)
    if options.output:
        logging.info("written: %d pictures, %s", len(rows) - len(errors), options.output)
    return 3 if errors else 0


def _print_lines(rows: Sequence[Mapping[str, Any]]) -> None:
    from mobilenext.tasks import find_task

    for row in rows:
        if "error" in row:
            continue
        print(row["path"])
        for line in find_task(row.get("task")).evaluation.answer_lines(row):
            print(f"  {line}")


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the answers as CSV; an image without any has one row with its name only, one that cannot be read none."""
    from mobilenext.errors import UsageError
    from mobilenext.tasks import find_task

    answers = [row for row in rows if "error" not in row]
    if not answers:
        return
    presentation = find_task(answers[0].get("task")).presentation
    if not presentation.answer_heads:
        raise UsageError("the answers of this network are no table; use --json")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", *presentation.answer_heads])
    for answer in answers:
        nothing = [""] * len(presentation.answer_heads)
        for cells in presentation.answer_rows(answer) or [nothing]:
            writer.writerow([answer["path"], *cells])


def _standard_input() -> bytes:
    """Read the content of one image file."""
    from mobilenext.errors import DataError, UsageError

    if sys.stdin is None:
        raise UsageError("- is standard input, which is closed; expected the content of one image file there")
    content = sys.stdin.buffer.read(MAX_STANDARD_INPUT + 1)
    if len(content) > MAX_STANDARD_INPUT:
        raise DataError(f"standard input has more than {MAX_STANDARD_INPUT >> 20} MiB; expected one image file")
    return content


PREDICT = Verb(
    "predict", "predict the top classes of images, or the objects in them", _declare, _predict,
    (
        "predict photo.jpg folder/ --weights mobilenext_x1_0.safetensors --csv > classes.csv",
        "predict --model ssdlite320_mobilenext_x0_35.bccd -o pictures/     # on the sample that ships with it",
        "predict - --model mobilenext_x0_35.tiny20 --json < photo.jpg",
    ),
)  # fmt: skip
