"""Names and layouts: which tensor of a checkpoint is which tensor of a network.

The networks here carry the original's parameter names, so PyTorch and Paddle differ by two rules only, both of the
layer that owns the tensor and never of its shape:

* batch norm: ``running_mean`` and ``running_var`` are ``_mean`` and ``_variance`` in Paddle; PyTorch's
  ``num_batches_tracked``, a counter that evaluation does not use, has no counterpart;
* linear: PyTorch stores the weight as [out, in], Paddle as [in, out].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mobilenext.errors import WeightsError
from mobilenext.machine.packages import require_paddle
from mobilenext.models import FORMS, MODELS, Form, build_network
from mobilenext.models.cards import CELLS, VARIANT
from mobilenext.models.detector_form import LEVELS, MOST_RATIOS
from mobilenext.weights.candidates import candidates
from mobilenext.weights.own_names import CELL, OF_A_DETECTOR, are_of_detector, has_auxiliary

if TYPE_CHECKING:
    from paddle import nn

Array = npt.NDArray[np.generic]
COUNTER = "num_batches_tracked"
LEAVES = frozenset({"weight", "bias", "running_mean", "running_var", "_mean", "_variance", COUNTER})
_FEWEST_CHANNELS = 32  # of a map that a detector's head looks at: those of MobileNetV2 x0.35


@dataclass(frozen=True)
class Entry:
    """One tensor of a network under both conventions."""

    paddle_name: str
    pytorch_name: str
    paddle_shape: tuple[int, ...]
    transposed: bool  # between the conventions

    @property
    def counter(self) -> str | None:
        """Name of the PyTorch counter (num_batches_tracked) of this batch norm; None of a tensor that is no mean."""
        owner, _, leaf = self.pytorch_name.rpartition(".")
        return f"{owner}.{COUNTER}" if leaf == "running_mean" else None

    def name(self, dialect: str) -> str:
        return self.paddle_name if dialect == "paddle" else self.pytorch_name

    def shape(self, dialect: str) -> tuple[int, ...]:
        return self.paddle_shape[::-1] if self.transposed and dialect == "pytorch" else self.paddle_shape


def entries_of(network: nn.Layer, *, training: bool = False) -> tuple[Entry, ...]:
    """Return every tensor of the network's state dict, in order, with the rule of the layer that owns it.

    What only training uses (`Network.training_layers`) is left out, unless `training` asks for it.
    """
    from paddle import nn  # here, because who only asks for names need not wait for Paddle

    owners = dict(network.named_sublayers(include_self=True))
    entries = []
    training_only = () if training else tuple(f"{layer}." for layer in getattr(network, "training_layers", ()))
    for name, tensor in network.state_dict().items():
        if name.startswith(training_only):
            continue
        owner, _, leaf = name.rpartition(".")
        layer = owners[owner]
        if isinstance(layer, nn.BatchNorm2D):
            leaf = {"_mean": "running_mean", "_variance": "running_var"}.get(leaf, leaf)
        transposed = isinstance(layer, nn.Linear) and leaf == "weight"
        # A parameter of the network itself, such as the alphas of a search, has no owner in its name.
        entries.append(Entry(name, f"{owner}.{leaf}" if owner else leaf, tuple(tensor.shape), transposed))
    return tuple(entries)


def dialect_of(names: Iterable[str]) -> str:
    """Return ``"paddle"`` or ``"pytorch"``, by the names of the batch norm statistics.

    Raises:
        WeightsError: neither, or both.
    """
    dialects = {
        dialect
        for name in names
        for leaf, dialect in (("_mean", "paddle"), ("running_mean", "pytorch"))
        if name.rpartition(".")[2] == leaf
    }
    if len(dialects) != 1:
        raise WeightsError(
            f"these are not the weights of a network here: {'both Paddle and PyTorch' if dialects else 'no'} batch "
            "norm statistics are among the tensors; expected names such as features.0.1.running_mean (PyTorch) or "
            "features.0.1._mean (Paddle)"
        )
    return dialects.pop()


def _family(names: Iterable[str]) -> str:
    names = set(names)
    if are_of_detector(names):
        return f"ssdlite_{_family(name.removeprefix('backbone.') for name in names if name.startswith('backbone.'))}"
    if CELL in names:
        return CELLS
    if "_conv_stem.weight" in names:
        return "mobilenext_se"
    if "features.1.conv.0.weight" in names:
        return "mobilenext"
    if "features.1.conv.0.0.weight" in names:
        return "mobilenetv2"
    if "features.1.conv1.0.weight" in names:
        return VARIANT
    raise WeightsError(
        "these tensors belong to no network here; expected the names of MobileNeXt (features.1.conv.0.weight), "
        f"MobileNeXt-S/L (_conv_stem.weight), networks of cells ({CELL}) or torchvision's MobileNetV2 "
        "(features.1.conv.0.0.weight); found " + ", ".join(sorted(names)[:5])
    )


@lru_cache(maxsize=2 * len(MODELS))
def _entries_by_name(model: str, num_classes: int, form: Form | None, auxiliary: bool) -> tuple[Entry, ...]:
    """Return the entries of a network, which has to be built for it: kept."""
    require_paddle()
    from paddle import LazyGuard

    with LazyGuard():  # of names and shapes alone: no tensor is filled
        network = build_network(model, num_classes=num_classes, form=form, auxiliary=auxiliary)
    return entries_of(network, training=auxiliary)


@dataclass(frozen=True)
class Recognized:
    """What a checkpoint's names and shapes say about it."""

    model: str
    num_classes: int
    dialect: str
    entries: tuple[Entry, ...]
    form: Form | None = None  # of a detector, as far as shapes tell it


