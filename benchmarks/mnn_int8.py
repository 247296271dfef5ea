"""What int8 by MNN's own tool costs and gains, beside MNN in float32.

    python benchmarks/mnn_int8.py CHECKPOINT DATA [--image-size 64] [-o results/mnn_int8.json]

Calibrates with 256 images of DATA's train_list.txt, spread evenly and already of the network's size, by each method of
the tool, and evaluates on its val_list.txt. The time is that of the processor for one image, by turns in one process.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilenext.data import Preprocessing, open_dataset, read_image
from mobilenext.machine.environment import environment
from mobilenext.origin import origin
from mobilenext.runtime import Runtime, open_runtime
from mobilenext.sources.choice import Choice
from mobilenext.sources.prepare import prepare_weights
from mobilenext.weights.read import read_weights

METHODS = ("KL", "EMA")  # of finding the ranges of the activations: the default, and the one that MNN recommends
CALIBRATION_IMAGES, CALLS = 256, 200


def quantize(source: Path, target: Path, images: Path, preprocessing: Preprocessing, method: str) -> str | None:
    """Write the int8 network of a float32 one by MNN's tool, in a process of its own; return how it fails, if it does.

    The tool is called as a module: the command ``mnnquant`` of MNN 3.6.1 calls it with other arguments than it takes.
    """
    size = preprocessing.image_size
    settings = {
        "format": "RGB",
        "mean": [255 * value for value in preprocessing.mean],
        "normal": [1 / (255 * value) for value in preprocessing.std],
        "width": size,
        "height": size,
        "path": f"{images}/",
        "used_image_num": CALIBRATION_IMAGES,
        "feature_quantize_method": method,
        "weight_quantize_method": "MAX_ABS",
        "batch_size": 32,
    }
    config = target.with_suffix(".json")
    config.write_text(json.dumps(settings))
    call = "import sys, _tools; _tools.mnnquant(sys.argv)"
    run = subprocess.run(
        [sys.executable, "-c", call, str(source), str(target), str(config)], capture_output=True, check=False
    )
    if run.returncode < 0:
        return f"it ends with {signal.Signals(-run.returncode).name}"
    return None if target.is_file() else "it writes no file"


def milliseconds(networks: Mapping[str, Runtime], image: np.ndarray) -> dict[str, float]:
    """Return the median processor time of one image by each network, by turns."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(CALLS):
        for name, network in networks.items():
            start = time.process_time()
            network.predict(image)
            times[name].append(1000 * (time.process_time() - start))
    return {name: round(statistics.median(values), 4) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, default=Path("results/mnn_int8.json"))
    options = parser.parse_args()
    weights = read_weights(options.checkpoint, preprocessing={"image_size": options.image_size, "crop_pct": 1.0})
    preprocessing = weights.preprocessing
    records = open_dataset(options.data).records
    images = np.stack([preprocessing(read_image(record.path)) for record in records])
    labels = np.array([record.label for record in records])
    training = open_dataset(options.data, list_file=options.data / "train_list.txt").records
    with tempfile.TemporaryDirectory() as work:
        folder, pictures = Path(work), Path(work, "pictures")
        pictures.mkdir()
        for place in np.linspace(0, len(training) - 1, CALIBRATION_IMAGES).astype(int):
            pixels = preprocessing.pixels(read_image(training[place].path))
            Image.fromarray(pixels).save(pictures / f"{place:06}.png")
        spec = prepare_weights(weights, folder / "float32", Choice("mnn")).spec
        files, failures = {"float32": spec.folder / spec.file}, {}
        for method in METHODS:
            target = folder / f"{method}.mnn"
            if (failure := quantize(files["float32"], target, pictures, preprocessing, method)) is None:
                files[method] = target
            else:
                failures[method] = failure
        networks = {
            name: open_runtime(replace(spec, folder=file.parent, file=file.name)) for name, file in files.items()
        }
        times = milliseconds(networks, images[:1])
        rows: list[dict[str, Any]] = []
        expected = np.array([])
        for name, network in networks.items():
            logits = np.concatenate([network.predict(images[i : i + 50])[0] for i in range(0, len(images), 50)])
            classes = logits.argmax(axis=1)
            expected = expected if rows else classes
            rows.append(
                {
                    "network": name,
                    "correct_top1": int((classes == labels).sum()),
                    "equal_predictions": int((classes == expected).sum()),
                    "bytes": files[name].stat().st_size,
                    "processor_ms": times[name],
                }
            )
            print(rows[-1], flush=True)
    result = {
        **origin(),
        "checkpoint": {"name": options.checkpoint.name, "sha256": weights.sha256, "model": weights.model},
        "images": len(images),
        "calibration_images": CALIBRATION_IMAGES,
        "calls": CALLS,
        "rows": rows,
        "failures": failures,
        "environment": environment(),
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
