"""``result.json`` of an evaluation, as its readers rely on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilenext import tasks
from mobilenext.errors import UsageError
from mobilenext.json_files import Unfit, flag, many, number, optional, read_json, record, text, whole

_COUNT, _MS = whole(0), number(0, 1e9)


class EvaluationResult(dict[str, Any]):
    """The content of ``result.json``: a dictionary that prints as the table of the evaluation.

    result = mobilenext.evaluate("DATA", weights="best.safetensors")
    result["top1_percent"]
    print(result)
    """

    def __str__(self) -> str:
        from mobilenext.runs.tables import result_lines

        try:
            return "\n".join(result_lines(self))
        except KeyError:  # a field was taken out
            return super().__repr__()

    __repr__ = __str__  # what a notebook shows: the dictionary holds the latency of a hundred calls


# What the report and the table at the end cannot do without, and the types of what they show where it is there.
_RESULT = record(
    {
        "task": optional(text()),
        **dict.fromkeys(("model", "runtime", "weights.sha256"), text()),
        **dict.fromkeys(("engine", "precision", "device", "weights.kind", "data.folder"), optional(text())),
        "images": whole(1),
        "unreadable": _COUNT,
        "partial": flag(),
        "data": record({"images_in_list": optional(_COUNT)}),
        **dict.fromkeys(("latency.median", "latency.p10", "latency.p90"), _MS),
        "latency.threads": _COUNT,
        "latency.samples_ms": optional(many(_MS)),
        "latency.preprocessing_median": optional(_MS),
        "images_per_second": optional(number(0)),
        **dict.fromkeys(("identity_divisor", "workers", "threads"), optional(_COUNT)),
        "preprocessing": record({}),
        "warnings": optional(many(text())),
        "environment": record({}),
    }
)


def _check_result(value: Any, field: str) -> None:
    """Check the fields of every result, then those of its task."""
    _RESULT(value, field)
    try:
        task = tasks.find_task(value.get("task"))
    except UsageError as error:
        raise Unfit(str(error)) from error
    task.evaluation.result_fields(value, field)


def read_result(path: Path, *, missing: str = "") -> dict[str, Any]:
    """Read the result of an evaluation.

    Raises:
        DataError: there is none (`missing` is what the message says then), or it is damaged.
    """
    return read_json(path, _check_result, remedy="restore it, or evaluate again", missing=missing)
