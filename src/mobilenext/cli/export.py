"""``export`` and ``quantize``: folders that other programs run."""

from __future__ import annotations

import argparse
import logging

from mobilenext.cli.options import (
    DATA_OPTION,
    EXPORTED,
    IDENTITY_DIVISOR,
    IMAGE_FILES,
    JSON,
    LABELS,
    LIST,
    MODEL,
    ONNX,
    OUTPUT,
    OUTPUT_NAME,
    SECTION,
    SPLIT,
    USE,
    WEIGHTS,
    Flag,
    add_flags,
    add_preprocessing,
    print_report,
    source_of,
    values_of,
)  # fmt: skip
from mobilenext.cli.verb import Verb

FOLDER = OUTPUT(required=True, help="folder to write; an earlier export in it is replaced")


def _declare_export(command: argparse.ArgumentParser) -> None:
    add_flags(command, MODEL, WEIGHTS, FOLDER)
    command.add_argument(
        "--format",
        default="onnx",
        metavar="FORMAT",
        help="file format: onnx (default), paddle, paddle-legacy, openvino, ncnn, tflite or mnn",
    )
    add_flags(
        command,
        IMAGE_FILES(
            default=None,
            help="images on which the export is compared with Paddle (default: scikit-learn's photos)",
        ),
        USE,
        SECTION,
        IDENTITY_DIVISOR,
    )
    add_preprocessing(command)
    add_flags(command, JSON)


def _export(options: argparse.Namespace) -> int:
    from mobilenext.export.tables import parity_lines
    from mobilenext.exporting import export_model
    from mobilenext.machine.console import progress_bar

    with progress_bar() as progress:
        parity = export_model(
            options.output, progress=progress, **values_of(options, "format", "images"), **source_of(options)
        )
    print_report(parity_lines(parity), options, parity)
    _report_written(options.output)
    return 0


def _declare_quantize(command: argparse.ArgumentParser) -> None:
    exported = EXPORTED(help="float32 folder written by `mobilenext export --format onnx`")
    add_flags(command, MODEL, WEIGHTS, exported, ONNX, LABELS, OUTPUT_NAME, FOLDER)
    command.add_argument(
        "--calibration", required=True, metavar="DATA", help="calibration images: a data set, or a folder of images"
    )
    command.add_argument(
        "--calibration-list", metavar="FILE", help="list file of --calibration (default: val_list.txt)"
    )
    add_flags(
        command,
        Flag(
            "--num-calibration-images", earlier="--calibration-images", dest="calibration_images", type=int,
            default=256, metavar="N", help="use at most this many images of --calibration (default: 256)",
        ),
        DATA_OPTION(help="data set to measure on (default: the other images of --calibration; a detector requires it)"),
        LIST(help="list file of --data (default: val_list.txt)"),
        SPLIT,
    )  # fmt: skip
    command.add_argument(
        "--max-drop",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="loss of top-1 (or mAP) that is accepted, in points (default: 1.0)",
    )
    add_flags(command, Flag("--keep-float", metavar="LAYER", help="layers to keep in float32").several())
    add_flags(command, USE, SECTION, IDENTITY_DIVISOR)
    add_preprocessing(command)
    add_flags(command, JSON)


def _quantize(options: argparse.Namespace) -> int:
    from mobilenext.machine.console import progress_bar
    from mobilenext.quantization.quantize import quantize_model
    from mobilenext.quantization.tables import quantization_lines

    arguments = values_of(
        options, "calibration", "calibration_list", "calibration_images", "data", "list_file", "split",
        "max_drop", "keep_float",
    )  # fmt: skip
    with progress_bar("correct", unit="") as progress:  # images, then layers, then images
        report = quantize_model(options.output, progress=progress, **arguments, **source_of(options))
    print_report(quantization_lines(report), options, report)
    _report_written(options.output)
    return 0


def _report_written(output: str) -> None:
    logging.info("written: %s; use it: mobilenext evaluate DATA --exported %s", output, output)


EXPORT = Verb(
    "export", "export weights to a folder for other programs, and compare it with Paddle", _declare_export, _export,
    (
        "export --weights mobilenext_x1_0.safetensors --format onnx -o exported/x1_0",
        "export --model mobilenext_x0_35.digits --format tflite --images photos/ -o exported/digits",
    ),
)  # fmt: skip
QUANTIZE = Verb(
    "quantize", "export an int8 folder, and measure its accuracy and speed", _declare_quantize, _quantize,
    (
        "quantize --weights mobilenext_x1_0.safetensors --calibration DATA -o int8/x1_0",
        "quantize --exported exported/x1_0 --calibration IMAGES --data DATA --max-drop 0.5 -o int8/x1_0",
    ),
)  # fmt: skip
