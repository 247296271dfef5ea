"""``check-data``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mobilenext.cli.options import (
    DATA,
    JSON,
    LIST,
    NUM_CLASSES,
    OUTPUT,
    SETTINGS,
    SPLIT,
    WORKERS,
    add_flags,
    print_json,
    values_of,
)
from mobilenext.cli.verb import Verb

# Of a summary, where the task has them: not printed as they are.
_SENTENCES, _RECORDS = ("remarks", "problems", "left_out", "overhanging"), ("coverage",)


def _declare(command: argparse.ArgumentParser) -> None:
    num_classes = NUM_CLASSES(help="labels must be below this number (1000 also compares the labels with ImageNet)")
    add_flags(command, DATA, LIST, SPLIT, num_classes, WORKERS)
    command.add_argument("--no-decode", action="store_true", help="check the list only, without decoding images")
    command.add_argument(
        "--task", metavar="TASK", help="task of the data: classification or detection (default: by their layout)"
    )
    command.add_argument(
        "--draw", type=int, metavar="N", help="data with boxes: number of augmented images to write with their boxes"
    )
    add_flags(command, OUTPUT(metavar="DIR", help="folder for these images"))
    command.add_argument(
        "--recipe", metavar="NAME", help="recipe of the augmentation and of the priors (default: ssdlite-voc)"
    )
    add_flags(
        command, SETTINGS(default=None, help="a field of the recipe, such as image_size=512; may be repeated"), JSON
    )


def _check_data(options: argparse.Namespace) -> int:
    from mobilenext.checking import check_data
    from mobilenext.machine.console import progress_bar

    arguments = values_of(
        options, "list_file", "split", "num_classes", "workers", "task", "draw", "output", "recipe", "settings"
    )
    with progress_bar() as progress:
        summary = check_data(options.data, decode=not options.no_decode, progress=progress, **arguments)
    if options.json:
        print_json(summary)
    else:
        _print_summary(summary)
    return 0 if all(verdict["usable"] for verdict in summary["verdict"].values()) else 3


def _print_summary(summary: Mapping[str, Any]) -> None:
    from mobilenext.data.problems import shortened

    for name, value in summary.items():
        if name not in ("warnings", "unreadable", "verdict", *_SENTENCES, *_RECORDS) and value != {}:
            text = ", ".join(f"{key} {number:,}" for key, number in value.items()) if isinstance(value, dict) else value
            print(f"{name.replace('_', ' ')}: {text}")
    for sentence in summary.get("remarks", ()):
        print(sentence)
    for name in ("warnings", *_SENTENCES[1:], "unreadable"):
        sentences = summary.get(name, ())
        for sentence in shortened(sentences) if name in _SENTENCES else sentences:
            print(f"! {sentence}")
    for use, verdict in summary["verdict"].items():
        reason = f" ({verdict['reason']})" if verdict["reason"] else ""
        print(f"usable for {use}: {'yes' if verdict['usable'] else 'no'}{reason}")


CHECK_DATA = Verb(
    "check-data", "check a data set: read its list and decode every image", _declare, _check_data,
    (
        "check-data DATA",
        "check-data IMAGENET --num-classes 1000     # compares the labels with ImageNet's",
        "check-data DATA --draw 20 -o samples/      # images with their boxes",
    ),
)  # fmt: skip
