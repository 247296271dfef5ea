"""The grammar of the command line: every verb and its options. What a verb does is in ``mobilenext.cli``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from typing import Any

from mobilenext.version import __version__

TRIPLES = ("--mean", "--std")
NUMBER = re.compile(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
MOVED = {
    "tipc": "`python test_tipc/run.py CONFIG MODE`, or `make tipc CONFIG=... MODE=...`",
    "gradient-confusion": "`python scripts/gradient_confusion.py DATA --model MODEL -o FOLDER`",
}
RUNTIME_NAMES = "openvino, onnxruntime, paddle-inference, paddle, ncnn or tflite"  # importing them takes numpy


class _Parser(argparse.ArgumentParser):
    """Takes the numbers of --mean and --std with spaces or commas between them, or one at a time."""

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        return super().parse_known_args(_split_triples(sys.argv[1:] if args is None else args), namespace)


def _split_triples(arguments: Iterable[str]) -> list[str]:
    """``--mean 1,2,3`` to ``--mean 1 2 3``."""
    split: list[str] = []
    current, missing = "", 0  # the option whose numbers are read, and how many are still to come
    for argument in arguments:
        option, has_value, value = argument.partition("=")
        if option in TRIPLES:
            if not (option == current and missing):
                split.append(option)
                current, missing = option, 3
            if not has_value:
                continue
        else:
            value = argument
        numbers = [part for part in re.split(r"[,\s]+", value) if part]
        if missing > 0 and numbers and all(NUMBER.fullmatch(number) for number in numbers):
            split += numbers
            missing -= len(numbers)
        else:
            split.append(value)
            missing = 0
    return split


def parser() -> argparse.ArgumentParser:
    """The grammar of all verbs."""
    top = _Parser(
        prog="mobilenext",
        description="MobileNeXt on PaddlePaddle: from a checkpoint to an accuracy and latency table.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"mobilenext {__version__}")
    verbs = top.add_subparsers(metavar="COMMAND", required=True)

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        added.set_defaults(verb=name)
        return added

    command = verb("list", "models: sizes, published accuracy, weights, licence")
    _json_flag(command)

    command = verb("convert", "a PyTorch or Paddle checkpoint to safetensors or .pdparams, or back")
    command.add_argument("source", help="a .pth, .pth.tar, .pdparams or .safetensors file, or model.tag of a card")
    command.add_argument("-o", "--output", required=True, help="a .safetensors or .pdparams file")
    command.add_argument("--to", choices=("paddle", "pytorch"), default="paddle", help="names and layouts to write")
    command.add_argument("--model", help="what it must be; recognised when not given")
    command.add_argument("--labels", help="a file of class names, stored in the output: lines, JSON, CSV, ...")
    _weights_options(command)
    _json_flag(command)

    command = verb("evaluate", "top-1, top-5 and latency of a checkpoint on a data set")
    command.add_argument("data", help="a folder: imgs/ + val_list.txt, or a folder for each class")
    _model_options(command)
    command.add_argument("-o", "--output", help="folder for result.json, predictions.jsonl and evaluate.log")
    command.add_argument("--list", dest="list_file", help="another list file: an image name and a label on each line")
    command.add_argument("--split", metavar="NAME", help="another part of the data: test, train, ... (default val)")
    command.add_argument("--batch-size", type=int, help="images a call of the network (CPU: 1, GPU: 64)")
    command.add_argument("--workers", type=int, help="processes (default: one for each core)")
    command.add_argument("--limit", type=int, help="only the first N images; the result is stamped PARTIAL")
    command.add_argument(
        "--unreadable", choices=("stop", "wrong"), default="stop", help="what an unreadable image does"
    )
    command.add_argument("--resume", action="store_true", help="go on with the unfinished evaluation in --output")
    _json_flag(command)

    command = verb("predict", "the top classes of images")
    command.add_argument("images", nargs="+", help="files, and folders that are searched through; -: standard input")
    _model_options(command)
    command.add_argument("--topk", type=int, default=5, help="classes for each image (default 5)")
    command.add_argument("--batch-size", type=int, default=1, help="images a call of the network (default 1)")
    _json_flag(command)

    command = verb("explain", "what in images speaks for a class (Grad-CAM): a picture of each")
    command.add_argument("images", nargs="+", help="files, and folders that are searched through")
    command.add_argument("--model", help="a name of `mobilenext list`, or model.tag; recognised from the weights")
    command.add_argument("--weights", help="a file, or a tag of the model's card (default: the card's first)")
    command.add_argument("--class", dest="class_id", type=int, metavar="ID", help="default: the one it puts first")
    command.add_argument("--block", metavar="N|NAME", help="whose map (default: the last with 7 x 7 cells; or: last)")
    command.add_argument("--topk", type=int, default=5, help="classes in the picture (default 5)")
    command.add_argument("-o", "--output", required=True, help="a .png or .svg for one image, a folder for several")
    _weights_options(command)
    _json_flag(command)

    command = verb("diagram", "a network or one of its blocks, drawn from itself as SVG")
    command.add_argument("--model", required=True, help="a name of `mobilenext list`")
    command.add_argument("--num-classes", type=int, default=1000, help="of the classifier (default 1000)")
    command.add_argument("--identity-divisor", type=int, default=1, help="the shortcut's share of the channels is 1/N")
    command.add_argument("--image-size", type=int, default=224, help="pixels (default 224)")
    command.add_argument("--block", metavar="N|NAME", help="only this one, with every layer")
    command.add_argument("-o", "--output", required=True, metavar="FILE.svg")
    _json_flag(command)

    command = verb("train", "train a network: from scratch, from given weights, or on from where a run stopped")
    command.add_argument("data", nargs="?", help="imgs/ + train_list.txt + val_list.txt, or train/ and val/ of folders")
    command.add_argument("-o", "--output", help="folder of the run, new")
    command.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    command.add_argument("--model", help="a name of `mobilenext list`; with --weights it may be left out")
    command.add_argument("--recipe", help="a name of `mobilenext recipes` (default released, with weights finetune)")
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another value of the recipe, such as freeze=backbone or patience=8; `recipes NAME` lists all fields",
    )
    command.add_argument("--weights", help="a file or a tag to begin with (default: freshly initialised)")
    _section_options(command)
    command.add_argument("--num-classes", type=int, help="default: the data's; a fresh classifier where weights differ")
    command.add_argument("--identity-divisor", type=int, help="the shortcut's share of the channels is 1/N")
    command.add_argument("--seed", type=int, help="of initialisation, order, augmentation and dropout (default 0)")
    command.add_argument("--train-list", metavar="FILE", help="another list file of the training images")
    command.add_argument("--val-list", metavar="FILE", help="another list file of the validation images")
    command.add_argument(
        "--val-split",
        metavar="NAME|SHARE",
        help="what validates: another part (test), or a share of the training images (0.2), drawn by class",
    )
    command.add_argument("--labels", help="a file of class names, stored in the weights: lines, JSON, CSV, ...")
    command.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    command.add_argument("--threads", type=int, help="of each process (CPU; default 1)")
    command.add_argument("--workers", type=int, help="processes that read images (default: none for small data)")
    command.add_argument(
        "--max-unreadable",
        type=int,
        default=0,
        metavar="N",
        help="so many unreadable training images may be left out",
    )
    command.add_argument("--log-every", type=int, default=20, metavar="STEPS", help="a line of the log (default 20)")
    command.add_argument(
        "--save-every", type=float, default=600, metavar="SECONDS", help="a checkpoint within an epoch (default 600)"
    )
    command.add_argument(
        "--to-static", action="store_true", help="compile the network to a graph by paddle.jit (slower on a CPU)"
    )
    command.add_argument("--visualdl", action="store_true", help="scalars for VisualDL in RUN/visualdl, too")
    _json_flag(command)

    command = verb("recipes", "the recipes of `mobilenext train`: source, expected accuracy, cost, fields")
    command.add_argument("name", nargs="?", help="one of them, with all its fields")
    _json_flag(command)

    command = verb("compare", "training runs side by side: a table, and curves with --output")
    command.add_argument("runs", nargs="+", metavar="RUN", help="folders of `mobilenext train`")
    command.add_argument("-o", "--output", metavar="FILE", help="a picture of the curves, .png or .svg")
    _json_flag(command)

    command = verb("export", "weights to a folder that other programs run, compared with Paddle")
    command.add_argument("--model", help="a name of `mobilenext list`, or model.tag; recognised from the weights")
    command.add_argument("--weights", help="a file, or a tag of the model's card (default: the card's first)")
    command.add_argument("-o", "--output", required=True, help="the folder; an earlier export in it is replaced")
    command.add_argument(
        "--format", default="onnx", help="onnx (default), paddle, paddle-legacy, openvino, ncnn or tflite"
    )
    command.add_argument("--images", nargs="+", help="files and folders to compare on (default: scikit-learn's photos)")
    _weights_options(command)
    _json_flag(command)

    command = verb("quantize", "an int8 folder, with what it costs in accuracy and gains in speed")
    command.add_argument("--model", help="a name of `mobilenext list`, or model.tag; recognised from the weights")
    command.add_argument("--weights", help="a file, or a tag of the model's card (default: the card's first)")
    command.add_argument("--exported", metavar="DIR", help="a float32 folder of `mobilenext export --format onnx`")
    command.add_argument("--onnx", metavar="FILE", help="any classifier in ONNX, with its --mean, --std, --image-size")
    _foreign_options(command)
    command.add_argument("-o", "--output", required=True, help="the folder; an earlier export in it is replaced")
    command.add_argument("--calibration", required=True, metavar="DATA", help="a data set, or a folder of images")
    command.add_argument("--calibration-list", metavar="FILE", help="another list file of it")
    command.add_argument("--calibration-images", type=int, default=256, help="so many at most (default 256)")
    command.add_argument("--data", help="the data set to measure on (default: the other images of --calibration)")
    command.add_argument("--list", dest="list_file", help="another list file of --data")
    command.add_argument("--max-drop", type=float, default=1.0, help="points of top-1 that may be lost (default 1.0)")
    command.add_argument("--keep-float", nargs="+", default=[], metavar="LAYER", help="layers that stay float32")
    _weights_options(command)
    _json_flag(command)

    command = verb("bench", "latency of models and runtimes, interleaved in one run")
    command.add_argument("--model", nargs="+", default=[], help="names of `mobilenext list`, or model.tag")
    command.add_argument("--weights", help="a file, or a tag; without it a model is freshly initialised")
    command.add_argument("--exported", nargs="+", default=[], metavar="DIR", help="folders of `mobilenext export`")
    command.add_argument("--onnx", nargs="+", default=[], metavar="FILE", help="ONNX files")
    command.add_argument(
        "--runtime", nargs="+", default=["auto"], help=f"auto, all, NAME:ENGINE or some of {RUNTIME_NAMES}"
    )
    command.add_argument("--engine", default="auto", help="of paddle-inference: openvino, onednn or native")
    command.add_argument("--precision", help="fp32, bf16 or int8 (default: that of the files)")
    command.add_argument("--threads", type=_numbers, default=(1,), metavar="N,N", help="each of them (default 1)")
    command.add_argument("--batch-size", type=_numbers, default=(1,), metavar="N,N", help="each of them (default 1)")
    command.add_argument("--identity-divisor", type=_numbers, default=(1,), metavar="N,N", help="each of them")
    command.add_argument("--image-size", type=int, help="pixels (default 224, or that of the weights)")
    command.add_argument("--samples", type=int, default=50, help="timed calls of each row (default 50, at least 30)")
    command.add_argument("-o", "--output", help="folder for bench.json, bench.md and bench.png")
    _json_flag(command)

    command = verb("report", "evaluations, training runs and benches as one self-contained HTML page")
    command.add_argument("runs", nargs="+", metavar="RUN", help="folders that evaluate, train and bench wrote")
    command.add_argument("-o", "--output", default="report.html", metavar="FILE", help="default report.html")
    command.add_argument("--data", metavar="FOLDER", help="the images that were evaluated, for thumbnails of mistakes")
    command.add_argument(
        "--weights", action="append", default=[], metavar="FILE", help="that were evaluated, for heat maps; repeat it"
    )

    command = verb("check-data", "read a data set's list and decode every image")
    command.add_argument("data")
    command.add_argument("--list", dest="list_file", help="another list file")
    command.add_argument("--split", metavar="NAME", help="another part of the data: test, train, ... (default val)")
    command.add_argument("--num-classes", type=int, help="labels must be below it (1000 compares with ImageNet too)")
    command.add_argument("--workers", type=int, help="processes (default: one for each core)")
    command.add_argument("--no-decode", action="store_true", help="check the list only")
    _json_flag(command)

    command = verb("quickstart", "evaluate the bundled model on handwritten digits; needs no data")
    command.add_argument("-o", "--output", default="runs/quickstart", help="folder (default runs/quickstart)")
    command.add_argument("--workers", type=int, help="processes (default: one for each core)")
    _json_flag(command)

    command = verb("serve", "a demo server: a page, and images in, classes and heat maps out over HTTP")
    command.add_argument("--model", action="append", default=[], metavar="NAME", help="model or model.tag; repeat it")
    command.add_argument("--weights", help="a file, or a tag of the one model's card")
    _section_options(command)
    command.add_argument(
        "--exported", action="append", default=[], metavar="DIR", help="of `mobilenext export`; repeat it"
    )
    command.add_argument("--onnx", action="append", default=[], metavar="FILE", help="an ONNX classifier; repeat it")
    _foreign_options(command)
    _preprocessing_options(command, "preprocessing of the models that do not say theirs: ONNX, Paddle Inference")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this computer only)")
    command.add_argument("--port", type=int, default=8080, help="0 takes one that is free (default 8080)")
    command.add_argument("--runtime", default="auto", help=f"auto (the fastest that works), {RUNTIME_NAMES}")
    command.add_argument("--threads", type=int, default=1, help="of each copy of a network (default 1)")
    command.add_argument("--copies", type=int, help="of each network (default: one for each --threads cores)")
    command.add_argument("--max-body-mb", type=float, default=10, metavar="MB", help="of an upload (default 10)")
    command.add_argument(
        "--formats", default="AVIF,BMP,GIF,JPEG,PNG,TIFF,WEBP", metavar="LIST",
        help="of images that are read; others there are: ICO, JPEG2000, PPM (default: %(default)s)",
    )  # fmt: skip
    command.add_argument("--max-megapixels", type=float, default=50, metavar="MP", help="of an image (default 50)")
    command.add_argument("--max-concurrency", type=int, default=96, metavar="N", help="predictions inside (default 96)")
    command.add_argument(
        "--max-per-client", type=int, metavar="N", help="of them from one address (default: three quarters)"
    )
    command.add_argument("--max-batch", type=int, default=1, metavar="N", help="images a call of a network (default 1)")
    command.add_argument("--timeout", type=float, default=10, metavar="SECONDS", help="to upload, and to answer")
    command.add_argument(
        "--allow-host", action="append", metavar="NAME", help="another name that is answered, *.example.org; repeat it"
    )
    command.add_argument(
        "--trusted-proxy", action="append", default=[], metavar="ADDRESS",
        help="address or network of a proxy whose forwarded addresses and names count; repeat it",
    )  # fmt: skip
    command.add_argument("--root-path", default="", metavar="PATH", help="where a proxy shows the server, /models")
    command.add_argument(
        "--allow-origin", action="append", default=[], metavar="ORIGIN",
        help="another site whose pages may ask, https://app.example.org; repeat it",
    )  # fmt: skip

    command = verb("info", "versions, processor and other facts that a result depends on")
    _json_flag(command)

    for name in MOVED:
        # No word can begin with this prefix: all of them, --help included, are passed on and ignored. Not listed.
        moved = verbs.add_parser(name, prefix_chars="\0", add_help=False)
        moved.add_argument("words", nargs="*")
        moved.set_defaults(verb=name)
    return top


def _json_flag(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--json", action="store_true", help="print JSON on standard output, all else on standard error"
    )


def _section_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--use", choices=("auto", "raw", "ema"), help="which weights of a checkpoint (auto: EMA if any)"
    )
    command.add_argument(
        "--section", metavar="PATH", help="key path of the weights in a checkpoint that has several, such as model_ema"
    )


def _weights_options(command: argparse.ArgumentParser) -> None:
    _section_options(command)
    command.add_argument("--identity-divisor", type=int, help="the shortcut's share of the channels is 1/N")
    _preprocessing_options(command)


def _preprocessing_options(
    command: argparse.ArgumentParser, title: str = "preprocessing (default: that of the weights)"
) -> None:
    group = command.add_argument_group(title)
    group.add_argument("--image-size", type=int, help="side of the crop, pixels")
    group.add_argument("--crop-pct", type=float, help="crop side / short side")
    group.add_argument("--interpolation", help="nearest, box, bilinear, hamming, bicubic or lanczos")
    for option in TRIPLES:
        text = f"{option[2:]} of R, G and B on a scale of 0 to 1, such as 0.5,0.5,0.5"
        group.add_argument(option, nargs=3, type=float, metavar=("R", "G", "B"), help=text)


def _foreign_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--labels", metavar="FILE", help="the names of the classes: lines, JSON, CSV, ...")
    command.add_argument("--output-name", metavar="NAME", help="the output with the scores, where a model has several")


def _model_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", help="a name of `mobilenext list`, or model.tag; recognised from the weights")
    command.add_argument("--weights", help="a file, or a tag of the model's card (default: the card's first)")
    command.add_argument(
        "--exported", metavar="DIR", help="a folder of `mobilenext export`, or any Paddle Inference model, likewise"
    )
    command.add_argument("--onnx", metavar="FILE", help="any classifier in ONNX, with its --mean, --std, --image-size")
    _foreign_options(command)
    _weights_options(command)
    command.add_argument("--threads", type=int, help="of each process (default 1)")
    command.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    command.add_argument("--runtime", default="auto", help=f"auto (the fastest that works), {RUNTIME_NAMES}")
    command.add_argument(
        "--engine", default="auto", help="of paddle-inference: openvino, onednn, native; gpu, tensorrt"
    )
    command.add_argument("--precision", help="fp32, bf16 or int8 (default: that of the files)")


def _numbers(text: str) -> tuple[int, ...]:
    """``1,2`` to (1, 2)."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}; expected whole numbers with commas between them, such as 1,2")
    return tuple(int(part) for part in text.split(","))
