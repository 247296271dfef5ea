"""The recordings of the authors' detector (tests/goldens/detection), and the formulas that make their raw outputs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from golden import GOLDENS, uniform

PRIORS = {"voc": 3234, "coco": 3232}
COLUMNS = {"voc": 21, "coco": 81}
DECODE_POWERS = {"voc": (64, 1000, 0), "coco": (64, 5000, 0)}


def recorded(name: str) -> dict[str, Any]:
    return json.loads((GOLDENS / "detection" / f"{name}.json").read_text())


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / "detection" / f"{name}.npz") as archive:
        return dict(archive)


def decode_outputs(form: str) -> tuple[np.ndarray, np.ndarray]:
    """The raw scores and regressions of three pictures, of which the last has no object."""
    priors, columns = PRIORS[form], COLUMNS[form]
    cells = -(-priors // 24)
    noise = uniform(f"decode-cls-{form}", 3 * priors * columns).reshape(3, priors, columns)
    objects = uniform(f"decode-object-{form}", 3 * cells * columns).reshape(3, cells, columns)
    objects = objects[:, np.arange(priors) // 24]
    powers = DECODE_POWERS[form]
    raised = np.stack([objects[i] ** power if power else np.zeros_like(objects[i]) for i, power in enumerate(powers)])
    if form == "voc":
        scores = 6 * raised - 2 + (noise - 0.5)
        scores[..., 0] = 3 + noise[..., 0]
    else:
        scores = 8 * raised - 6 + (noise - 0.5)
        scores[..., -1] = -10
    regressions = (uniform(f"decode-reg-{form}", 3 * priors * 4).reshape(3, priors, 4) - 0.5) * 2
    return scores.astype(np.float32), regressions.astype(np.float32)


def loss_outputs(form: str) -> tuple[np.ndarray, np.ndarray]:
    priors, columns = PRIORS[form], COLUMNS[form]
    shift = 0 if form == "voc" else 4
    scores = (uniform(f"loss-cls-{form}", 3 * priors * columns).reshape(3, priors, columns) - 0.5) * 6 - shift
    regressions = (uniform(f"loss-reg-{form}", 3 * priors * 4).reshape(3, priors, 4) - 0.5) * 4
    return scores.astype(np.float32), regressions.astype(np.float32)


def ground_truth(form: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    pictures = recorded("loss")["ground_truth"][form]
    return [np.array(picture["boxes"]) for picture in pictures], [np.array(picture["labels"]) for picture in pictures]
