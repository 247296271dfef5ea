"""A small world to evaluate in: 24 images, a network of 4 classes whose answers differ, and its predictions by hand."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

IMAGES = 24
CLASSES = 4
SIZE = 32
SMALL = {"image_size": SIZE, "crop_pct": 1.0}  # of Preprocessing; the rest are its defaults


@dataclass(frozen=True)
class World:
    """Everything the tests of the evaluation share; they must not write into it."""

    data: Path  # imgs/ and val_list.txt
    weights: Path  # .pdparams
    names: list[str]
    labels: list[int]
    inputs: np.ndarray  # [24, 3, 32, 32], preprocessed by other code than the package's
    logits: np.ndarray  # [24, 4], from Paddle's eager network

    def ranking(self) -> list[list[int]]:
        return [sorted(range(CLASSES), key=lambda number: -row[number]) for row in self.logits.tolist()]

    def correct_top1(self) -> int:
        return sum(best[0] == label for best, label in zip(self.ranking(), self.labels, strict=True))


def draw(seed: int) -> Image.Image:
    """Coarse colourful squares, 40 wide and 48 high."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse.repeat(8, axis=0).repeat(8, axis=1))


def write_data(folder: Path, count: int, labels: list[int] | None = None, seed: int = 0) -> Path:
    """A data set of `count` images with a list."""
    (folder / "imgs").mkdir(parents=True)
    labels = labels or [number % CLASSES for number in range(count)]
    for number in range(count):
        draw(seed + number).save(folder / "imgs" / f"val {number:04}.png")
    lines = [f"val {number:04}.png {labels[number]}\n" for number in range(count)]
    (folder / "val_list.txt").write_text("".join(lines))
    return folder


def preprocess_by_hand(path: Path) -> np.ndarray:
    """40 x 48 to 32 x 38, the middle 32 x 32, normalised: written out for this one size."""
    with Image.open(path) as image:
        resized = image.convert("RGB").resize((32, 38), Image.Resampling.BICUBIC).crop((0, 3, 32, 35))
    scaled = np.asarray(resized, np.float32) / np.float32(255)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return ((scaled - mean) / std).transpose(2, 0, 1)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    import paddle

    from mobilenext.models import build_network

    folder = tmp_path_factory.mktemp("world")
    labels = [int(label) for label in np.random.default_rng(7).integers(0, CLASSES, IMAGES)]
    data = write_data(folder / "data", IMAGES, labels)
    names = [f"imgs/val {number:04}.png" for number in range(IMAGES)]
    inputs = np.stack([preprocess_by_hand(data / name) for name in names])

    paddle.seed(1)
    network = build_network("mobilenext_x0_35", num_classes=CLASSES)
    # A fresh network answers every image alike. Statistics of these very images, and a classifier that looks at what
    # distinguishes them, make it answer differently.
    network.train()
    with paddle.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When training, we now always track")  # Paddle says so at every call
        for _ in range(40):
            network(paddle.to_tensor(inputs))
    network.eval()
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    (weight,) = (name for name, value in state.items() if value.ndim == 2)
    bias = weight.removesuffix("weight") + "bias"
    random = np.random.default_rng(3)
    state[weight] = random.standard_normal(state[weight].shape, dtype=np.float32)
    state[bias] = np.zeros(CLASSES, np.float32)

    def logits_of(state: dict[str, Any]) -> np.ndarray:
        network.set_state_dict(state)
        with paddle.no_grad():
            return np.asarray(network(paddle.to_tensor(inputs)).numpy())

    raw = logits_of(state)
    scale = 2 / raw.std(axis=0)
    state[weight] = (state[weight] * scale).astype(np.float32)
    state[bias] = (-raw.mean(axis=0) * scale).astype(np.float32)
    logits = logits_of(state)
    ordered = np.sort(logits, axis=1)
    assert np.diff(ordered, axis=1).min() > 1e-3, "two logits of one image are too close for a test"
    assert len(set(logits.argmax(axis=1).tolist())) == CLASSES, "the network does not use all classes"
    path = folder / "network.pdparams"
    paddle.save(state, str(path))
    return World(data, path, names, labels, inputs, logits)
