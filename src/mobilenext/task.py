"""What a task is: everything that training, evaluation and the report must know about what a network is asked.

A task is a record of functions in three parts, one for each stage that uses it. `mobilenext.tasks` finds a task by the
name that is stored in ``run.json``, in weights and in sidecars. Nothing here imports Paddle.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """The number that a task is judged by."""

    name: str  # in the fields of a result, such as top1
    unit: str  # of its differences, such as points
    larger_is_better: bool = True


@dataclass(frozen=True)
class Task:
    """A task by its name."""

    name: str
    metric: Metric
