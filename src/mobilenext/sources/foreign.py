"""Classifiers of other projects: ONNX files and Paddle Inference models, which say nothing about preprocessing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mobilenext.data.labels import read_labels
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import DataError, UsageError
from mobilenext.files import sha256_of
from mobilenext.machine.packages import require
from mobilenext.runtime import RuntimeSpec, open_runtime
from mobilenext.runtime.foreign import ForeignNetwork, ImageInput, Recognized, image_input, recognize
from mobilenext.runtime.paddle_files import parameters_of
from mobilenext.runtime.self_check import failure
from mobilenext.sources.find import Subject
from mobilenext.sources.options import Labels
from mobilenext.weights.record import WeightsRecord

HOW_TO_NORMALIZE = (
    "such as --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 (ImageNet's usual ones), --mean 0.5,0.5,0.5 --std "
    "0.5,0.5,0.5 (-1 to 1), --mean 0,0,0 --std 1,1,1 (0 to 1) or --mean 0,0,0 --std "
    "0.0039215686,0.0039215686,0.0039215686 (0 to 255)"
)


@dataclass(frozen=True)
class ReadModel:
    """A model of another project, after it was run on a few pictures."""

    record: WeightsRecord
    recognized: Recognized
    notes: tuple[str, ...]
    files: Mapping[str, str]  # beside the model file, and their sha256


def format_of(model: Subject) -> str:
    """Return the key of ``mobilenext.export.FORMATS`` for a model of another project."""
    if model.kind == "onnx":
        return "onnx"
    return "paddle" if model.path.suffix == ".json" else "paddle-legacy"


def names_of(labels: Labels | None, num_classes: int) -> tuple[str, ...] | None:
    """Return the names of the classes, from a file or as they are.

    Raises:
        DataError: the file cannot be read, or has names for another number of classes.
        UsageError: another number of names.
    """
    if labels is None:
        return None
    if isinstance(labels, str | os.PathLike):
        return read_labels(Path(labels), num_classes)
    names = tuple(map(str, labels))
    if len(names) != num_classes:
        raise UsageError(f"{len(names)} labels were given for {num_classes} classes; expected one for each")
    return names


def read_model(model: Subject) -> ReadModel:
    """Open a model of another project, and find out how it is run.

    Raises:
        DataError: it cannot be opened, or is no classifier of images.
        UsageError: image size, mean or std is missing: only its user knows them.
        MissingDependency: what opens it is not installed.
    """
    path = model.path
    files = {name: sha256_of(path.parent / name) for name in _files_beside(model)}
    network = _opened(model)
    image = image_input(path, network)
    preprocessing, assumed = _preprocessing(model, image)
    hint = None if model.labels is None or isinstance(model.labels, str | os.PathLike) else len(model.labels)
    recognized = recognize(
        path, network, image, preprocessing, model.output, hint, model.timed_only, _softmax_of(model)
    )
    num_classes = recognized.logits.shape[1]
    own = sha256_of(path)
    record = WeightsRecord(
        model=path.stem if model.kind == "onnx" else path.parent.resolve().name,
        num_classes=num_classes,
        identity_divisor=1,
        preprocessing=preprocessing,
        labels=names_of(model.labels, num_classes),
        path=path,
        sha256=_sha256_of_all({path.name: own, **files}),
        source_name=path.name,
        source_sha256=own,
        card=None,
        kind="raw",
        notes=(),
    )
    return ReadModel(record, recognized, (*(f"{path.name}: {note}" for note in recognized.notes), *assumed), files)


def _files_beside(model: Subject) -> list[str]:
    """Return the names of all other files that decide what it computes."""
    if model.kind != "onnx":
        return [parameters_of(model.path).name]
    require(["onnxruntime", "onnx"], "onnx", "an ONNX file")
    from mobilenext.runtime.onnx_files import external_files

    return external_files(model.path)


def _softmax_of(model: Subject) -> Callable[[str], bool]:
    """Return a function that tells whether an output comes out of a softmax; only ONNX files are read for that."""
    if model.kind != "onnx":
        return lambda output: False
    from mobilenext.runtime.onnx_files import ends_in_softmax

    return lambda output: ends_in_softmax(model.path, output)


def _sha256_of_all(files: Mapping[str, str]) -> str:
    """Return the checksum of one file; of several, that of the lines which ``sha256sum FILE FILE`` prints."""
    if len(files) == 1:
        return next(iter(files.values()))
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in files.items()).encode()).hexdigest()


def _opened(model: Subject) -> ForeignNetwork:
    """Open it with the reference of its format: there is no network of ours to compare with."""
    runtime, engine = ("onnxruntime", "") if model.kind == "onnx" else ("paddle-inference", "native")
    spec = RuntimeSpec(runtime, engine, "cpu", 1, model.path.parent, model.path.name)
    try:
        return cast(ForeignNetwork, open_runtime(spec))
    except (RuntimeError, ValueError, SystemError) as error:  # what C++ errors are raised as
        raise DataError(
            f"{model.path}: Paddle Inference cannot open it with its parameters: {failure(error)}; they may be cut "
            "short: export them again"
        ) from error


def _preprocessing(model: Subject, image: ImageInput) -> tuple[Preprocessing, list[str]]:
    """Return how images are prepared, and a sentence on what had to be assumed.

    Raises:
        UsageError: a field that cannot be assumed is missing, or contradicts the model.
    """
    path, fields = model.path, dict(model.preprocessing)
    if image.image_size is not None and fields.setdefault("image_size", image.image_size) != image.image_size:
        raise UsageError(f"image size {fields['image_size']} was asked for, but {path} takes {image.image_size}")
    if image.dtype == "uint8":
        if "mean" in fields or "std" in fields:
            raise UsageError(
                f"mean and std were given, but {path} takes pixels as they are (uint8) and normalizes them itself: "
                "leave out --mean and --std"
            )
        fields |= {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}  # the numbers 0 to 255
    missing = [name for name in ("image_size", "mean", "std") if name not in fields]
    if missing and not model.timed_only:
        options = " and ".join("--" + name.replace("_", "-") for name in missing)
        how = f", {HOW_TO_NORMALIZE}" if {"mean", "std"} & set(missing) else ""
        beside = path.with_name("inference.yml")
        unread = f"; {beside.name} beside it, which is not read, may say" if beside.is_file() else ""
        raise UsageError(f"{path} does not say how its images are prepared: give {options}{how}{unread}")
    preprocessing = Preprocessing().replace(**fields)
    guessed = {
        "crop_pct": f"crop_pct {preprocessing.crop_pct:g}",
        "interpolation": f"interpolation {preprocessing.interpolation}",
    }
    assumed = [text for name, text in guessed.items() if name not in fields]
    return preprocessing, [f"{path.name}: {' and '.join(assumed)} assumed, as it does not say"] if assumed else []
