"""Memory of the evaluation of a detector on a set of COCO's size, of all its processes together.

    python benchmarks/evaluation_memory.py PICTURES [--images 5000] [-o results/bench_evaluation_memory.json]

The set is 5,000 links to the JPEG files in the folder PICTURES, with 7 random boxes each, of 80 classes. The network is
the detector x0_35 of the form coco with random weights, whose classes are biased so that every picture has the most
detections that count, 100: what is kept and compared does not depend on which boxes they are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluation import evaluate
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.machine.environment import environment
from mobilenext.machine.pool import WorkerPool
from mobilenext.models.detector_form import detection_preprocessing
from mobilenext.origin import origin

MODEL, CLASSES, BOXES = "ssdlite320_mobilenext_x0_35", 80, 7
NAMES = tuple(f"class {label}" for label in range(1, CLASSES + 1))


def make_set(pictures: Path, images: int, folder: Path) -> None:
    """Write a data set in COCO's layout."""
    random = np.random.default_rng(0)
    sources = sorted(pictures.glob("*.jpg"))
    sizes = {path: Image.open(path).size for path in sources}
    (folder / "val2017").mkdir()
    (folder / "annotations").mkdir()
    records: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for number in range(images):
        source = sources[number % len(sources)]
        width, height = sizes[source]
        name = f"{number:012}.jpg"
        (folder / "val2017" / name).symlink_to(source.resolve())
        records.append({"id": number, "file_name": name, "width": width, "height": height})
        for share in random.uniform(0.05, 0.9, (BOXES, 2)):
            w, h = share * (width, height)
            x, y = random.uniform(0, 1, 2) * (width - w, height - h)
            label = int(random.integers(1, CLASSES + 1))
            boxes.append(
                {"id": len(boxes) + 1, "image_id": number, "category_id": label, "bbox": [x, y, w, h], "area": w * h}
            )
    categories = [{"id": label, "name": name} for label, name in enumerate(NAMES, 1)]
    content = {"images": records, "annotations": boxes, "categories": categories}
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))


def save_biased_weights(path: Path) -> None:
    """Write a network whose scores are above the threshold for 2 % of its priors and classes."""
    import paddle

    from mobilenext import create_model
    from mobilenext.weights import naming
    from mobilenext.weights.record import Weights
    from mobilenext.weights.write import write_weights

    paddle.seed(0)
    random = np.random.default_rng(0)
    network: Any = create_model(MODEL, num_classes=CLASSES, form="coco")
    layers = dict(network.named_sublayers())
    for name in network.class_layers:
        bias = layers[name].bias
        bias.set_value(random.normal(-6, 1.5, bias.shape).astype(np.float32))
    preprocessing: Preprocessing = detection_preprocessing()
    write_weights(
        Weights(
            model=MODEL, num_classes=CLASSES, identity_divisor=1, task="detection",
            architecture={"form": network.form.to_dict()}, preprocessing=preprocessing, labels=NAMES, path=path,
            sha256="", source_name="benchmarks/evaluation_memory.py", source_sha256="", card=None, kind="raw", notes=(),
            tensors={key: tensor.numpy() for key, tensor in network.state_dict().items()},
            entries=naming.entries_of(network), dialect="paddle", dropped=(),
        ),
        path,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("-o", "--output", type=Path, default=Path("results/bench_evaluation_memory.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data, weights = Path(scratch) / "data", Path(scratch) / "random.safetensors"
        data.mkdir()
        make_set(options.pictures, options.images, data)
        with WorkerPool(1) as single:  # this process stays small
            single.call(save_biased_weights, weights)
        row = evaluate(data, weights, "onnxruntime")
    result = {"model": MODEL, "images": options.images, "boxes": BOXES * options.images, "classes": CLASSES, **row}
    result |= {**origin(), "environment": environment()}
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
