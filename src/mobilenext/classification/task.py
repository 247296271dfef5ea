"""Classification as a task."""

from __future__ import annotations

from mobilenext.task import Metric, Task

TASK = Task("classification", Metric("top1", "points"))
