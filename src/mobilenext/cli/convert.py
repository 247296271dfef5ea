"""``convert``: a checkpoint in another file format or with another framework's names."""

from __future__ import annotations

import argparse
import logging

from mobilenext.cli.options import (
    IDENTITY_DIVISOR,
    JSON,
    LABELS,
    MODEL,
    OUTPUT,
    SECTION,
    USE,
    add_flags,
    add_preprocessing,
    preprocessing_of,
    print_json,
)  # fmt: skip
from mobilenext.cli.verb import Verb


def _declare(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "source", metavar="SOURCE", help="checkpoint: a .pth, .pth.tar, .pdparams or .safetensors file, or model.tag"
    )
    add_flags(command, OUTPUT(required=True, metavar="FILE", help="file to write, .safetensors or .pdparams"))
    command.add_argument(
        "--to",
        choices=("paddle", "pytorch"),
        default="paddle",
        help="framework whose names and layouts are written (default: paddle)",
    )
    command.add_argument(
        "--storage",
        choices=("float32", "float16"),
        default="float32",
        help="type of the stored values; float16 takes half of the room and is widened on loading (default: float32)",
    )
    labels = LABELS(help="file of class names to store in the output: lines, JSON, CSV, ...")
    add_flags(
        command,
        MODEL(help="network that the checkpoint must hold (default: recognized)"),
        labels,
        USE,
        SECTION,
        IDENTITY_DIVISOR,
    )
    add_preprocessing(command)
    add_flags(command, JSON)


def _convert(options: argparse.Namespace) -> int:
    from mobilenext.data.labels import read_labels
    from mobilenext.weights.convert import convert_checkpoint
    from mobilenext.weights.pretrained import source_of

    certificate = convert_checkpoint(
        source_of(options.source),
        options.output,
        to=options.to,
        storage=options.storage,
        model=options.model,
        use=options.use,
        section=options.section,
        identity_divisor=options.identity_divisor,
        preprocessing=preprocessing_of(options),
        labels=read_labels(options.labels) if options.labels else None,
    )
    for note in certificate["notes"]:
        logging.info("%s", note)
    if options.json:
        print_json(certificate)
        return 0
    print(
        f"{certificate['model']}, {certificate['num_classes']} classes, identity divisor "
        f"{certificate['identity_divisor']}: {len(certificate['tensors'])} tensors, {len(certificate['dropped'])} "
        f"counters dropped\nwritten: {options.output} ({options.to} names) and {options.output}.certificate.json"
    )
    return 0


CONVERT = Verb(
    "convert", "convert a PyTorch or Paddle checkpoint to .safetensors or .pdparams, or back", _declare, _convert,
    (
        "convert model_best.pth.tar -o mobilenext_x1_0.safetensors",
        "convert mobilenext_x1_0.in1k -o mobilenext_x1_0.safetensors     # downloads the authors' checkpoint",
        "convert mobilenext_x1_0.safetensors -o pytorch.safetensors --to pytorch",
    ),
)  # fmt: skip
