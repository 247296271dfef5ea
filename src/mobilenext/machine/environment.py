"""The environment of a measurement: versions, processor, memory, load."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from mobilenext.machine.cores import available_cores
from mobilenext.version import __version__

PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "pillow", "safetensors", "loky")
OPTIONAL = (
    *("numba", "onnxruntime", "openvino", "ncnn", "ai-edge-litert", "mnn"),
    *("onnx", "paddle2onnx", "onnxslim", "pnnx"),
)
# What decides how fast convolutions are.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "asimddp")


def environment() -> dict[str, Any]:
    """Return a record of this machine and its software for JSON; Paddle is not imported, so it is quick."""
    versions = {}
    for package in (*PACKAGES, *OPTIONAL):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    model, features = processor()
    return {
        "mobilenext": __version__,
        "python": platform.python_version(),
        **versions,
        "jpeg_library": jpeg_library(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": model,
        "processor_features": features,
        "cores": available_cores(),
        "memory_gib": memory_gib(),
        "load_average": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
    }


def processor() -> tuple[str, list[str]]:
    """Return the processor's name and its features that matter here."""
    text = _read("/proc/cpuinfo")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = set(f"{fields.get('flags', '')} {fields.get('features', '')}".split())
    return fields.get("model name") or platform.processor() or "unknown", [f for f in FEATURES if f in flags]


def jpeg_library() -> str:
    """Return the library behind Pillow's JPEG decoder: it moves an accuracy by some hundredths of a percent."""
    from PIL import features

    name = "libjpeg-turbo" if features.check_feature("libjpeg_turbo") else "libjpeg"
    version = features.version_feature("libjpeg_turbo") or features.version_codec("jpg")
    return f"{name} {version}"


def memory_gib() -> float | None:
    """Return the installed memory in GiB."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def free_memory_mib() -> float | None:
    """Return the free memory in MiB, by the system and by a container's limit; None where neither says it."""
    sizes = [int(line.split()[1]) / 1024 for line in _read("/proc/meminfo").splitlines() if "MemAvailable" in line]
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit.isdecimal() and used.isdecimal():
        sizes.append((int(limit) - int(used)) / 2**20)
    return min(sizes, default=None)


def peak_memory_mib() -> float:
    """Return the most resident memory that this process has had so far, in MiB."""
    # Linux' getrusage begins a new process with the peak of the one that started it; VmHWM begins anew.
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("VmHWM:"):  # in KiB
            return int(line.split()[1]) / 1024
    import resource  # Windows has none

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
