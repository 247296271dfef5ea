"""The report of a quantization: what int8 costs in the task's metric, and what it gains in speed and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenext.data import Dataset
from mobilenext.errors import DataError
from mobilenext.machine.environment import environment
from mobilenext.runtime import RuntimeSpec
from mobilenext.task import Task
from mobilenext.weights.record import WeightsRecord


@dataclass(frozen=True)
class Quantized:
    """Both networks, ready to be opened: float32 and int8."""

    record: WeightsRecord
    labels_assumed: bool
    notes: tuple[str, ...]
    specs: Mapping[str, RuntimeSpec]  # by fp32 and int8
    layers: list[dict[str, Any]]  # the one that loses most first
    choices: tuple[tuple[tuple[str, ...], RuntimeSpec], ...]  # layers that stay float32, and the int8 network with them

    def bytes(self, name: str) -> int:
        """Return the size of a model file."""
        spec = self.specs[name]
        return (spec.folder / spec.file).stat().st_size


@dataclass(frozen=True)
class Measurements:
    """What both networks give for the same images; the keys are fp32 and int8."""

    results: Mapping[str, Mapping[str, Any]]  # of `evaluate`
    rows: Mapping[str, Sequence[Any]]  # of the task
    latency: Mapping[str, Mapping[str, Any]]  # milliseconds of one image


def lost(results: Mapping[str, Mapping[str, Any]], task: Task) -> float:
    """Return what int8 loses, in the unit of the task's metric; less than 0 where it gains.

    Raises:
        DataError: the images have nothing that the metric could be computed of.
    """
    values = [results[name][task.metric.field] for name in ("fp32", "int8")]
    if None in values:
        raise DataError(f"these images have no {task.metric.display}: nothing is to be found in them; choose others")
    difference = float(values[0]) - float(values[1])
    return round(difference if task.metric.larger_is_better else -difference, 3)


def metric_of(task: Task) -> dict[str, str]:
    """Return what the tables of a report must know of the metric."""
    metric = task.metric
    return {"field": metric.field, "display": metric.display, "symbol": metric.symbol, "unit": metric.unit}


def build_report(
    quantized: Quantized, measurements: Measurements, dataset: Dataset, calibrated: Sequence[Path], task: Task
) -> dict[str, Any]:
    """Return the content of ``quantization.json`` but for the options of the call.

    Args:
        quantized: both networks.
        measurements: on `dataset`.
        dataset: the images that were evaluated.
        calibrated: the images that the ranges are of.
        task: of the network.
    """
    record, results, latency = quantized.record, measurements.results, measurements.latency
    fields = task.export.scores or (task.metric.field,)
    sides = {
        name: {
            **{field: result[field] for field in fields},
            "images_per_second": result["images_per_second"],
            "latency_ms": latency[name],
            "bytes": quantized.bytes(name),
        }
        for name, result in results.items()
    }
    equal: dict[str, int] = {}
    if (answer := task.export.answer) is not None:
        pairs = zip(measurements.rows["fp32"], measurements.rows["int8"], strict=True)
        equal["equal_predictions"] = sum(answer(one) == answer(other) for one, other in pairs)
    return {
        "model": record.model,
        "num_classes": record.num_classes,
        "weights": {"name": record.source_name, "sha256": record.sha256, "kind": record.kind},
        "preprocessing": record.preprocessing.to_dict(),
        **sides,
        "images": len(dataset),
        **equal,
        task.metric.difference_field("lost"): lost(results, task),
        "speedup": round(latency["fp32"]["median"] / latency["int8"]["median"], 2),
        "size_ratio": round(quantized.bytes("fp32") / quantized.bytes("int8"), 2),
        "layers": quantized.layers,
        "calibration": {"images": len(calibrated), "names": [path.name for path in calibrated]},
        "data": {"folder": dataset.root.name, "sha256": dataset.digest()},
        "environment": environment(),
    }
