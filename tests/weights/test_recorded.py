"""Preprocessing that a checkpoint records: as trainers store it, and as nobody should."""

from __future__ import annotations

import json
import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenext.weights.read import read_weights
from mobilenext.weights.recorded import recorded_preprocessing
from mobilenext.weights.write import write_weights

TORCHVISION = {"val_crop_size": 224, "val_resize_size": 256, "train_crop_size": 176, "interpolation": "bilinear"}
HALF = (0.5, 0.5, 0.5)
TIMM = {"img_size": None, "input_size": (3, 240, 240), "crop_pct": 0.95, "mean": list(HALF), "std": list(HALF)}
KEYS = json.loads((Path(__file__).parents[1] / "goldens" / "mobilenext_x0.35_20classes_64px.json").read_text())["keys"]


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ({"args": {"img_size": 64, "lr": 0.1}}, {"image_size": 64}),
        ({"args": TORCHVISION}, {"image_size": 224, "crop_pct": 0.875, "interpolation": "bilinear"}),
        ({"args": TIMM | {"interpolation": ""}}, {"image_size": 240, "crop_pct": 0.95, "mean": HALF, "std": HALF}),
        ({"hyper_parameters": {"data": {"image_size": [96, 96]}}}, {"image_size": 96}),
        ({"pretrained_cfg": {"input_size": [3, 160, 160]}}, {"image_size": 160}),
        ({"cfg": {"interpolation": "BICUBIC"}}, {"interpolation": "bicubic"}),
        ({"config": {"crop_size": {"height": 128, "width": 128}}}, {"image_size": 128}),
        ({"image_size": 48, "state_dict": {"mean": np.zeros(3)}}, {"image_size": 48}),
        ({"args": {"img_size": 64}, "hparams": {"image_size": 64}}, {"image_size": 64}),
        ({"args": {"img_size": 224, "val_crop_size": 288}}, {"image_size": 288}),
        ({"optimizer": {"image_size": 7}, "lr_scheduler": {"mean": (0.1, 0.1, 0.1)}}, {}),
        ([1, 2], {}),
    ],
)  # fmt: skip
def test_what_trainers_store(content: Any, fields: dict[str, Any]) -> None:
    recorded, notes = recorded_preprocessing(content)
    assert recorded == fields
    assert all(
        any(name in note and "from the checkpoint" in note for note in notes) for name in fields if name != "crop_pct"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("img_size", value) for value in ("64", "64; rm -rf /", 0, -64, 10**60, 1e300, float("nan"), 64.5, True, [])),
        *(("img_size", value) for value in ([3, 64, 32], [64, "64"], {"a": {}}, b"64", [1, 2, 3, 4])),
        *(("crop_pct", value) for value in ("0.9", float("nan"), float("inf"), -1, 0, 1.5, 10**60, [0.9])),
        *(("mean", value) for value in ([123.7, 116.3, 103.5], [0.5], "0.5", 0.5, [float("nan")] * 3, [None] * 3)),
        *(("std", value) for value in ([0, 0, 0], [58.4, 57.1, 57.4], [10**60] * 3)),
        *(("interpolation", value) for value in ("random", "os.system", 3, ["bicubic"])),
    ],
)
def test_bad_values_are_named_and_never_obeyed(name: str, value: Any) -> None:
    recorded, (note,) = recorded_preprocessing({"args": {name: value}})
    assert recorded == {}
    assert f"args/{name} is " in note
    assert "not taken" in note
    assert len(note) < 400


def test_half_of_a_pair_is_not_taken() -> None:
    for usable, other in (("mean", "std"), ("std", "mean")):
        recorded, notes = recorded_preprocessing({"args": {usable: [0.5] * 3, other: [127.5] * 3}})
        assert recorded == {}
        assert any(f"args/{other} is " in note for note in notes)
        assert f"{usable} is not taken without {other}" in notes


def test_two_values_are_none() -> None:
    recorded, (note,) = recorded_preprocessing({"args": {"img_size": 64}, "config": {"image_size": 224}})
    assert recorded == {}
    assert "64 (args/img_size) and 224 (config/image_size)" in note


def test_what_is_recorded_asked_for_and_assumed(tmp_path: Path) -> None:
    path, converted = tmp_path / "w.pdparams", tmp_path / "w.safetensors"
    state = {name: np.ones(shape, np.float32) for name, shape in KEYS if not name.endswith("tracked")}
    path.write_bytes(pickle.dumps({"state_dict": state, "args": Namespace(img_size=64, model="m")}, 4))
    weights = read_weights(path)
    assert weights.preprocessing.image_size == 64
    assert weights.assumed == ("crop_pct", "interpolation", "mean", "std")
    (note,) = (note for note in weights.notes if note.startswith("preprocessing: "))
    assert "image_size 64 from the checkpoint (args/img_size)" in note
    assert "assumed: crop_pct 0.875, interpolation bicubic" in note
    asked = read_weights(path, preprocessing={"crop_pct": 1.0, "image_size": 96})
    assert (asked.preprocessing.image_size, asked.assumed) == (96, ("interpolation", "mean", "std"))
    write_weights(weights, converted)
    again = read_weights(converted)
    assert (again.preprocessing, again.assumed) == (weights.preprocessing, weights.assumed)
    assert read_weights(converted, preprocessing={"crop_pct": 1.0}).assumed == ("interpolation", "mean", "std")
