"""Classification as a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobilenext.classification.comparable import COMPARISON
from mobilenext.classification.evaluation import EVALUATION
from mobilenext.classification.export import EXPORT
from mobilenext.task import Metric, Task

if TYPE_CHECKING:
    from mobilenext.data.check import DataCheck
    from mobilenext.job import Training
    from mobilenext.presentation import Presentation

METRIC = Metric("top1", "points", display="top-1", noun="accuracy", field="top1_percent", symbol="%")


def _training() -> Training:
    from mobilenext.classification.training import TRAINING

    return TRAINING


def _presentation() -> Presentation:
    from mobilenext.classification.presentation import PRESENTATION

    return PRESENTATION


def _data_check() -> DataCheck:
    from mobilenext.data.check import DataCheck, check_data

    return DataCheck(check=check_data, options=frozenset({"split", "num_classes", "workers", "decode", "progress"}))


TASK = Task(
    "classification", METRIC, EVALUATION, _training, _presentation, _data_check, export=EXPORT, comparison=COMPARISON
)
