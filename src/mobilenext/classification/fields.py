"""Fields of files that count right answers, with the bounds in which a reader takes them."""

from __future__ import annotations

from typing import Any

from mobilenext.json_files import Check, Fields, Unfit, many, number, optional, record, text, whole

MOST_CLASSES = 1 << 24  # more than any data set has; a reader allocates arrays of this length
CLASS_MEANS = ("mean_class_accuracy_percent", "macro_precision_percent", "macro_f1_percent")  # of version 0.2 on


def counted(fields: Fields) -> Check:
    """Return the check of a record with these fields, `images` among them, that counts no more answers than images."""
    declared = record(fields)

    def check(value: Any, field: str) -> None:
        declared(value, field)
        for name in ("correct_top1", "correct_top5", "unreadable"):
            if name in fields and value[name] > value["images"]:
                where = f"{field}.{name}" if field else name
                raise Unfit(f"{where} is {value[name]}; expected up to {value['images']}, the number of images")

    return check


# Of a validation. By each of the last a training run may choose its best weights; earlier versions stored fewer.
check_counts = counted(
    {
        "images": whole(1),
        "correct_top1": whole(0),
        **dict.fromkeys(("loss", "mean_class_accuracy_percent", "macro_f1_percent"), optional(number())),
    }
)

_COUNT, _PERCENT = whole(0), number(0, 100)
_COMPARISON = {
    "expected_top1_percent": _PERCENT,
    "measured_top1_percent": optional(_PERCENT),
    "difference_points": optional(number(-100, 100)),
    **dict.fromkeys(("verdict", "reason"), text()),
    **dict.fromkeys(("dataset", "origin"), optional(text())),
}
_PER_CLASS = {
    "class": whole(0, MOST_CLASSES),
    "name": optional(text()),
    **dict.fromkeys(("images", "correct_top1", "correct_top5"), _COUNT),
}
_RESULT = counted(
    {
        "num_classes": whole(1, MOST_CLASSES),
        "images": whole(1),
        **dict.fromkeys(("unreadable", "correct_top1", "correct_top5"), _COUNT),
        **dict.fromkeys(("top1_percent", "top5_percent"), _PERCENT),
        **dict.fromkeys(CLASS_MEANS, optional(_PERCENT)),
        "classes_with_images": optional(_COUNT),
        **dict.fromkeys(("top1_interval_percent", "top5_interval_percent"), many(number(-1, 101), 2)),
        "comparison": optional(record(_COMPARISON)),
        "diagnosis": optional(many(text())),
        "class_names": optional(many(text())),
        "per_class": many(counted(_PER_CLASS)),
    }
)


def check_result(value: Any, field: str) -> None:
    """Check the fields of a result, and that each row of a class is of another class of the network.

    Raises:
        Unfit: a field is missing or is not what it should be.
    """
    _RESULT(value, field)
    classes: set[int] = set()
    for place, row in enumerate(value["per_class"]):
        if row["class"] >= value["num_classes"] or row["class"] in classes:
            raise Unfit(
                f"per_class[{place}].class is {row['class']}; expected each class below {value['num_classes']} once"
            )
        classes.add(row["class"])
