"""``train``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobilenext.cli.options import (
    DATA,
    DEVICE,
    IDENTITY_DIVISOR,
    JSON,
    LABELS,
    MODEL,
    NUM_CLASSES,
    OUTPUT,
    RESUME,
    SECTION,
    SETTINGS,
    THREADS,
    USE,
    WEIGHTS,
    WORKERS,
    add_flags,
    print_json,
)  # fmt: skip
from mobilenext.cli.parsing import Joined
from mobilenext.cli.verb import Verb


def _declare(command: argparse.ArgumentParser) -> None:
    _declare_run(command)
    _declare_data(command)
    _declare_execution(command)
    add_flags(command, JSON)


def _declare_run(command: argparse.ArgumentParser) -> None:
    """Declare the folder, the recipe and the network."""
    add_flags(
        command,
        DATA(
            nargs="?",
            help="data set: imgs/, train_list.txt and val_list.txt; or train/ and val/ with class folders",
        ),
        OUTPUT(help="new folder for the run"),
        RESUME(metavar="RUN", help="continue the run in this folder"),
        MODEL(help="name from `mobilenext list` (default: recognized from --weights)"),
    )
    command.add_argument(
        "--recipe",
        metavar="NAME",
        help="name from `mobilenext recipes` (default: released, with --weights finetune; of a detector ssdlite-voc, "
        "with --weights or --backbone ssdlite-small)",
    )
    example = "such as freeze=backbone or freeze=backbone,patience=8"
    add_flags(
        command,
        SETTINGS(help=f"replace a value of the recipe, {example}; `recipes NAME` lists all fields"),
        WEIGHTS(help="checkpoint file or tag to start from (default: random initialization)"),
    )
    command.add_argument(
        "--backbone", metavar="FILE",
        help="classification weights, as a file or model.tag, for the backbone of a detector",
    )  # fmt: skip
    command.add_argument(
        "--form", metavar="FORM", help="form of a detector: voc or coco (default: that of the recipe or the weights)"
    )
    command.add_argument(
        "--prior-sizes", metavar="MIN-MAX,...", action=Joined,
        help="sides of a detector's priors in pixels of the input, six pairs, such as "
        "24-120,90-180,135-220,180-260,225-300,270-320",
    )  # fmt: skip
    add_flags(
        command,
        USE,
        SECTION,
        NUM_CLASSES(
            help="number of classes; another one than that of the weights makes a new classifier (default: of the data)"
        ),
        IDENTITY_DIVISOR(help="the shortcut carries 1/N of the channels (default: that of the weights, or 1)"),
    )
    command.add_argument(
        "--seed", type=int, metavar="N", help="seed of initialization, order, augmentation and dropout (default: 0)"
    )


def _declare_data(command: argparse.ArgumentParser) -> None:
    """Declare the lists of images and the class names."""
    command.add_argument(
        "--train-list", metavar="FILE", help="list file of the training images (default: train_list.txt)"
    )
    command.add_argument(
        "--val-list", metavar="FILE", help="list file of the validation images (default: val_list.txt)"
    )
    command.add_argument(
        "--train-split", metavar="NAME,...", action=Joined,
        help="training images of a detector: part of the data set, or several with commas, such as 2007-trainval",
    )  # fmt: skip
    command.add_argument(
        "--val-split", metavar="NAME|SHARE",
        help="validation images: another part (test), or a share of the training images (0.2), sampled per class",
    )  # fmt: skip
    labels = "file of class names to store in the weights: lines, JSON, CSV, ..."
    add_flags(command, LABELS(help=labels))


def _declare_execution(command: argparse.ArgumentParser) -> None:
    """Declare how the run is carried out."""
    add_flags(
        command,
        DEVICE,
        THREADS(help="threads per process, on a CPU (default: 1)"),
        WORKERS(help="processes that read images (default: for a small data set none, of a detector one)"),
    )
    add_run_flags(command)
    command.add_argument(
        "--to-static", action="store_true", help="compile the network to a graph with paddle.jit (slower on a CPU)"
    )
    command.add_argument("--visualdl", action="store_true", help="also write scalars for VisualDL to RUN/visualdl")


def add_run_flags(command: argparse.ArgumentParser) -> None:
    """Declare the flags of a run's log, checkpoints and unreadable images."""
    command.add_argument(
        "--max-unreadable", type=int, default=0, metavar="N",
        help="skip up to N unreadable training images (default: 0)",
    )  # fmt: skip
    command.add_argument(
        "--log-every", type=int, default=20, metavar="STEPS", help="steps between two lines of the log (default: 20)"
    )
    command.add_argument(
        "--save-every",
        type=float,
        default=600,
        metavar="SECONDS",
        help="seconds between two checkpoints within an epoch (default: 600)",
    )


def _train(options: argparse.Namespace) -> int:
    from mobilenext.training.run import train

    def run(arguments: dict[str, Any]) -> Any:
        fields = {name: arguments.pop(name, None) for name in ("form", "prior_sizes")}  # of the recipe
        arguments["settings"] += [f"{name}={value}" for name, value in fields.items() if value]
        return train(options.data, **arguments)

    def closing(folder: str) -> None:
        logging.info("written: %s; use it: mobilenext evaluate DATA %s", folder, _flags_to_use_it(folder))

    return carry_out(options, run, closing)


def carry_out(options: argparse.Namespace, run: Callable[[dict[str, Any]], Any], closing: Callable[[str], None]) -> int:
    """Carry out a run with its log file; return the exit code.

    Args:
        options: of the command line.
        run: makes the run of its keywords, and returns its result.
        closing: says what to do with the folder of a run that is finished.
    """
    from mobilenext.errors import Stopped
    from mobilenext.machine.console import log_file
    from mobilenext.machine.ranks import launched
    from mobilenext.runs.run_folder import CONFIG, LOG

    first = launched()[0] == 0
    if not first:  # the first process reports; the others would report the same
        logging.getLogger().setLevel(logging.WARNING)
    folder = options.resume or options.output
    arguments = _arguments(options)
    try:
        with log_file(folder if first else None, LOG, begun=CONFIG):
            result = run(arguments)
            if first:
                closing(folder)
    except Stopped as stopped:
        logging.info("mobilenext: %s", stopped)
        return stopped.exit_code
    if options.json and first:
        print_json(result)
    return 0


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of a run."""
    arguments = {name: value for name, value in vars(options).items() if value is not None}
    for name in ("verb", "data", "json"):
        arguments.pop(name, None)
    arguments["settings"] = list(options.settings)
    if options.labels:
        from mobilenext.data.labels import read_labels

        arguments["labels"] = read_labels(options.labels)
    return arguments


def _flags_to_use_it(folder: str) -> str:
    """Return the flags that evaluate the run, on its own validation images where it has divided the data."""
    val_list = Path(folder, "val_list.txt")
    return f"--weights {folder}/best.safetensors{f' --list {val_list}' if val_list.is_file() else ''}"


TRAIN = Verb(
    "train", "train a network: from scratch, from weights, or continue a run", _declare, _train,
    (
        "train DATA --model mobilenext_x1_0 --recipe released -o runs/a",
        "train PHOTOS --weights W --val-split 0.2 --set freeze=backbone -o runs/photos",
        "train --resume runs/a",
    ),
)  # fmt: skip
