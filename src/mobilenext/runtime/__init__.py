"""What turns a batch of images into logits: one small interface, one module for each engine behind it.

A network is first written in a format (``mobilenext.export``), then opened from its folder by as many processes as
are wanted (``open_runtime``). Nothing here is imported before it is chosen.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mobilenext.errors import MissingDependency, UsageError, nearest
from mobilenext.runtime.form import Adapted, Form

Floats = npt.NDArray[np.float32]
Logits = npt.NDArray[np.floating[Any]]  # float32; logarithms of probabilities are float64

# Set for every process that computes. Freed memory is kept instead of being returned to the system after each
# call; the MKL in Paddle's wheel takes its slow path on AMD processors unless it is told their type.
FAST_PROCESS = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
    "MKL_DEBUG_CPU_TYPE": "5",
    "GLOG_minloglevel": "2",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime would look for its maker's server; it reads this when imported
    "PYTHONWARNINGS": "ignore:No ccache found",  # Paddle's remark, when imported, on building extensions
}


class Runtime(Protocol):
    """An opened network."""

    def predict(self, batch: Floats) -> Logits:
        """Normalised images [N, 3, H, W] to logits [N, classes]."""


@dataclass(frozen=True)
class RuntimeCard:
    """One runtime: where its code is, what it opens, what must be installed for it."""

    name: str
    module: str  # in this folder
    factory: str  # the class in it
    package: str  # what is imported, and so must be installed
    extra: str  # of this project, that installs it
    formats: tuple[str, ...]  # of mobilenext.export; the first is the one that is written for it
    engines: tuple[str, ...] = ("",)  # inside the runtime, the fastest first
    precisions: tuple[str, ...] = ("fp32",)
    devices: tuple[str, ...] = ("cpu",)
    gpu_engines: tuple[str, ...] = ("gpu",)
    gpu_precisions: tuple[str, ...] = ("fp32",)

    def precisions_on(self, device: str) -> tuple[str, ...]:
        """What it computes in on a device."""
        return self.gpu_precisions if device == "gpu" else self.precisions


# The fastest first, as measured one image at a time (results/bench_batch1.json): what `auto` tries in order.
RUNTIMES: Mapping[str, RuntimeCard] = MappingProxyType(
    {
        card.name: card
        for card in (
            RuntimeCard(
                "onnxruntime", "onnx_runtime", "ONNXRuntime", "onnxruntime", "onnx",
                ("onnx",), precisions=("fp32", "int8"),
            ),
            RuntimeCard(
                "openvino", "openvino_runtime", "OpenVINO", "openvino", "openvino",
                ("openvino", "onnx"), precisions=("fp32", "bf16", "int8"),
            ),
            RuntimeCard(
                "paddle-inference", "paddle_inference", "PaddleInference", "paddle", "cpu",
                ("paddle-legacy", "paddle"), ("openvino", "onednn", "native"), devices=("cpu", "gpu"),
                gpu_engines=("gpu", "tensorrt"), gpu_precisions=("fp32", "fp16"),
            ),
            RuntimeCard("paddle", "paddle_eager", "PaddleEager", "paddle", "cpu", ("weights",), devices=("cpu", "gpu")),
            RuntimeCard("ncnn", "ncnn_runtime", "NCNN", "ncnn", "ncnn", ("ncnn",)),
            RuntimeCard("tflite", "tflite_runtime", "TFLite", "ai_edge_litert", "tflite", ("tflite",)),
        )
    }
)  # fmt: skip
ENGINES = RUNTIMES["paddle-inference"].engines
GPU_ENGINES = RUNTIMES["paddle-inference"].gpu_engines
AUTOMATIC = ("onnxruntime", "openvino", "paddle-inference")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class RuntimeSpec:
    """Everything that a process needs to open a network that lies in a folder."""

    runtime: str  # a key of RUNTIMES
    engine: str  # openvino | onednn | native | gpu | tensorrt (Paddle Inference), eager, or empty
    device: str  # cpu | gpu
    threads: int  # of one process
    folder: Path
    file: str = ""  # the model file in it
    precision: str = "fp32"
    input: str = "image"
    output: str = "logits"
    scratch: Path | None = None  # where an engine may keep what it compiles; None: beside the model file
    form: Form | None = None  # of a network of another maker; None: as all networks here

    def describe(self) -> str:
        inside = [part for part in (self.engine, self.precision) if part not in ("", "eager", "gpu", "fp32")]
        return f"{self.runtime} ({', '.join(inside)})" if inside else self.runtime


@dataclass(frozen=True)
class Candidate:
    """One way of running a network."""

    runtime: str
    engine: str
    format: str


def resolve_device(device: str) -> str:
    """``cpu`` or ``gpu``; ``auto`` takes a GPU where this build of Paddle has one.

    Raises:
        UsageError: an unknown name, or a GPU that is not there.
    """
    if device not in ("auto", "cpu", "gpu"):
        raise UsageError(f"device is {device!r}; expected auto, cpu or gpu")
    # A GPU needs the GPU build; without it, Paddle need not even be imported to know that it is the CPU.
    if device == "cpu" or (device == "auto" and not _installed_distribution("paddlepaddle-gpu")):
        return "cpu"
    import paddle

    compiled = paddle.device.is_compiled_with_cuda()
    present = compiled and paddle.device.cuda.device_count() > 0
    if device == "gpu" and not present:
        found = "finds no GPU" if compiled else "is a CPU build"
        raise UsageError(f"device gpu was asked for, but Paddle {paddle.__version__} {found}; use --device cpu")
    return "gpu" if present else "cpu"


def _installed_distribution(name: str) -> bool:
    import importlib.metadata

    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def installed(package: str) -> bool:
    """Whether a package can be imported; it is not imported to find out."""
    return importlib.util.find_spec(package) is not None


def require(packages: Collection[str], extra: str, purpose: str) -> None:
    """Raises MissingDependency, in one line with the pip command, when one of `packages` is not installed."""
    missing = [package for package in packages if not installed(package)]
    if missing:
        raise MissingDependency(
            f"{purpose} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            f"pip install 'mobilenext[{extra}]'"
        )


def resolve_runtime(
    runtime: str, engine: str, device: str, *, formats: Collection[str] | None = None, precision: str = "fp32"
) -> list[Candidate]:
    """The ways to run a network that fit what was asked for, in the order in which they are to be tried.

    Args:
        runtime: ``auto`` or a name; engine: ``auto`` or one of Paddle Inference on the device.
        device: ``cpu`` or ``gpu``.
        formats: those that lie there already; None: any can be written.
        precision: one of PRECISIONS.

    Raises:
        UsageError: an unknown name, or a combination that does not exist.
        MissingDependency: a runtime that is asked for by name and is not installed.
    """
    if runtime != "auto" and runtime not in RUNTIMES:
        raise UsageError(f"runtime is {runtime!r}; expected auto, {', '.join(RUNTIMES)}{nearest(runtime, RUNTIMES)}")
    if engine not in ("auto", *ENGINES, *GPU_ENGINES):
        raise UsageError(f"engine is {engine!r}; expected auto, {', '.join((*ENGINES, *GPU_ENGINES))}")
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision!r}; expected {', '.join(PRECISIONS)}")
    if runtime == "auto":
        names = _automatic(engine, device, formats)
    else:
        names = (runtime,)
        if RUNTIMES[runtime].package != "paddle":
            require([RUNTIMES[runtime].package], RUNTIMES[runtime].extra, f"runtime {runtime}")
    engine_device = "gpu" if engine in GPU_ENGINES else "cpu"
    if engine != "auto" and (names != ("paddle-inference",) or device != engine_device):
        raise UsageError(
            f"engine {engine} belongs to the runtime paddle-inference on a {engine_device.upper()}, not to "
            f"{' or '.join(names)} on {device}"
        )
    candidates = []
    for name in names:
        card = RUNTIMES[name]
        if device in card.devices and precision in card.precisions_on(device):
            usable = card.formats[:1] if formats is None else [form for form in card.formats if form in formats]
            candidates += [Candidate(name, each, usable[0]) for each in _engines(name, engine, device) if usable]
    if runtime == "auto":
        candidates = [each for each in candidates if installed(RUNTIMES[each.runtime].package)]
    if not candidates:
        raise UsageError(_no_candidate(runtime, device, formats, precision))
    return candidates


def _automatic(engine: str, device: str, formats: Collection[str] | None) -> tuple[str, ...]:
    if engine != "auto":
        return ("paddle-inference",)
    if formats is not None:
        return tuple(card.name for card in RUNTIMES.values() if set(card.formats) & set(formats))
    return AUTOMATIC if device == "cpu" else ("paddle",)


def _engines(runtime: str, engine: str, device: str) -> tuple[str, ...]:
    if runtime == "paddle":
        return ("eager",)
    if runtime == "paddle-inference" and device == "gpu":
        return GPU_ENGINES[:1] if engine == "auto" else (engine,)
    return RUNTIMES[runtime].engines if engine == "auto" else (engine,)


def _no_candidate(runtime: str, device: str, formats: Collection[str] | None, precision: str) -> str:
    """Why nothing is left, and what would be."""
    able = [
        card.name
        for card in RUNTIMES.values()
        if device in card.devices
        and precision in card.precisions_on(device)
        and (formats is None or set(card.formats) & set(formats))
    ]
    what = f"a network in the format {' or '.join(sorted(formats))}" if formats is not None else "this network"
    asked = "no installed runtime runs" if runtime == "auto" else f"runtime {runtime} does not run"
    extras = sorted({RUNTIMES[name].extra for name in able})
    advice = f"{' or '.join(able)} would (pip install 'mobilenext[{extras[0]}]')" if able else "no runtime here would"
    return f"{asked} {what} in {precision} on {device}; {advice}"


def open_runtime(spec: RuntimeSpec) -> Runtime:
    """Open a network in this process.

    Raises:
        MissingDependency: its package is not installed. DataError: the file is damaged.
    """
    card = RUNTIMES[spec.runtime]
    if card.package != "paddle":
        require([card.package], card.extra, f"runtime {card.name}")
    if card.package == "paddle":
        from mobilenext.models import require_paddle

        require_paddle()
    with contextlib.redirect_stderr(io.StringIO()):
        module = importlib.import_module(f"mobilenext.runtime.{card.module}")
    runtime: Runtime = getattr(module, card.factory)(spec)
    return runtime if spec.form is None else Adapted(runtime, spec.form)


def check_precision(precision: str, features: Collection[str]) -> None:
    """Raises UsageError where this processor would only emulate `precision`.

    Args:
        features: of the processor, as ``evaluation.environment.processor`` names them.
    """
    needed = {
        "bf16": ("avx512_bf16", "amx_bf16", "asimdbf16", "bf16"),
        "int8": ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp"),
    }.get(precision)
    if needed and not set(needed) & set(features):
        raise UsageError(
            f"{precision} was asked for, but this processor has none of {', '.join(needed)}: it would be slower than "
            f"fp32 and, in int8, less exact; stay with fp32, or run it on a processor that has one of them"
        )
