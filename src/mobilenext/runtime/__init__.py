"""What turns a batch of images into logits: one small interface, one module for each engine behind it.

Weights are prepared once into a folder (``prepare``), and opened from there by as many processes as are wanted
(``open_runtime``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from mobilenext.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from mobilenext.weights.checkpoint import Weights

RUNTIMES = ("paddle", "paddle-inference")
ENGINES = ("openvino", "onednn", "native")  # of Paddle Inference on a CPU, the fastest first
Floats = npt.NDArray[np.float32]

# Set for every process that computes. Freed memory is kept instead of being returned to the system after each
# call; the MKL in Paddle's wheel takes its slow path on AMD processors unless it is told their type.
FAST_PROCESS = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
    "MKL_DEBUG_CPU_TYPE": "5",
    "GLOG_minloglevel": "2",
    "PYTHONWARNINGS": "ignore:No ccache found",  # Paddle's remark, when imported, on building extensions
}


class Runtime(Protocol):
    """An opened network."""

    def predict(self, batch: Floats) -> Floats:
        """Normalised images [N, 3, H, W] to logits [N, classes], both float32."""


@dataclass(frozen=True)
class RuntimeSpec:
    """Everything that a process needs to open a prepared network."""

    runtime: str  # paddle | paddle-inference
    engine: str  # openvino | onednn | native (Paddle Inference on a CPU), gpu, or eager
    device: str  # cpu | gpu
    threads: int  # of one process
    folder: Path

    def describe(self) -> str:
        return self.runtime if self.engine in ("eager", "gpu") else f"{self.runtime} ({self.engine})"


def resolve_device(device: str) -> str:
    """``cpu`` or ``gpu``; ``auto`` takes a GPU where this build of Paddle has one.

    Raises:
        UsageError: an unknown name, or a GPU that is not there.
    """
    if device not in ("auto", "cpu", "gpu"):
        raise UsageError(f"device is {device!r}; expected auto, cpu or gpu")
    if device == "cpu":
        return device
    import paddle

    compiled = paddle.device.is_compiled_with_cuda()
    present = compiled and paddle.device.cuda.device_count() > 0
    if device == "gpu" and not present:
        found = "finds no GPU" if compiled else "is a CPU build"
        raise UsageError(f"device gpu was asked for, but Paddle {paddle.__version__} {found}; use --device cpu")
    return "gpu" if present else "cpu"


def resolve_runtime(runtime: str, engine: str, device: str) -> tuple[str, tuple[str, ...]]:
    """The runtime's name and the engines to try, in order.

    Raises:
        UsageError: an unknown name, or an engine that the runtime does not have.
    """
    if runtime not in ("auto", *RUNTIMES):
        raise UsageError(f"runtime is {runtime!r}; expected auto, {' or '.join(RUNTIMES)}")
    if engine not in ("auto", *ENGINES):
        raise UsageError(f"engine is {engine!r}; expected auto, {', '.join(ENGINES)}")
    if runtime == "auto":
        runtime = "paddle-inference" if device == "cpu" or engine != "auto" else "paddle"
    if engine != "auto" and (runtime == "paddle" or device == "gpu"):
        raise UsageError(f"engine {engine} belongs to the runtime paddle-inference on a CPU, not to {runtime}/{device}")
    if runtime == "paddle":
        return runtime, ("eager",)
    if device == "gpu":
        return runtime, ("gpu",)
    return runtime, ENGINES if engine == "auto" else (engine,)


def prepare(
    weights: Weights, folder: Path, *, runtime: str, engine: str, device: str, threads: int
) -> tuple[RuntimeSpec, list[str]]:
    """Write what the runtime opens, and try it: its logits must be those of Paddle's own eager network.

    Returns:
        How to open it, and a sentence for every engine that was passed over.

    Raises:
        CheckFailed: an engine that was asked for by name computes something else; with ``auto``, all do.
    """
    from mobilenext.runtime import paddle_eager, paddle_inference
    from mobilenext.weights.checkpoint import network_of

    name, engines = resolve_runtime(runtime, engine, device)
    if name == "paddle":
        paddle_eager.write(weights, folder)
        return RuntimeSpec(name, "eager", device, threads, folder), []

    network = network_of(weights)
    size = weights.preprocessing.image_size
    probe = np.random.default_rng(0).standard_normal((2, 3, size, size), dtype=np.float32)
    expected = paddle_eager.forward(network, probe)
    paddle_inference.write(network, folder, size)
    notes: list[str] = []
    for candidate in engines:
        spec = RuntimeSpec(name, candidate, device, threads, folder)
        problem = paddle_inference.unavailable(candidate) or _difference(spec, probe, expected)
        if problem is None:
            return spec, notes
        notes.append(f"Paddle Inference's {candidate} engine is passed over: {problem}")
    raise CheckFailed(
        "; ".join(notes) + ". Another engine may work (--engine openvino|onednn|native), and so does --runtime paddle."
    )


def _difference(spec: RuntimeSpec, probe: Floats, expected: Floats) -> str | None:
    """None when the opened runtime computes what the eager network does, else a sentence."""
    try:
        found = open_runtime(spec).predict(probe)
    except (RuntimeError, ValueError, NotImplementedError) as error:  # what Paddle's C++ errors are raised as
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"Paddle fails with {type(error).__name__}: {lines[-1] if lines else 'no message'}"
    # Float32 noise is amplified by a deep network; a wrong kernel is off by the logits' own size.
    allowed = 1e-2 * float(expected.std())
    worst = float(np.abs(found - expected).max())
    return None if worst <= allowed else f"its logits are off by {worst:.2g} (allowed {allowed:.2g})"


def open_runtime(spec: RuntimeSpec) -> Runtime:
    """Open a prepared network in this process."""
    if spec.runtime == "paddle":
        from mobilenext.runtime.paddle_eager import PaddleEager

        return PaddleEager(spec)
    from mobilenext.runtime.paddle_inference import PaddleInference

    return PaddleInference(spec)
