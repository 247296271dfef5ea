from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenext.classification.division import divide, lists_of, read_divided
from mobilenext.data import LabelledDataset, LabelledImage
from mobilenext.data.dataset import open_training
from mobilenext.data.list_file import read_list
from mobilenext.errors import DataError, DatasetError, UsageError
from mobilenext.runs.run_folder import CONFIG, RunFolder
from mobilenext.training.plan import new_plan, resumed_plan

SIZES = {"ant": 10, "bee": 5, "cat": 2, "dog": 1, "elk ü": 33}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name, count in SIZES.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(root / name / f"photo {number}.png")
    return root


def names(dataset: LabelledDataset) -> list[tuple[str, int]]:
    assert [record.index for record in dataset.records] == list(range(len(dataset)))
    return [(record.name, record.label) for record in dataset.records]


def test_each_class_is_divided(photos: Path) -> None:
    whole = open_training(photos, whole=True)
    training, validation = divide(whole, photos, 0.2, seed=0)
    assert sorted(names(training) + names(validation)) == sorted(names(whole))
    assert Counter(record.label for record in validation.records) == {0: 2, 1: 1, 2: 1, 4: 7}  # 33 * 0.2 = 6.6
    assert names(training) == [pair for pair in names(whole) if pair in set(names(training))], "the order is kept"
    assert training.notes[-2:] == (
        "of 51 images, 11 validate: 0.2 of each class, drawn with seed 0",
        "classes with one image, which trains: dog",
    )


def test_the_seed_draws(photos: Path) -> None:
    whole = open_training(photos, whole=True)
    drawn = [names(divide(whole, photos, 0.3, seed)[1]) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_class_is_drawn_alike_whatever_the_others_are(photos: Path) -> None:
    first = names(divide(open_training(photos, whole=True), photos, 0.3, 5)[1])
    shutil.rmtree(photos / "elk ü")
    second = names(divide(open_training(photos, whole=True), photos, 0.3, 5)[1])
    assert second == [pair for pair in first if pair[1] < 4]


def test_a_repeated_image_is_on_one_side(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    records = [LabelledImage(index, str(paths[index % 6]), f"{index % 6}.png", index % 2) for index in range(24)]
    training, validation = divide(
        LabelledDataset(tmp_path, "list", None, tuple(records), None, 24, ()), tmp_path, 0.4, 0
    )
    assert len({record.path for record in validation.records}) == len(validation) == 2
    assert len(training) == 16
    assert not {record.path for record in training.records} & {record.path for record in validation.records}


def test_nothing_to_divide(tmp_path: Path) -> None:
    records = tuple(LabelledImage(index, str(tmp_path / f"{index}"), f"{index}", index) for index in range(3))
    with pytest.raises(DatasetError, match="no class has two images"):
        divide(LabelledDataset(tmp_path, "list", None, records, None, 3, ()), tmp_path, 0.5, 0)


def test_the_lists_give_the_same_parts_back(photos: Path, tmp_path: Path) -> None:
    (photos / "ant" / "tab\tand, comma 3").mkdir()
    Image.new("RGB", (8, 8)).save(photos / "ant" / "tab\tand, comma 3" / " x .png")
    parts = divide(open_training(photos, whole=True), photos, 0.2, 3)
    for name, content in lists_of(*parts).items():
        (tmp_path / name).write_bytes(content)
    moved = photos.rename(tmp_path / "moved")
    again = read_divided(tmp_path, moved)
    for before, after in zip(parts, again, strict=True):
        assert names(after) == names(before)
        assert after.digest() == before.digest()
        assert all(record.path.is_file() for record in after.records)
    usual = read_list(moved, tmp_path / "val_list.txt")
    assert [(name, label) for _, name, label in usual.images] == names(parts[1]), "a list as any other"
    (moved / "bee" / "photo 0.png").unlink()
    with pytest.raises(DatasetError, match=r"bee/photo 0\.png: no such file"):
        read_divided(tmp_path, moved)
    (tmp_path / "train_list.txt").unlink()
    with pytest.raises(DataError, match=r"train_list\.txt, the list of the run's images, cannot be read"):
        read_divided(tmp_path, moved)


def begun(photos: Path, run: Path, **options: Any) -> Any:
    plan = new_plan(photos, model="mobilenext_x0_35", recipe="tiny", settings=("batch_size=4",), seed=7, **options)
    with RunFolder(run) as folder:
        folder.begin(plan.config, plan.parts.lists)
    return plan


def test_a_divided_run_goes_on_with_its_lists(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    before = begun(photos, run, val_split="0.2")
    assert before.config["data"]["val_split"] == 0.2
    assert before.config["labels"] == list(SIZES)
    Image.new("RGB", (8, 8)).save(photos / "bee" / "later.png")  # a new draw would be another one
    moved = photos.rename(tmp_path / "elsewhere")
    config = json.loads((run / CONFIG).read_text())
    with pytest.raises(
        DataError, match=rf"photos: no such folder, .*`mobilenext train NEW_DATA --resume {run}` goes on"
    ):
        resumed_plan(config, None, str(run / CONFIG))
    after = resumed_plan(config, moved, str(run / CONFIG))
    assert names(after.parts.train) == names(before.parts.train)
    assert names(after.parts.val) == names(before.parts.val)
    assert after.digest == before.digest
    lines = (run / "val_list.txt").read_text().splitlines(keepends=True)
    (run / "val_list.txt").write_text("".join(lines[1:]))
    with pytest.raises(UsageError, match="its val part is not the run's"):
        resumed_plan(config, moved, str(run / CONFIG))


def test_another_part_validates(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(photos, root / "Train")
    shutil.copytree(photos, root / "Test")
    with pytest.raises(DatasetError, match="--val-split test validates on the test part"):
        begun(root, tmp_path / "no")
    before = begun(root, tmp_path / "run", val_split="test")
    assert before.parts.lists == {}
    assert (len(before.parts.train), len(before.parts.val)) == (51, 51)
    after = resumed_plan(json.loads((tmp_path / "run" / CONFIG).read_text()), None, str(tmp_path / "run" / CONFIG))
    assert names(after.parts.val) == names(before.parts.val)
    assert after.digest == before.digest


def test_without_val_split_photos_are_told_of_it(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"--val-split 0\.2 divides them"):
        begun(photos, tmp_path / "run")
    with pytest.raises(UsageError, match="val_split and val_list at once"):
        begun(photos, tmp_path / "run", val_split=0.2, val_list="x")


def test_a_list_is_divided(photos: Path, tmp_path: Path) -> None:
    lines = [f"ant/photo {number}.png 0\n" for number in range(10)] + [f"bee/photo {n % 5}.png 1\n" for n in range(20)]
    (photos / "train_list.txt").write_text("".join(lines))
    plan = begun(photos, tmp_path / "run", val_split=np.float64(0.2))
    assert (len(plan.parts.train), len(plan.parts.val)) == (8 + 16, 2 + 1)
    assert (
        resumed_plan(
            json.loads((tmp_path / "run" / CONFIG).read_text()), None, str(tmp_path / "run" / CONFIG)
        ).parts.train.digest()
        == plan.parts.train.digest()
    )
