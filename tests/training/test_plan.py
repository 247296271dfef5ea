from __future__ import annotations

import dataclasses
import json
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from mobilenext.classification.data import _warnings, open_parts
from mobilenext.classification.recipes import RECIPES
from mobilenext.classification.task import TASK
from mobilenext.classification.training import ClassificationJob
from mobilenext.data import Preprocessing
from mobilenext.errors import DataError, DatasetError, UsageError, WeightsError
from mobilenext.runs.run_folder import config_digest
from mobilenext.training.plan import Plan, _with_fitting_batch, new_plan, resumed_plan

DIGITS = "mobilenext_x0_35.digits"  # comes with the package: ten classes, 32 x 32 pixels
LABELS = (0, 1, 2, 0, 1, 2, 0)  # of the training images


def write_images(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng([seed, number]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}{number}.png")


def write_list(path: Path, seed: int, labels: tuple[int, ...]) -> Path:
    path.write_text("".join(f"{seed}{number}.png {label}\n" for number, label in enumerate(labels)))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """List files: seven training images of three classes, two for the validation."""
    root = tmp_path / "data"
    write_images(root / "imgs", len(LABELS), 1)
    write_images(root / "imgs", 2, 2)
    write_list(root / "train_list.txt", 1, LABELS)
    write_list(root / "val_list.txt", 2, (2, 0))
    return root


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders: cat, dog and owl, two and one of each."""
    root = tmp_path / "folders"
    for number, name in enumerate(("owl", "cat", "dog")):
        write_images(root / "train" / name, 2, number)
        write_images(root / "val" / name, 1, number)
    return root


def test_what_the_parts_share_or_leave_out_is_said(data: Path, folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    (data / "val_list.txt").write_text("10.png 0\n20.png 1\n")
    training, validation = open_parts(data, None, None)
    assert "1 of 2 validation images are training images, too, such as imgs/10.png" in "".join(
        _warnings(training, validation, 3, None)
    )
    with caplog.at_level("INFO"):
        plan(folders, val_split=0.5)
    assert f"{folders / 'val'} is not used" in caplog.text


LATER = {
    "freeze", "freeze_bn", "class_weights", "sampling", "mixup", "cutmix", "mix_probability", "mix_switch",
    "best_metric", "patience", "steps", "warmup_steps", "warmup_factor", "milestones", "milestone_factor", "fit",
}  # fmt: skip


def plan(data: Path, *settings: str, recipe: str | None = "tiny", **options: Any) -> Plan:
    if "weights" not in options:
        options = {"model": "mobilenext_x0_35", **options}
    return new_plan(data, recipe=recipe, settings=("batch_size=2", *settings), **options)


def labels_of(plan: Plan) -> tuple[str, ...] | None:
    labels: tuple[str, ...] | None = plan.job.weights_fields(cast(Any, None))["labels"]
    return labels


def class_weights_of(plan: Plan) -> np.ndarray | None:
    assert isinstance(plan.job, ClassificationJob)
    return plan.job.class_weights


def stored(plan: Plan, **changed: Any) -> dict[str, Any]:
    """What comes back from ``run.json``."""
    config: dict[str, Any] = json.loads(json.dumps(plan.config))
    return {**config, **changed}


# --- classes


def test_a_list_gives_the_number_of_classes(data: Path) -> None:
    found = plan(data)
    assert (found.config["num_classes"], labels_of(found), found.weights) == (3, None, None)
    assert [record.label for record in found.parts.train.records] == list(LABELS)
    assert [record.label for record in found.parts.val.records] == [2, 0]
    assert (found.config["data"]["train_images"], found.config["data"]["val_images"]) == (7, 2)
    assert found.config["steps_per_epoch"] == 3  # seven images in batches of two


def test_class_folders_give_number_and_names(folders: Path) -> None:
    found = plan(folders)
    assert (found.config["num_classes"], labels_of(found)) == (3, ("cat", "dog", "owl"))
    for part in (found.parts.train, found.parts.val):
        assert {(record.path.parent.name, record.label) for record in part.records} == {
            ("cat", 0), ("dog", 1), ("owl", 2),
        }  # fmt: skip


def test_own_list_files(data: Path, tmp_path: Path) -> None:
    train, val = write_list(tmp_path / "t.txt", 1, (0, 1)), write_list(tmp_path / "v.txt", 2, (1,))
    found = plan(data, train_list=train, val_list=val)
    assert (len(found.parts.train), len(found.parts.val), found.config["num_classes"]) == (2, 1, 2)


def test_a_gap_in_the_labels(data: Path) -> None:
    write_list(data / "train_list.txt", 1, (0, 1, 4, 0, 1, 4, 0))
    with pytest.raises(
        DatasetError, match=r"train_list.txt: no training image of 2 of 5 classes: 2, 3; .* without gap"
    ):
        plan(data)


def test_a_class_without_training_images(data: Path) -> None:
    found = plan(data, num_classes=4)
    assert found.config["num_classes"] == 4
    assert found.parts.warnings[0] == "the training part: 1 of 4 classes have no image: 3"


def test_a_training_list_may_repeat_lines(data: Path) -> None:
    lines = (data / "train_list.txt").read_text()
    (data / "train_list.txt").write_text(lines + "12.png 2\n12.png 2\n")
    found = plan(data)
    assert (found.config["data"]["train_images"], found.config["data"]["train_repeats"]) == (9, 2)
    assert [record.index for record in found.parts.train.records] == list(range(9))
    assert found.parts.train.notes == ("2 of 9 lines of train_list.txt repeat an image, which counts each time",)
    assert resumed_plan(stored(found), None).digest == found.digest
    (data / "val_list.txt").write_text("20.png 2\n20.png 2\n")
    with pytest.raises(DatasetError, match="each may be listed once, but in a training list"):
        plan(data)


def test_an_empty_class_folder(folders: Path) -> None:
    (folders / "train" / "ape").mkdir()
    with pytest.raises(DatasetError, match="ape/: a class folder without images"):
        plan(folders)


def test_a_validation_label_that_is_too_large(data: Path) -> None:
    write_list(data / "val_list.txt", 2, (3, 0))
    with pytest.raises(DatasetError, match=r"val_list.txt: the label 3 is too large; .* 3 classes, 0\.\.2"):
        plan(data)


def test_a_training_label_that_is_too_large(data: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"train_list.txt: 2 problems(.|\n)*the label 2 is too large; with 2 classes"
    ):
        plan(data, num_classes=2, val_list=write_list(data / "v.txt", 2, (0, 1)))


def test_class_folders_that_differ(folders: Path) -> None:
    shutil.move(folders / "val" / "dog", folders / "val" / "fox")
    with pytest.raises(
        DatasetError, match=r"1 of 3 class folders are none of the 3 classes of the training part: fox/"
    ):
        plan(folders)
    shutil.rmtree(folders / "val" / "fox")
    complete = plan(folders)
    assert {record.path.parent.name: record.label for record in complete.parts.val.records} == {"cat": 0, "owl": 2}
    assert complete.parts.warnings == ("the validation part: 1 of 3 classes have no image: dog",)
    (folders / "val" / "dog").mkdir()
    assert plan(folders).digest == complete.digest


def test_labels_in_another_order_than_the_folders(folders: Path) -> None:
    found = plan(folders, labels=("owl", "cat", "dog"))
    assert labels_of(found) == ("owl", "cat", "dog")
    for part in (found.parts.train, found.parts.val):
        assert {(record.path.parent.name, record.label) for record in part.records} == {
            ("owl", 0), ("cat", 1), ("dog", 2),
        }  # fmt: skip
    resumed = resumed_plan(stored(found), None)
    assert resumed.parts.train.records == found.parts.train.records
    with pytest.raises(DatasetError, match="1 of 3 class folders are none of the 3 classes of the labels: owl/"):
        plan(folders, labels=("cat", "dog", "fox"))


def test_validation_folders_beside_a_training_list(folders: Path) -> None:
    """The k-th folder counts as class k: with one missing, others would be taken for it."""
    names = sorted(path.relative_to(folders) for path in (folders / "train").rglob("*.png"))
    (folders / "train_list.txt").write_text("".join(f"{name} {at // 2}\n" for at, name in enumerate(names)))
    assert plan(folders).config["num_classes"] == 3
    shutil.rmtree(folders / "val" / "cat")
    with pytest.raises(DatasetError, match="2 class folders for the validation, but the training images have 3"):
        plan(folders)


def test_no_training_part(data: Path) -> None:
    (data / "train_list.txt").unlink()
    with pytest.raises(DatasetError, match=r"no training part; expected train_list.txt or a folder train/ .*--train-l"):
        plan(data)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        plan(tmp_path / "nowhere")


def test_labels(data: Path, folders: Path) -> None:
    assert plan(data, labels=("a", "b", "c")).config["labels"] == ["a", "b", "c"]
    assert labels_of(plan(folders, labels=("a", "b", "c"))) == ("a", "b", "c")
    for labels in (("a", "b"), ()):
        with pytest.raises(UsageError, match=f"{len(labels)} labels for 3 classes"):
            plan(data, labels=labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": None}, "no model; expected --model NAME, or --weights FILE"),
        ({"model": "mobilenext_x1_1"}, "did you mean 'mobilenext_x1_"),
        ({"recipe": "tyni"}, "did you mean 'tiny'"),
        (
            {"recipe": "ssdlite-small"},
            "ssdlite-small is a recipe for detection, but the model or the weights are for classification; name a "
            "model for detection by --model such as ssdlite320_.*, and give weights for .* as --backbone FILE; "
            "or choose a recipe for classification: .*tiny",
        ),
        (
            {"model": "ssdlite320_mobilenext_x0_35", "recipe": "tiny"},
            "tiny is a recipe for classification, but the model or the weights are for detection; name a model for "
            "classification by --model such as mobilenext_.*; or choose a recipe for detection: ssdlite-voc",
        ),
        ({"num_classes": 0}, "num_classes is 0; expected 1 or more"),
        ({"identity_divisor": 0}, "identity_divisor is 0; expected 1, 2, 3, 4 or 6"),
        ({"identity_divisor": 5}, "identity_divisor is 5; expected 1, 2, 3, 4 or 6"),
        ({"model": "mobilenext_s", "identity_divisor": 2}, "mobilenext_s has no partial shortcut"),
    ],
)
def test_options_that_are_refused(options: Mapping[str, Any], message: str, data: Path) -> None:
    with pytest.raises(UsageError, match=message):
        plan(data, **options)


def test_a_field_of_another_task_is_refused(data: Path) -> None:
    with pytest.raises(UsageError, match="form is set, which only recipes for detection have; mobilenext_x0_35 is tra"):
        plan(data, "form=voc")
    with pytest.raises(UsageError, match="no recipe has the field 'forn'"):
        plan(data, "forn=voc")


# --- weights


def test_weights_of_another_class_count(data: Path) -> None:
    for options in ({}, {"num_classes": 3}):
        found = plan(data, model=DIGITS, **options)
        assert (found.config["model"], found.config["num_classes"], labels_of(found)) == ("mobilenext_x0_35", 3, None)
        assert found.weights is not None
        assert found.config["weights"]["file"] == found.weights.name == "mobilenext_x0_35.digits.safetensors"


def test_the_recipe_where_none_is_named(data: Path) -> None:
    assert plan(data, recipe=None).recipe.name == "released"
    assert plan(data, recipe=None, model=DIGITS).recipe.name == "finetune"
    assert plan(data, recipe=None, weights=DIGITS).recipe.name == "finetune"
    assert plan(data, recipe="tiny", weights=DIGITS).recipe.name == "tiny"


@pytest.mark.parametrize(
    ("images", "processes", "batch"),
    [(7, 1, 2), (16, 1, 8), (63, 1, 16), (64, 1, 64), (3, 1, 1), (20, 3, 6), (2, 3, 64)],
)
def test_the_batch_fits_the_data(
    images: int, processes: int, batch: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", str(processes))
    recipe = RECIPES["finetune"]
    with caplog.at_level("INFO"):
        found = _with_fitting_batch(recipe, images, ("epochs",), TASK, begins=False)
    assert found == dataclasses.replace(recipe, batch_size=batch)
    if batch != recipe.batch_size:
        rate = 0.02 * batch / 64
        (line,) = caplog.messages
        assert line.startswith(f"batch: {batch} images instead of the recipe's 64, since there are {images}; ")
        assert f"0.02 to {rate:.4g} " in line
        assert "--weights FILE, which takes the recipe finetune" in line
    assert _with_fitting_batch(recipe, images, ("batch_size",), TASK, begins=True) == recipe


def test_the_batch_of_the_run_is_stored(data: Path) -> None:
    found = new_plan(data, recipe="tiny", model="mobilenext_x0_35")
    assert found.config["recipe"]["batch_size"] == found.recipe.batch_size == 2
    assert found.config["steps_per_epoch"] == 3
    assert resumed_plan(stored(found), None).recipe == found.recipe


@pytest.mark.parametrize("layout", ["list", "folders"])
def test_the_names_of_the_weights_are_of_other_data(layout: str, tmp_path: Path) -> None:
    """Ten classes, as the weights have, whose classifier is kept; of other names, it is fresh."""
    from mobilenext.weights.read import read_weights

    root = tmp_path / "data"
    if layout == "list":
        names = None
        write_images(root / "imgs", 10, 1)
        for part in ("train", "val"):
            write_list(root / f"{part}_list.txt", 1, tuple(range(10)))
    else:
        names = tuple(f"class {letter}" for letter in "abcdefghij")
        for number, name in enumerate(names):
            write_images(root / "train" / name, 1, number)
            write_images(root / "val" / name, 1, number + 10)
    found = plan(root, model=DIGITS)
    assert found.weights is not None
    known = read_weights(found.weights)
    assert (known.num_classes, found.config["num_classes"]) == (10, 10)
    assert known.labels is not None
    assert len(known.labels) == 10
    assert labels_of(found) == names != known.labels
    assert found.config["labels"] == (list(names) if names else None)
    assert found.config["weights"].get("classes") == ([] if names else None)
    assert labels_of(resumed_plan(stored(found), None)) == names
    own = tuple("0123456789")
    assert labels_of(plan(root, model=DIGITS, labels=own)) == own


def test_the_classifier_goes_by_name(tmp_path: Path) -> None:
    """Class folders in another order than the weights have their classes, and some of them only."""
    from mobilenext.weights.pretrained import locate
    from mobilenext.weights.read import read_weights
    from mobilenext.weights.write import write_weights

    digits = read_weights(locate(DIGITS, None))
    names = tuple("jihgfedcba")
    weights = tmp_path / "w.safetensors"
    write_weights(dataclasses.replace(digits, labels=names), weights)
    for number, name in enumerate("abcdefghij"):
        for part in ("train", "val"):
            write_images(tmp_path / "data" / part / name, 1, number)
    found = plan(tmp_path / "data", weights=weights)
    assert found.config["weights"]["classes"] == list(range(9, -1, -1))
    assert labels_of(found) == tuple("abcdefghij")
    for name in "bcdfghij":
        for part in ("train", "val"):
            shutil.rmtree(tmp_path / "data" / part / name)
    few = plan(tmp_path / "data", weights=weights)
    assert (few.config["num_classes"], few.config["weights"]["classes"]) == (2, [9, 5])
    assert few.digest != found.digest
    assert "classes" not in plan(tmp_path / "data", weights=weights, num_classes=2).config["weights"]


def test_weights_of_another_model(data: Path) -> None:
    weights = plan(data, model=DIGITS, num_classes=3).weights
    with pytest.raises(WeightsError, match=r"holds mobilenext_x0_35 .*; asked for mobilenext_x1_0"):
        plan(data, model="mobilenext_x1_0", weights=weights, num_classes=3)
    assert plan(data, weights=weights, num_classes=3).config["model"] == "mobilenext_x0_35"


def test_one_of_several_weights_in_a_checkpoint(data: Path, tmp_path: Path) -> None:
    """The run begins with the section that was asked for, and its record says which."""
    from mobilenext.machine.ranks import Ranks
    from mobilenext.training.network import make_network
    from mobilenext.weights.read import read_weights

    known = plan(data, model=DIGITS).weights
    assert known is not None
    first = dict(read_weights(known).tensors)
    second = {name: tensor * np.float32(0.5) for name, tensor in first.items()}
    path = tmp_path / "last.pdparams"
    path.write_bytes(pickle.dumps({"student": first, "teacher": second, "model_ema": first}, 4))
    with pytest.raises(UsageError, match=r"student .*teacher .*--section student"):
        plan(data, weights=path, use="raw")
    begun = plan(data, weights=path, use="raw", section="teacher")
    assert begun.config["weights"] | {"sha256": ""} == {
        "file": "last.pdparams", "sha256": "", "kind": "raw", "section": "teacher"
    }  # fmt: skip
    network = make_network(begun, Ranks(), "cpu")[0]
    name = "features.0.0.weight"
    np.testing.assert_array_equal(network.state_dict()[name].numpy(), second[name])
    assert plan(data, weights=path).config["weights"]["kind"] == "ema"
    with pytest.raises(UsageError, match="use and section given without weights"):
        plan(data, use="raw", section="teacher")


def test_preprocessing_is_that_of_the_weights(data: Path) -> None:
    from mobilenext.weights.read import read_weights

    begun = plan(data, recipe="finetune", model=DIGITS, num_classes=3)
    assert begun.weights is not None
    known = read_weights(begun.weights).preprocessing
    assert known.image_size != 224, "the recipe's own"
    assert begun.config["preprocessing"] == known.to_dict()
    assert begun.recipe.preprocessing.image_size == begun.recipe.augmentation.image_size == known.image_size


def test_preprocessing_that_was_set(data: Path) -> None:
    settings = ("image_size=48", "eval_interpolation=bilinear")
    found = plan(data, *settings, recipe="finetune", model=DIGITS, num_classes=3)
    weights = plan(data, recipe="finetune", model=DIGITS, num_classes=3)
    expected = weights.config["preprocessing"] | {"image_size": 48, "interpolation": "bilinear"}
    assert found.config["preprocessing"] == expected != weights.config["preprocessing"]
    assert found.recipe.preprocessing.image_size == found.recipe.augmentation.image_size == 48


# --- what the recipe asks of data and weights


def test_class_weights(data: Path) -> None:
    assert class_weights_of(plan(data)) is None
    balanced = class_weights_of(plan(data, "class_weights=balanced"))  # of 3, 2 and 2 images
    assert balanced is not None
    assert balanced.tolist() == pytest.approx([7 / 9, 7 / 6, 7 / 6])
    own = plan(data, "class_weights=1,2,3")
    assert class_weights_of(own) is not None
    assert class_weights_of(own).tolist() == [1, 2, 3]
    with pytest.raises(UsageError, match=r"class_weights is '1,2': 2 weights for 3 classes"):
        plan(data, "class_weights=1,2")
    assert own.digest != plan(data).digest
    again = resumed_plan(stored(own), None)
    assert (again.digest, again.recipe) == (own.digest, own.recipe)


@pytest.mark.parametrize("setting", ["freeze=backbone", "freeze=3", "freeze_bn=all"])
def test_what_is_frozen_needs_weights(setting: str, data: Path) -> None:
    with pytest.raises(UsageError, match="without first weights: what is freshly initialized has to be trained"):
        plan(data, setting)
    begun = plan(data, setting, model=DIGITS)
    assert resumed_plan(stored(begun), None).recipe == begun.recipe


def test_the_record_of_a_run_of_an_earlier_version(data: Path) -> None:
    """It has none of the later fields, and a checksum without them."""
    config = stored(plan(data))
    assert not set(config["recipe"]) & LATER
    assert resumed_plan(config, None).digest == config_digest(config)


# --- going on


def test_a_run_goes_on_with_its_own_data(data: Path) -> None:
    before = plan(data, labels=("a", "b", "c"))
    after = resumed_plan(stored(before), None)
    assert (after.digest, after.recipe, labels_of(after)) == (before.digest, before.recipe, labels_of(before))
    assert [record.name for record in after.parts.train.records] == [
        record.name for record in before.parts.train.records
    ]
    assert after.parts.val.digest() == before.parts.val.digest()


@pytest.mark.parametrize("layout", ["data", "folders"])
def test_data_that_have_moved(layout: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue(layout)
    before = plan(root)
    moved = root.rename(tmp_path / "elsewhere")
    after = resumed_plan(stored(before), moved)
    assert after.digest == before.digest
    assert all(
        record.path.is_relative_to(moved) for part in (after.parts.train, after.parts.val) for record in part.records
    )
    with pytest.raises(DatasetError, match=f"{root}: no such folder"):
        resumed_plan(stored(before), None)


def test_own_list_files_move_with_the_data(data: Path, tmp_path: Path) -> None:
    inside, outside = write_list(data / "some.txt", 1, (0, 1)), write_list(tmp_path / "v.txt", 2, (1,))
    before = plan(data, train_list=inside, val_list=outside)
    moved = data.rename(tmp_path / "elsewhere")
    after = resumed_plan(stored(before), moved)
    assert (after.parts.train.list_file, after.parts.val.list_file) == (moved / "some.txt", outside)
    assert len(after.parts.train) == 2


@pytest.mark.parametrize("part", ["train", "val"])
def test_other_data_are_refused(part: str, data: Path) -> None:
    before = plan(data)
    listed = data / f"{part}_list.txt"
    listed.write_text("".join(reversed(listed.read_text().splitlines(keepends=True))))
    now = plan(data).config["data"][f"{part}_sha256"]
    was = before.config["data"][f"{part}_sha256"]
    assert now != was
    images = before.config["data"][f"{part}_images"]
    sentence = f"its {part} part is not the run's: {images} images with the digest {now[:12]}, the run has {images} "
    with pytest.raises(UsageError, match=re.escape(f"{sentence}with {was[:12]};")):
        resumed_plan(stored(before), None)


DAMAGED: dict[str, dict[str, Any]] = {
    "recipe": {"recipe": None},
    "fields of the recipe": {"recipe": {"name": "tiny"}},
    "model": {"model": "mobilenext_x9"},
    "data": {"data": []},
    "digest": {"data": {"train_images": 7}},
    "type of a digest": {"data": {"train_images": 7, "train_sha256": 1, "val_images": 2, "val_sha256": 1}},
    "place": {"data_folder": {"root": 1, "train_list": None, "val_list": None}},
    "lists": {"data_folder": {"root": "."}},
    "classes": {"num_classes": "3"},
    "preprocessing": {"preprocessing": {"image_size": -1}},
    "labels": {"labels": 3},
    "labels of other classes": {"labels": ["a"]},
    "a null in a name": {"data_folder": {"root": ".", "train_list": None, "val_list": "a\0b"}},
    "a huge mean": {"preprocessing": {**Preprocessing().to_dict(), "mean": [10**400, 1, 1]}},
    "a tiny share": {"preprocessing": {**Preprocessing().to_dict(), "crop_pct": 1e-308}},
    "a huge rate": {"recipe": {**RECIPES["tiny"].to_dict(), "lr": 10**400}},
    "a rate that is text": {"recipe": {**RECIPES["tiny"].to_dict(), "lr": "0.1"}},
    "epochs that are true": {"recipe": {**RECIPES["tiny"].to_dict(), "epochs": True}},
    "a pair of three": {"recipe": {**RECIPES["tiny"].to_dict(), "scale": [0.1, 0.2, 0.3]}},
    "a seed below 0": {"seed": -1},
    "no divisor": {"identity_divisor": 10**6},
    "too many classes": {"num_classes": 10**12},
    "no processes": {"processes": 0},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_record_of_the_run(case: str, data: Path) -> None:
    with pytest.raises(DataError, match=r"run\.json is damaged: (.|\n)*; start the run anew") as caught:
        resumed_plan(stored(plan(data), **DAMAGED[case]), None)
    assert not isinstance(caught.value, UsageError)


def test_a_record_of_the_run_without_one_of_its_fields(data: Path) -> None:
    complete = stored(plan(data))
    for name in set(complete) - {"steps_per_epoch", "epochs", "started", "command"}:  # told to the reader, not needed
        with pytest.raises(DataError, match=rf"run.json is damaged: {name}[a-z0-9_.]* is missing; expected"):
            resumed_plan({key: value for key, value in complete.items() if key != name}, None)


def test_another_number_of_processes_is_said(
    data: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = plan(data)
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    assert resumed_plan(stored(before), None).digest == before.digest
    assert "the run began with 1 processes and goes on with 2" in caplog.text
    assert plan(data).digest != before.digest
