from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import mobilenext.runtime as runtime
from mobilenext.errors import CheckFailed, UsageError
from mobilenext.runtime import ENGINES, RuntimeSpec, open_runtime, prepare, resolve_device, resolve_runtime
from mobilenext.weights.checkpoint import Weights, read_weights

if TYPE_CHECKING:
    from tests.conftest import World

CPU: dict[str, Any] = {"device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def weights(world: World) -> Weights:
    return read_weights(world.weights, preprocessing={"image_size": 32, "crop_pct": 1.0})


def skip_if_unavailable(engine: str) -> None:
    from mobilenext.runtime.paddle_inference import unavailable

    if reason := unavailable(engine):
        pytest.skip(reason)


@pytest.mark.parametrize("engine", ["eager", *ENGINES])
def test_every_engine_computes_the_same(
    engine: str, world: World, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_if_unavailable(engine)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    name = "paddle" if engine == "eager" else "paddle-inference"
    choice = "auto" if engine == "eager" else engine
    spec, notes = prepare(weights, tmp_path / "prepared", runtime=name, engine=choice, **CPU)
    assert (spec.runtime, spec.engine, notes) == (name, engine, [])
    opened = open_runtime(spec)
    allowed = 1e-3 * world.logits.std()
    for size in (1, 5):
        found = np.concatenate([opened.predict(world.inputs[i : i + size]) for i in range(0, 20, size)])
        assert found.dtype == np.float32
        assert np.abs(found - world.logits[:20]).max() <= allowed, f"batch {size}"
    assert list(here.iterdir()) == [], "a runtime must not write where the user stands"


def test_auto_takes_the_first_engine_that_is_there(weights: Weights, tmp_path: Path) -> None:
    from mobilenext.runtime.paddle_inference import unavailable

    spec, _ = prepare(weights, tmp_path, runtime="auto", engine="auto", **CPU)
    assert spec.runtime == "paddle-inference"
    assert spec.engine == next(engine for engine in ENGINES if not unavailable(engine))
    assert spec.describe() == f"paddle-inference ({spec.engine})"


class Wrong:
    """A runtime that computes something else."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, batch: np.ndarray) -> np.ndarray:
        if isinstance(self.answer, Exception):
            raise self.answer
        return np.full((len(batch), 8), self.answer, np.float32)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (0.0, "its logits are off by"),
        (np.nan, "its logits are off by nan"),
        (
            RuntimeError("C++ Traceback\n  deep\n\nUnimplementedError: an attribute\n"),
            "UnimplementedError: an attribute",
        ),
    ],
)
def test_an_engine_that_computes_something_else(
    answer: Any, reason: str, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(spec: RuntimeSpec) -> Any:
        return open_runtime(spec) if spec.engine == "native" else Wrong(answer)

    monkeypatch.setattr(runtime, "open_runtime", fake)
    spec, notes = prepare(weights, tmp_path, runtime="auto", engine="auto", **CPU)
    assert spec.engine == "native"
    assert ["openvino" in notes[0], "onednn engine is passed over: " in notes[1], len(notes)] == [True, True, 2]
    assert reason in notes[1]
    assert "deep" not in notes[1], "a traceback of C++ says nothing to users"


def test_no_engine_that_computes_the_same(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "open_runtime", lambda spec: Wrong(0.0))
    with pytest.raises(CheckFailed, match="onednn engine is passed over") as caught:
        prepare(weights, tmp_path / "named", runtime="auto", engine="onednn", **CPU)
    assert "--runtime paddle" in str(caught.value), "it says what to do"
    assert "native" not in str(caught.value).partition("Another engine")[0], "no other one was asked for"
    with pytest.raises(CheckFailed, match=r"openvino.*onednn.*native"):
        prepare(weights, tmp_path / "none", runtime="auto", engine="auto", **CPU)


def test_small_noise_is_no_other_computation(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factor = 1.0

    class Noisy:
        def __init__(self, spec: RuntimeSpec) -> None:
            self.inner = open_runtime(spec)

        def predict(self, batch: np.ndarray) -> np.ndarray:
            return self.inner.predict(batch) * np.float32(factor)

    monkeypatch.setattr(runtime, "open_runtime", Noisy)
    for factor, accepted in ((1.0001, True), (1.2, False)):
        folder = tmp_path / str(factor)
        if accepted:
            prepare(weights, folder, runtime="auto", engine="native", **CPU)
        else:
            with pytest.raises(CheckFailed):
                prepare(weights, folder, runtime="auto", engine="native", **CPU)


def test_devices() -> None:
    import paddle

    assert resolve_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="'tpu'; expected auto, cpu or gpu"):
        resolve_device("tpu")
    if paddle.device.is_compiled_with_cuda():
        pytest.skip("this build of Paddle has CUDA")
    assert resolve_device("auto") == "cpu"
    with pytest.raises(UsageError, match="is a CPU build; use --device cpu"):
        resolve_device("gpu")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("auto", "auto", "cpu"), ("paddle-inference", ENGINES)),
        (("auto", "auto", "gpu"), ("paddle", ("eager",))),
        (("auto", "native", "cpu"), ("paddle-inference", ("native",))),
        (("paddle", "auto", "cpu"), ("paddle", ("eager",))),
        (("paddle-inference", "auto", "gpu"), ("paddle-inference", ("gpu",))),
    ],
)
def test_choices(asked: tuple[str, str, str], found: tuple[str, tuple[str, ...]]) -> None:
    assert resolve_runtime(*asked) == found


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("onnx", "auto", "cpu"), "runtime is 'onnx'; expected auto, paddle or paddle-inference"),
        (("auto", "tensorrt", "cpu"), "engine is 'tensorrt'; expected auto, openvino"),
        (("paddle", "native", "cpu"), "belongs to the runtime paddle-inference"),
        (("paddle-inference", "native", "gpu"), "on a CPU"),
    ],
)
def test_choices_that_cannot_work(asked: tuple[str, str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_runtime(*asked)
