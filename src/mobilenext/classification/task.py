"""Classification as a task."""

from __future__ import annotations

from mobilenext.classification.evaluation import EVALUATION
from mobilenext.task import Metric, Task

TASK = Task("classification", Metric("top1", "points"), evaluation=EVALUATION)
