"""Detection as a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mobilenext.detection.comparable import COMPARISON
from mobilenext.detection.evaluation import EVALUATION, METRIC
from mobilenext.detection.export import EXPORT
from mobilenext.task import Task

if TYPE_CHECKING:
    from mobilenext.data.check import DataCheck
    from mobilenext.job import Training
    from mobilenext.presentation import Presentation


def _training() -> Training:
    from mobilenext.detection.training import TRAINING

    return TRAINING


def _presentation() -> Presentation:
    from mobilenext.detection.presentation import PRESENTATION

    return PRESENTATION


def _data_check() -> DataCheck:
    from mobilenext.data.check import DataCheck
    from mobilenext.detection.checking import OPTIONS, check_data, recognizes

    return DataCheck(check=check_data, options=OPTIONS, recognizes=recognizes)


TASK = Task(
    "detection", METRIC, EVALUATION, _training, _presentation, _data_check, export=EXPORT, comparison=COMPARISON
)
