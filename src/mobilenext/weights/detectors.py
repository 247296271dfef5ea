"""What the record of a detector's weights says: its network, its form, and what stands where nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilenext.errors import UsageError, WeightsError
from mobilenext.models import DETECTION, FORMS, Form, build_network, find_form, find_model
from mobilenext.models.detector_form import name_of

if TYPE_CHECKING:
    from mobilenext.data.preprocessing import Preprocessing
    from mobilenext.models.network import Network
    from mobilenext.weights.metadata import Metadata
    from mobilenext.weights.naming import Recognized
    from mobilenext.weights.record import NetworkRecord, WeightsRecord

MOST_CLASSES = 10_000  # of a record, which a stranger may have written; a head has a part for each


def architecture_of(form: str | Form | Mapping[str, Any]) -> dict[str, Any]:
    """Return the architecture that is stored with the weights of a detector of this form."""
    return {"form": find_form(form).to_dict()}


def form_of(architecture: Mapping[str, Any] | None) -> Form:
    """Return the form that is stored with a detector.

    Raises:
        UsageError: there is none, or one that no detector can have.
    """
    if architecture is None or architecture.keys() != {"form"} or not isinstance(architecture["form"], dict):
        raise UsageError(
            f"its architecture has the fields {', '.join(sorted(architecture or {})) or 'of nothing'}; a detector has "
            "a record called form"
        )
    return Form.from_dict(architecture["form"])


def form_in_file(metadata: Metadata, network: Recognized) -> tuple[Form | None, list[str]]:
    """Return the form of a detector in a file, stored or assumed, and a note where it is assumed; None of a classifier.

    Raises:
        WeightsError: the metadata and the tensors are those of different networks.
    """
    stored = metadata.network(1) if metadata else None
    described = stored is not None and stored.task == DETECTION
    if described != (network.form is not None) and metadata:
        raise WeightsError(
            f"{metadata.path}: its tensors are those of {network.model}, but its metadata says that its task is "
            f"{metadata.entries.get('task', 'classification')}"
        )
    if network.form is None:
        return None, []
    priors = network.form.priors_per_cell
    if stored is None:
        if network.form not in FORMS.values():
            raise WeightsError(
                f"{metadata.path}: its heads have {list(priors)} priors in a cell of each level; expected "
                f"{' or '.join(f'{list(form.priors_per_cell)} ({name})' for name, form in FORMS.items())}, since "
                "nothing in the file says what other priors there are"
            )
        name = name_of(network.form)
        return network.form, [
            f"the form {name} is assumed, by the {priors[-1]} priors of the last level: {network.form.image_size} "
            f"pixels, the loss {network.form.loss}"
        ]
    try:
        form = form_of(stored.architecture)
    except UsageError as error:
        raise WeightsError(f"{metadata.path}: {error}") from error
    if (stored.model, stored.num_classes) != (network.model, network.num_classes) or form.priors_per_cell != priors:
        raise WeightsError(
            f"{metadata.path}: its metadata describes {stored.model} of {stored.num_classes} classes and "
            f"{list(form.priors_per_cell)} priors in a cell of each level; its tensors are those of {network.model} of "
            f"{network.num_classes} classes and {list(priors)} priors"
        )
    return form, []


def form_that_fits(form: str | Form | Mapping[str, Any], record: WeightsRecord) -> Form:
    """Return the form in which the weights of this record are to be used.

    A name stands for the stored form, whose loss and ratios it must have. A record must have the stored priors too, or
    these scaled to its image size; its thresholds and limit hold.

    Raises:
        UsageError: they are no detector's, or learned by another loss or with other priors.
    """
    if record.task != DETECTION:
        raise UsageError(f"{record.path} holds {record.model}, a classifier, which has no form; expected no form")
    stored, chosen = form_of(record.architecture), find_form(form)
    if (chosen.loss, chosen.ratios) != (stored.loss, stored.ratios):
        raise UsageError(
            f"{record.path} was trained in the form {name_of(stored)} ({_described(stored)}), which does not fit the "
            f"form {name_of(chosen)} ({_described(chosen)})"
        )
    if isinstance(form, str):
        return stored
    expected = stored.replace(image_size=chosen.image_size).prior_sizes
    if not np.allclose(chosen.prior_sizes, expected, rtol=1e-6, atol=0):
        raise UsageError(
            f"{record.path} was trained with the prior sizes {_sizes(stored)} of {stored.image_size} pixels; the form "
            f"has {_sizes(chosen)} of {chosen.image_size}. Name the form ({name_of(stored)}) to keep those of the "
            "weights, or change them by replace(image_size=...), which scales them"
        )
    return chosen


def _described(form: Form) -> str:
    ratios = "; ".join(",".join(f"{ratio:g}" for ratio in row) for row in form.ratios)
    return f"the loss {form.loss}, {list(form.priors_per_cell)} priors in a cell of each level by the ratios {ratios}"


def _sizes(form: Form) -> str:
    return ",".join(f"{smallest:g}-{largest:g}" for smallest, largest in form.prior_sizes)


def form_for_images(form: Form, images: Preprocessing) -> Form:
    """Return the form for images of that size, its priors scaled where it is another.

    Raises:
        UsageError: a size that no detector has, or images that are cut, which would move the boxes.
    """
    if images.fit != "squash":
        raise UsageError(f"fit is {images.fit!r}, but a detector sees the whole picture; expected squash")
    return form.replace(image_size=images.image_size)


def build_detector(record: NetworkRecord) -> Network:
    """Build the detector of a record, freshly initialized and in training mode.

    Raises:
        UsageError: no detector, or one that cannot be built.
    """
    if find_model(record.model).task != DETECTION:
        raise UsageError(f"{record.model} is no detector, but the task of its weights is {DETECTION}")
    if record.num_classes > MOST_CLASSES:
        raise UsageError(f"a detector of {record.num_classes} classes; expected at most {MOST_CLASSES:,}")
    return build_network(
        record.model,
        num_classes=record.num_classes,
        identity_divisor=record.identity_divisor,
        form=form_of(record.architecture),
    )
