"""COCO's files of annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boxed_folders import save_picture
from mobilenext.data.boxed_dataset import open_boxes
from mobilenext.errors import DataError, DatasetError

CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}]
IMAGES = [{"id": 7, "file_name": "a.jpg", "width": 100, "height": 80}, {"id": 2, "file_name": "b.jpg"}]
CAR = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20.5, 30, 40], "area": 77.5, "iscrowd": 0}
CROWD = {
    "id": 2,
    "image_id": 7,
    "category_id": 90,
    "bbox": [0, 0, 100, 80],
    "iscrowd": 1,
    "segmentation": {"counts": []},
}


def content(**changes: Any) -> dict[str, Any]:
    return {"images": IMAGES, "annotations": [CAR, CROWD], "categories": CATEGORIES, **changes}


def coco(root: Path, value: Any, name: str = "annotations/instances_val2017.json", folder: str = "val2017") -> Path:
    for image in IMAGES:
        save_picture(root / folder / str(image["file_name"]))
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize("folder", ["val2017", "images/val2017", "images", "val", "annotations", ""])
def test_pictures_crowds_and_gaps_in_ids(tmp_path: Path, folder: str) -> None:
    coco(tmp_path, content(), folder=folder)
    dataset = open_boxes(tmp_path, split="val")
    assert dataset.class_names == ("car", "toothbrush")
    assert dataset.category_ids == (3, 90)
    full, empty = dataset.records
    assert (full.image_id, full.width, full.height, full.name) == (7, 100, 80, f"{folder}/a.jpg".lstrip("/"))
    assert [(box.corners, box.label, box.crowd, box.area) for box in full.boxes] == [
        ((10, 20.5, 40, 60.5), 1, False, 77.5), ((0, 0, 100, 80), 2, True, None),
    ]  # fmt: skip
    assert (empty.boxes, empty.width, empty.height) == ((), 100, 80)  # without annotations; the size is the picture's
    assert full.trained_boxes()[0].tolist() == [[10, 20.5, 40, 60.5]]


def test_a_class_list_decides_the_labels(tmp_path: Path) -> None:
    coco(tmp_path, content())
    dataset = open_boxes(tmp_path, class_names=["Toothbrush", "truck", "car"])
    assert dataset.category_ids == (90, 91, 3)  # the number of no category for a class that the data lack
    assert [box.label for box in dataset.records[0].boxes] == [3, 1]


def test_files_of_parts_and_of_a_whole(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        coco(tmp_path / "parts", content(), f"{part}/_annotations.coco.json", part)
    assert open_boxes(tmp_path / "parts", split="val").records[0].name == "valid/a.jpg"
    coco(tmp_path / "whole", content(), "labels.json", "data")
    assert open_boxes(tmp_path / "whole").records[0].name == "data/a.jpg"
    listed = open_boxes(tmp_path / "whole", list_file=coco(tmp_path / "whole", content(), "any.json", "data"))
    assert (len(listed), listed.list_file) == (2, tmp_path / "whole" / "any.json")


def test_names_of_classes_are_no_annotations(tmp_path: Path) -> None:
    coco(tmp_path, {"categories": ["car"], "images": 2}, "labels.json")
    with pytest.raises(DatasetError, match="no annotations of boxes"):
        open_boxes(tmp_path)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}], "these are detections, with scores"),
        (content(annotations=[{**CAR, "score": 0.5}]), "these are detections, with scores"),
        ({"images": [], "categories": []}, "no list of annotations"),
        ([], "no list of images and annotations and categories"),
    ],
)
def test_files_that_are_no_annotations(tmp_path: Path, value: Any, sentence: str) -> None:
    path = coco(tmp_path, value)
    with pytest.raises(DatasetError) as caught:
        open_boxes(tmp_path, list_file=path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ['{"images": [', "[" * 100_000, '{"images": [], "images": []}'])
def test_damaged_files(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="is damaged"):
        open_boxes(tmp_path, list_file=coco(tmp_path, text))


def test_all_problems_come_together(tmp_path: Path) -> None:
    text = json.dumps(
        content(
            images=[*IMAGES, {"id": 9, "file_name": "c.jpg"}, {"id": 7, "file_name": "d.jpg"}, {"id": True}, 3],
            categories=[*CATEGORIES, {"id": 3, "name": "cat"}],
            annotations=[
                {**CAR, "image_id": 1},
                {**CAR, "category_id": 4},
                {**CAR, "bbox": [1, 2, 3]},
                {**CAR, "bbox": [1, 2, "three", 4]},
                {**CAR, "bbox": [1, 2, float("nan"), 4]},
                {**CAR, "bbox": [50, 2, -10, 4]},
                {**CAR, "bbox": [200, 2, 10, 4]},
                {**CAR, "iscrowd": 2},
                "box",
            ],
        )
    )
    coco(tmp_path, text)
    with pytest.raises(DatasetError) as caught:
        open_boxes(tmp_path)
    for sentence in (
        "14 problems", "its image_id is 1, which no picture has", "its category_id is 4, which no category has",
        "its bbox is [1, 2, 3]; expected", "(1, 2, nan, 6) of car has coordinates that are no numbers",
        "(50, 2, 40, 6) of car is inverted", "(200, 2, 210, 6) of car is outside the picture of 100 x 80",
        "iscrowd and difficult are", "annotations[8]", "c.jpg: no such file", "images[3]: the id 7 stands there twice",
        "images[4]", "images[5]", "categories[2]",
    ):  # fmt: skip
        assert sentence in str(caught.value)


def test_pictures_outside_of_the_data_set_are_not_opened(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (tmp_path / "secret").write_text("secret")
    names = [str(tmp_path / "secret"), "../../secret", "..\\..\\secret", "%2e%2e/%2e%2e/secret", "set/../../secret"]
    names += [f"file://{tmp_path}/secret", str(tmp_path / "secret").replace("/", "%2F")]
    coco(root, content(images=[*IMAGES, *({"id": 10 + k, "file_name": name} for k, name in enumerate(names))]))
    with pytest.raises(DatasetError, match="7 problems") as caught:
        open_boxes(root)
    assert str(caught.value).count("leads out of the data set") >= 6


def test_paths_of_another_computer_are_found_in_the_data_set(tmp_path: Path) -> None:
    images = [{**image, "file_name": f"/home/ann/photos/{image['file_name']}"} for image in IMAGES]
    coco(tmp_path, content(images=images))
    assert all(record.path.is_relative_to(tmp_path) for record in open_boxes(tmp_path).records)


@pytest.mark.parametrize("area", [-1, 2e18, float("nan"), float("inf"), 1 << 60, "77", True])
def test_areas_that_cannot_be(tmp_path: Path, area: Any) -> None:
    coco(tmp_path, json.dumps(content(annotations=[{**CAR, "area": area}])))
    with pytest.raises(DatasetError, match=r"instances_val2017\.json: .*(has the|its) area"):
        open_boxes(tmp_path)


def test_numbers_of_any_length(tmp_path: Path) -> None:
    images = [{**IMAGES[0], "width": 10**400, "height": 80}, IMAGES[1]]
    coco(tmp_path, json.dumps(content(images=images, annotations=[{**CAR, "bbox": [1, 1, 1e308, 1e308]}])))
    with pytest.raises(DatasetError, match="more than 100,000,000 pixels"):
        open_boxes(tmp_path)
