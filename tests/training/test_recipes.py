from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex

import pytest

from mobilenext.classification.recipes import RECIPES
from mobilenext.classification.recipes import ClassificationRecipe as Recipe
from mobilenext.classification.task import TASK
from mobilenext.cli.program import parser
from mobilenext.data import Preprocessing
from mobilenext.errors import UsageError
from mobilenext.models import find_model
from mobilenext.recipe import HEADER
from mobilenext.training import plan
from mobilenext.training.schedule import learning_rate

SETTABLE = [name for name in RECIPES["tiny"].to_dict() if name not in HEADER]
IMAGES = {
    "image_size": 224, "crop_pct": 0.875, "crop": "random-resized", "scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3),
    "interpolation": "random", "flip": 0.5,
}  # fmt: skip
PLAIN = {**IMAGES, "color_jitter": 0.4, "rand_augment": "", "erasing": 0.0, "precision": "fp32", "sync_bn": False}
# What the paper states, and the arguments in the authors' checkpoints; typed by hand.
PUBLISHED = {
    "paper": {
        **PLAIN, "optimizer": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 4e-5, "lr": 0.05,
        "lr_batch_size": 256, "batch_size": 256, "schedule": "cosine", "epochs": 200, "warmup_epochs": 0,
        "label_smoothing": 0.0, "ema_decay": 0.0,
    },
    "released": {
        **PLAIN, "optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4, "decay_1d": False,
        "lr": 0.1, "lr_batch_size": 512, "batch_size": 512, "schedule": "cosine", "schedule_by": "epoch",
        "min_lr": 1e-5, "warmup_epochs": 3, "warmup_lr": 1e-4, "epochs": 200, "cooldown_epochs": 10,
        "label_smoothing": 0.1, "ema_decay": 0.0, "dropout": None, "drop_connect": None,
    },
    "efficient": {
        **PLAIN, "optimizer": "rmsprop", "rmsprop_decay": 0.9, "momentum": 0.9, "rmsprop_epsilon": 1e-3,
        "nesterov": False, "weight_decay": 1e-5, "decay_1d": False, "lr": 0.12, "lr_batch_size": 512,
        "batch_size": 512, "schedule": "step", "schedule_by": "epoch", "step_epochs": 2.4, "step_factor": 0.97,
        "min_lr": 0.0, "warmup_epochs": 3, "warmup_lr": 1e-6, "epochs": 500, "cooldown_epochs": 0,
        "label_smoothing": 0.1, "ema_decay": 0.9999, "ema_warmup": False, "dropout": None, "drop_connect": None,
    },
    "efficient-aug": {
        **PLAIN, "optimizer": "rmsprop", "rmsprop_decay": 0.9, "momentum": 0.9, "rmsprop_epsilon": 1e-3,
        "nesterov": False, "weight_decay": 1e-5, "decay_1d": False, "lr": 0.048, "lr_batch_size": 512,
        "batch_size": 512, "schedule": "step", "schedule_by": "epoch", "step_epochs": 2.4, "step_factor": 0.97,
        "min_lr": 0.0, "warmup_epochs": 3, "warmup_lr": 1e-6, "epochs": 550, "cooldown_epochs": 0,
        "label_smoothing": 0.1, "ema_decay": 0.9999, "ema_warmup": False, "dropout": 0.2, "drop_connect": 0.2,
        "color_jitter": 0.0, "rand_augment": "rand-m9-mstd0.5", "erasing": 0.2, "erasing_mode": "pixel",
    },
    # The arguments of quark0/darts: cnn/train.py and cnn/train_imagenet.py, with the paper's 250 epochs.
    "darts-cifar": {
        "optimizer": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 3e-4, "decay_1d": True, "lr": 0.025,
        "lr_batch_size": 96, "batch_size": 96, "schedule": "cosine", "schedule_by": "epoch", "min_lr": 0.0,
        "warmup_epochs": 0, "epochs": 600, "clip_norm": 5.0, "auxiliary_weight": 0.4, "drop_path": 0.2,
        "label_smoothing": 0.0, "image_size": 32, "crop_pct": 1.0, "crop": "pad", "padding": 4, "flip": 0.5,
        "cutout": 16, "ema_decay": 0.0,
    },
    "darts-imagenet": {
        **PLAIN, "optimizer": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 3e-5, "decay_1d": True,
        "lr": 0.1, "lr_batch_size": 128, "batch_size": 128, "schedule": "step", "schedule_by": "epoch",
        "step_epochs": 1.0, "step_factor": 0.97, "min_lr": 0.0, "warmup_epochs": 0, "epochs": 250, "clip_norm": 5.0,
        "auxiliary_weight": 0.4, "drop_path": 0.0, "label_smoothing": 0.1, "cutout": 0, "ema_decay": 0.0,
    },
}  # fmt: skip


