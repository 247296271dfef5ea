"""``explain`` and ``diagram``: pictures of a prediction and of a network."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mobilenext.cli.options import (
    BLOCK,
    IDENTITY_DIVISOR,
    IMAGE_SIZE,
    IMAGES,
    JSON,
    MODEL,
    NUM_CLASSES,
    OUTPUT,
    SECTION,
    TOPK,
    USE,
    WEIGHTS,
    add_flags,
    add_preprocessing,
    print_json,
    source_of,
    values_of,
)  # fmt: skip
from mobilenext.cli.verb import Verb


def _declare_explain(command: argparse.ArgumentParser) -> None:
    add_flags(command, IMAGES, MODEL, WEIGHTS)
    command.add_argument("--class", dest="class_id", type=int, metavar="ID", help="default: the one it puts first")
    add_flags(
        command,
        BLOCK(help="whose map (default: the last with 7 x 7 cells; or: last)"),
        TOPK(help="classes in the picture (default 5)"),
        OUTPUT(required=True, help="a .png or .svg for one image, a folder for several"),
        USE,
        SECTION,
        IDENTITY_DIVISOR,
    )
    add_preprocessing(command)
    add_flags(command, JSON)


def _explain(options: argparse.Namespace) -> int:
    from mobilenext.explanation.pictures import explain

    arguments = values_of(options, "class_id", "block", "topk")
    rows = explain(options.images, options.output, **arguments, **source_of(options))
    errors = [row["error"] for row in rows if "error" in row]
    for error in errors:
        logging.error("mobilenext: %s", error)
    if options.json:
        print_json(rows)
    else:
        for row in rows:
            if "error" not in row:
                print(f"{row['output']}: class {row['class']}, {100 * row['score']:.2f} %, {row['block']}")
    return 3 if errors else 0


def _declare_diagram(command: argparse.ArgumentParser) -> None:
    add_flags(
        command,
        MODEL(required=True, help="a name of `mobilenext list`"),
        NUM_CLASSES(default=1000, help="of the classifier (default 1000)"),
        IDENTITY_DIVISOR(default=1),
        IMAGE_SIZE(default=224, help="pixels (default 224)"),
        BLOCK(help="only this one, with every layer"),
        OUTPUT(required=True, metavar="FILE.svg"),
        JSON,
    )


def _diagram(options: argparse.Namespace) -> int:
    from mobilenext.explanation.diagram import write_diagram

    arguments = values_of(options, "model", "num_classes", "identity_divisor", "image_size", "block")
    drawn = write_diagram(Path(options.output), **arguments)
    if options.json:
        print_json(drawn.to_dict())
    logging.info("written: %s", options.output)
    return 0


EXPLAIN = Verb(
    "explain", "what in images speaks for a class (Grad-CAM): a picture of each", _declare_explain, _explain
)  # fmt: skip
DIAGRAM = Verb("diagram", "a network or one of its blocks, drawn from itself as SVG", _declare_diagram, _diagram)
