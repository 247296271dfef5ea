"""Detection as a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mobilenext.detection.checking import OPTIONS, check_data, recognizes
from mobilenext.detection.evaluation import EVALUATION, METRIC, SUMMARY_FIELDS
from mobilenext.detection.training import TRAINING
from mobilenext.json_files import record
from mobilenext.task import DataCheck, Measured, Presentation, Task


def _measured(values: Mapping[str, Any]) -> Measured:
    percent = values["map_percent"] or 0.0  # no box is to be found
    return Measured(percent, f"{percent:.2f} %")


PRESENTATION = Presentation(check_counts=record(SUMMARY_FIELDS), measured=_measured)
DATA_CHECK = DataCheck(check=check_data, options=OPTIONS, recognizes=recognizes)
TASK = Task(
    "detection", METRIC, training=TRAINING, evaluation=EVALUATION, presentation=PRESENTATION, data_check=DATA_CHECK
)
