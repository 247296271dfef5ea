"""The data of a detector's chain: Pascal VOC's annotations beside the pictures, in a folder for each part."""

from __future__ import annotations

import shutil
from pathlib import Path

from mobilenext.data.boxed_dataset import open_boxes
from mobilenext.data.digit_pictures import voc_text, write_digit_pictures
from mobilenext.detection.data import named_parts

LITE = {"train": 32, "val": 8}  # pictures
DRAWN = "scikit-learn's digits on noise"


def draw(folder: Path) -> None:
    """Write both parts of the pictures that are taken where no others are named."""
    write_digit_pictures(write_digit_pictures(folder, "train"), "val")


def fill(fresh: Path, source: Path, lite_parts: tuple[str, ...]) -> dict[str, int]:
    """Copy the pictures of both parts of a data set, in any layout, and write their annotations.

    Args:
        fresh: the new folder.
        source: the data set.
        lite_parts: of which only the first `LITE` are taken.

    Returns:
        The number of pictures in both parts.
    """
    images, names = {}, named_parts(source, {})
    for part in ("train", "val"):
        dataset = open_boxes(source, split=names[f"{part}_split"])
        records = dataset.records[: LITE[part]] if part in lite_parts else dataset.records
        images[f"{part}_images"] = len(records)
        (fresh / part).mkdir()
        for number, record in enumerate(records):
            stem = f"{number:06}_{record.path.stem}"
            file = fresh / part / f"{stem}{record.path.suffix}"
            shutil.copyfile(record.path, file)
            labels = [dataset.class_names[box.label - 1] if dataset.class_names else "" for box in record.boxes]
            text = voc_text(file.name, (record.width, record.height), list(record.boxes), labels)
            file.with_suffix(".xml").write_text(text, encoding="utf-8")
    return images
