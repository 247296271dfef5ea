"""Pictures of digits with boxes: what is drawn is what the annotations say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mobilenext.data.boxed_dataset import open_boxes
from mobilenext.data.boxes import Box
from mobilenext.data.digit_pictures import CLASSES, PICTURES, voc_text, write_digit_pictures
from mobilenext.data.voc_xml import read_voc_file


def test_the_boxes_hold_the_digits(tmp_path: Path) -> None:
    write_digit_pictures(tmp_path, "val")
    dataset = open_boxes(tmp_path, split="val")
    assert len(dataset.records) == PICTURES["val"]
    assert set(dataset.class_names or ()) <= set(CLASSES)
    for record in dataset.records:
        pixels = np.asarray(Image.open(record.path))
        inside = np.zeros(pixels.shape[:2], bool)
        for box in record.boxes:
            x1, y1, x2, y2 = map(int, box.corners)
            assert pixels[y1:y2, x1:x2].max() > 180
            inside[y1:y2, x1:x2] = True
        assert pixels[~inside].max() < 90  # noise alone


def test_an_annotation_comes_back(tmp_path: Path) -> None:
    boxes = [Box((0, 4, 10, 12), 1, difficult=True), Box((1.5, 2, 7, 9), 2)]
    (tmp_path / "a.xml").write_text(voc_text("a.png", (20, 16), boxes, ["a<b & c", "d"]))
    file = read_voc_file(tmp_path / "a.xml")
    assert (file.size, file.problems) == ((20, 16), [])
    assert [item.name for item in file.objects] == ["a<b & c", "d"]
    assert [tuple(item.corners) for item in file.objects] == [(0, 4, 10, 12), (1.5, 2, 7, 9)]
    assert [item.difficult for item in file.objects] == [True, False]
