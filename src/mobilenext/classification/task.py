"""Classification as a task."""

from __future__ import annotations

from mobilenext.classification.comparable import COMPARISON
from mobilenext.classification.evaluation import EVALUATION
from mobilenext.classification.export import EXPORT
from mobilenext.classification.presentation import PRESENTATION
from mobilenext.classification.training import TRAINING
from mobilenext.data.check import DataCheck, check_data
from mobilenext.task import Metric, Task

METRIC = Metric("top1", "points", display="top-1", noun="accuracy", field="top1_percent", symbol="%")
DATA_CHECK = DataCheck(check=check_data, options=frozenset({"split", "num_classes", "workers", "decode", "progress"}))
TASK = Task(
    "classification", METRIC, training=TRAINING, evaluation=EVALUATION, presentation=PRESENTATION, export=EXPORT,
    data_check=DATA_CHECK, comparison=COMPARISON,
)  # fmt: skip
