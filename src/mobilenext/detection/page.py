"""The sections of the report page that are a detector's: classes, overlaps, curves, sizes, and the worst pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image, Resampling

from mobilenext.detection.charts import MOST_CLASSES, by_iou, by_size, curves_of_one, curves_of_several
from mobilenext.detection.detected import Detected, Outcome
from mobilenext.detection.drawing import FALSE as FALSE_STYLE
from mobilenext.detection.drawing import FOUND, MISSED, TRUTH, Style, draw_boxes
from mobilenext.detection.page_tables import class_table, comparison_table
from mobilenext.detection.voc_precision import FALSE, RIGHT
from mobilenext.drawing.parts import Article, Bar, Card, Cards, Charts, Paragraph, Part, Section, Span, article_of
from mobilenext.task import PageImages

MOST_PICTURES, SIDE = 24, 400  # pixels of the longer side of a picture
NEITHER_STYLE = Style("#999999")


def sections(evaluations: Sequence[Detected], images: PageImages) -> list[Section]:
    """Return the sections of these evaluations, the first of which is what the others are compared with."""
    several = len(evaluations) > 1
    compared: list[Section] = []
    curves = curves_of_several(evaluations) if several else curves_of_one(evaluations[0])
    if several:
        compared = [Section("comparison", "Comparison", [comparison_table(evaluations)], before="metric-latency")]
    about = "The precision of a class at each recall, where a box is found from an overlap of 0.5 on."
    if several and len(curves) == MOST_CLASSES:
        about += f" The {MOST_CLASSES} classes with the most boxes are shown."
    articles = [_worst(run, images, several=several) for run in evaluations]
    return [
        *compared,
        Section("per-class", "Classes", [class_table(evaluations)]),
        Section("overlap-size", "Overlap and size", [Charts([by_iou(evaluations), by_size(evaluations)])]),
        Section("precision-recall", "Precision and recall", [Paragraph([about]), Charts(curves)]),
        Section("worst", "Worst pictures", [*_about_pictures(evaluations, images), *articles], before="unreadable"),
    ]


def _about_pictures(evaluations: Sequence[Detected], images: PageImages) -> list[Part]:
    """Return what is shown, the legend of the pictures, and why some are missing."""
    scores = ", ".join(
        (f"{run.name}: " if len(evaluations) > 1 else "") + f"{run.threshold:.3f}" for run in evaluations
    )
    spans: list[str | Span] = [
        "The pictures with the most errors: boxes that were missed, and false ones. Only detections with a score from "
        f"which on F1 is best are drawn and counted ({scores}); an overlap of 0.5 counts as found."
    ]
    if not images.folder:
        spans += [" There are no pictures, because the folder of the images was not given: "]
        spans += [Span("--data FOLDER", "code"), "."]
        return [Paragraph(spans)]
    if images.missing:
        spans.append(
            f" {len(images.missing)} of the pictures could not be read in {images.folder.name}, {images.missing[0]} "
            "for one."
        )
    legend: list[str | Span] = [
        Span("Dashed"), " boxes are the truth: white where it was found, yellow where it was missed. ",
        Span("Solid"), " boxes are detections: blue where they are right, with their score, orange where they are ",
        "false, gray on boxes that do not count, such as difficult ones.",
    ]  # fmt: skip
    return [Paragraph(spans), Paragraph(legend, "note")]


def _worst(run: Detected, images: PageImages, *, several: bool) -> Article:
    worst = run.worst(MOST_PICTURES)
    wrong = sum(outcome.errors > 0 for outcome in run.outcomes)
    note = Paragraph([f"{len(worst)} of {wrong:,} pictures with errors, of {len(run.rows):,}."], "note")
    return article_of(run.name, [note, Cards([_card(run, one, images) for one in worst], wide=True)], several=several)


def _card(run: Detected, outcome: Outcome, images: PageImages) -> Card:
    row = outcome.row
    missed, false = int(outcome.missed.sum()), outcome.false
    title = ", ".join(text for count, text in ((missed, f"{missed} missed"), (false, f"{false} false")) if count)
    uri = images.thumbnail(row.path, lambda image: _drawn(run, outcome, image), side=SIDE)
    pictures = [(uri, f"{row.path} with its boxes: {title}")] if uri else []
    return Card(title, row.path, f"Classes in {row.path}", _bars(run, outcome), pictures, before="")


def _bars(run: Detected, outcome: Outcome) -> list[Bar]:
    """Return for each class in the picture how many of its boxes were found, and how many detections are false."""
    row, bars = outcome.row, []
    false_labels = row.labels[outcome.shown][outcome.verdicts == FALSE]
    counted = outcome.found | outcome.missed
    for label in sorted({*row.truth.labels[counted].tolist(), *false_labels.tolist()}):
        of_class = row.truth.labels == label
        boxes, found = int((of_class & counted).sum()), int((of_class & outcome.found).sum())
        false = int((false_labels == label).sum())
        text = f"{found} of {boxes}" + (f", {false} false" if false else "")
        width = round(100 * found / boxes, 1) if boxes else 0.0
        bars.append(Bar(run.class_name(label - 1), text, width, found == boxes and not false))
    return bars


def _drawn(run: Detected, outcome: Outcome, image: Image) -> Image:
    """Return a small picture with the truth and the detections."""
    row = outcome.row
    factor = SIDE / max(image.size)
    small = image.resize([max(1, round(side * factor)) for side in image.size], Resampling.BICUBIC)
    scale = np.tile(np.array(small.size) / (row.width, row.height), 2)  # [4]
    counted = np.flatnonzero(outcome.found | outcome.missed)
    labels = [*row.labels[outcome.shown].tolist(), *row.truth.labels[counted].tolist()]
    right, false = outcome.verdicts == RIGHT, outcome.verdicts == FALSE
    styles = [FOUND if good else FALSE_STYLE if bad else NEITHER_STYLE for good, bad in zip(right, false, strict=True)]
    styles += [TRUTH if outcome.found[box] else MISSED for box in counted]
    names = [f"{run.class_name(label - 1)} {score:.2f}" for label, score in
             zip(labels, row.scores[outcome.shown], strict=False)]  # fmt: skip
    # What was found is named by its detection.
    names += ["" if outcome.found[box] else run.class_name(int(row.truth.labels[box]) - 1) for box in counted]
    boxes = np.concatenate([row.boxes[outcome.shown], row.truth.boxes[counted]]) * scale
    return draw_boxes(small, boxes, names, labels=labels, styles=styles)
