"""``result.json`` of an evaluation, as its readers rely on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobilenext.json_files import (
    Check,
    Fields,
    Unfit,
    flag,
    many,
    number,
    optional,
    read_json,
    record,
    text,
    whole,
)

MOST_CLASSES = 1 << 24  # above all data sets; of another one, arrays of that length would be made


def counted(fields: Fields) -> Check:
    """A record with these fields, `images` among them, and no more correct or unreadable ones than images."""
    declared = record(fields)

    def holds(value: Any, field: str) -> None:
        declared(value, field)
        for name in ("correct_top1", "correct_top5", "unreadable"):
            if name in fields and value[name] > value["images"]:
                where = f"{field}.{name}" if field else name
                raise Unfit(f"{where} is {value[name]}; expected up to {value['images']}, the number of images")

    return holds


CLASS_MEANS = ("mean_class_accuracy_percent", "macro_precision_percent", "macro_f1_percent")  # of 0.2 on
_COUNT, _PERCENT, _MS = whole(0), number(0, 100), number(0, 1e9)
_COMPARISON = {
    "expected_top1_percent": _PERCENT,
    "measured_top1_percent": optional(_PERCENT),
    "difference_points": optional(number(-100, 100)),
    **dict.fromkeys(("verdict", "reason"), text()),
    **dict.fromkeys(("dataset", "origin"), optional(text())),
}
# What the report and the table at the end cannot do without, and the types of what they show where it is there.
_RESULT = counted(
    {
        **dict.fromkeys(("model", "runtime", "weights.sha256"), text()),
        **dict.fromkeys(("engine", "precision", "device", "weights.kind", "data.folder"), optional(text())),
        "num_classes": whole(1, MOST_CLASSES),
        "images": whole(1),
        **dict.fromkeys(("unreadable", "correct_top1", "correct_top5"), _COUNT),
        **dict.fromkeys(("top1_percent", "top5_percent"), _PERCENT),
        **dict.fromkeys(CLASS_MEANS, optional(_PERCENT)),
        "classes_with_images": optional(_COUNT),
        **dict.fromkeys(("top1_interval_percent", "top5_interval_percent"), many(number(-1, 101), 2)),
        "partial": flag(),
        "data": record({"images_in_list": optional(_COUNT)}),
        **dict.fromkeys(("latency.median", "latency.p10", "latency.p90"), _MS),
        "latency.threads": _COUNT,
        "latency.samples_ms": optional(many(_MS)),
        "latency.preprocessing_median": optional(_MS),
        "images_per_second": optional(number(0)),
        **dict.fromkeys(("identity_divisor", "workers", "threads"), optional(_COUNT)),
        "preprocessing": record({}),
        "comparison": optional(record(_COMPARISON)),
        "diagnosis": optional(many(text())),
        "warnings": optional(many(text())),
        "class_names": optional(many(text())),
        "per_class": many(
            counted(
                {
                    "class": whole(0, MOST_CLASSES),
                    "name": optional(text()),
                    **dict.fromkeys(("images", "correct_top1", "correct_top5"), _COUNT),
                }
            )
        ),
        "environment": record({}),
    }
)


def _result(value: Any, field: str) -> None:
    """The declared fields, and classes that the network has, each once."""
    _RESULT(value, field)
    seen: set[int] = set()
    for place, row in enumerate(value["per_class"]):
        if row["class"] >= value["num_classes"] or row["class"] in seen:
            raise Unfit(
                f"per_class[{place}].class is {row['class']}; expected each class below {value['num_classes']} once"
            )
        seen.add(row["class"])


def read_result(path: Path, *, missing: str = "") -> dict[str, Any]:
    """Read the result of an evaluation.

    Raises:
        DataError: there is none (`missing` says what to say of that), or it is damaged.
    """
    return read_json(path, _result, remedy="restore it, or evaluate again", missing=missing)
