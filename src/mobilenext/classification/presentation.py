"""Classification as it is shown: top-1 with its counts, on the report page and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mobilenext.classification.answers import Answers, collect_answers
from mobilenext.classification.fields import check_counts
from mobilenext.classification.metrics import TOP
from mobilenext.classification.page import sections
from mobilenext.classification.published import accuracy_mult_adds, published_top1
from mobilenext.drawing.cells import Cell, counted, fraction_text, number, share
from mobilenext.drawing.markdown import table
from mobilenext.drawing.parts import Tile
from mobilenext.presentation import Measured, Presentation
from mobilenext.statistics import percent_text, wilson_percent

KINDS_OF_VERDICTS = {"reproduced": "good", "differs": "bad"}


def measured(counts: Mapping[str, Any]) -> Measured:
    """Return the top-1 of counts, in percent."""
    return _measured(counts["correct_top1"], counts["images"])


def _measured(correct: int, images: int) -> Measured:
    low, high = wilson_percent(correct, images)
    value = 100 * correct / images
    return Measured(value, percent_text(value), fraction_text(correct, images), (low, high))


def columns_of_result(result: Mapping[str, Any]) -> dict[str, str]:
    """Return top-1 and, where there are more than five classes, top-5 with counts and intervals."""
    columns = {"top-1": _in_table(result["correct_top1"], result["images"])}
    if result["num_classes"] > TOP:
        columns["top-5"] = _in_table(result["correct_top5"], result["images"])
    return columns


def _in_table(correct: int, images: int) -> str:
    top = _measured(correct, images)
    return f"{top.text} ({top.note})"


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return a line on the means over the classes, in which a class of few images counts as much as one of many."""
    if result.get("mean_class_accuracy_percent") is None:  # of a version that had none
        return []
    classes, of = result["classes_with_images"], result["num_classes"]
    without = f" ({of - classes} others have no image)" if classes < of else ""
    return [
        f"means over {classes} classes{without}: top-1 {percent_text(result['mean_class_accuracy_percent'])}, "
        f"precision {percent_text(result['macro_precision_percent'])}, F1 {percent_text(result['macro_f1_percent'])}"
    ]


def closing_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the published top-1 beside the measured one, and the diagnosis of a low one."""
    diagnosis = [f"diagnosis: {sentence}" for sentence in result.get("diagnosis") or ()]
    comparison = result.get("comparison")
    if comparison is None:
        return diagnosis
    measured, difference = comparison.get("measured_top1_percent"), comparison.get("difference_points")
    cells = [
        percent_text(comparison["expected_top1_percent"]),
        percent_text(measured) if measured is not None else "-",
        f"{difference:+.2f} points" if difference is not None else "-",
        f"{comparison['verdict']}: {comparison['reason']}",
    ]
    return [
        "",
        f"published: {comparison.get('dataset')}, {comparison.get('origin')}",
        table(["expected top-1", "measured", "difference", "verdict"], [cells]),
        *diagnosis,
    ]


def tiles(answers: Answers) -> list[Tile]:
    """Return the numbers that one looks for first: top-1, top-5, means over the classes, what is published."""
    result = answers.result
    top1 = share(result["correct_top1"], result["images"])
    tiles = [Tile("Top-1", top1.text, f"{top1.note} %", lead=True)]
    if result["num_classes"] > TOP:
        top5 = share(result["correct_top5"], result["images"])
        tiles.append(Tile("Top-5", top5.text, f"{top5.note} %"))
    comparison = result.get("comparison")
    return [*tiles, _means_tile(answers), *([_published_tile(comparison)] if comparison else [])]


def _means_tile(answers: Answers) -> Tile:
    """Return a tile of means over the classes that have images."""
    _, scores = answers.class_scores
    classes = int(np.isfinite(scores.recall).sum())
    means = {name: percent_text(value) for name, value in scores.summary().items()}
    without = answers.result["num_classes"] - classes
    return Tile(
        "Mean over classes",
        means["mean_class_accuracy_percent"],
        f"precision {means['macro_precision_percent']}, F1 {means['macro_f1_percent']}; "
        + counted(classes, "class", "classes")
        + (f", {without:,} without an image" if without else ""),
    )


def _published_tile(comparison: Mapping[str, Any]) -> Tile:
    difference, dataset = comparison.get("difference_points"), comparison.get("dataset")
    note = f"{difference:+.2f} points; " if difference is not None else ""
    note += comparison["reason"] + (f" ({dataset})" if dataset else "")
    verdict = comparison["verdict"]
    kind = KINDS_OF_VERDICTS.get(verdict, "neutral")
    return Tile("Expected top-1", percent_text(comparison["expected_top1_percent"]), note, (verdict, kind))


def columns(evaluations: Sequence[Answers]) -> tuple[list[str], list[list[Cell]]]:
    """Return heads and cells of top-1, of top-5 where a network has more than five classes, and of what is published.

    Expected top-1 is left out where nothing is published of any of these weights.
    """
    top5 = any(run.result["num_classes"] > TOP for run in evaluations)
    published = any(run.result.get("comparison") for run in evaluations)
    rows = []
    for run in evaluations:
        result = run.result
        cells = [share(result["correct_top1"], result["images"])]
        if top5:
            cells.append(share(result["correct_top5"], result["images"]))
        if published:
            comparison = result.get("comparison") or {}
            expected = comparison.get("expected_top1_percent")
            cells.append(number(expected, ".2f", " %", note=comparison.get("verdict", "")))
        rows.append(cells)
    heads = ["top-1", *(["top-5"] if top5 else []), *(["expected top-1"] if published else [])]
    return heads, rows


def remarks(answers: Answers) -> list[str]:
    """Return the diagnosis of a low top-1."""
    return list(answers.result.get("diagnosis") or ())


def answer_rows(answer: Mapping[str, Any]) -> list[Sequence[Any]]:
    """Return the rank, number, name and score of each class of an answer."""
    names = answer.get("labels") or [""] * len(answer["classes"])
    return list(zip(range(1, len(names) + 1), answer["classes"], names, answer["scores"], strict=True))


PRESENTATION = Presentation(
    check_counts=check_counts,
    measured=measured,
    collect=collect_answers,
    facts=("num_classes",),
    columns_of_result=columns_of_result,
    lines=lines,
    closing_lines=closing_lines,
    answer_heads=("rank", "class", "name", "score"),
    answer_rows=answer_rows,
    tiles=tiles,
    columns=columns,
    remarks=remarks,
    sections=sections,
    published=published_top1,
    published_on="ImageNet",
    networks_chart=accuracy_mult_adds,
)
