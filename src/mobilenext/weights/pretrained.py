"""Weights by name: ``model.tag`` from a card, downloaded or shipped with the package, or a file."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.errors import UsageError, WeightsError, nearest, refuse_unknown
from mobilenext.models import (
    DETECTION,
    MODELS,
    Architecture,
    Form,
    ModelCard,
    WeightsCard,
    build_network,
    find_model,
    split_tag,
)
from mobilenext.weights import detectors, store
from mobilenext.weights.builders import network_for
from mobilenext.weights.load import load_weights
from mobilenext.weights.read import WeightsSelection, read_weights, with_suffix

if TYPE_CHECKING:
    from typing import Unpack

    from mobilenext.models.network import Network


WEIGHTS_SUFFIXES = (".safetensors", ".pdparams", ".pth", ".pt", ".tar", ".bin", ".ckpt")
BUNDLED = Path(__file__).parent / "bundled"
log = logging.getLogger(__name__)


class NetworkOptions(WeightsSelection, total=False):
    """Further keywords of :func:`create_model`."""

    form: str | Form | Mapping[str, Any] | None  # of a detector


def locate(model: str | None, weights: str | os.PathLike[str] | None) -> Path:
    """Return the file of weights that the options name, downloaded if need be.

    Args:
        model: a model's name, or ``model.tag``.
        weights: a file, a tag of the model's card, ``model.tag``, or None for the first on the card. A bare name is
            looked for on the card first, since a file in the working folder may be called alike: ``./in1k`` is a file.

    Raises:
        UsageError: nothing of that name, a model without published weights, or two that contradict each other.
        WeightsError: a path to a file that does not exist.
        DownloadError: it cannot be fetched or does not verify.
    """
    name, tag = split_tag(model or "")
    card = find_model(name) if name else None
    if weights is None:
        if card is None:
            raise UsageError("no weights; expected --weights FILE, or --model NAME whose card has weights")
        return _published(card, tag)
    text = os.fspath(weights)
    if card is not None and tag and text not in (tag, model, f"{card.name}.{tag}"):
        raise UsageError(f"model {model} names the weights {tag!r}, and weights {text} were given too; choose one")
    path = Path(text)
    if isinstance(weights, str) and (published := _on_card(card, text)):
        if path.is_file():
            log.warning("weights %s of the card are taken, not the file %s (that is ./%s)", text, text, text)
        return file_of(*published)
    if with_suffix(path).exists():
        return path
    if card is not None and (published := _on_card(None, text)):
        raise _of_another_model(card, text, published[0])
    if path.suffix or os.sep in text:
        return path  # read_weights says what is wrong with it
    if card is None:
        raise UsageError(
            f"weights {text!r} is no file; expected --weights FILE, or --model NAME whose card has weights"
        )
    raise _nothing_of_that_name(card, text)


def _on_card(card: ModelCard | None, text: str) -> tuple[ModelCard, WeightsCard] | None:
    """Return the published weights that a tag of `card`, or ``model.tag``, names."""
    name, _, tag = text.rpartition(".")
    named = MODELS.get(name.lower()) if name else card
    if named is None or card not in (None, named):
        return None
    return next(((named, entry) for entry in named.weights if entry.tag == tag), None)


def _published(card: ModelCard, tag: str) -> Path:
    """Return the weights of that tag; without a tag the first that are no demonstration."""
    entries = [entry for entry in card.weights if (entry.tag == tag if tag else not entry.bundled)]
    if entries:
        return file_of(card, entries[0])
    raise _nothing_of_that_name(card, tag) if tag else UsageError(no_weights(card))


def _nothing_of_that_name(card: ModelCard, text: str) -> WeightsError:
    tags = [entry.tag for entry in card.weights]
    known = f"the tags {', '.join(tags)}" if tags else "no published weights"
    path = Path(text)
    siblings = sorted(sibling.name for sibling in path.parent.glob(f"{glob.escape(path.name)}*"))
    return WeightsError(
        f"weights {text!r}: no such file and no such tag{nearest(text, tags)}; {card.name} has {known}"
        + (f"; files of a similar name: {', '.join(siblings[:5])}" if siblings else "")
    )


def _of_another_model(card: ModelCard, text: str, other: ModelCard) -> WeightsError:
    advice = ""
    if card.task == DETECTION and other.task != DETECTION:
        advice = (
            f"; its backbone can begin with them: mobilenext train DATA --model {card.name} --backbone {text} -o RUN"
        )
    kind = "a detector" if other.task == DETECTION else "a classifier"
    return WeightsError(f"weights {text} are published for {other.name}, {kind}; asked for {card.name}{advice}")


def source_of(text: str) -> Path:
    """Return the file to convert: ``model.tag``, a file, or a model's name for the first weights on its card.

    Raises:
        UsageError: a model without published weights.
        WeightsError: a model's name with a tag that it does not have, and no such file.
    """
    if _on_card(None, text):
        return locate(None, text)
    a_file = with_suffix(Path(text)).exists() or text.lower().endswith(WEIGHTS_SUFFIXES)
    if a_file or text.partition(".")[0].lower() not in MODELS:
        return Path(text)  # read_weights says what is wrong with it
    return locate(text, None)


def no_weights(card: ModelCard) -> str:
    """Return the message for a model without published weights."""
    if card.task == DETECTION:
        return (
            f"nobody has published weights for {card.name} that can be had here; name a file with --weights, or train "
            f"it: mobilenext train DATA --model {card.name} --recipe ssdlite-voc -o RUN"
        )
    return (
        f"nobody has published ImageNet weights for {card.name}; name a file with --weights, or train it: "
        f"mobilenext train IMAGENET --model {card.name} --recipe released -o RUN"
    )


def file_of(card: ModelCard, entry: WeightsCard) -> Path:
    """Return the file of published weights, from the package, the cache or the network."""
    if entry.source is None:
        return BUNDLED / entry.bundled
    if store.cached(entry.source) is None:
        log.info("%s.%s: %s (licence: %s)", card.name, entry.tag, entry.origin, entry.licence)
    return store.fetch(entry.source)


def sample_of(entry: WeightsCard | None) -> Path | None:
    """Return the picture that the package has to try these weights with; None where it has none."""
    return BUNDLED / entry.sample if entry is not None and entry.sample else None


def create_model(
    name: str | os.PathLike[str] | Architecture | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    num_classes: int | None = None,
    features_only: bool = False,
    classes: Sequence[int] | None = None,
    pretrained: bool = False,
    **options: Unpack[NetworkOptions],
) -> Network:
    """Create a network by name, with or without weights; with weights it is in evaluation mode.

        network = mobilenext.create_model("best.safetensors")
        vectors = mobilenext.create_model("mobilenext_x1_0", pretrained=True, num_classes=0)(images)  # [N, 1280]

    Args:
        name: one of :func:`mobilenext.list_models`, ``model.tag``, or the path of an ``architecture.json``, whose open
            sizes are those for 224 pixels; a file of weights, by its suffix: the same as `weights`. None takes the
            model that the weights are of.
        weights: a file or a tag of the model's card (``in1k``); None leaves the network freshly initialized.
        num_classes: None takes the weights' (or 1000; of a detector, without background, 20 or 80). Another number
            than the weights' makes a fresh classifier, or class heads, of that size, and the log says so. 0: no
            classifier; the network returns the pooled vector [N, C] of ``network.forward_features``, C mostly 1280.
        features_only: return the last maps [N, C, H / s, W / s] at the strides s = 4, 8, 16 and 32, described by
            ``network.features_info``, instead of logits.
        classes: which of the weights' classes the network's classes 0, 1, 2, ... are: their part of the classifier is
            taken. Empty: the classifier is fresh, also where the weights have `num_classes` classes.
        pretrained: use the first weights of the model's card.
        **options: ``identity_divisor``: None takes the weights' (or 1). ``use``, ``section``: which weights of a
            checkpoint that has several; see :func:`mobilenext.read_weights`. ``form``: of a detector, ``voc``,
            ``coco`` or a :class:`mobilenext.models.Form`; None takes the weights' (or voc). A name must be that of the
            weights' form, which is kept; a record must have its loss and priors, or these scaled to another image size.

    Raises:
        UsageError: an unknown name, an impossible number, or options that exclude each other.
        WeightsError: weights of another model, or unreadable ones.
    """
    refuse_unknown(options, NetworkOptions.__annotations__, "create_model")
    name = os.fspath(name) if isinstance(name, os.PathLike) else name
    if weights is None and isinstance(name, str) and name.lower().endswith(WEIGHTS_SUFFIXES):
        name, weights = None, name
    if pretrained and weights is not None:
        raise UsageError(f"pretrained and weights {os.fspath(weights)} were given: the first means those of the card")
    pooled_only = num_classes == 0 and num_classes is not False
    if pooled_only and features_only:
        raise UsageError("num_classes is 0 with features_only: choose the pooled vector or the maps")
    if name is None and weights is None:
        raise UsageError("no model; expected a name of list_models(), or weights=FILE, which says what it is of")
    rows = None if pooled_only else num_classes
    if weights is None and not pretrained and name is not None and not _names_weights(name):
        _check_no_selection(options)
        divisor = options.get("identity_divisor")
        network = build_network(name, num_classes=rows, identity_divisor=divisor, form=options.get("form"))
    else:
        network = _with_weights(name, weights, rows, classes, options)
    if features_only:
        network.keep_features_only()
    if pooled_only:
        network.keep_pooled_only()
    return network


def _names_weights(name: str | Architecture) -> bool:
    """Return whether a name has a tag behind it."""
    return isinstance(name, str) and bool(split_tag(name)[1])


def _check_no_selection(options: NetworkOptions) -> None:
    if options.get("use") is not None or options.get("section") is not None:
        raise UsageError(
            "use or section was given without weights; expected weights=FILE: they select weights within a file"
        )


def _with_weights(
    name: str | Architecture | None,
    weights: str | os.PathLike[str] | None,
    num_classes: int | None,
    classes: Sequence[int] | None,
    options: NetworkOptions,
) -> Network:
    """Return the whole network with its weights; see :func:`create_model`."""
    model, place = (split_tag(name)[0], name) if isinstance(name, str) else (name, None)
    form = options.get("form")
    selection = WeightsSelection(**{key: value for key, value in options.items() if key != "form"})  # type: ignore
    loaded = read_weights(locate(place, weights), model=model, **selection)
    if form is not None:
        loaded = replace(loaded, architecture=detectors.architecture_of(detectors.form_that_fits(form, loaded)))
    if classes and loaded.task == DETECTION:
        raise UsageError(f"classes {list(classes)} of a detector cannot be taken out; expected none")
    count = len(classes) if classes else loaded.num_classes if num_classes is None else num_classes
    network = network_for(replace(loaded, num_classes=count))
    last = tuple(f"{layer}." for layer in network.class_layers)
    if classes:
        kept = {key: tensor[..., list(classes)] for key, tensor in loaded.tensors.items() if key.startswith(last)}
        loaded = replace(loaded, tensors={**loaded.tensors, **kept}, num_classes=count)
    elif count != loaded.num_classes or classes is not None:
        fresh = {key: tensor.numpy() for key, tensor in network.state_dict().items() if key.startswith(last)}
        log.warning(
            "%d classes instead of the weights' %d: %s are freshly initialized",
            count,
            loaded.num_classes,
            " and ".join(fresh) if len(fresh) <= 2 else f"{len(fresh)} tensors of the class heads",
        )
        loaded = replace(loaded, tensors={**loaded.tensors, **fresh})
    load_weights(network, loaded)
    network.eval()
    return network
