"""What int8 loses, in the metric of a task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mobilenext.quantization.report import lost
from mobilenext.task import Metric
from mobilenext.tasks import find_task


def task_with(metric: Metric) -> Any:
    return SimpleNamespace(metric=metric)


def test_the_loss_has_the_direction_of_the_metric() -> None:
    results = {"fp32": {"error": 0.25, "top1_percent": 80.0}, "int8": {"error": 0.35, "top1_percent": 79.5}}
    assert lost(results, task_with(Metric("error", "of 1", larger_is_better=False))) == 0.1
    assert lost(results, find_task()) == 0.5
    assert lost({"fp32": results["int8"], "int8": results["fp32"]}, find_task()) == -0.5
