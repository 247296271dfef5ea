"""Classification as a task."""

from __future__ import annotations

from mobilenext.classification.evaluation import EVALUATION
from mobilenext.classification.export import EXPORT
from mobilenext.classification.presentation import PRESENTATION
from mobilenext.classification.training import TRAINING
from mobilenext.task import Metric, Task

METRIC = Metric("top1", "points", display="top-1", noun="accuracy", field="top1_percent", symbol="%")
TASK = Task(
    "classification", METRIC, training=TRAINING, evaluation=EVALUATION, presentation=PRESENTATION, export=EXPORT
)