def recognize(shapes: Mapping[str, tuple[int, ...]]) -> Recognized:
    """Recognize the model, and its number of classes, that these tensors (name to shape) are the weights of.

    All names and all shapes must fit; ``num_batches_tracked`` of the network's batch norms is passed over.

    Raises:
        WeightsError: no model fits; for the nearest one, both sides of every difference are listed.
    """
    dialect = dialect_of(shapes)
    family = _family(shapes)
    form = None
    if family.startswith("ssdlite"):
        num_classes, form = _classes_and_form(shapes)
    else:
        num_classes = _classes(shapes, dialect, family)
    nearest: tuple[int, str, list[str]] | None = None
    for card in candidates(family, shapes):
        entries = _entries_by_name(card.name, num_classes, form, family == CELLS and has_auxiliary(shapes))
        counters = {entry.counter for entry in entries}
        named = {name: shape for name, shape in shapes.items() if name not in counters}
        problems = differences(entries, named, dialect)
        if not problems:
            return Recognized(card.name, num_classes, dialect, entries, form)
        if nearest is None or len(problems) < nearest[0]:
            nearest = len(problems), card.name, problems
    assert nearest is not None  # every family has models
    count, name, problems = nearest
    raise WeightsError(
        f"these tensors fit none of the models; the nearest is {name}, with {count} differences:\n"
        + table_of(problems)
        + "\nA checkpoint of another implementation or width cannot be converted."
    )


def _classes(shapes: Mapping[str, tuple[int, ...]], dialect: str, family: str) -> int:
    """Return the number of classes of a classifier, before a network with as many as a file claims is built."""
    head = {"mobilenext_se": "_fc.bias", CELLS: "classifier.bias"}.get(family, "classifier.1.bias")
    if len(shapes.get(head, ())) != 1:
        raise WeightsError(f"no classifier: expected a tensor {head} [classes], found {shapes.get(head, 'none')}")
    num_classes = shapes[head][0]
    weight_name = head.removesuffix("bias") + "weight"
    weight = shapes.get(weight_name, ())
    if num_classes < 1 or len(weight) != 2 or weight[0 if dialect == "pytorch" else 1] != num_classes:
        order = "[classes, channels]" if dialect == "pytorch" else "[channels, classes]"
        raise WeightsError(
            f"no classifier: expected {head} [classes] and {weight_name} {order} of the same classes, at least one; "
            f"found {[num_classes]} and {list(weight) if weight_name in shapes else 'none'}"
        )
    return num_classes


