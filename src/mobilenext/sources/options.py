"""The keyword options that name a network and how it is run, the same in every call that takes them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

Labels = str | os.PathLike[str] | Sequence[str]  # a file of class names, or the names


class Source(TypedDict, total=False):
    """Which network, and what its user says about it."""

    model: str | None  # name, or ``model.tag``; recognized from the weights when not given
    weights: str | os.PathLike[str] | None  # a file, a tag of the model's card; None: the card's first
    exported: str | os.PathLike[str] | None  # in place of them, a folder made by ``mobilenext export``
    onnx: str | os.PathLike[str] | None  # or any ONNX file
    use: str | None  # raw | ema | auto
    section: str | None  # key path of the weights in a checkpoint that has several
    identity_divisor: int | None  # replaces that of the weights
    preprocessing: Mapping[str, Any] | None  # fields that replace those of the weights
    labels: Labels | None
    output_name: str | None  # the output of a foreign model that has the scores


class Execution(TypedDict, total=False):
    """How the network is run; the predictions of a float32 network do not depend on it, but for rounding."""

    device: str  # auto | cpu | gpu
    runtime: str  # auto, or a key of ``mobilenext.runtime.RUNTIMES``
    engine: str  # of Paddle Inference on a CPU
    precision: str | None  # fp32 | bf16 | int8; None: what the files are
    threads: int | None  # of each process
    workers: int | None  # processes
    batch_size: int | None  # images of one call


class Options(Source, Execution, total=False):
    """Both, as the public calls take them: ``evaluate(data, weights=..., threads=1)``."""


def split_options(options: Options, function: str) -> tuple[Source, Execution]:
    """Sort the keywords of a call into the two records.

    Raises:
        TypeError: a keyword that `function` does not have, as Python raises it.
    """
    source: dict[str, Any] = {}
    execution: dict[str, Any] = {}
    for name, value in options.items():
        if name in Source.__annotations__:
            source[name] = value
        elif name in Execution.__annotations__:
            execution[name] = value
        else:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    return Source(**source), Execution(**execution)  # type: ignore[typeddict-item]
