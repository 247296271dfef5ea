"""How a detector is trained: what `mobilenext.job.Training` asks for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenext.arrays import Floats
from mobilenext.data import Preprocessing, Record
from mobilenext.data.boxes import BoxedDataset, BoxedImage
from mobilenext.detection.augmentation import DetectionAugmentation
from mobilenext.detection.coverage import coverage_lines
from mobilenext.detection.data import open_parts, reopen_parts
from mobilenext.detection.first_weights import build_network
from mobilenext.detection.matching import NEGATIVES_OF_EMPTY, NEGATIVES_PER_POSITIVE, match
from mobilenext.detection.recipes import FROM_SCRATCH, FROM_WEIGHTS, RECIPES, DetectionRecipe
from mobilenext.job import Batch, DataRequest, Parts, Place, Sampler, Training
from mobilenext.json_files import many, nullable, text, whole
from mobilenext.json_files import record as record_of
from mobilenext.machine.ranks import Ranks
from mobilenext.models.detector_form import Form, name_of
from mobilenext.recipe import Recipe
from mobilenext.statistics import percent_text
from mobilenext.weights.detectors import MOST_CLASSES

if TYPE_CHECKING:
    import paddle
    from paddle import nn


class Sample(NamedTuple):
    """A training picture and what its priors are to answer."""

    image: Floats  # [3, S, S], normalized
    labels: npt.NDArray[np.int64]  # [P]; 0: background
    regressions: Floats  # [P, 4]


@dataclass(frozen=True)
class PictureSampler:
    """Augments a picture and matches its boxes with the priors, here since workers run it beside the steps."""

    augmentation: DetectionAugmentation
    preprocessing: Preprocessing
    form: Form

    def __call__(self, image: Image.Image, record: Record, random: np.random.Generator | None) -> Any:
        if random is None:
            return self.preprocessing.pixels(image)  # uint8 [S, S, 3]: a quarter of the memory of float32
        assert isinstance(record, BoxedImage)
        pixels, corners, labels = self.augmentation.sample(image, *record.trained_boxes(), random)
        targets = match(corners, labels, self.form)
        return Sample(normalized(pixels, self.preprocessing), targets.labels, targets.regressions)


def normalized(pixels: Floats, preprocessing: Preprocessing) -> Floats:
    """Convert float32 pixels [S, S, 3], 0 to 255 and beyond, to float32 [3, S, S]."""
    mean, std = (np.array(values, np.float32) * np.float32(255) for values in (preprocessing.mean, preprocessing.std))
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1), dtype=np.float32)


class DetectionJob:
    """What one run computes: see `mobilenext.job.Job`."""

    counted: tuple[str, ...] = ("classification", "regression", "positives")
    scalars: tuple[str, ...] = ("map_percent",)

    def __init__(self, config: Mapping[str, Any], recipe: DetectionRecipe, parts: Parts) -> None:
        """Make the job of a run from its ``run.json``."""
        self.recipe, self.objective = recipe, recipe.objective
        self.form = Form.from_dict(config["architecture"]["form"])
        self.num_classes, self.labels = config["num_classes"], tuple(config["labels"] or ()) or None
        self.preprocessing = Preprocessing.from_dict(config["preprocessing"])
        self.sample: Sampler = PictureSampler(recipe.augmentation, self.preprocessing, self.form)
        pictures: Sequence[Any] = parts.train.records
        empty = sum(not len(picture.trained_boxes()[1]) for picture in pictures)
        self.chance = _chance(self.form, self.num_classes, min(empty, recipe.batch_size))

    # Batches.

    def order(
        self, records: Sequence[Record], random: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return random.permutation(len(records)), np.zeros(len(records), np.int64)

    def collate(self, samples: Sequence[Any], records: Sequence[Record], place: Place | None) -> Batch:
        if place is None:
            return Batch(self.preprocessing.normalize(np.stack(samples)), {})  # [N, S, S, 3] -> [N, 3, S, S]
        images, labels, regressions = (np.stack(arrays) for arrays in zip(*samples, strict=True))
        return Batch(images, {"labels": labels, "regressions": regressions})  # [N, 3, S, S], [N, P], [N, P, 4]

    # The loss.

    def divisor(self, batch: Batch, ranks: Ranks) -> float | None:
        return max(1.0, float(ranks.sum([np.count_nonzero(batch.targets["labels"])])[0]))

    def loss(self, outputs: tuple[paddle.Tensor, ...], batch: Batch) -> tuple[paddle.Tensor, tuple[paddle.Tensor, ...]]:
        import paddle  # here, since workers import this module

        from mobilenext.detection.loss import loss_sums

        scores, regressions = (output.astype("float32") for output in outputs)  # [N, P, C + 1], [N, P, 4]
        labels = paddle.to_tensor(batch.targets["labels"])
        targets = paddle.to_tensor(batch.targets["regressions"])
        classification, regression, positives = loss_sums(scores, regressions, labels, targets, self.form)
        return classification + regression, (classification.detach(), regression.detach(), positives)

    # The validation.

    def summary(self, counts: Any) -> dict[str, Any]:
        summary: dict[str, Any] = counts.summary()
        return summary

    def score(self, summary: Mapping[str, Any]) -> float | None:
        metric = self.objective.best_metric
        value = summary["map_percent" if metric == "map" else metric]
        return None if value is None else float(value)

    # The log.

    def measures(self, counted: Mapping[str, float], images: int) -> dict[str, float]:
        positives = max(1.0, counted["positives"])
        return {
            "classification_loss": round(counted["classification"] / positives, 5),
            "regression_loss": round(counted["regression"] / positives, 5),
            "positives_per_image": round(counted["positives"] / images, 2),
        }

    def describe_measures(self, measures: Mapping[str, float]) -> str:
        return (
            f"classification: {measures['classification_loss']:.4f}, boxes: {measures['regression_loss']:.4f}, "
            f"positives: {measures['positives_per_image']:.1f}"
        )

    def describe_summary(self, summary: Mapping[str, Any]) -> str:
        # In the form coco the mean average precision is AP itself.
        scores = {} if name_of(self.form) == "coco" else {"mAP": summary["map_percent"]}
        shown = scores | {name: _percent(summary[name]) for name in ("AP50", "AP")}
        parts = [f"{name} {'none' if value is None else percent_text(value)}" for name, value in shown.items()]
        return f"{', '.join(parts)}, {summary['detections']} boxes"

    def weights_fields(self, network: nn.Layer) -> Mapping[str, Any]:
        del network  # the classes are those of the data, and the form that of the run
        return {
            "num_classes": self.num_classes,
            "labels": self.labels,
            "architecture": {"form": self.form.to_dict()},
        }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _chance(form: Form, num_classes: int, empty: int) -> float:
    """Return an upper bound of the loss, per positive, of a network that guesses, with `empty` pictures in a batch.

    A batch without a single positive is divided by 1, so the negatives of its pictures count whole.
    """
    boxes = 4.0  # smooth L1 of the four regressions, in units of the coding's variances
    if form.loss == "multibox":  # equal probabilities: each positive with its negatives
        return (1 + NEGATIVES_PER_POSITIVE + NEGATIVES_OF_EMPTY * empty) * math.log(num_classes + 1) + boxes
    # Every class at 0.01, as the heads begin: 0.25 * 0.99**2 * -log(0.01) of a positive, and what the negatives add.
    negatives = 0.75 * 0.01**2 * -math.log(0.99) * form.priors * (num_classes + 1)
    return 5 * (1.2 + negatives * (1 + empty)) + boxes


def make_job(config: Mapping[str, Any], recipe: Recipe, parts: Parts) -> DetectionJob:
    """Return the job of a run."""
    assert isinstance(recipe, DetectionRecipe)
    return DetectionJob(config, recipe, parts)


def open_run(request: DataRequest) -> Parts:
    """Open the data of a new run, and decide its form.

    Raises:
        UsageError, DatasetError: what does not fit together, or cannot be read.
    """
    assert isinstance(request.recipe, DetectionRecipe)
    first = request.first
    stored = Form.from_dict(first.architecture["form"]) if first and first.architecture else None
    form = request.recipe.form_for(stored, request.settings)
    parts = open_parts(request)
    assert isinstance(parts.train, BoxedDataset)
    return dataclasses.replace(
        parts,
        stored={**parts.stored, "architecture": {"form": form.to_dict()}},
        remarks=(*parts.remarks, *coverage_lines(parts.train, form)),
    )


def reopen_run(config: Mapping[str, Any], request: DataRequest, folder: Path) -> Parts:
    """Open the data of a run that goes on.

    Raises:
        UsageError: a form in ``run.json`` that no detector can have. DatasetError: what cannot be read.
    """
    Form.from_dict(config["architecture"]["form"])
    return reopen_parts(config, request, folder)


def _describe(config: Mapping[str, Any]) -> str:
    form = Form.from_dict(config["architecture"]["form"])
    return f"{config['num_classes']} classes, form {name_of(form)}, {form.priors:,} priors"


TRAINING = Training(
    recipe=DetectionRecipe,
    recipes=RECIPES,
    from_scratch=FROM_SCRATCH,
    from_weights=FROM_WEIGHTS,
    open_parts=open_run,
    reopen_parts=reopen_run,
    build=build_network,
    job=make_job,
    stored={
        "num_classes": whole(1, MOST_CLASSES),
        "labels": nullable(many(text())),
        "architecture.form": record_of({}),
    },
    describe=_describe,
    has_backbone=True,
    workers=1,  # augments and matches beside the steps
    rehearses=True,
)
