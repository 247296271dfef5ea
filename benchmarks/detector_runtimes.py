"""Evaluate a detector in every format beside Paddle.

    python benchmarks/detector_runtimes.py DATA [--split test] [--model ssdlite320_mobilenext_x0_35.bccd]
                                                             # results/bccd_runtimes.json

Every export is evaluated as `mobilenext evaluate DATA --exported DIR --runtime NAME` does it, by the runtimes that it
was compared with when it was written; the files with boxes (model_boxes) image by image. For each: the average
precision, its difference from eager Paddle's, the number of boxes, and how many are Paddle's: equal within 0.1 pixels
and 0.001 of the score.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext import evaluate, export_model
from mobilenext.data import read_image
from mobilenext.data.boxed_classes import with_box_classes
from mobilenext.data.boxed_dataset import open_boxes
from mobilenext.detection.answers import PictureBoxes, Reading
from mobilenext.detection.decoding import Detections
from mobilenext.detection.evaluation import EVALUATION
from mobilenext.detection.rows import DetectedImage, row_of
from mobilenext.export import FORMATS
from mobilenext.export.post_processing import beside
from mobilenext.export.sidecar import read_sidecar
from mobilenext.machine.environment import environment
from mobilenext.origin import origin
from mobilenext.runs.journal import read_predictions
from mobilenext.runtime import RUNTIMES, open_runtime
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import find_subject
from mobilenext.sources.prepare import prepare

PIXELS, SCORE = 0.1, 1e-3
EXPORTED_WITH = 16  # pictures that an export is compared on before its folder appears
NUMBERS = ("map_percent", "AP", "AP50", "AP75", "voc_AP_11_point")


def common_boxes(one: DetectedImage, other: DetectedImage) -> int:
    """Return how many boxes of one row have a partner of their own in the other."""
    free = list(range(len(other.labels)))
    common = 0
    for box, label, score in zip(one.boxes, one.labels, one.scores, strict=True):
        for place in free:
            alike = other.labels[place] == label and abs(other.scores[place] - score) <= SCORE
            if alike and np.abs(other.boxes[place] - box).max() <= PIXELS:
                free.remove(place)
                common += 1
                break
    return common


def compared(expected: Sequence[DetectedImage], rows: Sequence[DetectedImage]) -> dict[str, Any]:
    """Return the counts of equal boxes and pictures."""
    common = [common_boxes(*pair) for pair in zip(expected, rows, strict=True)]
    equal = [n == len(one.labels) == len(two.labels) for n, one, two in zip(common, expected, rows, strict=True)]
    return {
        "boxes": sum(len(row.labels) for row in rows),
        "equal_boxes": sum(common),
        "images_with_equal_boxes": sum(equal),
    }


def rows_of_boxes(folder: Path, runtime: str, data: Path, split: str) -> tuple[list[DetectedImage], dict[str, Any]]:
    """Return the row of each picture by the model of an exported folder that gives boxes, and their scores."""
    sidecar = read_sidecar(folder)
    prepared = prepare(find_subject(exported=folder), folder / "scratch", Choice(runtime))
    record = prepared.record
    assert sidecar.post_processing is not None
    opened = open_runtime(beside([prepared.spec], sidecar.post_processing)[0])
    facts = EVALUATION.facts(record, {})
    reading = Reading.of_facts(facts)
    dataset = with_box_classes(open_boxes(data, split=split), record.num_classes, record.labels)
    counts, rows = EVALUATION.counts(facts), []
    for image in dataset.records:
        boxes, labels, scores, _ = opened.predict(record.preprocessing(read_image(image.path))[None])
        detections = Detections(boxes, labels.astype(np.int64), scores)
        columns: PictureBoxes = reading.in_picture(detections, (image.width, image.height))
        rows.append(row_of(image, *columns))
        counts.add(rows[-1])
    return rows, counts.summary()  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", default="ssdlite320_mobilenext_x0_35.bccd")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/bccd_runtimes.json"))
    options = parser.parse_args()
    how: dict[str, Any] = {"split": options.split, "threads": 1, "workers": 1}
    images = [record.path for record in open_boxes(options.data, split=options.split).records]
    results: list[dict[str, Any]] = []
    expected: list[DetectedImage] = []

    def add(format: str, runtime: str, rows: list[DetectedImage], scores: dict[str, Any]) -> None:
        expected[:] = expected or rows  # Paddle is the first
        numbers = {name: scores[name] for name in NUMBERS}
        first = results[0] if results else numbers
        row = {
            "format": format,
            "runtime": runtime,
            **numbers,
            "AP_difference": round(numbers["AP"] - first["AP"], 6),
            "map_difference_points": round(numbers["map_percent"] - first["map_percent"], 3),
            **compared(expected, rows),
        }
        results.append(row)
        print(row, flush=True)
        report = {**origin(), "model": options.model, "images": len(expected), "tolerance": [PIXELS, SCORE]}
        report |= {"rows": results, "environment": environment()}
        options.output.write_text(json.dumps(report, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as work:
        out = Path(work, "weights-paddle")
        result = evaluate(options.data, output=out, model=options.model, runtime="paddle", **how)
        add("weights", "paddle", read_predictions(out, "detection"), result)
        for format in sorted(FORMATS):
            folder = Path(work, format)
            parity = export_model(folder, format=format, model=options.model, images=images[:EXPORTED_WITH])
            for card in RUNTIMES.values():
                for engine in card.engines if format in card.formats else ():
                    if f"{card.name} ({engine})" not in parity["runtimes"] and card.name not in parity["runtimes"]:
                        continue  # the export was not compared by it: one engine of Paddle is enough for that
                    out = Path(work, f"{format}-{card.name}-{engine}")
                    chosen = {"runtime": card.name, "engine": engine or "auto"}
                    result = evaluate(options.data, output=out, exported=folder, **chosen, **how)
                    add(
                        format,
                        f"{card.name} ({engine})" if engine else card.name,
                        read_predictions(out, "detection"),
                        result,
                    )
                    if "file" in (read_sidecar(folder).post_processing or {}):
                        rows, scores = rows_of_boxes(folder, card.name, options.data, options.split)
                        add(f"{format}, model_boxes", card.name, rows, scores)


if __name__ == "__main__":
    main()
