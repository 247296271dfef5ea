"""Folders of evaluations that never happened, with predictions as a test wants them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.classification.metrics import Counts, Prediction

SAMPLES_MS = [1.0 + place / 100 for place in range(100)]


def write_evaluation(
    folder: Path,
    labels: Sequence[int],
    best: Sequence[Sequence[int]],
    scores: Sequence[Sequence[float]],
    *,
    classes: int,
    names: Sequence[str] | None = None,
    errors: Mapping[int, str] | None = None,
    paths: Sequence[str] | None = None,
    samples: Sequence[float] | None = SAMPLES_MS,
    **changes: Any,
) -> Path:
    """result.json and predictions.jsonl; an image in `errors` could not be read."""
    folder.mkdir(parents=True, exist_ok=True)
    counts, lines = Counts(classes), []
    for place, (label, top, values) in enumerate(zip(labels, best, scores, strict=True)):
        path, error = paths[place] if paths else f"imgs/{place:05d}.png", (errors or {}).get(place)
        row = Prediction(place, path, int(label), tuple(top), tuple(values), 1.0)
        if error is not None:
            row = Prediction(place, path, int(label), (), (), None, error)
        counts.add(row)
        lines.append(json.dumps(row.to_dict()) + "\n")
    latency: dict[str, Any] = {"median": 1.5, "p10": 1.1, "p90": 1.9, "runs": 100, "threads": 1, "batch_size": 1}
    if samples is not None:
        latency["samples_ms"] = list(samples)
    result = {
        "model": "mobilenext_x1_0",
        "weights": {"file": "made_up.safetensors", "sha256": "0" * 64},
        "num_classes": classes,
        "preprocessing": {"image_size": 224},
        "data": {"folder": "photos", "images_in_list": len(labels)},
        "partial": False,
        "runtime": "openvino",
        "engine": "",
        "precision": "fp32",
        "device": "cpu",
        "images_per_second": 100.0,
        **counts.summary(),
        "latency_ms": 1.5,
        "latency": latency,
        "comparison": None,
        "diagnosis": [],
        "per_class": counts.per_class(tuple(names) if names else None),
        "environment": {"processor": "a processor", "cores": 2},
        **changes,
    }
    (folder / "predictions.jsonl").write_text("".join(lines))
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def write_large_evaluation(
    folder: Path, images: int = 50_000, classes: int = 1000, *, seed: int = 0, top1: float = 0.74
) -> Path:
    """As of ImageNet's validation images: the wrong ones are spread over their neighbours, as confusions are."""
    random = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    # Shifts of 1 to 5 classes and a tail, so that some pairs are frequent and thousands happen once.
    shifts = np.where(random.random((images, 5)) < 0.5, random.integers(1, 6, (images, 5)), 0)
    shifts = np.where(shifts == 0, random.integers(6, classes, (images, 5)), shifts)
    best = (labels[:, None] + shifts) % classes
    best[:, 1:] += (best[:, 1:] == best[:, :1]).astype(best.dtype)
    best %= classes
    right = random.random(images) < top1
    best[right, 0] = labels[right]
    first = random.uniform(0.2, 1, images).round(6)
    rest = ((1 - first)[:, None] * np.array([0.4, 0.2, 0.1, 0.05])).round(6)
    scores = np.concatenate([first[:, None], rest], axis=1)
    names = [f"some thing, with a second name and number {number}" for number in range(classes)]
    paths = [f"ILSVRC2012_val_{place + 1:08d}.JPEG" for place in range(images)]
    errors = {images // 2: "ILSVRC2012_val.JPEG: the file is truncated"}
    return write_evaluation(
        folder,
        labels.tolist(),
        best.tolist(),
        scores.tolist(),
        classes=classes,
        names=names,
        paths=paths,
        errors=errors,
    )
