"""The job of a detector's training: its recipes, its batches, its loss, and what it begins with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from boxed_pictures import write_pictures
from mobilenext.data.boxes import Box, BoxedImage
from mobilenext.detection import losses
from mobilenext.detection.first_weights import build_network
from mobilenext.detection.recipes import RECIPES, DetectionRecipe
from mobilenext.detection.training import DetectionJob, Sample, normalized
from mobilenext.errors import UsageError, WeightsError
from mobilenext.job import Batch, Parts
from mobilenext.machine.ranks import Ranks
from mobilenext.models.detector_form import COCO_SIZES, FORMS, Form, detection_preprocessing
from mobilenext.training.plan import new_plan
from mobilenext.training.schedule import learning_rate
from mobilenext.weights.pretrained import locate
from mobilenext.weights.read import read_weights

MODEL = "ssdlite320_mobilenext_x0_35"
TINY20 = "mobilenext_x0_35.tiny20"
SMALL = Form(loss="multibox", image_size=224)


# The recipes: the numbers of the authors' configuration, and of the program that reads it.


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("ssdlite-voc", {0: 4e-3 * 0.1333, 1000: 4e-3, 39_999: 4e-3, 40_000: 4e-4, 49_999: 4e-4, 50_000: 4e-5}),
        ("ssdlite-coco", {0: 0.08 * 0.1333, 100_000: 0.04, 50_000: 0.04 * (1 + 2**-0.5), 200_000: 0.0}),
    ],
)
def test_the_rates_of_the_authors(name: str, rates: Mapping[int, float]) -> None:
    recipe = RECIPES[name]
    assert {step: learning_rate(recipe, step, 172) for step in rates} == pytest.approx(rates)
    # One of their GPUs instead of all: their rate for it.
    one = recipe.with_settings([f"batch_size={recipe.batch_size // (4 if name == 'ssdlite-voc' else 8)}"])
    assert one.scaled_lr == pytest.approx({"ssdlite-voc": 1e-3, "ssdlite-coco": 1e-2}[name])
    assert (recipe.momentum, recipe.nesterov, recipe.decay_1d, recipe.ema_decay) == (0.9, False, True, 0.0)
    assert recipe.weight_decay == {"ssdlite-voc": 5e-4, "ssdlite-coco": 4e-5}[name]
    assert recipe.sync_bn == (name == "ssdlite-coco")
    assert recipe.form_for() == FORMS[name.partition("-")[2]]


@pytest.mark.parametrize("name", RECIPES)
def test_there_and_back(name: str) -> None:
    recipe = RECIPES[name]
    assert DetectionRecipe.from_dict(recipe.stored()).stored() == recipe.stored()
    images = recipe.preprocessing
    assert (images.fit, images.image_size, images.crop_pct) == ("squash", recipe.augmentation.image_size, 1.0)
    assert images.interpolation == detection_preprocessing(320).interpolation


def test_the_form_of_a_run() -> None:
    small = RECIPES["ssdlite-small"]
    assert small.form_for().prior_sizes[0] == (24, 140)
    # Another size scales the priors that nobody has set, and only those.
    larger = small.with_settings(["image_size=480"])
    assert larger.form_for(settings={"image_size"}).prior_sizes[0] == (36, 210)
    pairs = "30-60,60-110,110-160,160-220,220-280,270-320"
    own = small.with_settings(["image_size=480", f"prior_sizes={pairs}"])
    assert own.form_for(settings={"image_size", "prior_sizes"}).prior_sizes[:2] == ((30, 60), (60, 110))
    assert small.with_settings(["form=coco"]).form_for(settings={"form"}).loss == "focal"
    # Weights keep their form, but for what is set.
    stored = FORMS["coco"].replace(image_size=224)
    assert small.with_settings(["image_size=224"]).form_for(stored) == stored
    other = RECIPES["ssdlite-voc"].with_settings(["form=coco", "image_size=320"]).form_for(stored, {"form"})
    assert other.prior_sizes == pytest.approx(np.array(COCO_SIZES))
    for text in ("24-120", "a-b,1-2,1-2,1-2,1-2,1-2", "9-2,1-2,1-2,1-2,1-2,1-2", "0-2,1-2,1-2,1-2,1-2,1-2"):
        with pytest.raises(UsageError, match="6 pairs MIN-MAX"):
            small.with_settings([f"prior_sizes={text}"])
    with pytest.raises(UsageError, match=r"form is 'voc7'.*did you mean 'voc'"):
        small.with_settings(["form=voc7"])
    with pytest.raises(UsageError, match="224 to 512"):
        small.with_settings(["image_size=640"]).form_for()


# Batches and the loss.


def job(form: Form, *records: BoxedImage, batch_size: int = 4) -> DetectionJob:
    recipe = RECIPES["ssdlite-small"].replace(image_size=form.image_size, batch_size=batch_size)
    config = {
        "architecture": {"form": form.to_dict()}, "num_classes": 3, "labels": ["a", "b", "c"],
        "preprocessing": detection_preprocessing(form.image_size).to_dict(),
    }  # fmt: skip
    dataset: Any = type("Pictures", (), {"records": records})
    return DetectionJob(config, recipe, Parts(dataset, dataset, {}))


def picture(index: int, *boxes: Box) -> BoxedImage:
    return BoxedImage(index, f"{index}.png", f"{index}.png", 100, 80, boxes, index)


def batch_of(form: Form, boxes: list[np.ndarray], labels: list[np.ndarray], of: DetectionJob) -> Batch:
    from mobilenext.detection.matching import match

    image = np.zeros((3, 2, 2), np.float32)
    samples = [Sample(image, *match(*pair, form)) for pair in zip(boxes, labels, strict=True)]
    return of.collate(samples, [], place=object())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_the_loss_is_the_public_one_and_its_parts_add_up(name: str) -> None:
    """Divided by the positives of the whole batch; a picture without boxes among them, and a part without any."""
    form = FORMS[name].replace(image_size=224)
    random = np.random.default_rng(5)
    boxes = [np.array([[0.1, 0.1, 0.5, 0.6], [0.5, 0.2, 0.9, 0.9]], np.float32), np.zeros((0, 4), np.float32),
             np.array([[0.3, 0.4, 0.45, 0.5]], np.float32)]  # fmt: skip
    labels = [np.array([1, 3]), np.zeros(0, np.int64), np.array([2])]
    scores = paddle.to_tensor(random.normal(0, 1, (3, form.priors, 4)).astype(np.float32), stop_gradient=False)
    regressions = paddle.to_tensor(random.normal(0, 1, (3, form.priors, 4)).astype(np.float32), stop_gradient=False)
    expected = losses(scores, regressions, boxes, labels, form=form)
    one = job(form)
    batch = batch_of(form, boxes, labels, one)
    divisor = one.divisor(batch, Ranks())
    assert divisor == np.count_nonzero(batch.targets["labels"]) > 3
    total, sums = 0.0, np.zeros(3)
    for number, part in enumerate(batch.split(3)):
        own = slice(number, number + 1)
        loss, counted = one.loss((scores[own], regressions[own]), part)
        (loss / divisor).backward()
        total += float(loss) / divisor
        sums += [float(value) for value in counted]
    assert total == pytest.approx(sum(map(float, expected)), rel=1e-5)
    assert sums / divisor == pytest.approx([*map(float, expected), 1], rel=1e-5)
    gradients = [tensor.grad.numpy() for tensor in (scores, regressions)]
    for tensor in (scores, regressions):
        tensor.clear_gradient()
    sum(expected).backward()  # type: ignore[union-attr]
    for tensor, gradient in zip((scores, regressions), gradients, strict=True):
        assert np.allclose(tensor.grad.numpy(), gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_guessing_is_no_divergence(name: str) -> None:
    """A batch without a positive is divided by 1; its loss, and that of a usual one, is below the bound."""
    form = FORMS[name].replace(image_size=224)
    one = job(form, *(picture(index) for index in range(8)))
    scores = paddle.full([4, form.priors, 4], 0.0 if name == "voc" else -4.59512)
    regressions = paddle.zeros([4, form.priors, 4])
    batch = batch_of(form, [np.zeros((0, 4), np.float32)] * 4, [np.zeros(0, np.int64)] * 4, one)
    assert one.divisor(batch, Ranks()) == 1
    loss, _ = one.loss((scores, regressions), batch)
    assert 0 < float(loss) <= one.chance < 1000
    usual = job(form, picture(0, Box((10, 10, 60, 60), 1)))
    batch = batch_of(form, [np.array([[0.1, 0.1, 0.6, 0.7]], np.float32)] * 4, [np.array([2])] * 4, usual)
    loss, _ = usual.loss((scores, regressions), batch)
    assert float(loss) / usual.divisor(batch, Ranks()) <= usual.chance < 20  # type: ignore[operator]


def test_a_sample_is_augmented_matched_and_normalized() -> None:
    from PIL import Image

    one = job(SMALL)
    pixels = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    record = picture(0, Box((20, 16, 70, 64), 2), Box((1, 1, 9, 9), 1, difficult=True))
    sample = one.sample(Image.fromarray(pixels), record, np.random.default_rng(1))
    assert (sample.image.dtype, sample.image.shape) == (np.float32, (3, 224, 224))
    assert set(sample.labels.tolist()) == {0, 2}  # a difficult box is not trained on
    assert not sample.regressions[sample.labels == 0].any()
    again = one.sample(Image.fromarray(pixels), record, np.random.default_rng(1))
    assert all(np.array_equal(*pair) for pair in zip(sample, again, strict=True))
    evaluated = one.sample(Image.fromarray(pixels), record, None)
    batch = one.collate([evaluated], [record], None)
    assert np.array_equal(batch.inputs[0], one.preprocessing(Image.fromarray(pixels)))
    # The same arithmetic for float32 as for uint8, but for rounding.
    assert np.abs(normalized(evaluated.astype(np.float32), one.preprocessing) - batch.inputs[0]).max() < 1e-5


# First weights.


def config(form: Form = SMALL, classes: int = 3, **weights: Any) -> dict[str, Any]:
    return {
        "model": MODEL, "num_classes": classes, "identity_divisor": 1, "labels": None,
        "architecture": {"form": form.to_dict()}, "weights": {"kind": "raw"} | weights,
    }  # fmt: skip


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a detector of two classes, freshly initialized."""
    from mobilenext.weights import naming
    from mobilenext.weights.record import Weights
    from mobilenext.weights.write import write_weights

    network = build_network(config(classes=2), None)
    path = tmp_path_factory.mktemp("weights") / "detector.safetensors"
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    weights = Weights(
        model=MODEL, num_classes=2, identity_divisor=1, task="detection", architecture={"form": SMALL.to_dict()},
        preprocessing=detection_preprocessing(224), labels=("a", "b"), path=path, sha256="", source_name="a test",
        source_sha256="", card=None, kind="raw", notes=(), tensors=tensors, entries=naming.entries_of(network),
        dialect="paddle", dropped=(),
    )  # fmt: skip
    write_weights(weights, path)
    return path


