"""The network of a run with what it begins with: a whole detector's weights, also of other classes, or a backbone's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.errors import WeightsError
from mobilenext.models.detector_form import Form

if TYPE_CHECKING:
    from mobilenext.models.ssdlite import SSDLite
    from mobilenext.weights.record import Weights

log = logging.getLogger(__name__)
_CLASS_HEADS = "box_head.predictor.cls_headers."
_HEADS = "box_head."


def build_network(config: Mapping[str, Any], weights: Path | None) -> SSDLite:
    """Return the network of a run, with its first weights where `weights` is their file.

    Raises:
        WeightsError: weights of another network; both sides are named.
    """
    from mobilenext.models import build_network as build
    from mobilenext.weights.backbone import load_backbone_into
    from mobilenext.weights.read import read_weights

    form = Form.from_dict(config["architecture"]["form"])
    network: Any = build(
        config["model"], num_classes=config["num_classes"], identity_divisor=config["identity_divisor"], form=form
    )
    if weights is not None:
        stored = config["weights"]
        first = read_weights(weights, use=stored["kind"], section=stored.get("section"))
        if stored.get("part"):
            load_backbone_into(network, first)
        else:
            _load_detector(network, first, config["labels"])
    built: SSDLite = network
    return built


def _load_detector(network: SSDLite, first: Weights, labels: Sequence[str] | None) -> None:
    """Load the weights of a detector; what belongs to other classes, another loss or other priors stays fresh."""
    before = Form.from_dict((first.architecture or {})["form"])
    why, fresh = _fresh_layers(network, first, before, labels)
    own = network.state_dict()
    wanted = {name for name in own if not name.startswith(fresh)} if fresh else set(own)
    _check(first, wanted, first.tensors, own)
    network.set_state_dict({**own, **{name: first.tensors[name] for name in wanted}})
    if why:
        log.warning(
            "%s: %d of the %d tensors of %s are taken, %d of the heads are fresh",
            why, len(wanted), len(first.tensors), first.path.name, len(own) - len(wanted),
        )  # fmt: skip


def _fresh_layers(
    network: SSDLite, first: Weights, before: Form, labels: Sequence[str] | None
) -> tuple[str, tuple[str, ...]]:
    """Return why some layers cannot begin with the weights, and the beginnings of their names."""
    if network.form.ratios != before.ratios:
        return "other aspect ratios of the priors than the weights'", (_HEADS,)
    if network.form.loss != before.loss:
        return "another form than the weights', with another loss", (_CLASS_HEADS,)
    classes = tuple(f"{layer}." for layer in network.class_layers)
    if network.num_classes != first.num_classes:
        return f"{network.num_classes} classes instead of the weights' {first.num_classes}", classes
    if labels and first.labels and tuple(labels) != first.labels:
        return "classes of other names than the weights'", classes
    return "", ()


def _check(first: Weights, wanted: set[str], tensors: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise WeightsError for a tensor that is missing or has another shape."""
    problems = [
        f"{name}: {list(tensors[name].shape) if name in tensors else 'missing'}, expected {list(own[name].shape)}"
        for name in sorted(wanted)
        if name not in tensors or list(tensors[name].shape) != list(own[name].shape)
    ]
    if problems:
        listed = "\n    ".join(problems[:20])
        raise WeightsError(f"{first.path} does not fit this network; {len(problems)} differences:\n    {listed}")
