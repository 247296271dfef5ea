"""Tables of detectors on the report page: the scores of every class, of one run or of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mobilenext.detection.detected import Detected, f1_percent
from mobilenext.drawing.cells import EMPTY, Cell, Table, counted, number, share, shortened, words
from mobilenext.statistics import percent_text

# The heads of the numbers of a class, and their names in the result.
NUMBERS = {
    "AP": "AP", "AP50": "AP50", "AP75": "AP75", "VOC AP, 11 points": "voc_AP_11_point", "VOC AP, area": "voc_AP_area",
    "AR100": "AR100",
}  # fmt: skip


def score_cell(value: float | None, *, bar: bool = False) -> Cell:
    """Return a cell of a share from 0 to 1 as a percentage."""
    if value is None:
        return EMPTY
    percentage = 100 * value
    return Cell(percent_text(percentage), percentage, bar=(percentage, percentage, percentage) if bar else None)


def class_table(runs: Sequence[Detected]) -> Table:
    """Return a row for each class with boxes or detections."""
    if len(runs) > 1:
        head, rows, note = _classes_of_several(runs)
    else:
        head, rows, note = _classes_of_one(runs[0])
    return Table("classes", "Scores of each class", ["class", *head], rows, searched="a class", note=note)


def _classes_of_one(run: Detected) -> tuple[list[str], list[list[Cell]], str]:
    rows = []
    for category, row in enumerate(run.result["per_class"]):
        if not row["objects"] and not row["detections"]:
            continue
        right, missed, false = run.at_threshold(category)
        cells = [_class_cell(row["class"], row["name"])]
        cells += [score_cell(row[name], bar=name == run.result["map_rule"]) for name in NUMBERS.values()]
        rows.append(
            [
                *cells,
                number(row["objects"], note=f"in {counted(row['images'], 'image')}{_ignored(row)}"),
                share(right, right + missed, named=False),
                share(right, right + false, named=False),
                number(f1_percent(right, missed, false), ".2f", " %"),
            ]
        )
    head = [*NUMBERS, "boxes", "recall", "precision", "F1"]
    note = (
        "Recall and precision, each with its counts and 95 % interval (Wilson), and F1 are of the detections with a "
        f"score of at least {run.threshold:.3f}, where F1 of all classes together is best, at an overlap of 0.5. The "
        "other numbers count detections of any score."
    )
    return head, rows, note


def _ignored(row: dict[str, Any]) -> str:
    """Return how many boxes count neither as found nor as missed."""
    kinds = {"difficult": row["difficult"], "crowds": row["crowds"]}
    texts = [f"{count:,} {kind}" for kind, count in kinds.items() if count]
    return f"; and {', '.join(texts)}" if texts else ""


def _class_cell(number_of_class: int, name: str) -> Cell:
    return Cell(f"{number_of_class} {shortened(name)}", number_of_class, numeric=False)


def _classes_of_several(runs: Sequence[Detected]) -> tuple[list[str], list[list[Cell]], str]:
    """Return AP and AP50 of each run beside each other, classes by their names."""
    by_name = [{row["name"]: row for row in run.result["per_class"]} for run in runs]
    names = list(dict.fromkeys(name for classes in by_name for name in classes))
    rows = []
    for place, name in enumerate(names, 1):
        of_runs = [classes.get(name) for classes in by_name]
        if not any(row and (row["objects"] or row["detections"]) for row in of_runs):
            continue
        cells: list[Cell] = [_class_cell(place, name)]
        for field in ("AP", "AP50"):
            shares = [row[field] if row else None for row in of_runs]
            cells += [score_cell(value, bar=field == "AP") for value in shares]
            first, last = shares[0], shares[-1]
            both = first is not None and last is not None
            cells.append(number(100 * (last - first), "+.2f") if both else EMPTY)  # type: ignore[operator]
        rows.append([*cells, *(number(row["objects"]) if row else EMPTY for row in of_runs[:1])])
    head: list[str] = []
    for field in ("AP", "AP50"):
        head += [*(f"{field}, {run.name}" for run in runs), f"{field}, last minus first, points"]
    return [*head, "boxes"], rows, ""


def comparison_table(runs: Sequence[Detected]) -> Table:
    """Return the scores of all runs beside each other, as rows."""
    fields = {**NUMBERS, **{f"AP, {size}": f"AP{size[0]}" for size in ("small", "medium", "large")}}
    rows = []
    for name, field in fields.items():
        values = [run.result[field] for run in runs]
        first, last = values[0], values[-1]
        difference = number(100 * (last - first), "+.2f") if None not in (first, last) else EMPTY
        rows.append([words(name), *map(score_cell, values), difference])
    head = ["score", *(run.name for run in runs), "last minus first, points"]
    return Table("scores", "Scores over all classes", head, rows, sortable=False)