def _classes_and_form(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, Form]:
    """Return the number of classes of a detector, and a form that has its number of priors in a cell of each level.

    Both are read from the heads' last convolutions, all of which must agree before a network is built.
    """
    outputs: dict[str, list[int]] = {"cls_headers": [], "reg_headers": []}
    for name, counts in outputs.items():
        for level in range(LEVELS):
            layer = f"{OF_A_DETECTOR}{name}.{level}{'.conv.3' if level < LEVELS - 1 else ''}"
            weight, bias = shapes.get(f"{layer}.weight", ()), shapes.get(f"{layer}.bias", ())
            # With fewer channels, the network would be much larger than the file that asks for it.
            if len(weight) != 4 or weight[:1] != bias or weight[1] < _FEWEST_CHANNELS:
                raise WeightsError(
                    f"no head: expected {layer}.weight [outputs, channels, 1, 1], of {_FEWEST_CHANNELS} or more "
                    f"channels, and {layer}.bias [outputs]; found {list(weight) or 'none'} and {list(bias) or 'none'}"
                )
            counts.append(weight[0])
    priors = [count // 4 for count in outputs["reg_headers"]]
    columns = outputs["cls_headers"][0] // max(1, priors[0])
    expected = [[count * columns for count in priors], [count * 4 for count in priors]]
    even = all(count >= 2 and count % 2 == 0 and count <= 2 + 2 * MOST_RATIOS for count in priors)
    if columns < 2 or not even or [*outputs.values()] != expected:
        raise WeightsError(
            "no detector: expected for each level priors x (classes + 1) scores and priors x 4 regressions; "
            f"found {outputs['cls_headers']} and {outputs['reg_headers']}"
        )
    return columns - 1, form_with(priors)


def form_with(priors: Sequence[int]) -> Form:
    """Return the named form with so many priors in a cell of each level; or a record that stands for their number."""
    for form in FORMS.values():
        if form.priors_per_cell == tuple(priors):
            return form
    return Form(loss="multibox", ratios=tuple(tuple(range(2, 1 + count // 2)) for count in priors))


def differences(entries: Iterable[Entry], shapes: Mapping[str, tuple[int, ...]], dialect: str) -> list[str]:
    """Return a line for every tensor that is missing, not expected or of another shape; empty if all fit."""
    expected = {entry.name(dialect): entry.shape(dialect) for entry in entries}
    lines = []
    for name in [*expected, *(name for name in shapes if name not in expected)]:
        want, have = expected.get(name), shapes.get(name)
        if want != have:
            shown = ["-" if shape is None else str(list(shape)) for shape in (want, have)]
            lines.append(f"{name:44} {shown[0]:22} {shown[1]}")
    return lines


def table_of(lines: list[str], most: int = 12) -> str:
    """Return the lines of :func:`differences` under a heading, the first `most` of them."""
    more = [f"... and {len(lines) - most} more"] if len(lines) > most else []
    return "\n".join([f"{'tensor':44} {'expected':22} found", *lines[:most], *more])


def to_paddle(tensors: Mapping[str, Array], recognized: Recognized) -> dict[str, Array]:
    """Convert the tensors to Paddle's names and layouts; every one but the counters exactly once."""
    return {
        entry.paddle_name: _layout(tensors[entry.name(recognized.dialect)], entry, recognized.dialect)
        for entry in recognized.entries
    }


def to_pytorch(tensors: Mapping[str, Array], entries: Iterable[Entry]) -> dict[str, Array]:
    """Convert Paddle's tensors to PyTorch's names and layouts."""
    return {entry.pytorch_name: _layout(tensors[entry.paddle_name], entry, "pytorch") for entry in entries}


def _layout(tensor: Array, entry: Entry, other: str) -> Array:
    """Convert from or to the layout `other`; transposing is its own inverse."""
    return np.ascontiguousarray(tensor.T) if entry.transposed and other == "pytorch" else tensor
