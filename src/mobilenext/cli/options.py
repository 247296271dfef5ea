"""Every flag that several verbs have, declared once, and the records that its values become.

A verb lists its flags, with what is different for it: ``add_flags(command, DATA, *SOURCE, OUTPUT(required=True))``. The
flags of one verb only are declared where it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from typing import Any

from mobilenext.cli.parsing import TRIPLES, Listed, names, settings
from mobilenext.sources.options import Execution, Source

RUNTIME_NAMES = "openvino, onnxruntime, paddle-inference, paddle, ncnn, tflite or mnn"  # importing them takes numpy


class Flag:
    """A flag or a positional argument: what ``ArgumentParser.add_argument`` takes."""

    def __init__(self, *names: str, earlier: str | None = None, **keywords: Any) -> None:
        """`earlier` is a name that the flag had in earlier versions: it still works, and is in no help."""
        self.names, self.earlier, self.keywords = names, earlier, keywords

    def __call__(self, **changes: Any) -> Flag:
        """Return the flag as one verb has it: with another help text, default or number of values."""
        return Flag(*self.names, earlier=self.earlier, **{**self.keywords, **changes})

    def several(self, read: Callable[[str], list[Any]] = names, **changes: Any) -> Flag:
        """Return the flag as one that takes several values, with commas, blanks or by repetition.

        Args:
            read: reads the values of one word.
            **changes: as above; `nargs=None` for a verb with positional arguments, which blanks would swallow.
        """
        return self(**{"action": Listed, "type": read, "nargs": "+", "default": [], **changes})


# The data.
DATA = Flag("data", metavar="DATA", help="folder of the data set: imgs/ and val_list.txt, or one folder per class")
DATA_OPTION = Flag("--data", metavar="DATA")  # where the data set is not what the verb is about
IMAGES = Flag("images", nargs="+", metavar="IMAGE", help="image files, and folders that are searched for images")
LIST = Flag("--list", dest="list_file", metavar="FILE", help="list file to use instead of val_list.txt")
IMAGE_FILES = Flag("--images", metavar="IMAGE").several()
SPLIT = Flag("--split", metavar="NAME", help="part of the data set to use: test, train, ... (default: val)")
NUM_CLASSES = Flag("--num-classes", type=int, metavar="N")

# The network: the record Source.
MODEL = Flag(
    "--model",
    metavar="NAME",
    help="name from `mobilenext list`, model.tag, or an architecture.json (default: recognized from the weights)",
)
WEIGHTS = Flag(
    "--weights",
    metavar="FILE",
    help="checkpoint file, or tag of published weights (default: the model's first)",
)
EXPORTED = Flag("--exported", metavar="DIR", help="folder written by `mobilenext export`")
ONNX = Flag("--onnx", metavar="FILE", help="any ONNX classifier; state its --mean, --std and --image-size")
LABELS = Flag("--labels", metavar="FILE", help="file of class names: lines, JSON, CSV, ...")
OUTPUT_NAME = Flag(
    "--output-name", metavar="NAME", help="output that holds the scores, for a model with several outputs"
)
USE = Flag(
    "--use",
    choices=("auto", "raw", "ema"),
    help="weights to use if a checkpoint has raw and averaged ones (auto: EMA if present)",
)
SECTION = Flag(
    "--section", metavar="PATH", help="key path of the weights in a checkpoint with several sets, such as model_ema"
)
IDENTITY_DIVISOR = Flag(
    "--identity-divisor",
    type=int,
    metavar="N",
    help="the shortcut carries 1/N of the channels (default: that of the weights)",
)
IMAGE_SIZE = Flag("--image-size", type=int, metavar="PIXELS", help="side of the crop in pixels")
PREPROCESSING = (
    IMAGE_SIZE,
    Flag(
        "--crop-pct", type=float, metavar="SHARE",
        help="side of the crop divided by the short side of the resized image",
    ),
    Flag(
        "--interpolation", metavar="FILTER",
        help="filter for resizing: nearest, box, bilinear, hamming, bicubic or lanczos",
    ),
    *(
        Flag(
            name, nargs=3, type=float, metavar=("R", "G", "B"),
            help=f"{quantity} of R, G and B on a scale from 0 to 1, such as 0.5,0.5,0.5",
        )
        for name, quantity in zip(TRIPLES, ("mean", "standard deviation"), strict=True)
    ),
)  # fmt: skip
BLOCK = Flag("--block", metavar="N|NAME")

# How it is run: the record Execution.
THREADS = Flag("--threads", type=int, metavar="N", help="threads per process (default: 1)")
DEVICE = Flag(
    "--device",
    choices=("auto", "cpu", "gpu"),
    default="auto",
    help="device to run on (default: auto, the GPU if there is one)",
)
RUNTIME = Flag(
    "--runtime",
    default="auto",
    metavar="NAME",
    help=f"runtime: {RUNTIME_NAMES} (default: auto, the fastest one that works)",
)
ENGINE = Flag(
    "--engine",
    metavar="NAME",
    default="auto",
    help="engine of paddle-inference: openvino, onednn, native, gpu or tensorrt (default: auto)",
)
PRECISION = Flag("--precision", metavar="TYPE", help="number format: fp32, bf16 or int8 (default: that of the files)")
BATCH_SIZE = Flag(
    "--batch-size", type=int, metavar="N", help="images per call of the network (default: 1 on a CPU, 64 on a GPU)"
)
WORKERS = Flag("--workers", type=int, metavar="N", help="worker processes (default: one per core)")
# Of a run.
SETTINGS = Flag(
    "--set", dest="settings", metavar="KEY=VALUE", action=Listed, type=settings, default=[],
    help="value of a field of the recipe; repeated, or with commas; `recipes NAME` lists all fields",
)  # fmt: skip

# The results.
OUTPUT = Flag("-o", "--output", metavar="DIR")
RESUME = Flag("--resume")  # a switch beside --output, or the folder itself
TOPK = Flag("--topk", type=int, metavar="N", help="classes to show per image (default: 5)")
# What a detector answers: the record Scoring.
SCORING = (
    Flag("--score-threshold", type=float, metavar="T", help="show objects with a higher score only, from 0 to 1"),
    Flag(
        "--iou-threshold", type=float, metavar="T",
        help="of two objects of a class whose boxes overlap by more, keep the better one, from 0 to 1",
    ),
    Flag("--max-detections", type=int, metavar="N", help="objects per image, the best ones"),
    Flag("--clip", action=argparse.BooleanOptionalAction, help="cut boxes at the edges of the image"),
    Flag("--flip", action="store_true", default=None, help="show the network the mirrored image as well"),
)  # fmt: skip
JSON = Flag("--json", action="store_true", help="print JSON on standard output, and everything else on standard error")


def add_flags(command: argparse._ActionsContainer, *flags: Flag) -> None:
    """Declare flags for a verb, in the order in which its help lists them."""
    for flag in flags:
        action = command.add_argument(*flag.names, **flag.keywords)
        if flag.earlier:
            hidden = {"dest": action.dest, "help": argparse.SUPPRESS, "default": argparse.SUPPRESS, "required": False}
            command.add_argument(flag.earlier, **{**flag.keywords, **hidden})


def add_preprocessing(
    command: argparse.ArgumentParser, title: str = "preprocessing (default: that of the weights)"
) -> None:
    """Declare the flags of the preprocessing, as a group of their own in the help."""
    add_flags(command.add_argument_group(title), *PREPROCESSING)


def add_network(command: argparse.ArgumentParser) -> None:
    """Declare the flags of `evaluate` and `predict` that name a network and say how it is run."""
    exported = "folder written by `mobilenext export`, or any Paddle Inference model (then as with --onnx)"
    add_flags(
        command, MODEL, WEIGHTS, EXPORTED(help=exported), ONNX, LABELS, OUTPUT_NAME, USE, SECTION, IDENTITY_DIVISOR,
    )  # fmt: skip
    add_preprocessing(command)
    add_flags(command, THREADS, DEVICE, RUNTIME, ENGINE, PRECISION)


def source_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the record Source of a verb's values, without those that the user has left out."""
    source = values_of(options, *Source.__annotations__)
    if preprocessing := preprocessing_of(options):
        source["preprocessing"] = preprocessing
    return source


def execution_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the record Execution of a verb's values, without those that the user has left out."""
    return values_of(options, *Execution.__annotations__)


def add_scoring(command: argparse.ArgumentParser, clip: str) -> None:
    """Declare the flags that decide the answers of a detector; `clip` is what happens without --clip and --no-clip."""
    group = command.add_argument_group("objects, of a detector (default: the thresholds of the weights)")
    for flag in SCORING:
        text = flag.keywords["help"]
        add_flags(group, flag(help=f"{text} (default: {clip})" if flag.names == ("--clip",) else text))


def preprocessing_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the preprocessing that the user has set."""
    fields = values_of(options, *(flag.names[0][2:].replace("-", "_") for flag in PREPROCESSING))
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def values_of(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the values of these names, without those that the verb does not have or the user has left out."""
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


def print_json(value: Any) -> None:
    """Print a result as JSON, in ASCII: right in every locale."""
    print(json.dumps(value, indent=1))


def print_report(lines: Iterable[str], options: argparse.Namespace, result: Any) -> None:
    """Print the lines; with --json the result instead, and the lines go to standard error."""
    import logging

    (logging.info if options.json else print)("\n".join(lines))
    if options.json:
        print_json(result)
