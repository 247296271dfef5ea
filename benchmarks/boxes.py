"""What the arithmetic of detection costs for one picture on one core: beside the network, and beside a training step.

python benchmarks/boxes.py                       # results/bench_boxes.json

Post-processing is of raw outputs made by formula, as the tests have them, with the authors' thresholds: the first
picture has about 1,900 candidates in the form voc and 3,800 in coco. The picture of the others is noise of 640 x 480
pixels with five boxes. Times are those that the process was on a core; medians and least of the samples.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mobilenext.detection import decode, preprocess
from mobilenext.detection.augmentation import DetectionAugmentation
from mobilenext.detection.matching import match
from mobilenext.machine.environment import environment
from mobilenext.origin import origin

TESTS = Path(__file__).parents[1] / "tests"
BOXES = np.array(
    [[40, 60, 240, 200], [300, 220, 420, 460], [480, 40, 620, 140], [20, 300, 90, 420], [200, 20, 260, 60]]
)
SIZE = 640, 480


def measured(function: Callable[[int], object], samples: int) -> dict[str, float]:
    """Return milliseconds of a core for `function`, which gets the number of the sample."""
    for number in range(5):
        function(number)
    times = []
    for number in range(samples):
        began = time.thread_time()
        function(number)
        times.append(1000 * (time.thread_time() - began))
    return {"median_ms": round(float(np.median(times)), 3), "least_ms": round(min(times), 3)}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-o", "--output", default="results/bench_boxes.json")
    options.add_argument("--samples", type=int, default=300)
    arguments = options.parse_args()
    sys.path.insert(0, str(TESTS))
    from detector_recordings import decode_outputs

    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    image, labels = Image.fromarray(pixels), np.arange(1, 1 + len(BOXES))
    shares = (BOXES / np.array(SIZE * 2)).astype(np.float32)
    augmentation = DetectionAugmentation()
    voc, coco = ([array[:1] for array in decode_outputs(form)] for form in ("voc", "coco"))
    steps: dict[str, Callable[[int], object]] = {
        "post-processing, voc": lambda number: decode(*voc, form="voc"),
        "post-processing, coco": lambda number: decode(*coco, form="coco"),
        "preprocessing": lambda number: preprocess(pixels),
        "augmentation": lambda number: augmentation.sample(image, BOXES, labels, np.random.default_rng(number)),
        "matching": lambda number: match(shares, labels, "voc"),
    }
    result = {**origin(), "samples": arguments.samples, "picture": list(SIZE), "boxes": len(BOXES), "steps": {}}
    for name, function in steps.items():
        result["steps"][name] = measured(function, arguments.samples)
        print(name, result["steps"][name], flush=True)
    result |= {"load_average_after": [round(load, 2) for load in os.getloadavg()], "environment": environment()}
    Path(arguments.output).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
