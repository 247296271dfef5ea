"""A second task, as small as one can be: the mean brightness of an image, on a network with one output.

part/*.png    part is train or val; the target is the mean of the file's own pixels, from 0 to 1
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilenext import tasks
from mobilenext.data import Dataset, Preprocessing, Record, read_image
from mobilenext.job import Batch, DataRequest, Parts, Place, Sampler, Training
from mobilenext.json_files import number, record, whole
from mobilenext.models import build_network
from mobilenext.presentation import Measured, Presentation
from mobilenext.recipe import Recipe
from mobilenext.task import Evaluated, Evaluation, Metric, Task
from mobilenext.weights.builders import register_builder
from mobilenext.weights.record import NetworkRecord

NAME = "brightness"


@dataclass(frozen=True)
class BrightImage(Record):
    brightness: float

    def line(self) -> str:
        return f"{self.name}\0{self.brightness}"


def open_part(root: Path, part: str) -> Dataset:
    paths = sorted((root / part).glob("*.png"))
    records = tuple(
        BrightImage(index, path, f"{part}/{path.name}", float(np.asarray(read_image(path)).mean() / 255))
        for index, path in enumerate(paths)
    )
    return Dataset(root, "folder", None, records, None, len(records), ())


# Training


@dataclass(frozen=True, kw_only=True)
class Objective:
    best_metric: str = "mean_error"


@dataclass(frozen=True, kw_only=True)
class Flips:
    image_size: int = 32
    flip: float = 0.5


@dataclass(frozen=True, kw_only=True)
class BrightnessRecipe(Recipe):
    objective: Objective = field(default_factory=Objective)
    augmentation: Flips = field(default_factory=Flips)


@dataclass(frozen=True)
class Flipped:
    preprocessing: Preprocessing
    probability: float

    def __call__(self, image: Image.Image, record: Record, random: np.random.Generator | None) -> Any:
        pixels = self.preprocessing.pixels(image)
        return pixels[:, ::-1] if random is not None and random.random() < self.probability else pixels


class BrightnessJob:
    counted: tuple[str, ...] = ("absolute_error",)
    scalars: tuple[str, ...] = ("mean_error",)
    chance = 1.0

    def __init__(self, config: Mapping[str, Any], recipe: Recipe, parts: Parts) -> None:
        self.preprocessing = Preprocessing.from_dict(config["preprocessing"])
        self.sample: Sampler = Flipped(self.preprocessing, recipe.augmentation.flip)

    def order(self, records: Sequence[Record], random: np.random.Generator) -> Any:
        return random.permutation(len(records)), np.zeros(len(records), np.int64)

    def collate(self, samples: Sequence[Any], records: Sequence[Any], place: Place | None) -> Batch:
        targets = np.array([[record.brightness] for record in records], np.float32)  # [N, 1]
        return Batch(self.preprocessing.normalize(np.stack(samples)), {"brightness": targets})

    def divisor(self, batch: Batch, ranks: Any) -> float | None:
        return float(ranks.sum([len(batch)])[0])

    def loss(self, outputs: Any, batch: Batch) -> Any:
        import paddle

        errors = outputs[0] - paddle.to_tensor(batch.targets["brightness"])
        return (errors**2).sum(), (errors.abs().sum(),)

    def summary(self, counts: Counts) -> dict[str, Any]:
        return counts.summary()

    def score(self, summary: Mapping[str, Any]) -> float | None:
        return -float(summary["mean_error"])

    def measures(self, counted: Mapping[str, float], images: int) -> dict[str, float]:
        return {"mean_error": counted["absolute_error"] / images}

    def describe_measures(self, measures: Mapping[str, float]) -> str:
        return f"mean error: {measures['mean_error']:.4f}"

    def describe_summary(self, summary: Mapping[str, Any]) -> str:
        return self.describe_measures(summary)

    def weights_fields(self, network: Any) -> Mapping[str, Any]:
        return {"num_classes": 1, "labels": None}


def build(config: Mapping[str, Any], weights: Path | None) -> Any:
    from mobilenext.weights.pretrained import create_model

    return create_model(config["model"], weights=weights, num_classes=1, identity_divisor=config["identity_divisor"])


def open_parts(request: DataRequest) -> Parts:
    return Parts(open_part(request.root, "train"), open_part(request.root, "val"), stored={})


def reopen_parts(config: Mapping[str, Any], request: DataRequest, folder: Path) -> Parts:
    return open_parts(request)


RECIPE = BrightnessRecipe(
    name="small", source="a test", expected="", cost="", command="", epochs=3, batch_size=8, lr_batch_size=8, lr=0.01,
    ema_decay=0.5, preprocessing=Preprocessing(image_size=32, crop_pct=1.0),
)  # fmt: skip
TRAINING = Training(
    recipe=BrightnessRecipe, recipes={"small": RECIPE}, from_scratch="small", from_weights="small",
    open_parts=open_parts, reopen_parts=reopen_parts, build=build, job=BrightnessJob, stored={},
    describe=lambda config: "one brightness", has_backbone=True,
)  # fmt: skip


# Evaluation


@dataclass(frozen=True)
class BrightRow:
    index: int
    path: str
    brightness: float
    answer: float | None
    error: str | None = None
    bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Counts:
    correct = None

    def __init__(self) -> None:
        self.images, self.readable, self.absolute_error = 0, 0, 0.0

    def add(self, row: BrightRow) -> None:
        self.images += 1
        if row.answer is not None:
            self.readable += 1
            self.absolute_error += abs(row.answer - row.brightness)

    def to_bytes(self) -> bytes:
        return np.array([self.images, self.readable, self.absolute_error]).tobytes()

    def merge(self, parts: Sequence[bytes]) -> None:
        images, readable, self.absolute_error = np.sum([np.frombuffer(part) for part in parts], axis=0).tolist()
        self.images, self.readable = int(images), int(readable)

    def summary(self) -> dict[str, Any]:
        return {"images": self.images, "mean_error": round(self.absolute_error / max(1, self.readable), 6)}


def open_data(root: Any, *, list_file: Any, split: str | None) -> Dataset:
    return open_part(Path(root), split or "val")


def rows(outputs: Any, records: Sequence[Any], facts: Mapping[str, Any]) -> list[BrightRow]:
    pairs = zip(records, outputs[0][:, 0].tolist(), strict=True)
    return [BrightRow(record.index, record.name, record.brightness, round(value, 6)) for record, value in pairs]


def unreadable(record: Any, problem: str) -> BrightRow:
    return BrightRow(record.index, record.name, record.brightness, None, problem)


def read_row(value: Any, index: int, facts: Mapping[str, Any], record: Any) -> BrightRow:
    return BrightRow(**value)


def counts(facts: Mapping[str, Any]) -> Counts:
    return Counts()


def result(evaluated: Evaluated) -> dict[str, Any]:
    return {"mean_error": evaluated.counts.summary()["mean_error"]}


CHECK = record({"images": whole(1), "mean_error": number(0)})
EVALUATION = Evaluation(
    open_data=open_data, fit_data=lambda dataset, prepared: dataset, warnings=lambda dataset, network: [],
    facts=lambda network, options: {}, rows=rows, unreadable=unreadable, read_row=read_row, counts=counts,
    result=result, result_fields=CHECK,
    answer=lambda outputs, network, options: [{"brightness": round(float(value), 6)} for (value,) in outputs[0]],
    answer_lines=lambda answer: [f"brightness {answer['brightness']:.3f}"],
)  # fmt: skip


# Presentation


def measured(values: Mapping[str, Any]) -> Measured:
    return Measured(values["mean_error"], f"{values['mean_error']:.4f}")


PRESENTATION = Presentation(check_counts=CHECK, measured=measured)
METRIC = Metric("mean_error", "", larger_is_better=False, display="mean error", field="mean_error")
TASK = Task(NAME, METRIC, EVALUATION, lambda: TRAINING, lambda: PRESENTATION)
tasks.register(NAME, TASK)


def build_network_of(record: NetworkRecord) -> Any:
    """Build a network of the blocks that the architecture lists, or that of the model's card."""
    from mobilenext.models.sandglass import BlockPlan, MobileNeXt

    if record.architecture is None:
        return build_network(record.model, num_classes=record.num_classes, identity_divisor=record.identity_divisor)
    plan = tuple(BlockPlan(**block) for block in record.architecture["blocks"])
    return MobileNeXt(plan=plan, num_classes=record.num_classes)


register_builder(NAME, build_network_of)


def write_images(root: Path, parts: Iterable[tuple[str, int]] = (("train", 24), ("val", 10))) -> Path:
    """Write gray images with noise: so many of each part."""
    for part, images in parts:
        (root / part).mkdir(parents=True)
        for index in range(images):
            random = np.random.default_rng([index, images])
            pixels = random.uniform(0, 255) + random.normal(0, 20, (40, 40, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / part / f"{index:02}.png")
    return root
