"""The runtimes in one table, and what a process must know to open a network with one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mobilenext.runtime.form import Form


@dataclass(frozen=True)
class RuntimeCard:
    """One runtime: its module, the formats that it opens, the package that it needs."""

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
    tried_apart: bool = False  # a file that was made to do so can crash it (`mobilenext.runtime.trial`)

    def precisions_on(self, device: str) -> tuple[str, ...]:
        """Return the precisions that it computes in on a device."""
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
            RuntimeCard("mnn", "mnn_runtime", "MNNSession", "MNN", "mnn", ("mnn",), tried_apart=True),
        )
    }
)  # fmt: skip
ENGINES = RUNTIMES["paddle-inference"].engines
GPU_ENGINES = RUNTIMES["paddle-inference"].gpu_engines
AUTOMATIC = ("onnxruntime", "openvino", "paddle-inference")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")


def runtime_name(runtime: str, engine: str | None = None, precision: str | None = None) -> str:
    """Return how a runtime is called everywhere: with what is special about it, ``paddle-inference (onednn, bf16)``.

    That it ran on a GPU is said where its processor would be named.
    """
    inside = [part for part in (engine, precision) if part not in (None, "", "eager", "gpu", "fp32")]
    return f"{runtime} ({', '.join(map(str, inside))})" if inside else runtime


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
    outputs: tuple[str, ...] = ("logits",)  # the names of the arrays that `predict` returns, in order
    scratch: Path | None = None  # where an engine may keep what it compiles; None: beside the model file
    form: Form | None = None  # of a network of another project; None: as all networks here

    def describe(self) -> str:
        """Return the runtime as `runtime_name` has it."""
        return runtime_name(self.runtime, self.engine, self.precision)
