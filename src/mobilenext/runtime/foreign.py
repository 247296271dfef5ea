"""Recognize the form of a classifier of another project, from the declarations in its file and from its outputs.

A file often declares too little: dimensions without a name, a batch that only an inner reshape fixes, scores that are
probabilities. So the network is run on a few pictures, and its outputs decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mobilenext.arrays import Floats, Logits
from mobilenext.data.preprocessing import MAX_IMAGE_SIZE, Preprocessing
from mobilenext.errors import DataError, UsageError, nearest
from mobilenext.runtime.form import DTYPES, LARGEST_BATCH, LAYOUTS, Form
from mobilenext.runtime.self_check import failure, probe

LARGEST_INPUT = 1 << 28  # numbers of one call, 1 GiB in float32
FLOATING = ("float32", "float16", "float64")
# How far the sum of probabilities may be from 1, by the type of the output.
SUM_TOLERANCE = {"float32": 1e-3, "float64": 1e-3, "float16": 1e-2}

Scores = npt.NDArray[Any]


@dataclass(frozen=True)
class Declared:
    """One input or output, as the file declares it."""

    name: str
    dtype: str  # NumPy's name, or the file's own where there is none
    shape: tuple[int | None, ...] | None  # None: free, or not said

    def __str__(self) -> str:
        sides = "?" if self.shape is None else ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name} {self.dtype} [{sides}]"


class ForeignNetwork(Protocol):
    """An opened network whose form is not known yet."""

    def declared(self) -> tuple[Sequence[Declared], Sequence[Declared]]:
        """Return its inputs and its outputs."""

    def run(self, feed: Scores, outputs: Sequence[str]) -> list[Scores]:
        """Return some outputs for its one input; RuntimeError or ValueError: it cannot take this input."""


@dataclass(frozen=True)
class ImageInput:
    """The input of a network that takes images."""

    name: str
    dtype: str  # one of DTYPES
    batch: int | None
    layouts: tuple[str, ...]  # what its shape allows, the usual one first
    image_size: int | None  # None: free


@dataclass(frozen=True)
class Recognized:
    """A classifier, as it can be run."""

    input: str
    output: str
    form: Form
    logits: Logits  # [1, classes], of `probe`
    notes: tuple[str, ...]


def image_input(path: Path, network: ForeignNetwork) -> ImageInput:
    """Return what a network takes as an image.

    Raises:
        DataError: it takes something else, or images that are not square RGB in a type that is known here.
    """
    inputs, _ = network.declared()
    expected = "expected one input, square RGB images [N, 3, S, S] or [N, S, S, 3]"
    if len(inputs) != 1:
        raise DataError(f"{path} has the inputs {_listed(inputs)}; {expected}")
    (image,) = inputs
    if image.dtype not in DTYPES:
        raise DataError(f"{path} takes {image}; expected {', '.join(DTYPES[:-1])} or uint8 numbers: export it with one")
    shape = (None,) * 4 if image.shape is None else image.shape
    layouts = tuple(layout for layout in LAYOUTS if _allows(layout, shape, 3)) or tuple(
        layout for layout in LAYOUTS if _allows(layout, shape, None)
    )
    if not layouts:
        raise DataError(f"{path} takes {image}; {expected}")
    sides = {name: {layout: shape[layout.index(name)] for layout in layouts} for name in "HW"}
    size = next((sides[name][layouts[0]] for name in "HW" if sides[name][layouts[0]] is not None), None)
    if sides["H"][layouts[0]] not in (size, None) or sides["W"][layouts[0]] not in (size, None):
        raise DataError(f"{path} takes {image}, which is not square; {expected}")
    batch = shape[0] if layouts[0].startswith("N") else 1
    too_large = (batch or 1) > LARGEST_BATCH or (size or 1) > MAX_IMAGE_SIZE
    if too_large or (batch or 1) * 3 * (size or 1) ** 2 > LARGEST_INPUT:
        raise DataError(
            f"{path} takes {image}, too much for one call; expected images of up to {MAX_IMAGE_SIZE} pixels and calls "
            f"of up to {LARGEST_INPUT * 4 >> 30} GiB"
        )
    return ImageInput(image.name, image.dtype, batch, layouts, size)


def _allows(layout: str, shape: Sequence[int | None], channels: int | None) -> bool:
    return len(layout) == len(shape) and shape[layout.index("C")] == channels


def recognize(
    path: Path,
    network: ForeignNetwork,
    image: ImageInput,
    preprocessing: Preprocessing,
    output: str | None = None,
    num_classes: int | None = None,
    any_output: bool = False,
    ends_in_softmax: Callable[[str], bool] = lambda output: False,
) -> Recognized:
    """Run a network on a few pictures, and return what it takes and gives.

    Args:
        path: of the model, for messages.
        network: opened.
        image: of :func:`image_input`.
        preprocessing: normalizes the pictures.
        output: the name of the output with the scores; None: the one that can be scores of classes.
        num_classes: the number of classes, where it is known.
        any_output: take the first output that can be the scores.
        ends_in_softmax: asked where scores lie between 0 and 1 but, in 8 bits for one, do not add up to 1.

    Raises:
        DataError: it cannot be run on such images, or gives no scores of classes.
        UsageError: `output` is none of its outputs; several can be the scores.
    """
    _, outputs = network.declared()
    names = _floating(path, outputs, output)
    pictures = probes(preprocessing)
    problems: list[str] = []
    shapes = ""
    for form in _forms(image):
        try:
            answers = _answers(network, form, pictures, names)
        except (RuntimeError, ValueError, NotImplementedError) as error:  # what C++ errors are raised as
            problems.append(failure(error))
            continue
        scores = {name: rows for name in names if (rows := _scores(answers[name], form, len(pictures))) is not None}
        if scores:
            chosen = next(iter(scores)) if any_output else _chosen(path, scores, num_classes)
            kind, note = _kind(scores[chosen], partial(ends_in_softmax, chosen))
            form = Form(form.batch, form.layout, form.dtype, kind)
            notes = [*_input_notes(form, image), *_output_notes(chosen, outputs, answers[chosen][0]), *note]
            logits = form.logits(answers[chosen][0], form.batch or len(pictures))[:1]
            return Recognized(image.name, chosen, form, logits, tuple(notes))
        shapes = shapes or ", ".join(f"{name} {list(answers[name][0].shape)}" for name in names)
    if shapes:
        raise DataError(
            f"{path} gives {shapes} for {len(pictures)} images; expected scores of two or more classes for each, "
            "[N, classes]"
        )
    raise DataError(
        f"{path} cannot run an image of {preprocessing.image_size} pixels: {problems[0]}; another --image-size may be "
        "what it expects"
    )


def probes(preprocessing: Preprocessing) -> Floats:
    """Return four different pictures [4, 3, S, S], normalized: waves, noise, blurred noise, gray; always the same."""
    size = preprocessing.image_size
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (size, size, 3), np.uint8)
    cells = generator.integers(0, 256, (8, 8, 3), np.uint8)
    blocks = cells[np.arange(size) * 8 // size][:, np.arange(size) * 8 // size]
    gray = np.full_like(noise, 128)
    return np.concatenate([probe(preprocessing), preprocessing.normalize(np.stack([noise, blocks, gray]))])


def _floating(path: Path, outputs: Sequence[Declared], wanted: str | None) -> list[str]:
    """Return the outputs that can be scores; `wanted` alone, if it is named."""
    names = [output.name for output in outputs]
    if wanted is not None and wanted not in names:
        raise UsageError(f"{path} has no output {wanted!r}; it has {', '.join(names)}{nearest(wanted, names)}")
    able = [output.name for output in outputs if output.dtype in FLOATING and wanted in (None, output.name)]
    if able:
        return able
    if any("map" in output.dtype for output in outputs):
        why = "a table for each image, as scikit-learn's exporter writes (ZipMap); export it with zipmap=False"
    elif all(output.dtype.startswith(("int", "uint")) for output in outputs):
        why = "whole numbers, which are class ids (an argmax inside) or scores in 8 bits; export it with float32 scores"
    else:
        why = "no scores of classes, [N, classes] in float32"
    raise DataError(f"{path} gives {_listed(outputs)}: {why}")


def _forms(image: ImageInput) -> list[Form]:
    """Return the possible forms, the most likely first: a batch that is declared as free may be fixed to 1 inside."""
    return [
        Form(batch, layout, image.dtype)
        for layout in image.layouts
        for batch in ((image.batch,) if image.batch is not None else (None, 1))
    ]


def _answers(network: ForeignNetwork, form: Form, pictures: Floats, names: Sequence[str]) -> dict[str, list[Scores]]:
    """Return the arrays of each output, one for each call."""
    calls = [network.run(array, names) for array, _ in form.inputs(pictures)]
    return {name: [call[index] for call in calls] for index, name in enumerate(names)}


def _scores(answers: Sequence[Scores], form: Form, count: int) -> Scores | None:
    """Return scores [count, classes], unit axes aside, or None for an output of another shape."""
    images = form.batch or count
    rows = []
    for answer in answers:
        sides = [side for side in answer.shape if side != 1]
        if images > 1 and sides[:1] != [images]:
            return None
        classes = sides[1:] if images > 1 else sides
        if len(classes) != 1:
            return None
        rows.append(answer.reshape(images, -1))
    return np.concatenate(rows)[:count]


def _chosen(path: Path, scores: Mapping[str, Scores], num_classes: int | None) -> str:
    """Return the name of the output that holds the scores of the classes."""
    fitting = [name for name, rows in scores.items() if num_classes in (None, rows.shape[1])] or list(scores)
    if len(fitting) > 1:
        listed = ", ".join(f"{name} [N, {scores[name].shape[1]}]" for name in fitting)
        raise UsageError(f"{path} has several outputs that can be scores of classes: {listed}; name one: --output-name")
    return fitting[0]


def _kind(scores: Scores, ends_in_softmax: Callable[[], bool]) -> tuple[str, list[str]]:
    """Return ``logits`` or ``probabilities``, and a sentence where a user should know why."""
    rows = scores.astype(np.float64)  # [N, classes]
    tolerance = SUM_TOLERANCE[scores.dtype.name]
    if (rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1) <= tolerance).all():
        return "probabilities", [
            "its scores are not negative and add up to 1: a softmax is inside, they are taken as probabilities"
        ]
    if (rows <= tolerance).all() and (np.abs(np.exp(rows).sum(axis=1) - 1) <= tolerance).all():
        return "logits", ["its scores are logarithms of probabilities: their softmax is the probabilities"]
    if ((rows >= 0) & (rows <= 1 + tolerance)).all():
        if ends_in_softmax():
            return "probabilities", [
                "a softmax is inside, after which its scores were rounded: they are taken as probabilities"
            ]
        return "logits", [
            "its scores lie between 0 and 1 and do not add up to 1, as those of a sigmoid for each class do: the order "
            "of the classes is right, and probabilities and loss, which are of a softmax of them, say little"
        ]
    return "logits", []


def _input_notes(form: Form, image: ImageInput) -> list[str]:
    notes = []
    if form.batch == 1:
        inside = " inside, though its file does not say so" if image.batch is None else ""
        notes.append(f"its batch is fixed to 1{inside}: images go through it one at a time")
    elif form.batch:
        notes.append(
            f"its batch is fixed to {form.batch}: images go through it {form.batch} at a time; a batch with fewer is "
            "filled up with copies, whose answers are dropped"
        )
    if form.layout != "NCHW":
        channels = "last" if form.layout.endswith("C") else "first"
        notes.append(f"it takes images as [{', '.join(form.layout)}], with the channels {channels}")
    if form.dtype == "uint8":
        notes.append("it takes pixels of 0 to 255 as they are (uint8): what normalizes them is inside")
    elif form.dtype != "float32":
        notes.append(f"it takes {form.dtype} numbers")
    return notes


def _output_notes(name: str, outputs: Sequence[Declared], answer: Scores) -> list[str]:
    notes = []
    if len(outputs) > 1:
        notes.append(f"of its outputs {', '.join(output.name for output in outputs)}, {name} is taken for the scores")
    if answer.ndim != 2:
        notes.append(f"its output has the shape {list(answer.shape)}, of which axes of length 1 are left out")
    return notes


def _listed(values: Sequence[Declared]) -> str:
    return ", ".join(map(str, values)) or "none"
