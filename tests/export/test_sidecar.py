"""Sidecars of both versions, without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobilenext.data import Preprocessing
from mobilenext.errors import DataError
from mobilenext.export.sidecar import SIDECAR, Output, read_sidecar, write_sidecar
from mobilenext.runtime import RuntimeSpec
from mobilenext.sources.find import find_subject, task_of
from mobilenext.weights.record import WeightsRecord


def record(folder: Path, task: str | None = None) -> WeightsRecord:
    return WeightsRecord(
        model="mobilenext_x1_0", num_classes=3, identity_divisor=1, preprocessing=Preprocessing(), labels=None,
        path=folder / "a.safetensors", sha256="1" * 64, source_name="a.pth", source_sha256="2" * 64, card=None,
        kind="raw", notes=(), task=task,
    )  # fmt: skip


def written(folder: Path, outputs: dict[str, Any], task: str | None = None) -> dict[str, Any]:
    """The values of a sidecar beside a model file."""
    (folder / "model.onnx").write_bytes(b"a network")
    spec = RuntimeSpec("onnxruntime", "", "cpu", 1, folder, "model.onnx", outputs=tuple(outputs))
    arrays = tuple(np.asarray(array, np.float32)[None] for array in outputs.values())
    write_sidecar(spec, "onnx", record(folder, task), arrays, {"images": 4})
    values: dict[str, Any] = json.loads((folder / SIDECAR).read_text())
    return values


def test_version_1_is_read(tmp_path: Path) -> None:
    """Its one output is an array of logits."""
    values = written(tmp_path, {"logits": [0.5, -1.5, 2.0]})
    assert (values["output"], values["self_check"]) == ("logits", [0.5, -1.5, 2.0]), "as in version 1"
    assert "task" not in values["record"], "none means classification"
    now = read_sidecar(tmp_path)
    del values["outputs"]
    (tmp_path / SIDECAR).write_text(json.dumps(values | {"version": "mobilenext export 1"}))
    assert read_sidecar(tmp_path) == now
    assert now.outputs == (Output("logits", (3,)),)


def test_several_outputs_of_another_task(tmp_path: Path) -> None:
    scores, boxes = np.arange(6).reshape(2, 3), np.arange(8).reshape(2, 4) / 8
    values = written(tmp_path, {"scores": scores, "boxes": boxes}, task="detection")
    assert values["outputs"] == [{"name": "scores", "shape": [2, 3]}, {"name": "boxes", "shape": [2, 4]}]
    assert values["record"]["task"] == "detection"
    sidecar = read_sidecar(tmp_path)
    for output, array in zip(sidecar.expected_outputs(), (scores, boxes), strict=True):
        assert output.dtype == np.float32
        assert np.array_equal(output, array[None])


def test_the_task_is_read_without_the_model(tmp_path: Path) -> None:
    written(tmp_path, {"scores": [1.0, 2.0]}, task="detection")
    (tmp_path / "model.onnx").unlink()
    assert task_of(find_subject(exported=tmp_path)) == "detection"
    with pytest.raises(DataError, match=r"model\.onnx cannot be read"):
        read_sidecar(tmp_path)


def test_outputs_that_do_not_belong_together(tmp_path: Path) -> None:
    values = written(tmp_path, {"scores": [[1.0, 2.0]], "boxes": [0.5]}, task="detection")
    (tmp_path / SIDECAR).write_text(json.dumps(values | {"self_check": [1.0]}))
    with pytest.raises(DataError, match="self_check has 1 values; expected 3, those of its outputs"):
        read_sidecar(tmp_path)
    del values["record"]["task"]
    (tmp_path / SIDECAR).write_text(json.dumps(values))
    with pytest.raises(DataError, match="outputs are not one of 3 values, for 3 classes"):
        read_sidecar(tmp_path)
