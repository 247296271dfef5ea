"""Folders of evaluations of detectors that never happened, with the boxes that a test wants."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from evaluation_folders import SAMPLES_MS
from mobilenext.data.boxes import Box, BoxedImage
from mobilenext.detection.evaluation import EVALUATION
from mobilenext.detection.rows import DetectedImage, row_of
from mobilenext.models.detector_form import detection_preprocessing, find_form
from mobilenext.task import Evaluated

NAMES = ("cell", "platelet", "nothing")


def a_row(
    index: int,
    truth: Sequence[tuple[Sequence[float], int]],
    detections: Sequence[tuple[Sequence[float], int, float]],
    *,
    size: tuple[int, int] = (100, 80),
    difficult: Sequence[int] = (),
    error: str | None = None,
    name: str | None = None,
) -> DetectedImage:
    """True boxes are (corners, label), detections (corners, label, score); `difficult` are positions of true boxes."""
    boxes = tuple(
        Box(tuple(map(float, corners)), label, place in difficult)  # type: ignore[arg-type]
        for place, (corners, label) in enumerate(truth)
    )
    path = name or f"images/{index}.png"
    image = BoxedImage(index, path, path, *size, boxes, index + 1)
    corners = np.array([box for box, _, _ in detections], np.float64).reshape(-1, 4)
    labels = np.array([label for _, label, _ in detections], np.int64)
    return row_of(image, corners, labels, np.array([score for _, _, score in detections], np.float64), error)


def write_detections(
    folder: Path, rows: Sequence[DetectedImage], names: Sequence[str] = NAMES, *, form: str = "voc", **changes: Any
) -> Path:
    """result.json and predictions.jsonl."""
    folder.mkdir(parents=True)
    record = SimpleNamespace(
        num_classes=len(names), labels=tuple(names), preprocessing=detection_preprocessing(find_form(form).image_size),
        architecture={"form": find_form(form).to_dict()},
    )  # fmt: skip
    facts = EVALUATION.facts(record, {})  # type: ignore[arg-type]
    counts = EVALUATION.counts(facts)
    for row in rows:
        counts.add(row)
    prepared: Any = SimpleNamespace(record=record)
    dataset: Any = SimpleNamespace(records=())
    latency = {"median": 12.5, "p10": 11.1, "p90": 14.9, "threads": 1, "samples_ms": SAMPLES_MS}
    result = {
        "task": "detection", "model": "ssdlite320_mobilenext_x0_35", "runtime": "onnxruntime", "partial": False,
        "weights": {"file": "made_up.safetensors", "sha256": "0" * 64},
        "unreadable": sum(bool(row.error) for row in rows),
        "latency": latency, "data": {"folder": "photos", "images_in_list": len(rows)},
        "preprocessing": record.preprocessing.to_dict(), "environment": {"processor": "a processor", "cores": 2},
        **facts,
        **EVALUATION.result(Evaluated(prepared, dataset, rows, counts, ())), **changes,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row.to_dict()) + "\n" for row in rows))
    return folder
