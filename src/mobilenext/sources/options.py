"""The keyword options of a network, of how and on which images it is run, and of its answers: the same in every call.

A public function takes them as ``**options: Unpack[Options]`` and sorts them with `split_options`. ``Unpack`` is
imported for type checking only: Python 3.10 does not have it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, TypeVar, cast

from mobilenext.errors import refuse_unknown

Labels = str | os.PathLike[str] | Sequence[str]  # a file of class names, or the names


class WeightsSource(TypedDict, total=False):
    """Which weights of which network, and what their user says about them."""

    model: str | None  # name, or ``model.tag``; recognized from the weights when not given
    weights: str | os.PathLike[str] | None  # a file, a tag of the model's card; None: the card's first
    use: str | None  # raw | ema | auto
    section: str | None  # key path of the weights in a checkpoint that has several
    identity_divisor: int | None  # replaces that of the weights
    preprocessing: Mapping[str, Any] | None  # fields that replace those of the weights


class Source(WeightsSource, total=False):
    """Which network, and what its user says about it."""

    exported: str | os.PathLike[str] | None  # in place of weights, a folder made by ``mobilenext export``
    onnx: str | os.PathLike[str] | None  # or any ONNX file
    labels: Labels | None
    output_name: str | None  # the output of a foreign model that has the scores


class Execution(TypedDict, total=False):
    """How the network is run; the predictions of a float32 network depend on it only by rounding."""

    device: str  # auto | cpu | gpu
    runtime: str  # auto, or a key of ``mobilenext.runtime.RUNTIMES``
    engine: str  # of Paddle Inference on a CPU
    precision: str | None  # fp32 | bf16 | int8; None: that of the files
    threads: int | None  # of each process
    batch_size: int | None  # images of one call


class Options(Source, Execution, total=False):
    """Both, as the public calls take them: ``predict(images, weights=..., threads=1)``."""


class Selection(TypedDict, total=False):
    """Which images of a data set."""

    list_file: str | os.PathLike[str] | None  # another list than ``val_list.txt``
    split: str | None  # another part than the validation, such as ``test``
    limit: int | None  # only the first images; the result is stamped as partial


class Scoring(TypedDict, total=False):
    """What decides the answers that are scored; a task takes those that mean something to it (`Task.options_of`)."""

    score_threshold: float | None  # a detection needs a higher score; None: that of the network's form
    iou_threshold: float | None  # of two detections of a class that overlap by more, the better one stays; None: same
    max_detections: int | None  # of one image, the best; None: same
    clip: bool | None  # cut boxes at the edges of the image; None: in predictions, but not where they are scored
    flip: bool | None  # the network sees the mirrored image as well


class Answering(Scoring, total=False):
    """What the answer for an image holds; a task takes those that mean something to it."""

    topk: int | None  # classes, at most as many as there are; None: 5


class PredictionOptions(Options, Answering, total=False):
    """The options of ``predict``."""


class EvaluationOptions(Options, Selection, Scoring, total=False):
    """The options of ``evaluate``."""

    workers: int | None  # processes


_Record = TypeVar("_Record")


def take_options(record: type[_Record], options: dict[str, Any]) -> _Record:
    """Remove from `options` the keywords that belong to a record, and return them as that record."""
    return cast(_Record, {name: options.pop(name) for name in record.__annotations__ if name in options})


def split_options(options: Mapping[str, Any], function: str) -> tuple[Source, Execution]:
    """Sort the keywords of a call into the two records.

    Raises:
        TypeError: a keyword that `function` does not have, as Python raises it.
    """
    rest = dict(options)
    records = take_options(Source, rest), take_options(Execution, rest)
    refuse_unknown(rest, (), function)
    return records
