"""Tables of a classification: every class, and the classes that are confused."""

from __future__ import annotations

from collections.abc import Sequence

from mobilenext.classification.analysis import Confusion
from mobilenext.classification.answers import Answers
from mobilenext.classification.metrics import TOP
from mobilenext.drawing.cells import EMPTY, Cell, Table, counted, number, share, shortened, words
from mobilenext.statistics import percent

MOST_PAIRS = 300


def class_table(runs: Sequence[Answers], confused: Sequence[Sequence[Confusion]]) -> Table:
    """Return a row for each class that occurs; of one run its scores, of several the top-1 of each."""
    head, rows = _classes_of_one(runs[0], confused[0]) if len(runs) == 1 else _classes_of_several(runs)
    note = "Below each share stand its counts and its 95 % interval (Wilson), which is the line in a bar."
    return Table("classes", "Accuracy of each class", ["class", *head], rows, searched="a class", note=note)


def _class_cell(run: Answers, class_id: int) -> Cell:
    """Return the id and, where it has another one, the name of a class; it is sorted by its id."""
    name = run.names.get(class_id, str(class_id))
    text = str(class_id) if name == str(class_id) else f"{class_id} {shortened(name)}"
    return Cell(text, class_id, numeric=False)


def _classes_of_one(run: Answers, pairs: Sequence[Confusion]) -> tuple[list[str], list[list[Cell]]]:
    most: dict[int, Confusion] = {}
    for pair in pairs:  # the most frequent first
        most.setdefault(pair.label, pair)
    top5, scores, rows = run.result["num_classes"] > TOP, _scores_of_classes(run), []
    for row in sorted(run.result["per_class"], key=lambda row: int(row["class"])):
        class_id = int(row["class"])
        cells = [_class_cell(run, class_id), share(row["correct_top1"], row["images"], bar=True, named=False)]
        if top5:
            cells.append(share(row["correct_top5"], row["images"], named=False))
        cells += scores.get(class_id) or [EMPTY, EMPTY]  # no image of it, and none taken for it
        rows.append([*cells, _taken(run, most.get(class_id))])
    return ["top-1", *(["top-5"] if top5 else []), "precision", "F1", "taken for"], rows


def _classes_of_several(runs: Sequence[Answers]) -> tuple[list[str], list[list[Cell]]]:
    by_class = [{int(row["class"]): row for row in run.result["per_class"]} for run in runs]
    rows = []
    for class_id in sorted(set().union(*by_class)):
        owner = next(run for run, classes in zip(runs, by_class, strict=True) if class_id in classes)
        cells = [_class_cell(owner, class_id)]
        top1 = []
        for classes in by_class:
            row = classes.get(class_id)
            cells.append(share(row["correct_top1"], row["images"], bar=True, named=False) if row else EMPTY)
            if row and row["images"]:
                top1.append(percent(row["correct_top1"], row["images"]))
        rows.append([*cells, number(top1[-1] - top1[0], "+.2f") if len(top1) == len(runs) else EMPTY])
    return [*(f"top-1, {run.name}" for run in runs), "last minus first, points"], rows


def _scores_of_classes(run: Answers) -> dict[int, list[Cell]]:
    """Return precision and F1 of each class that occurs."""
    classes, scores = run.class_scores
    return {
        int(class_id): [number(100 * float(value), ".2f", " %") for value in values]
        for class_id, *values in zip(classes, scores.precision, scores.f1, strict=True)
    }


def _taken(run: Answers, pair: Confusion | None) -> Cell:
    if pair is None:
        return Cell("-", 0, numeric=False)
    return Cell(run.class_name(pair.predicted), pair.images, counted(pair.images, "image"), numeric=False)


def confusion_table(run: Answers, place: int, pairs: Sequence[Confusion]) -> Table:
    """Return the most frequent pairs and each class's most frequent one, with how often the other way round."""
    images = {int(row["class"]): int(row["images"]) for row in run.result["per_class"]}
    first_of = {pair.label: pair for pair in reversed(pairs)}  # the most frequent are in front
    shown = [pair for at, pair in enumerate(pairs) if at < MOST_PAIRS or first_of[pair.label] is pair]
    rows = [
        [
            words(run.class_name(pair.label)),
            words(run.class_name(pair.predicted)),
            number(pair.images),
            share(pair.images, images.get(pair.label, 0), named=False),
            number(pair.back),
        ]
        for pair in shown
    ]
    wrong = sum(pair.images for pair in pairs)
    note = f"{counted(len(pairs), 'pair')} in {counted(wrong, 'wrong image')}; below each share its 95 % interval."
    if len(shown) < len(pairs):
        note += f" The {MOST_PAIRS} most frequent are shown, and the most frequent of each class."
    return Table(
        f"confused-{place}",
        f"Confused classes, {run.name}",
        ["label", "taken for", "images", "of the class", "vice versa"],
        rows,
        searched="a class",
        note=note,
        shown=12,
    )