def find_recipe(name: str) -> Recipe:
    recipe = plan.find_recipe(TASK, name)
    assert isinstance(recipe, Recipe)
    return recipe


def values(recipe: Recipe) -> dict[str, object]:
    """Flat, with pairs as they are in Python."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in recipe.to_dict().items()}


def rates(recipe: Recipe, steps: range, steps_per_epoch: int) -> list[float]:
    return [learning_rate(recipe, step, steps_per_epoch) for step in steps]


# --- the named ones


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name: str) -> None:
    recipe = find_recipe(name)
    assert {field: values(recipe)[field] for field in PUBLISHED[name]} == PUBLISHED[name]


def test_the_paper_recipe_says_what_it_adds() -> None:
    assert find_recipe("paper").augmentation == find_recipe("released").augmentation
    assert "not stated: augmentation (as in `released`), warm-up (none)" in find_recipe("paper").expected


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_where_it_comes_from_and_how_it_is_run(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.name == name
    assert all(getattr(recipe, field).strip() for field in HEADER)
    program, *words = shlex.split(recipe.command)
    options = parser().parse_args(words)
    assert (program, words[0], options.recipe) == ("mobilenext", "train", name)
    assert options.model.endswith("architecture.json") or find_model(options.model).name == options.model
    assert options.data
    assert options.output


def test_unknown_recipe() -> None:
    with pytest.raises(
        UsageError, match=r"unknown recipe 'relased'; did you mean 'released'.*for classification: paper"
    ):
        find_recipe("relased")


def test_the_colors_of_cifar() -> None:
    preprocessing = find_recipe("darts-cifar").preprocessing
    assert preprocessing.mean == (0.49139968, 0.48215827, 0.44653124)
    assert preprocessing.std == (0.24703233, 0.24348505, 0.26158768)


def without_colors(recipe: Recipe) -> Recipe:
    """Mean and std belong to the weights: a run stores them beside its recipe."""
    images = dataclasses.replace(recipe.preprocessing, mean=Preprocessing().mean, std=Preprocessing().std)
    return dataclasses.replace(recipe, preprocessing=images)


@pytest.mark.parametrize("name", RECIPES)
def test_json_there_and_back(name: str) -> None:
    recipe = RECIPES[name].with_settings(["lr=0.1234567890123456789", "scale=0.3,0.9", "dropout=0.25"])
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == without_colors(recipe)


# SHA-256 of the recipes' JSON in the version before the fields of LATER, with which runs were begun.
BEFORE = {
    "paper": "e7b2ef70b27ac443", "released": "21046d202ffac6e2", "efficient": "0c7a734250b91404",
    "efficient-aug": "f9eeccb86c27ac00", "finetune": "b17d47e45c9dcf14", "tiny": "9d508fe29d5074a0",
}  # fmt: skip
CHANGED = {
    "freeze": "backbone", "freeze_bn": "all", "class_weights": "balanced", "sampling": "balanced", "mixup": 0.2,
    "cutmix": 1.0, "mix_probability": 0.5, "mix_switch": 0.4, "best_metric": "macro_f1", "patience": 3,
    "steps": 100, "warmup_steps": 9, "warmup_factor": 0.25, "milestones": [5.0, 9.5], "milestone_factor": 0.2,
    "fit": "squash", "validate_every": 4, "clip_norm": 5.0, "drop_path": 0.2, "auxiliary_weight": 0.4, "cutout": 16,
}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE)
def test_what_is_stored_without_later_fields_is_what_it_was(name: str) -> None:
    stored = RECIPES[name].stored()
    assert hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()[:16] == BEFORE[name]
    assert Recipe.from_dict(stored) == RECIPES[name]


def test_later_fields_are_stored_where_they_are_set() -> None:
    recipe = find_recipe("finetune")
    assert set(CHANGED) == set(recipe.to_dict()) - set(recipe.stored())
    for name, value in CHANGED.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else value
        other = recipe.with_settings([f"{name}={text}"])
        assert other.stored() == {**recipe.stored(), name: value}
        assert Recipe.from_dict(json.loads(json.dumps(other.stored()))) == other != recipe


def test_a_record_that_is_none() -> None:
    stored = find_recipe("tiny").to_dict()
    for name, value in (("freeze", None), ("freeze", 3.5), ("class_weights", {}), ("sampling", []), ("patience", "x")):
        with pytest.raises(UsageError, match=f"{name}|this is not a recipe"):
            Recipe.from_dict({**stored, name: value})
    for values in ({**stored, "tempo": 1}, {key: stored[key] for key in stored if key != "epochs"}):
        with pytest.raises(UsageError, match=r"this is not a recipe: .*(tempo|epochs)"):
            Recipe.from_dict(values)


# --- the learning rate


def test_warm_up_for_each_epoch() -> None:
    # From 1e-4 to 0.1 in three epochs; within an epoch it stays.
    expected = [1e-4] * 4 + [0.0334] * 4 + [0.0667] * 4
    assert rates(find_recipe("released"), range(12), 4) == pytest.approx(expected, rel=1e-12)


def test_warm_up_for_each_step() -> None:
    recipe = find_recipe("released").with_settings(["schedule_by=step", "warmup_epochs=1.5"])
    # Six steps of four for each epoch: the last is at 5/6 of the way.
    expected = [1e-4 + 0.0999 * part for part in (0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6)]
    assert rates(recipe, range(6), 4) == pytest.approx(expected, rel=1e-12)
    # 1e-5 + 0.09999 * (1 + cos(pi * 1.5 / 200)) / 2, as if the schedule had run from the start
    assert learning_rate(recipe, 6, 4) == pytest.approx(0.0999861229, rel=1e-9)


def test_cosine() -> None:
    # (1 + cos) / 2 is 0.99944494 after 3 epochs of 200, then 0.85355339, 0.5, 0.14644661 and 0.00006168.
    at = {3: 0.0999444989, 50: 0.0853568035, 100: 0.050005, 150: 0.0146531966, 199: 0.00001616776}
    for epoch, expected in at.items():
        assert rates(find_recipe("released"), range(epoch * 5, epoch * 5 + 5), 5) == pytest.approx([expected] * 5, 1e-6)


def test_cooldown_is_at_the_lowest_rate() -> None:
    assert rates(find_recipe("released"), range(200, 210), 1) == pytest.approx([1e-5] * 10, rel=1e-12)


def test_cosine_for_each_step() -> None:
    recipe = find_recipe("paper").with_settings(["epochs=2", "schedule_by=step", "lr=1", "min_lr=0.2"])
    # 0.2 + 0.8 * (1 + cos(pi * step / 8)) / 2
    expected = [1.0, 0.9695518130, 0.8828427125, 0.7530733730, 0.6, 0.4469266270, 0.3171572875, 0.2304481870]
    assert rates(recipe, range(8), 4) == pytest.approx(expected, rel=1e-9)
    by_epoch = recipe.with_settings(["schedule_by=epoch"])
    assert rates(by_epoch, range(8), 4) == pytest.approx([1.0] * 4 + [0.6] * 4, rel=1e-12)


def test_steps_of_0_97_every_2_4_epochs() -> None:
    # floor(epoch / 2.4) is 0 0 0 1 1 2 2 2 3 3 4 4 5 for 0..12; the first three are warm-up.
    powers = [0.12, 0.1164, 0.112908, 0.10952076, 0.1062351372, 0.103048083084]
    table = [1e-6, 0.040000666667, 0.080000333333] + [powers[number] for number in (1, 1, 2, 2, 2, 3, 3, 4, 4, 5)]
    recipe = find_recipe("efficient")
    assert rates(recipe, range(0, 39, 3), 3) == pytest.approx(table, rel=1e-9)
    assert rates(recipe, range(2, 39, 3), 3) == pytest.approx(table, rel=1e-9)  # the last step of an epoch
    # In whole numbers: floor(epoch / 2.4) = 5 * epoch // 12.
    last = [0.12 * 0.97 ** (5 * epoch // 12) for epoch in range(3, 500)]
    assert rates(recipe, range(3, 500), 1) == pytest.approx(last, rel=1e-12)
    assert learning_rate(recipe.with_settings(["min_lr=0.1"]), 499, 1) == 0.1


def test_the_rate_is_scaled_to_the_batch() -> None:
    recipe = find_recipe("released").with_settings(["batch_size=128"])
    assert recipe.scaled_lr == pytest.approx(0.025, rel=1e-12)
    # Both ends of the warm-up are scaled, the lowest rate is not.
    expected = [2.5e-5, 2.5e-5 + 0.024975 / 3]
    assert rates(recipe, range(2), 1) == pytest.approx(expected, rel=1e-12)
    assert learning_rate(recipe, 100, 1) == pytest.approx((0.025 + 1e-5) / 2, rel=1e-12)
    assert learning_rate(recipe, 205, 1) == pytest.approx(1e-5, rel=1e-12)
    same = recipe.with_settings(["lr_batch_size=128"])
    assert same.scaled_lr == 0.1


# --- --set


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_can_be_set_to_what_it_is(name: str) -> None:
    def text(value: object) -> str:
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    recipe, base = RECIPES[name], find_recipe("paper")
    header = {field: getattr(recipe, field) for field in HEADER}
    settings = [f"{field}={text(values(recipe)[field])}" for field in SETTABLE]
    assert dataclasses.replace(base, **header).with_settings(settings) == without_colors(recipe)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs=7", 7),
        ("lr=2.5e-3", 0.0025),
        ("lr=1", 1.0),
        (" lr = 0.5 ", 0.5),
        ("nesterov=TRUE", True),
        ("nesterov=0", False),
        ("optimizer=rmsprop", "rmsprop"),
        ("scale=0.5, 1", (0.5, 1.0)),
        ("dropout=0.3", 0.3),
        ("dropout=None", None),
        ("drop_connect=none", None),
        ("rand_augment=rand-m5-n1", "rand-m5-n1"),
        ("precision=bf16", "bf16"),
        ("freeze=12", "12"),
        ("class_weights=1, 2.5,1e3", "1, 2.5,1e3"),
        ("mixup=0.2", 0.2),
        ("patience=5", 5),
    ],
)
def test_types(setting: str, value: object) -> None:
    recipe = find_recipe("efficient-aug").with_settings([setting])
    found = values(recipe)[setting.partition("=")[0].strip()]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("weight_deacy=1", "no recipe has the field 'weight_deacy'; did you mean 'weight_decay'"),
        ("xyzzy=1", "no recipe has the field 'xyzzy'\nknown: epochs, "),
        ("name=mine", "no recipe has the field 'name'"),
        ("source=me", "no recipe has the field 'source'"),
        ("epochs", "--set 'epochs'; expected key=value"),
        ("=3", "no recipe has the field ''"),
        ("lr=abc", "--set lr=abc: expected a number"),
        ("lr=", "--set lr=: expected a number"),
        ("lr=none", "--set lr=none: expected a number"),
        ("lr=nan", "lr is nan; expected a finite number"),
        ("lr=inf", "lr is inf; expected a finite number"),
        ("lr=0", "lr is 0.0; expected a number above 0"),
        ("scale=0.1,nan", "scale is .0.1, nan.; expected a finite number"),
        ("scale=0.1", "--set scale=0.1: expected two numbers with a comma"),
        ("scale=0.9,0.1", "scale is .0.9, 0.1.; expected the least and the largest"),
        ("epochs=0", "epochs is 0; expected 1 or more"),
        ("epochs=1.5", "--set epochs=1.5: expected a whole number"),
        ("epochs=3", "expected less than epochs .3.: set it too, such as --set warmup_epochs=0.3, or"),
        ("batch_size=-8", "batch_size is -8; expected 1 or more"),
        ("nesterov=maybe", "--set nesterov=maybe: expected true or false"),
        ("momentum=1", "momentum is 1.0; expected from 0 to below 1"),
        ("dropout=-0.1", "dropout is -0.1; expected from 0 to below 1"),
        ("optimizer=rmsprob", "optimizer is 'rmsprob'; expected sgd or rmsprop; did you mean 'rmsprop'"),
        ("crop=pat", "crop is 'pat'; expected one of .*; did you mean 'pad'"),
        ("crop_pct=0", "crop_pct is 0.0; expected "),
        ("freeze=backbones", "freeze is 'backbones'; expected none, backbone or a number of blocks, such as 10"),
        ("freeze=0", "freeze is '0'; expected none, backbone or a number of blocks"),
        ("freeze=-1", "freeze is '-1'; expected none"),
        ("freeze_bn=true", "freeze_bn is 'true'; expected none or statistics or all"),
        (
            "class_weights=ballanced",
            "class_weights is 'ballanced'; expected none, balanced or a number above 0 for each",
        ),
        ("class_weights=1,0", "class_weights is '1,0'; expected none, balanced or a number above 0"),
        ("class_weights=1,nan", "class_weights is '1,nan'; expected none, balanced or"),
        ("class_weights=", "class_weights is ''; expected none, balanced or"),
        ("sampling=balance", "sampling is 'balance'; expected shuffle or balanced; did you mean 'balanced'"),
        ("mixup=-1", "mixup is -1.0; expected 0 or more"),
        ("cutmix=nan", "cutmix is nan; expected a finite number"),
        ("mix_probability=1.1", "mix_probability is 1.1; expected from 0 to 1"),
        ("patience=-1", "patience is -1; expected 0 or more"),
        ("patience=2.5", "--set patience=2.5: expected a whole number"),
        ("best_metric=f1", "best_metric is 'f1'; expected top1 or mean_class_accuracy or macro_f1 or loss"),
        ("image_size=0", "image_size is 0; expected "),
    ],
)
def test_settings_that_are_refused(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_recipe("released").with_settings([setting])
