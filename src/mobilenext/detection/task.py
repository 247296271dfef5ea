"""Detection as a task."""

from __future__ import annotations

from mobilenext.data.check import DataCheck
from mobilenext.detection.checking import OPTIONS, check_data, recognizes
from mobilenext.detection.comparable import COMPARISON
from mobilenext.detection.evaluation import EVALUATION, METRIC
from mobilenext.detection.export import EXPORT
from mobilenext.detection.presentation import PRESENTATION
from mobilenext.detection.training import TRAINING
from mobilenext.task import Task

DATA_CHECK = DataCheck(check=check_data, options=OPTIONS, recognizes=recognizes)
TASK = Task(
    "detection",
    METRIC,
    training=TRAINING,
    evaluation=EVALUATION,
    presentation=PRESENTATION,
    export=EXPORT,
    data_check=DATA_CHECK,
    comparison=COMPARISON,
)
