"""The two parts of a detection's data, and the check of a data set of boxes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from boxed_folders import add_part, add_voc, save_picture, voc_xml
from mobilenext.checking import check_data
from mobilenext.detection.data import open_parts, reopen_parts
from mobilenext.errors import DatasetError, UsageError
from mobilenext.job import DataOptions, DataRequest, Parts


def opened(root: Path, first: Any = None, seed: int = 0, **options: Any) -> Parts:
    return open_parts(DataRequest(root, seed, DataOptions(**options), first))


def reopened(parts: Parts, root: Path, folder: Path) -> Parts:
    """Open the parts of a run again, as a resumed run does."""
    for name, content in parts.lists.items():
        (folder / name).write_bytes(content)
    return reopen_parts(parts.stored, DataRequest(root, 0, DataOptions(**parts.data)), folder)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Ten pictures with a cat, two of them with a dog as well, and two without an object."""
    for number in range(12):
        objects = [("cat", (11, 11, 61, 61))] if number < 10 else []
        add_voc(tmp_path / "pets", f"{number:02}", objects + [("dog", (1, 1, 40, 40))] * (number < 2))
    return tmp_path / "pets"


def names_of(dataset: Any) -> list[str]:
    return [record.path.stem for record in dataset.records]


def test_a_share_of_each_rarest_class_is_drawn_and_comes_back(pets: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"the data set has no parts; --val-split 0\.2 divides its pictures"):
        opened(pets)
    parts = opened(pets, val_split="25%")
    assert sorted(names_of(parts.train) + names_of(parts.val)) == [f"{number:02}" for number in range(12)]
    drawn = set(names_of(parts.val))
    assert (len(drawn & {"00", "01"}), len(drawn & {"10", "11"}), len(drawn)) == (1, 1, 4)
    assert (parts.stored, parts.data) == ({"num_classes": 2, "labels": ["cat", "dog"]}, {"val_split": 0.25})
    again = reopened(parts, pets, tmp_path)
    assert (again.train.records, again.val.records) == (parts.train.records, parts.val.records)
    assert names_of(opened(pets, val_split=0.25, seed=1).val) != names_of(parts.val)
    (pets / "Annotations" / "00.xml").unlink()
    with pytest.raises(DatasetError, match=r"00\.jpg: no such picture in the data any more"):
        reopened(parts, pets, tmp_path)


def test_pictures_that_validate_and_train_are_counted(pets: Path) -> None:
    add_part(pets, "train", ["00", "01", "02"])
    add_part(pets, "val", ["02", "03"])
    (warning,) = [sentence for sentence in opened(pets).warnings if "too high" in sentence]
    assert warning.startswith("1 of 2 validation images are training images, too, such as JPEGImages/02.jpg")


def test_lists_of_classes_are_named_where_there_are_no_parts(pets: Path) -> None:
    add_part(pets, "train", ["00 1", "01 -1"])
    with pytest.raises(
        DatasetError, match=r"no parts; ImageSets/Main/train\.txt is a list of a single class .*--val-split"
    ):
        opened(pets)


def test_parts_by_name(pets: Path, tmp_path: Path) -> None:
    for part, numbers in (("train", range(2, 8)), ("val", range(8, 10)), ("test", (10, 11, 0))):
        add_part(pets, part, [f"{number:02}" for number in numbers])
    parts = opened(pets)
    assert (len(parts.train), len(parts.val), parts.data) == (6, 2, {"train_split": "train", "val_split": "val"})
    assert parts.stored["labels"] == ["cat"]
    again = reopened(parts, pets, tmp_path)
    assert (again.train.digest(), again.val.digest()) == (parts.train.digest(), parts.val.digest())
    both = opened(pets, train_split="val,train", val_split="train,test"[6:], labels=["dog", "cat"])
    assert (len(both.train), len(both.val)) == (8, 3)
    assert any("the training part: 1 of 2 classes have no box: dog" in warning for warning in both.warnings)
    with pytest.raises(DatasetError, match="the class 'dog' is not in the list"):
        opened(pets, val_split="test")  # the training part has no dog
    with pytest.raises(UsageError, match="the part val cannot train and validate"):
        opened(pets, train_split="train,val")
    with pytest.raises(UsageError, match="images that train cannot validate"):
        opened(pets, val_split="train")
    with pytest.raises(UsageError, match="num_classes is 7, but the data have 1 classes: cat"):
        opened(pets, num_classes=7)
    for names, sentence in (({"train_split": "a", "train_list": "b"}, "train_split and train_list"),
                            ({"val_split": "a", "val_list": "b"}, "val_split and val_list")):  # fmt: skip
        with pytest.raises(UsageError, match=f"{sentence} at once"):
            opened(pets, **names)


def test_the_parts_of_the_literature(tmp_path: Path) -> None:
    for year, part in (("2007", "trainval"), ("2007", "test"), ("2012", "trainval"), ("2012", "val")):
        add_voc(tmp_path / f"VOC{year}", part, [("cat", (1, 1, 9, 9))])
        add_part(tmp_path / f"VOC{year}", part, [part])
    parts = opened(tmp_path)
    assert parts.data == {"train_split": "2007-trainval,2012-trainval", "val_split": "2007-test"}
    assert (len(parts.train), len(parts.val)) == (2, 1)


