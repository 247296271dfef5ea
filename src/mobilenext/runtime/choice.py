"""Choose the device, the runtime and the precision of a network, from the options and from what is installed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mobilenext.errors import UsageError, nearest
from mobilenext.machine.packages import has_distribution, installed, require
from mobilenext.runtime.table import AUTOMATIC, ENGINES, GPU_ENGINES, PRECISIONS, RUNTIMES


@dataclass(frozen=True)
class Candidate:
    """One way of running a network."""

    runtime: str
    engine: str
    format: str


def resolve_device(device: str) -> str:
    """Return ``cpu`` or ``gpu``; ``auto`` takes a GPU where this build of Paddle has one.

    Raises:
        UsageError: an unknown name, or a GPU that is not there.
    """
    if device not in ("auto", "cpu", "gpu"):
        raise UsageError(f"device is {device!r}; expected auto, cpu or gpu")
    # A GPU needs the GPU build; without it, Paddle need not even be imported to know that it is the CPU.
    if device == "cpu" or (device == "auto" and not has_distribution("paddlepaddle-gpu")):
        return "cpu"
    import paddle

    compiled = paddle.device.is_compiled_with_cuda()
    present = compiled and paddle.device.cuda.device_count() > 0
    if device == "gpu" and not present:
        problem = "finds no GPU" if compiled else "is a CPU build"
        raise UsageError(f"device gpu was asked for, but Paddle {paddle.__version__} {problem}; use --device cpu")
    return "gpu" if present else "cpu"


def resolve_runtime(
    runtime: str, engine: str, device: str, *, formats: Collection[str] | None = None, precision: str = "fp32"
) -> list[Candidate]:
    """Return the ways to run a network that fit the options, in the order in which they are to be tried.

    Args:
        runtime: ``auto`` or a name; engine: ``auto`` or one of Paddle Inference on the device.
        device: ``cpu`` or ``gpu``.
        formats: those that exist already; None: any can be written.
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
            candidates += [Candidate(name, inside, usable[0]) for inside in _engines(name, engine, device) if usable]
    if runtime == "auto":
        candidates = [candidate for candidate in candidates if installed(RUNTIMES[candidate.runtime].package)]
    if not candidates:
        raise UsageError(_no_candidate(runtime, device, formats, precision))
    return candidates


def likely_runtime(runtime: str) -> str:
    """Return the name of the runtime that a network, of which nothing is known yet, will probably have on a CPU."""
    if runtime != "auto":
        return runtime
    return next((name for name in AUTOMATIC if installed(RUNTIMES[name].package)), "paddle")


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
    """Say why no candidate is left, and which runtime would be one."""
    able = [
        card.name
        for card in RUNTIMES.values()
        if device in card.devices
        and precision in card.precisions_on(device)
        and (formats is None or set(card.formats) & set(formats))
    ]
    what = f"a network in the format {' or '.join(sorted(formats))}" if formats is not None else "this network"
    problem = "no installed runtime runs" if runtime == "auto" else f"runtime {runtime} does not run"
    extras = sorted({RUNTIMES[name].extra for name in able})
    advice = f"{' or '.join(able)} would (pip install 'mobilenext[{extras[0]}]')" if able else "no runtime here would"
    return f"{problem} {what} in {precision} on {device}; {advice}"


def check_precision(precision: str, features: Collection[str]) -> None:
    """Raise UsageError where this processor would only emulate `precision`.

    Args:
        features: of the processor, as ``machine.environment.processor`` names them.
    """
    needed = {
        "bf16": ("avx512_bf16", "amx_bf16", "asimdbf16", "bf16"),
        "int8": ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp"),
    }.get(precision)
    if needed and not set(needed) & set(features):
        raise UsageError(
            f"{precision} was asked for, but this processor has none of {', '.join(needed)}: it would be slower than "
            "fp32; stay with fp32, or run it on a processor that has one of them"
        )
