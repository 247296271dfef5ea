"""The recipes of detection: those of the authors, and one for a few hundred pictures.

``mobilenext recipes`` lists them all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mobilenext.detection.augmentation import DetectionAugmentation
from mobilenext.errors import UsageError, nearest
from mobilenext.models.detector_form import FORMS, LEVELS, Form, PriorSizes, detection_preprocessing, find_form, name_of
from mobilenext.recipe import Recipe

FROM_SCRATCH, FROM_WEIGHTS = "ssdlite-voc", "ssdlite-small"  # where no recipe is named
METRICS = ("map", "AP", "AP50", "voc_AP_11_point", "voc_AP_area")  # any of them can decide which weights are the best


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The form and the loss of a detector, and what it is judged by.

    Raises:
        UsageError: a value outside its range.
    """

    form: str = "voc"  # voc: softmax with hard negatives | coco: focal loss
    # Smallest and largest side of the priors of each level, as MIN-MAX with commas, in pixels of the recipe's input;
    # empty: the form's. Another image_size scales those that nobody has set.
    prior_sizes: str = ""
    # Of METRICS, over the validation: decides which weights are the best. map: 11-point mAP, or AP in the form coco.
    best_metric: str = "map"

    def __post_init__(self) -> None:
        for name, choices in (("form", FORMS), ("best_metric", METRICS)):
            value = getattr(self, name)
            if value not in choices:
                raise UsageError(f"{name} is {value!r}; expected {' or '.join(choices)}{nearest(str(value), choices)}")
        parse_prior_sizes(self.prior_sizes)


def parse_prior_sizes(text: str) -> PriorSizes:
    """Return the smallest and the largest side of the priors of each level; () of an empty text.

    Raises:
        UsageError: other than six pairs MIN-MAX.
    """
    if not text:
        return ()
    try:
        pairs = tuple(tuple(float(side) for side in pair.split("-")) for pair in text.split(","))
    except ValueError:
        pairs = ()
    if len(pairs) != LEVELS or not all(len(pair) == 2 and 0 < pair[0] <= pair[1] < math.inf for pair in pairs):
        raise UsageError(
            f"prior_sizes is {text!r}; expected {LEVELS} pairs MIN-MAX of pixels with commas, one for each level, such "
            "as 24-120,90-180,135-220,180-260,225-300,270-320"
        )
    return tuple((smallest, largest) for smallest, largest in pairs)


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe(Recipe):
    """How a detector is trained."""

    objective: Objective = field(default_factory=Objective)
    augmentation: DetectionAugmentation = field(default_factory=DetectionAugmentation)

    def form_for(self, stored: Form | None = None, settings: Collection[str] = ()) -> Form:
        """Return the form of a new run.

        Args:
            stored: the form of the weights that it begins with; it holds, but for the fields that were set.
            settings: names of the recipe's fields that somebody has set.

        Raises:
            UsageError: an input or priors that no form can have.
        """
        objective, size = self.objective, self.augmentation.image_size
        sizes = parse_prior_sizes(objective.prior_sizes)
        set_form, set_sizes = "form" in settings, "prior_sizes" in settings
        keeps = stored is not None and not (set_form and name_of(stored) != objective.form)
        form = stored if stored is not None and keeps else find_form(objective.form)
        if sizes and not set_sizes and not keeps:  # the recipe's own, which are those of its own size
            form = form.replace(image_size=RECIPES.get(self.name, self).augmentation.image_size, prior_sizes=sizes)
        form = form.replace(image_size=size)
        return form.replace(prior_sizes=sizes) if sizes and set_sizes else form


_AUTHORS = "the configuration files of the authors' SSDLite repository, as its code runs them"
_NOT_MEASURED = "not measured here"

RECIPES: Mapping[str, DetectionRecipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            DetectionRecipe(
                name="ssdlite-voc",
                source=f"{_AUTHORS}, with run.sh's warm-up, on 4 GPUs of 24 pictures",
                expected="VOC2007 mAP 72.6 % for x1_0, 71.8 % for MobileNetV2 (published, 11 points)",
                cost=_NOT_MEASURED,
                command="mobilenext train VOCDEVKIT --model ssdlite320_mobilenext_x1_0 --backbone WEIGHTS "
                "--recipe ssdlite-voc -o runs/voc",
                epochs=348,
                steps=60_000,
                warmup_steps=1000,
                warmup_factor=0.1333,
                batch_size=96,
                lr=4e-3,
                lr_batch_size=96,
                weight_decay=5e-4,
                decay_1d=True,
                schedule="milestones",
                schedule_by="step",
                milestones=(40_000.0, 50_000.0),
                validate_every=10,
                objective=Objective(form="voc"),
                preprocessing=detection_preprocessing(),
            ),
            DetectionRecipe(
                name="ssdlite-coco",
                source=f"{_AUTHORS}, with run.sh's warm-up, on 8 GPUs of 32 pictures",
                expected="COCO val2017 AP 23.3 % for x1_0, 22.3 % for MobileNetV2 (published)",
                cost=_NOT_MEASURED,
                command="mobilenext train COCO --model ssdlite320_mobilenext_x1_0 --backbone WEIGHTS "
                "--recipe ssdlite-coco -o runs/coco",
                epochs=433,
                steps=200_000,
                warmup_steps=1000,
                warmup_factor=0.1333,
                batch_size=256,
                lr=0.08,
                lr_batch_size=256,
                weight_decay=4e-5,
                decay_1d=True,
                schedule="cosine",
                schedule_by="step",
                sync_bn=True,
                validate_every=10,
                objective=Objective(form="coco"),
                preprocessing=detection_preprocessing(),
            ),
            DetectionRecipe(
                name="ssdlite-small",
                source="this project: a run on a few hundred pictures, with small priors and an average of the weights",
                expected="72.0 % mAP (11 points) on the 72 test pictures of BCCD for x0_35 (docs/detection.md)",
                cost="half an hour on one core for 205 pictures",
                command="mobilenext train DATA --model ssdlite320_mobilenext_x0_35 "
                "--backbone mobilenext_x0_35.tiny20 --recipe ssdlite-small -o runs/small",
                epochs=64,
                warmup_epochs=2,
                warmup_lr=1e-3,
                batch_size=8,
                lr=0.02,
                lr_batch_size=8,
                weight_decay=5e-4,
                schedule_by="step",
                min_lr=1e-5,
                ema_decay=0.995,
                ema_warmup=True,
                validate_every=2,
                augmentation=DetectionAugmentation(expand=0.0),
                objective=Objective(prior_sizes="24-140,90-180,135-220,180-260,225-300,270-320"),
                preprocessing=detection_preprocessing(),
            ),
        )
    }
)