def test_the_order_of_the_first_weights_stays(pets: Path) -> None:
    parts = opened(pets, SimpleNamespace(labels=("Dog", "cat")), val_split=0.25)
    assert parts.stored["labels"] == ["Dog", "cat"]
    assert {box.label for record in parts.train.records[2:] for box in record.boxes} == {2}
    assert opened(pets, SimpleNamespace(labels=("owl", "cat")), val_split=0.25).stored["labels"] == ["cat", "dog"]


def test_nothing_to_train_on(tmp_path: Path) -> None:
    for name in "abc":
        add_voc(tmp_path, name, [("cat", (1, 1, 9, 9))], extra="<difficult>1</difficult>")
    with pytest.raises(DatasetError, match="none of the 2 training pictures has a box that can be trained on"):
        opened(tmp_path, val_split=0.4)


# The check.


def test_a_check_of_all_parts(pets: Path, tmp_path: Path) -> None:
    add_voc(pets, "12", [("cat", (5, 5, 5, 9)), ("cat", (-20, 5, 50, 50))])
    for part, numbers in (("train", (0, 1, 2, 12)), ("val", (3, 10))):
        add_part(pets, part, [f"{number:02}" for number in numbers])
    output = tmp_path / "samples"
    summary = check_data(pets, workers=1, draw=3, output=output, settings=["flip=0", "image_size=224"])
    assert summary["task"] == "detection"
    assert (summary["images"], summary["decoded"], summary["images_without_boxes"]) == (13, 13, 2)
    assert summary["images_per_part"] == {"train": 4, "val": 2}
    assert summary["boxes_per_class"] == {"cat": 11, "dog": 2}
    assert (len(summary["left_out"]), len(summary["overhanging"]), summary["problems"]) == (1, 1, [])
    assert summary["coverage"]["image_size"] == 224
    assert summary["verdict"]["train"] == {
        "usable": True, "reason": "4 pictures of train, validated by 2 pictures of val",
    }  # fmt: skip
    pictures = sorted(output.iterdir())
    assert [path.name[:11] for path in pictures] == ["sample_001_", "sample_002_", "sample_003_"]
    with Image.open(pictures[0]) as image:
        assert image.size == (224, 224)
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 2  # boxes on a picture of one color


def test_a_check_that_finds_problems(pets: Path, tmp_path: Path) -> None:
    add_part(pets, "train", ["00"])
    add_part(pets, "val", ["none"])
    add_voc(pets, "bad", [("cat", (50, 5, 40, 9))])
    (pets / "JPEGImages" / "05.jpg").write_bytes((pets / "JPEGImages" / "05.jpg").read_bytes()[:700])
    summary = check_data(pets, workers=1, draw=1, output=tmp_path / "samples")
    assert len(summary["problems"]) == 2
    assert len(summary["unreadable"]) == 1
    assert not summary["verdict"]["evaluate"]["usable"]
    assert not summary["verdict"]["train"]["usable"]
    assert not (tmp_path / "samples").exists()


def test_a_class_of_the_validation_alone_cannot_be_trained(pets: Path) -> None:
    add_part(pets, "train", ["05", "06"])
    add_part(pets, "val", ["00"])
    verdict = check_data(pets, decode=False)["verdict"]
    assert verdict["evaluate"] == {"usable": True, "reason": "not decoded"}
    assert verdict["train"] == {"usable": False, "reason": "only the validation part val has boxes of dog"}


def test_a_check_by_a_recipe_of_classifiers(pets: Path) -> None:
    expected = "data with boxes are for detection, no recipe of which is called 'released'; known: ssdlite-voc"
    with pytest.raises(UsageError, match=expected):
        check_data(pets, recipe="released", decode=False)


def test_the_task_of_data(pets: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("cats/1.jpg", "dogs/1.jpg"):
        save_picture(photos / name)
    assert "task" not in check_data(photos, decode=False)  # labeled images, as ever
    with pytest.raises(UsageError, match=r"draw means nothing to a data set for classification"):
        check_data(photos, draw=3)
    with pytest.raises(UsageError, match="num_classes means nothing to a data set for detection"):
        check_data(pets, num_classes=3)
    with pytest.raises(UsageError, match="--draw N and -o DIR belong together"):
        check_data(pets, draw=3)
    with pytest.raises(UsageError, match=r"unknown task 'detectio'; did you mean 'detection'\?"):
        check_data(pets, task="detectio")
    with pytest.raises(DatasetError, match="no annotations of boxes"):
        check_data(photos, task="detection")
    (tmp_path / "boxes.csv").write_text(f"{pets}/JPEGImages/00.jpg,1,2,30,40,cat\n")
    assert check_data(tmp_path, list_file=tmp_path / "boxes.csv", decode=False)["boxes"] == 1
    (pets / "Annotations" / "00.xml").write_text(voc_xml([], (99, 80)))
    assert len(check_data(pets, decode=False)["problems"]) == 1
