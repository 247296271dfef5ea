"""``predict``."""

from __future__ import annotations

import argparse
import logging
import sys

from mobilenext.cli.options import (
    BATCH_SIZE,
    IMAGES,
    JSON,
    TOPK,
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

MAX_STANDARD_INPUT = 512 << 20  # bytes


def _declare(command: argparse.ArgumentParser) -> None:
    add_flags(command, IMAGES(help="image files, folders that are searched for images, or - for standard input"))
    add_network(command)
    add_flags(command, TOPK, BATCH_SIZE(default=1, help="images per call of the network (default: 1)"), JSON)
    add_scoring(command, clip="yes")


def _predict(options: argparse.Namespace) -> int:
    from mobilenext.evaluation.prediction import predict
    from mobilenext.tasks import find_task

    images = [_standard_input() if name == "-" else name for name in options.images]
    answering = values_of(options, *Answering.__annotations__)
    rows = predict(images, **answering, **source_of(options), **execution_of(options))
    errors = [row["error"] for row in rows if "error" in row]
    for error in errors:
        logging.error("mobilenext: %s", error)
    code = 3 if errors else 0
    if options.json:
        print_json(rows)
        return code
    for row in rows:
        if "error" in row:
            continue
        print(row["path"])
        for line in find_task(row.get("task")).evaluation.answer_lines(row):
            print(f"  {line}")
    return code


def _standard_input() -> bytes:
    """Read the content of one image file."""
    from mobilenext.errors import DataError, UsageError

    if sys.stdin is None:
        raise UsageError("- is standard input, which is closed; expected the content of one image file there")
    content = sys.stdin.buffer.read(MAX_STANDARD_INPUT + 1)
    if len(content) > MAX_STANDARD_INPUT:
        raise DataError(f"standard input has more than {MAX_STANDARD_INPUT >> 20} MiB; expected one image file")
    return content


PREDICT = Verb("predict", "predict the top classes of images", _declare, _predict)
