"""How a classifier is trained: what `mobilenext.job.Training` asks for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenext.classification.augmentation import Augmentation
from mobilenext.classification.balance import balanced_order, weights_of_classes
from mobilenext.classification.data import open_run, reopen_run
from mobilenext.classification.fields import MOST_CLASSES
from mobilenext.classification.metrics import TOP, Counts
from mobilenext.classification.mixing import Mix, mix_images, neighbors
from mobilenext.classification.recipes import FROM_SCRATCH, FROM_WEIGHTS, RECIPES, ClassificationRecipe
from mobilenext.data import Preprocessing, Record
from mobilenext.errors import UsageError
from mobilenext.job import Batch, Parts, Place, Sampler, Training
from mobilenext.json_files import many, nullable, text, whole
from mobilenext.machine.ranks import Ranks
from mobilenext.models import Architecture
from mobilenext.recipe import Recipe
from mobilenext.statistics import percent_text

if TYPE_CHECKING:
    import paddle
    from paddle import nn

ERASING, MIXING, CUTOUT = 2, 3, 4  # purposes of generators, beside those of `mobilenext.seeds`
_SUMMARY = ("images", "correct_top1", "correct_top5", "top1_percent", "top5_percent", "loss")
_FIELDS = {"top1": "correct_top1", "loss": "loss"}  # of a summary, by metric; the others are percentages


@dataclass(frozen=True)
class Shared:
    """What belongs to a batch as a whole."""

    mix: Mix | None  # None: nothing is mixed
    weight: float | None  # with class weights, the sum of those of the images, of all processes


@dataclass(frozen=True)
class ImageSampler:
    """Crops, resizes and augments an image, to uint8 [S, S, 3]."""

    augmentation: Augmentation
    preprocessing: Preprocessing

    def __call__(self, image: Image.Image, record: Record, random: np.random.Generator | None) -> npt.NDArray[np.uint8]:
        del record  # the pixels of a classification do not depend on the label
        return self.preprocessing.pixels(image) if random is None else self.augmentation.pixels(image, random)


class ClassificationJob:
    """What one run computes: see `mobilenext.job.Job`."""

    counted: tuple[str, ...] = ("correct",)
    scalars: tuple[str, ...] = ("top1_percent",)

    def __init__(
        self,
        recipe: ClassificationRecipe,
        preprocessing: Preprocessing,
        num_classes: int,
        *,
        labels: tuple[str, ...] | None = None,
        class_weights: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Make a job of the recipe's loss; the `preprocessing` is that of the weights, `class_weights` [classes]."""
        self.recipe, self.objective, self.augmentation = recipe, recipe.objective, recipe.augmentation
        self.preprocessing, self.num_classes, self.class_weights = preprocessing, num_classes, class_weights
        self.sample: Sampler = ImageSampler(recipe.augmentation, preprocessing)
        self.mixing = recipe.objective.mixing()
        # The cross-entropy of equal probabilities, of both heads where there is a second one.
        self.chance = math.log(num_classes) * (1 + recipe.objective.auxiliary_weight)
        self.labels = labels

    # Batches.

    def order(
        self, records: Sequence[Record], random: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        if self.objective.sampling == "balanced":
            return balanced_order(_labels(records), random)
        return random.permutation(len(records)), np.zeros(len(records), np.int64)

    def collate(self, samples: Sequence[Any], records: Sequence[Record], place: Place | None) -> Batch:
        images = self.preprocessing.normalize(np.stack(samples))  # [N, S, S, 3] -> [N, 3, S, S]
        labels = _labels(records)  # [N]
        if place is None:
            return Batch(images, {"labels": labels})
        if self.augmentation.erasing:
            self.augmentation.erase(images, place.image_generators(ERASING))
        if self.augmentation.cutout:
            self.augmentation.cut_out(images, place.image_generators(CUTOUT))
        mix = self.mixing.draw(self.augmentation.image_size, place.batch_generator(MIXING))
        targets = {"labels": labels}
        if mix is not None:
            mix_images(images, mix)
            targets["neighbors"] = labels[neighbors(len(labels))]  # [N], of the images that are mixed in
        weight = None
        if self.class_weights is not None:
            weight = float(self.class_weights[_labels(place.whole)].sum(dtype=np.float64))
        return Batch(images, targets, Shared(mix, weight))

    # The loss.

    def divisor(self, batch: Batch, ranks: Ranks) -> float | None:
        del ranks  # every process knows the labels of the whole batch
        shared: Shared | None = batch.shared
        return shared.weight if shared else None

    def loss(self, outputs: tuple[paddle.Tensor, ...], batch: Batch) -> tuple[paddle.Tensor, tuple[paddle.Tensor, ...]]:
        import paddle  # here, since workers import this module

        logits, *auxiliary = outputs  # [N, classes], and of a network of cells in training those of its second head
        mix = batch.shared.mix if batch.shared else None
        loss = self._cross_entropy(logits, batch, mix)
        for second in auxiliary:
            loss = loss + self.objective.auxiliary_weight * self._cross_entropy(second, batch, mix)
        # The accuracy of training is that of what an image has more of.
        labels = batch.targets["neighbors" if mix is not None and mix.share < 0.5 else "labels"]
        with paddle.no_grad():
            correct = (logits.argmax(axis=1) == paddle.to_tensor(labels)).sum()
        return loss, (correct,)

    def _cross_entropy(self, logits: paddle.Tensor, batch: Batch, mix: Mix | None) -> paddle.Tensor:
        """Return the sum over a part of a batch, of the images and of those that are mixed in."""
        import paddle

        from mobilenext.classification.loss import cross_entropy_sum

        labels, smoothing = paddle.to_tensor(batch.targets["labels"]), self.objective.label_smoothing
        weights = None if self.class_weights is None else paddle.to_tensor(self.class_weights)
        loss = cross_entropy_sum(logits, labels, smoothing, weights)
        if mix is not None:
            others = paddle.to_tensor(batch.targets["neighbors"])
            loss = mix.share * loss + (1 - mix.share) * cross_entropy_sum(logits, others, smoothing, weights)
        return loss

    # The validation.

    def summary(self, counts: Counts) -> dict[str, Any]:
        values = counts.summary()
        return {name: values[name] for name in _SUMMARY} | counts.scores().summary()

    def score(self, summary: Mapping[str, Any]) -> float | None:
        metric = self.objective.best_metric
        value = summary.get(_FIELDS.get(metric, f"{metric}_percent"))
        return None if value is None else -value if metric == "loss" else value

    # The log.

    def measures(self, counted: Mapping[str, float], images: int) -> dict[str, float]:
        return {"top1_percent": round(100 * counted["correct"] / images, 3)}

    def describe_measures(self, measures: Mapping[str, float]) -> str:
        return f"top-1: {percent_text(measures['top1_percent'])}"

    def describe_summary(self, summary: Mapping[str, Any]) -> str:
        metric = self.objective.best_metric
        field = "" if metric in ("top1", "top5") else f"{metric}_percent"  # these two stand there by themselves
        top5 = f"top-5 {percent_text(summary['top5_percent'])}, " if self.num_classes > TOP else ""  # else 100 % always
        best = f"{metric} {percent_text(summary[field])}, " if field in summary else ""
        return (
            f"top-1 {percent_text(summary['top1_percent'])} ({summary['correct_top1']} of {summary['images']}), "
            f"{top5}{best}loss {summary['loss']:.4f}"
        )

    def weights_fields(self, network: nn.Layer) -> Mapping[str, Any]:
        del network  # the classes are those of the data
        return {"num_classes": self.num_classes, "labels": self.labels}


def _labels(records: Sequence[Any]) -> npt.NDArray[np.int64]:
    return np.array([record.label for record in records], np.int64)


def make_job(config: Mapping[str, Any], recipe: Recipe, parts: Parts) -> ClassificationJob:
    """Return the job of a run.

    Raises:
        UsageError: another number of class weights than of classes.
    """
    assert isinstance(recipe, ClassificationRecipe)
    images = Counter(_labels(parts.train.records).tolist())
    try:
        weights = weights_of_classes(
            recipe.objective.class_weights, [images[label] for label in range(config["num_classes"])]
        )
    except ValueError as error:
        raise UsageError(f"class_weights is {recipe.objective.class_weights!r}: {error}") from error
    return ClassificationJob(
        recipe,
        Preprocessing.from_dict(config["preprocessing"]),
        config["num_classes"],
        labels=tuple(config["labels"]) if config["labels"] else None,
        class_weights=weights,
    )


def build_network(config: Mapping[str, Any], weights: Path | None) -> nn.Layer:
    """Return the network of a run, with its first weights or freshly initialized."""
    from mobilenext.weights.pretrained import create_model

    first = (config["weights"] or {}) if weights else {}
    architecture = config.get("architecture")
    network = create_model(
        config["model"] if architecture is None else Architecture.from_dict(architecture),
        weights=weights,
        num_classes=config["num_classes"],
        identity_divisor=config["identity_divisor"],
        classes=first.get("classes"),
        use=first.get("kind"),
        section=first.get("section"),
    )
    if weight := config["recipe"].get("auxiliary_weight"):
        if not hasattr(network, "add_auxiliary_head"):
            raise UsageError(
                f"auxiliary_weight is {weight}, but {config['model']} has no second head; expected 0: "
                "--set auxiliary_weight=0"
            )
        if network.auxiliary_head is None:  # converted weights of the authors have one
            network.add_auxiliary_head(config["preprocessing"]["image_size"])
    return network


TRAINING = Training(
    recipe=ClassificationRecipe,
    recipes=RECIPES,
    from_scratch=FROM_SCRATCH,
    from_weights=FROM_WEIGHTS,
    open_parts=open_run,
    reopen_parts=reopen_run,
    build=build_network,
    job=make_job,
    stored={"num_classes": whole(1, MOST_CLASSES), "labels": nullable(many(text()))},
    describe=lambda config: f"{config['num_classes']} classes",
)
