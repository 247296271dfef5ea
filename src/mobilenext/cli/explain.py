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
    command.add_argument("--class", dest="class_id", type=int, metavar="ID", help="class to explain (default: top-1)")
    add_flags(
        command,
        BLOCK(help="block whose feature map is used, or last (default: the last one with 7 x 7 cells)"),
        TOPK(help="classes to show in the picture (default: 5)"),
        OUTPUT(required=True, metavar="FILE", help="file to write for one image, .png or .svg; a folder for several"),
        USE,
        SECTION,
        IDENTITY_DIVISOR,
    )
    add_preprocessing(command)
    add_flags(command, JSON)


def _explain(options: argparse.Namespace) -> int:
    from mobilenext.explanation.pictures import explain
    from mobilenext.machine.console import progress_bar
    from mobilenext.statistics import percent_text

    arguments = values_of(options, "class_id", "block", "topk")
    with progress_bar() as progress:
        rows = explain(options.images, options.output, progress=progress, **arguments, **source_of(options))
    errors = [row["error"] for row in rows if "error" in row]
    for error in errors:
        logging.error("mobilenext: %s", error)
    if options.json:
        print_json(rows)
    else:
        for row in rows:
            if "error" not in row:
                print(f"{row['output']}: class {row['class']}, {percent_text(100 * row['score'])}, {row['block']}")
    return 3 if errors else 0


def _declare_diagram(command: argparse.ArgumentParser) -> None:
    add_flags(
        command,
        MODEL(required=True, help="name from `mobilenext list`"),
        NUM_CLASSES(default=1000, help="classes of the classifier (default: 1000)"),
        IDENTITY_DIVISOR(default=1, help="the shortcut carries 1/N of the channels (default: 1)"),
        IMAGE_SIZE(default=224, help="side of the input in pixels (default: 224)"),
        BLOCK(help="draw this block only, with all its layers"),
        OUTPUT(required=True, metavar="FILE", help="picture to write, .svg or .png"),
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
    "explain", "draw a Grad-CAM heat map: which parts of an image support a class", _declare_explain, _explain,
    (
        "explain photo.jpg --weights mobilenext_x1_0.safetensors -o why.png",
        "explain photos/ --model mobilenext_x0_35.tiny20 --class 3 --block last -o pages/",
    ),
)  # fmt: skip
DIAGRAM = Verb(
    "diagram", "draw a network or one of its blocks as SVG", _declare_diagram, _diagram,
    (
        "diagram --model mobilenext_x1_0 -o network.svg",
        "diagram --model mobilenext_x1_0 --block features.4 -o block.svg",
    ),
)  # fmt: skip
