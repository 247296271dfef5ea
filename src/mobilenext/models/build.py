"""Build a network by its name. Paddle is imported when one is built."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mobilenext.errors import UsageError
from mobilenext.machine.packages import require_paddle
from mobilenext.models.architecture import SIZES, Architecture
from mobilenext.models.block_plan import DIVISORS
from mobilenext.models.cards import CELLS, DETECTION, VARIANT, ModelCard
from mobilenext.models.detector_form import Form, find_form, name_of
from mobilenext.models.lookup import find_model

if TYPE_CHECKING:
    from mobilenext.models.cell import CellNetwork
    from mobilenext.models.genotype import Genotype
    from mobilenext.models.network import Network

PARTIAL = ("mobilenext", "ssdlite_mobilenext")  # families whose shortcuts may join a part of the channels


def build_network(
    name: str | os.PathLike[str] | Architecture | ModelCard,
    *,
    num_classes: int | None = None,
    identity_divisor: int | None = None,
    form: str | Form | Mapping[str, Any] | None = None,
    auxiliary: bool = False,
) -> Network:
    """Build a freshly initialized network in training mode.

    Args:
        name: one of :func:`list_models`, or what else :func:`find_model` takes, such as the file of an architecture.
        num_classes: rows of the classifier, 1000 where None, or 10 of a network for CIFAR-10; or classes of a detector
            without background, 20 (voc) or 80 (coco) where None.
        identity_divisor: the shortcut joins the first ``C // identity_divisor`` channels of a block (paper: the
            identity tensor multiplier is 1 / identity_divisor). Only MobileNeXt of a width has it. None: 1, or what
            the architecture says.
        form: of a detector: voc (where None), coco, or a :class:`mobilenext.models.Form`.
        auxiliary: whether a network of cells has its auxiliary head, which it uses in training only.

    Raises:
        UsageError: an unknown name, or a number that the network cannot have.
        MissingDependency: Paddle is not installed.
    """
    card = find_model(name)
    chosen = _form_of(card, form)
    if num_classes is None:
        num_classes = standard_classes(chosen) if chosen else card.num_classes
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise UsageError(f"num_classes is {num_classes!r}; expected a whole number from 1 up")
    if identity_divisor is None:
        identity_divisor = card.identity_divisor
    check_identity_divisor(card, identity_divisor)
    if auxiliary and card.family != CELLS and card.architecture is None:  # which says for itself whether it has one
        raise UsageError(f"{card.name} has no auxiliary head; only networks of cells have one")
    require_paddle()
    return _network_of(card, num_classes, identity_divisor, chosen, auxiliary=auxiliary)


def _network_of(
    card: ModelCard, num_classes: int, identity_divisor: int, form: Form | None, *, auxiliary: bool
) -> Network:
    """Return the network of a card, whose numbers were checked; only the module that it is in is imported."""
    if card.architecture is not None:
        whole = card.architecture.completed(card.image_size)
        return architecture_network(whole, num_classes=num_classes, auxiliary=auxiliary)
    if card.family == CELLS:
        from mobilenext.models.genotype import GENOTYPES

        sizes = {name: value for name, value in card.arguments.items() if name != "genotype"}
        genotype = GENOTYPES[card.arguments["genotype"]]
        return build_cell_network(genotype, **sizes, num_classes=num_classes, auxiliary=auxiliary)
    if card.family == "mobilenext":
        from mobilenext.models.sandglass import MobileNeXt

        return MobileNeXt(**card.arguments, num_classes=num_classes, identity_divisor=identity_divisor)
    if card.family == "mobilenext_se":
        from mobilenext.models.sandglass_se import MobileNeXtSE

        return MobileNeXtSE(**card.arguments, num_classes=num_classes)
    if card.family == VARIANT:
        from mobilenext.models.variants import build_variant

        return build_variant(**card.arguments, num_classes=num_classes)
    if form is not None:
        from mobilenext.models.ssdlite import SSDLite

        return SSDLite(**card.arguments, num_classes=num_classes, identity_divisor=identity_divisor, form=form)
    from mobilenext.models.inverted_residual import MobileNetV2

    return MobileNetV2(**card.arguments, num_classes=num_classes)


def build_cell_network(
    genotype: Genotype | Mapping[str, Any],
    *,
    form: str = "cifar",
    channels: int = 36,
    cells: int = 20,
    num_classes: int = 10,
    auxiliary: bool = False,
    image_size: int | None = None,
) -> CellNetwork:
    """Build the network of a genotype, freshly initialized and in training mode.

    Args:
        genotype: what :func:`mobilenext.search.read_genotype` returns, or ``{"normal": [[operator, input], ...],
            "reduce": [...]}``.
        form: cifar, for small images, or imagenet.
        channels: of the nodes of the first cell, an even number.
        cells: how many.
        num_classes: outputs of the classifiers.
        auxiliary: whether it has the auxiliary head: then it returns ``(logits, auxiliary_logits)`` in training.
        image_size: pixels, the side of the images that it is trained on; where it is stated and their map is too small
            for the auxiliary head, the head is left out, and the log says so.

    Raises:
        UsageError: an operator that does not exist, or a size that no network has.
        MissingDependency: Paddle is not installed.
    """
    require_paddle()
    from mobilenext.models.cell import CellNetwork
    from mobilenext.models.genotype import Genotype

    if not isinstance(genotype, Genotype):
        genotype = Genotype.from_dict(genotype)
    return CellNetwork(genotype, form, channels, cells, num_classes, auxiliary, image_size)


def architecture_network(architecture: Architecture, *, num_classes: int, auxiliary: bool = False) -> Network:
    """Build the network of an architecture whose form, channels and cells are decided; freshly initialized.

    Args:
        architecture: of cells, or of blocks.
        num_classes: rows of the classifier.
        auxiliary: whether a network of cells has a second head, for training.

    Raises:
        UsageError: a second head for blocks, or sizes that are open.
        MissingDependency: Paddle is not installed.
    """
    require_paddle()
    if architecture.space == "blocks":
        from mobilenext.models.sandglass import MobileNeXt

        if auxiliary:
            raise UsageError(f"{architecture.name} is a network of blocks, which has no second head")
        return MobileNeXt(
            plan=architecture.blocks, num_classes=num_classes, identity_divisor=architecture.identity_divisor
        )
    genotype, form, channels, cells = (getattr(architecture, name) for name in ("genotype", *SIZES))
    if form is None or channels is None or cells is None:
        raise UsageError(f"{architecture.name} leaves its form, channels or cells open; expected all of them")
    return build_cell_network(
        genotype, form=form, channels=channels, cells=cells, num_classes=num_classes, auxiliary=auxiliary
    )


def _form_of(card: ModelCard, form: str | Form | Mapping[str, Any] | None) -> Form | None:
    """Return the form of a detector; None of a classifier."""
    if card.task == DETECTION:
        return find_form("voc" if form is None else form)
    if form is not None:
        shown = form if isinstance(form, str) else "a record"
        raise UsageError(f"{card.name} is a classifier and has no form; found form {shown}, expected none")
    return None


def standard_classes(form: Form | None) -> int:
    """Return the number of classes where nobody says it: ImageNet's without a form, else VOC's or COCO's."""
    return 1000 if form is None else {"voc": 20, "coco": 80}[name_of(form)]


def check_identity_divisor(card: ModelCard, identity_divisor: int) -> None:
    """Raise UsageError for a divisor that the model's shortcuts cannot have."""
    if isinstance(identity_divisor, bool) or not isinstance(identity_divisor, int) or identity_divisor not in DIVISORS:
        raise UsageError(f"identity_divisor is {identity_divisor!r}; expected 1, 2, 3, 4 or 6 (1: the full shortcut)")
    if card.architecture is not None:
        if identity_divisor != card.identity_divisor:
            raise UsageError(
                f"identity_divisor is {identity_divisor}; expected {card.identity_divisor}, that of {card.name}"
            )
    elif identity_divisor != 1 and card.family not in PARTIAL:
        raise UsageError(
            f"{card.name} has no partial shortcut: identity_divisor is {identity_divisor}, expected 1 "
            "(only mobilenext_x0_35 .. x1_4 and detectors on them have one)"
        )
