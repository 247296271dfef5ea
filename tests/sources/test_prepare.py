from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mobilenext.errors import CheckFailed, UsageError
from mobilenext.export import FORMATS, ONNX_PACKAGES
from mobilenext.machine.packages import installed
from mobilenext.runtime import ENGINES, RUNTIMES, RuntimeSpec, open_runtime, self_check
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import Subject
from mobilenext.sources.prepare import prepare, prepare_weights
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import Weights

if TYPE_CHECKING:
    from tests.conftest import World

pytestmark = pytest.mark.usefixtures("written_once")
WAYS = [(card.name, engine) for card in RUNTIMES.values() for engine in card.engines]


@pytest.fixture(scope="module")
def weights(world: World) -> Weights:
    return read_weights(world.weights, preprocessing={"image_size": 32, "crop_pct": 1.0})


def skip_if_unavailable(runtime: str, engine: str = "") -> None:
    from mobilenext.runtime.paddle_inference import unavailable

    card = RUNTIMES[runtime]
    if reason := unavailable(engine if runtime == "paddle-inference" else "", "inference.pdmodel"):
        pytest.skip(reason)
    form = FORMATS.get(card.formats[0])
    for package in (card.package, *(form.packages if form else ())):
        if not installed(package):
            pytest.skip(f"{package} is not installed")
    if runtime == "ncnn" and not installed("pnnx"):
        pytest.skip("pnnx is not installed (pip install --no-deps pnnx)")


@pytest.mark.parametrize(("runtime", "engine"), WAYS)
def test_every_runtime_computes_the_same(
    runtime: str, engine: str, world: World, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_if_unavailable(runtime, engine)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    prepared = prepare_weights(weights, tmp_path / "prepared", Choice(runtime, engine or "auto"))
    assert prepared.spec.runtime == runtime
    assert prepared.spec.engine == ("eager" if runtime == "paddle" else engine)
    assert prepared.notes == weights.notes, "nothing was passed over"
    opened = open_runtime(prepared.spec)
    allowed = 1e-3 * world.logits.std()
    for size in (1, 5):
        found = np.concatenate([opened.predict(world.inputs[i : i + size])[0] for i in range(0, 20, size)])
        assert found.dtype == np.float32
        assert np.abs(found - world.logits[:20]).max() <= allowed, f"batch {size}"
    assert list(here.iterdir()) == [], "a runtime must not write where the user stands"


def test_auto_takes_the_first_that_is_there(weights: Weights, tmp_path: Path) -> None:
    prepared = prepare_weights(weights, tmp_path, Choice())
    ready = installed("onnxruntime") and all(map(installed, ONNX_PACKAGES))
    assert prepared.spec.runtime == ("onnxruntime" if ready else "paddle-inference")
    why = f"runtime: {prepared.spec.describe()} (chosen automatically: the fastest whose outputs are right, of "
    assert prepared.notes[-1].startswith(why)


class Wrong:
    """A runtime that computes something else."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return (np.full((len(batch), 8), self.answer, np.float32),)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (0.0, "its logits are off by"),
        (np.nan, "its logits are off by nan"),
        (
            RuntimeError("C++ Traceback\n  deep\n\nUnimplementedError: an attribute\n"),
            "UnimplementedError: an attribute",
        ),
        (
            NotImplementedError("(Unimplemented) ConvertPirAttribute2RuntimeAttribute not support\n  [deep]"),
            "a known failure of oneDNN in Paddle 3.3 .* use --engine native, export with --format paddle-legacy, or",
        ),
    ],
)
def test_an_engine_that_computes_something_else(
    answer: Any, reason: str, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(spec: RuntimeSpec) -> Any:
        return open_runtime(spec) if spec.engine == "native" else Wrong(answer)

    monkeypatch.setattr(self_check, "open_runtime", fake)
    prepared = prepare_weights(weights, tmp_path, Choice("paddle-inference"))
    assert prepared.spec.engine == "native"
    openvino, onednn = prepared.notes[-2:]
    assert openvino.startswith("paddle-inference (openvino) is passed over: ")
    assert onednn.startswith("paddle-inference (onednn) is passed over: ")
    import re

    assert re.search(reason, onednn)
    assert "deep" not in onednn, "a traceback of C++ says nothing to users"


def test_no_engine_that_computes_the_same(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "open_runtime", lambda spec: Wrong(0.0))
    with pytest.raises(CheckFailed, match=r"\(onednn\) is passed over") as caught:
        prepare_weights(weights, tmp_path / "named", Choice(engine="onednn"))
    assert "--runtime paddle" in str(caught.value), "it says what to do"
    assert "native" not in str(caught.value).partition("Another runtime")[0], "no other one was asked for"
    with pytest.raises(CheckFailed, match=r"openvino.*onednn.*native"):
        prepare_weights(weights, tmp_path / "none", Choice("paddle-inference"))


def test_small_noise_is_no_other_computation(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factor = 1.0

    class Noisy:
        def __init__(self, spec: RuntimeSpec) -> None:
            self.inner = open_runtime(spec)

        def predict(self, batch: np.ndarray) -> tuple[np.ndarray]:
            return (self.inner.predict(batch)[0] * np.float32(factor),)

    monkeypatch.setattr(self_check, "open_runtime", Noisy)
    for factor, accepted in ((1.0001, True), (1.2, False)):
        folder = tmp_path / str(factor)
        if accepted:
            prepare_weights(weights, folder, Choice(engine="native"))
        else:
            with pytest.raises(CheckFailed):
                prepare_weights(weights, folder, Choice(engine="native"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("model", ["mobilenext_s", pytest.param("mobilenext_l_ghost", marks=pytest.mark.long)])
def test_networks_with_sigmoid_in_the_older_format(model: str, engine: str, tmp_path: Path) -> None:
    """Paddle 3.3's own sigmoid cannot be saved as .pdmodel."""
    import paddle

    from mobilenext.models import build_network

    skip_if_unavailable("paddle-inference", engine)
    paddle.seed(0)
    file = tmp_path / "network.pdparams"
    paddle.save(build_network(model, num_classes=10).state_dict(), str(file))
    subject = Subject(file, "weights", preprocessing={"image_size": 32, "crop_pct": 1.0})
    prepared = prepare(subject, tmp_path / "prepared", Choice("paddle-inference", engine))
    assert (prepared.spec.engine, prepared.record.model) == (engine, model)


def test_int8_of_weights_needs_calibration(weights: Weights, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int8 needs calibration: `mobilenext quantize`"):
        prepare_weights(weights, tmp_path, Choice(precision="int8"))
