"""The report that Paddle's AutoLog prints of an inference, field by field, without that library."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from mobilenext.evaluation.prediction import StageTimes
from mobilenext.machine.environment import environment, peak_memory_mib

LOG_API_VERSION = "1.0"  # of the fields


def report_lines(times: StageTimes, *, model: str, image_size: int, execution: Mapping[str, Any]) -> list[str]:
    """Return blocks of ``name: value`` lines: environment, Paddle, configuration, model, data, performance.

    Args:
        times: of the images that were predicted.
        model: name of the network.
        image_size: pixels of its input's side.
        execution: how it was run: ``device``, ``runtime``, ``engine``, ``precision``, ``threads``, ``batch_size``.

    Times are means over the images, without opening the network; memory is this process' peak.
    """
    device, batch_size = execution["device"], execution["batch_size"]
    device = "cpu" if device == "auto" else device
    facts = environment()
    on_gpu = device == "gpu"
    cuda, cudnn = _cuda_versions() if on_gpu else (None, None)
    milliseconds = {
        name: 1000 * getattr(times, name) / max(1, times.images) for name in ("preprocess", "inference", "postprocess")
    }
    blocks: Mapping[str, Mapping[str, Any]] = {
        "Env info": {
            "OS_version": f"{platform.system()} {platform.release()}",
            "CPU": facts["processor"],
            "CUDA_version": cuda,
            "CUDNN_version": cudnn,
        },
        "Paddle info": {
            "paddle_version": facts.get("paddlepaddle") or facts.get("paddlepaddle-gpu"),
            "log_api_version": LOG_API_VERSION,
        },
        "Conf info": {
            "runtime_device": device,
            "runtime": execution["runtime"],
            "ir_optim": True,
            "enable_memory_optim": False,  # never enabled: it fails on .json models of Paddle 3
            "enable_tensorrt": execution["engine"] == "tensorrt",
            "enable_mkldnn": execution["engine"] == "onednn",
            "cpu_math_library_num_threads": execution["threads"],
        },
        "Model info": {"model_name": model, "precision": execution["precision"]},
        "Data info": {
            "batch_size": batch_size,
            "input_shape": f"[{batch_size}, 3, {image_size}, {image_size}]",
            "data_num": times.images,
        },
        "Perf info": {
            "cpu_rss(MB)": round(peak_memory_mib(), 1),
            "gpu_rss(MB)": round(_gpu_memory_mib(), 1) if on_gpu else None,
            "total time spent(s)": round(times.preprocess + times.inference + times.postprocess, 4),
            **{f"{name}_time(ms)": round(value, 3) for name, value in milliseconds.items()},
        },
    }
    lines = []
    for title, fields in blocks.items():
        lines.append(f" {title} ".center(56, "-"))
        lines += [f"{name}: {value}" for name, value in fields.items()]
    return lines


def _cuda_versions() -> tuple[str, str]:
    import paddle

    return paddle.version.cuda(), paddle.version.cudnn()


def _gpu_memory_mib() -> float:
    import paddle

    return float(paddle.device.cuda.max_memory_allocated() / 2**20)
