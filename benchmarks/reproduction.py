"""The five comparisons of a reproduction: forward, data, metric, loss and backward, each against PyTorch's values.

    python benchmarks/reproduction.py CHECKPOINT DATA LOGITS.npz [--photos PHOTOS ...] [-o results/reproduction.json]

CHECKPOINT is PyTorch's, with raw and EMA weights; LOGITS.npz has PyTorch's logits `raw` and `ema`, [images, classes],
for the images of DATA's val_list.txt; PHOTOS are folders with larger images. What PyTorch computes in training and in
float64 is in tests/goldens/reproduction, see scripts/reference_training.py. Our side is the code that `mobilenext
evaluate` and `mobilenext train` run. Exit code 1 when a comparison does not pass.

Bounds. 1e-5 of the logits' standard deviation is what Paddle's community asks for, and what trained weights have to
meet. Counts and pixels are integers and have to be equal. Everything else may differ by four times what PyTorch's own
results move by when something is changed that a port cannot help, such as the order of additions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from PIL import Image

from backward import backward, factor_of_variances
from comparison_rows import EQUAL, Bound, Difference, Row, row
from mobilenext.classification.loss import cross_entropy_sum
from mobilenext.classification.metrics import Counts, predictions_of
from mobilenext.data import Preprocessing, open_dataset, read_image
from mobilenext.data.images import find_images
from mobilenext.drawing.markdown import table
from mobilenext.machine.environment import environment
from mobilenext.origin import origin
from mobilenext.weights.load import network_of
from mobilenext.weights.read import read_weights

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from golden import GOLDENS, computed_logits, recording
from reference import TIMES, recipe, reference
from reference_facts import REFERENCE, SMOOTHING, STARTS, batch

OF_STD = "the logits' standard deviation"
# Float32 on the way to (pixel / 255 - mean) / std: 2^-25 for each of two numbers below 1 and half of it for the mean,
# over the smallest std; and two roundings of a result of up to 2.7, of which one is that of std.
NORMALIZED = 2.5 * 2**-25 / 0.224 + 2 * 2.7 * 2**-24


# --- 1. Forward -------------------------------------------------------------------------------------------------------


def of_logits(what: str, subject: str, against: str, logits: np.ndarray, expected: np.ndarray, bound: Bound) -> Row:
    off = float(np.abs(logits - expected).max())
    difference = Difference(logits.size, off, off / float(expected.std()), OF_STD)
    return row("forward", what, subject, against, difference, bound)


def forward_of_recordings() -> Iterator[Row]:
    exact, rounded = reference("forward"), reference("forward_epsilon")
    for name in sorted(path.stem for path in GOLDENS.glob("*.npz")):
        logits = recording(name)[1]
        single, double = computed_logits(name)
        rounding = float(np.abs(single - double).max() / logits.std())
        yield of_logits(
            "formula weights, float32", name, "the authors' code in PyTorch, float32", single, logits,
            Bound(max(1e-5, TIMES * rounding), f"1e-5 or {TIMES} x float32's distance from float64 in Paddle"),
        )  # fmt: skip
        if name in exact:
            # Paddle's epsilon is rounded to float32. With PyTorch's rounded too, only float64's rounding is left.
            apart = float(np.abs(rounded[name] - exact[name]).max() / logits.std())
            yield of_logits(
                "formula weights, float64, epsilon rounded", name, "PyTorch in float64 with epsilon in float32", double,
                rounded[name], Bound(TIMES * rounding * 2**-29, f"{TIMES} x float32's distance from float64, by 2^29"),
            )  # fmt: skip
            yield of_logits(
                "formula weights, float64", name, "PyTorch in float64", double, exact[name],
                Bound(TIMES * apart, f"{TIMES} x what PyTorch's move by when epsilon is rounded to float32"),
            )  # fmt: skip


def own_logits(checkpoint: Path, images: np.ndarray, kind: str) -> np.ndarray:
    network = network_of(read_weights(checkpoint, use=kind))
    with paddle.no_grad():
        parts = [network(paddle.to_tensor(images[i : i + 50])).numpy() for i in range(0, len(images), 50)]
    return np.concatenate(parts)


# --- 2. Data ----------------------------------------------------------------------------------------------------------


def by_hand(path: Path, size: int, crop_pct: float, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [size, size, 3] and input float64 [3, size, size] by torchvision's rules, without this package.

    Resize(int), CenterCrop, ToTensor, Normalize; timm's size to resize to.
    """
    with Image.open(path) as file:
        image = file.convert("RGB")
    w, h = image.size
    short = int(np.floor(size / crop_pct))
    long = int(short * max(w, h) / min(w, h))
    w, h = (short, long) if w <= h else (long, short)
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    image = image.resize((w, h), filters[interpolation])
    left, top = round((w - size) / 2.0), round((h - size) / 2.0)
    pixels = np.asarray(image)[top : top + size, left : left + size]
    values = (pixels / 255.0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    return pixels, values.transpose(2, 0, 1)


def data(paths: list[Path], of: str, size: int, crop_pct: float, interpolation: str) -> Iterator[Row]:
    preprocessing = Preprocessing(image_size=size, crop_pct=crop_pct, interpolation=interpolation)
    step, unequal, off = 0, 0, 0.0
    for path in paths:
        image = read_image(path)
        pixels, values = by_hand(path, size, crop_pct, interpolation)
        difference = np.abs(preprocessing.pixels(image).astype(int) - pixels)
        step, unequal = max(step, int(difference.max())), unequal + int((difference > 0).sum())
        off = max(off, float(np.abs(preprocessing(image) - values).max()))
    subject = f"{len(paths)} images of {of}, {size} pixels, crop {crop_pct:g}, {interpolation}"
    count = len(paths) * 3 * size * size
    against = "torchvision's rules, written out with Pillow and NumPy"
    pixels_off = Difference(count, step, step / 255, "255")
    yield row("data", "pixels, uint8", subject, against, pixels_off, EQUAL, unequal=unequal)
    roundings = Bound(NORMALIZED, "float32's roundings added up")
    what = "network's input, float32"
    yield row("data", what, subject, f"{against} in float64", Difference(count, off, off, "1"), roundings)


# --- 3. Metric and 4. Loss --------------------------------------------------------------------------------------------


def metric(what: str, subject: str, logits: np.ndarray, labels: list[int], expected: np.ndarray) -> Row:
    counts = Counts(logits.shape[1])
    for prediction in predictions_of(logits, range(len(labels)), [""] * len(labels), labels):
        counts.add(prediction)
    off = max(abs(counts.top1 - int(expected[2])), abs(counts.top5 - int(expected[3])))
    difference = Difference(2, off, off / len(labels), "the number of images")
    counted = {"correct_top1": counts.top1, "correct_top5": counts.top5, "images": len(labels)}
    return row("metric", what, subject, "torch.topk", difference, EQUAL, **counted)


def loss(subject: str, logits: np.ndarray, labels: Any, expected: float, smoothing: float) -> Row:
    total = cross_entropy_sum(paddle.to_tensor(logits), paddle.to_tensor(np.array(labels)), smoothing)
    off = abs(float(total) / len(labels) - expected)
    what = f"smoothing {smoothing:g}" if smoothing else "no smoothing"
    against = "torch cross_entropy in float64, the same logits"
    bound = Bound(1e-6, "some roundings of float32, in which our loss is")
    return row("loss", what, subject, against, Difference(1, off, off / expected, "the loss"), bound)


def forward_of_checkpoint(
    own: Mapping[str, np.ndarray], recorded: Mapping[str, np.ndarray], images: int
) -> Iterator[Row]:
    community = Bound(1e-5, "the bound of Paddle's community")
    for kind, logits in own.items():
        subject = f"{kind} weights, {images} images"
        yield of_logits("trained checkpoint, float32", subject, "PyTorch, float32", logits, recorded[kind], community)


def data_of(name: str, paths: list[Path], photos: Sequence[Path]) -> Iterator[Row]:
    for crop_pct in (1.0, 0.875):
        yield from data(paths, name, 64, crop_pct, "bicubic")
    for folder in photos:
        for interpolation in ("bicubic", "bilinear"):
            yield from data(find_images([folder]), folder.name, 224, 0.875, interpolation)


def counts_and_losses(
    own: Mapping[str, np.ndarray], recorded: Mapping[str, np.ndarray], counted: Mapping[str, np.ndarray],
    labels: list[int],
) -> Iterator[Row]:  # fmt: skip
    for kind, expected in counted.items():
        yield metric("our counts of PyTorch's logits", f"{kind} weights", recorded[kind], labels, expected)
        yield metric("our counts of our logits", f"{kind} weights", own[kind], labels, expected)
    for kind, expected in counted.items():
        subject = f"PyTorch's logits of {len(labels)} images, {kind} weights"
        for smoothing, value in zip((0.0, SMOOTHING), expected[:2].tolist(), strict=True):
            yield loss(subject, recorded[kind], labels, value, smoothing)
    for start in STARTS:
        record = reference(start)
        subject = f"PyTorch's logits in training, {start} weights"
        yield loss(subject, record["logits"], batch()[1], float(record["loss"][0]), SMOOTHING)


def table_of(rows: Sequence[Row]) -> str:
    cells = [
        [
            row["comparison"], row["what"], row["subject"], f"{row['values']:,}",
            f"{row['largest_relative_difference']:.1e}", f"{row['allowed']:.1e}",
            "passed" if row["passed"] else "FAILED",
        ]
        for row in rows
    ]  # fmt: skip
    return table(["comparison", "what", "subject", "values", "difference", "allowed", ""], cells)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("logits", type=Path)
    parser.add_argument("--photos", type=Path, nargs="+", default=[])
    parser.add_argument("-o", "--output", type=Path, default=Path("results/reproduction.json"))
    options = parser.parse_args()

    recorded, counted = np.load(options.logits), reference("checkpoint")
    dataset = open_dataset(options.data)
    paths, labels = [record.path for record in dataset.records], [record.label for record in dataset.records]
    prepare = Preprocessing(image_size=64, crop_pct=1.0)
    images = np.stack([prepare(read_image(path)) for path in paths])
    own = {kind: own_logits(options.checkpoint, images, kind) for kind in counted}

    rows = [
        *forward_of_recordings(),
        *forward_of_checkpoint(own, recorded, len(images)),
        *data_of(options.data.name, paths, options.photos),
        *counts_and_losses(own, recorded, counted, labels),
        *(row for start in STARTS for row in backward(start)),
    ]
    print(table_of(rows))
    weights = read_weights(options.checkpoint, use="raw")
    result = {
        "checkpoint": {"name": options.checkpoint.name, "sha256": weights.sha256, "model": weights.model},
        "data": {"folder": options.data.name, "sha256": dataset.digest()},
        "photos": [folder.name for folder in options.photos],
        "pytorch": str(np.load(REFERENCE)["torch"]),
        "recipe": recipe().to_dict(),
        "running_variances_differ_by": factor_of_variances(),
        "rows": rows,
        **origin(),
        "environment": environment(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(row["passed"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