def test_a_backbone(caplog: pytest.LogCaptureFixture) -> None:
    path = locate("mobilenext_x0_35.tiny20", None)
    with caplog.at_level("INFO"):
        network = build_network(config(part="backbone", kind="ema"), path)
    taken = {f"backbone.{name}": tensor for name, tensor in read_weights(path).tensors.items()}
    own = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    common = own.keys() & taken.keys()
    assert all(np.array_equal(own[name], taken[name]) for name in common)
    assert {name for name in own if name.startswith("backbone.features.")} == common
    assert any(f"{len(common)} tensors taken" in message for message in caplog.messages)
    with pytest.raises(WeightsError, match=r"mobilenext_x0_35.*mobilenext_x0_5"):
        build_network({**config(part="backbone", kind="ema"), "model": "ssdlite320_mobilenext_x0_5"}, path)


@pytest.mark.parametrize(
    ("changes", "why", "fresh"),
    [
        ({"classes": 2}, None, "nothing"),
        ({"classes": 3}, "3 classes instead of the weights' 2", r"cls_headers\.(\d\.conv\.3|5)\."),
        ({"classes": 2, "form": SMALL.replace(prior_sizes=((9, 20),) * 6)}, None, "nothing"),
        ({"classes": 2, "form": SMALL.replace(loss="focal")}, "another loss", r"cls_headers\."),
        ({"classes": 2, "form": SMALL.replace(ratios=((2,),) * 6)}, "other aspect ratios", r"box_head\."),
    ],
)
def test_a_detectors_weights(
    changes: dict[str, Any], why: str | None, fresh: str, detector: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paddle.seed(1)
    network = build_network(config(**changes), detector)
    before = read_weights(detector).tensors
    for name, tensor in network.state_dict().items():
        kept = not re.search(fresh, name)
        same = list(tensor.shape) == list(before[name].shape) and np.array_equal(tensor.numpy(), before[name])
        constant = len(np.unique(before[name])) == 1  # batch norms and biases begin with the same numbers
        assert same == kept or constant, name
    assert any(why in message for message in caplog.messages) if why else not caplog.messages


# What is refused before anything is computed.


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (MODEL, {"weights": TINY20}, "a network for classification; .* is one for detection: .* by --backbone FILE"),
        (MODEL, {"weights": locate(TINY20, None)}, "its backbone can begin with them by --backbone FILE"),
        ("mobilenext_x0_35", {"weights": "DETECTOR"}, "holds ssdlite320_mobilenext_x0_35 .*asked for mobilenext_x0_35"),
        (MODEL, {"weights": "DETECTOR", "backbone": TINY20}, "weights and backbone at once"),
        (None, {"backbone": TINY20}, "no model for the backbone; expected --model NAME"),
        ("mobilenext_x0_35", {"backbone": TINY20}, "classification has no backbone of its own"),
        (MODEL, {"recipe": "tiny"}, "tiny is a recipe for classification, but the model"),
        (
            MODEL,
            {"settings": ["image_size=640"]},
            "image_size is 640; expected .* 224 to 512",
        ),
        (MODEL, {"settings": ["freeze=backbone"]}, "without first weights"),
    ],
)
def test_what_does_not_fit_together(
    model: str | None, options: dict[str, Any], message: str, detector: Path, tmp_path: Path
) -> None:
    options = {name: detector if value == "DETECTOR" else value for name, value in options.items()}
    with pytest.raises((UsageError, WeightsError), match=message):
        new_plan(write_pictures(tmp_path / "data", {"train": 4, "val": 4}), model=model, **options)


def test_weights_keep_their_form_and_images(detector: Path, tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data", {"train": 4, "val": 4})
    plan = new_plan(data, weights=detector, labels=["disc", "square"])
    assert (plan.recipe.name, plan.config["architecture"]["form"]) == ("ssdlite-small", SMALL.to_dict())
    assert plan.config["preprocessing"] == detection_preprocessing(224).to_dict()
    larger = new_plan(data, weights=detector, settings=["image_size=256", "form=coco"])
    assert (larger.config["architecture"]["form"]["loss"], larger.recipe.augmentation.image_size) == ("focal", 256)
    assert larger.parts.remarks[0].startswith("boxes that some prior can match (IoU 0.5, input of 256 px)")
