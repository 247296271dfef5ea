"""The sections of the report page that are a detector's: classes, overlaps, curves, sizes, and the worst pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from mobilenext.detection.charts import MOST_CLASSES, by_iou, by_size, curves_of_one, curves_of_several
from mobilenext.detection.detected import Detected
from mobilenext.detection.drawing import FALSE, FOUND, MISSED, TRUTH, Style, draw_boxes
from mobilenext.detection.page_tables import class_table, comparison_table
from mobilenext.detection.picture_matches import PictureMatches
from mobilenext.detection.rows import DetectedImage
from mobilenext.drawing.cells import counted
from mobilenext.drawing.parts import Article, Bar, Card, Cards, Charts, Paragraph, Part, Section, Span, article_of
from mobilenext.presentation import MOST_PICTURES, PageImages

SIDE = 400  # pixels of the longer side of a picture
NOT_COUNTED = Style("#999999")


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
    articles = [_worst(run, images, several=several, folded=place > 0) for place, run in enumerate(evaluations)]
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


def _worst(run: Detected, images: PageImages, *, several: bool, folded: bool) -> Article:
    worst = run.worst(MOST_PICTURES)
    wrong = sum(picture.errors > 0 for picture in run.matches)
    note = Paragraph([f"{len(worst)} of {counted(wrong, 'picture')} with errors, of {len(run.rows):,}."], "note")
    cards = [_card(run, place, images) for place in worst]
    return article_of(run.name, [note, Cards(cards, wide=True)], several=several, folded=folded)


def _card(run: Detected, place: int, images: PageImages) -> Card:
    row, matches = run.rows[place], run.matches[place]
    counts = {"missed": len(matches.missed), "false": len(matches.false)}
    title = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    uri = images.thumbnail(row.path, lambda image: _drawn(run, row, matches, image), side=SIDE)
    pictures = [(uri, f"{row.path} with its boxes: {title}")] if uri else []
    return Card(title, row.path, f"Classes in {row.path}", _bars(run, row, matches), pictures, before="")


def _bars(run: Detected, row: DetectedImage, matches: PictureMatches) -> list[Bar]:
    """Return for each class in the picture how many of its boxes were found, and how many detections are false."""
    right_labels, missed_labels = row.truth.labels[matches.hits], row.truth.labels[matches.missed]
    false_labels, bars = row.labels[matches.false], []
    for label in sorted({*right_labels.tolist(), *missed_labels.tolist(), *false_labels.tolist()}):
        right, wrong = int((right_labels == label).sum()), int((false_labels == label).sum())
        boxes = right + int((missed_labels == label).sum())
        text = f"{right} of {boxes}" + (f", {wrong} false" if wrong else "")
        width = round(100 * right / boxes, 1) if boxes else 0.0
        bars.append(Bar(run.class_name(label - 1), text, width, right == boxes and not wrong))
    return bars


def _drawn(run: Detected, row: DetectedImage, matches: PictureMatches, image: Image) -> Image:
    """Return a small picture with the truth and the detections; a box that was found is named by its detection."""
    factor = SIDE / max(image.size)
    small = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
    scale = np.tile(np.array(small.size) / (row.width, row.height), 2)  # [4]
    detections = np.concatenate([matches.false, matches.right, matches.ignored])
    boxes = np.concatenate([row.boxes[detections], row.truth.boxes[matches.missed], row.truth.boxes[matches.hits]])
    names = [f"{_name(run, row.labels[at])} {row.scores[at]:.2f}" for at in detections]
    names += [_name(run, row.truth.labels[at]) for at in matches.missed] + [""] * len(matches.hits)
    counts = {
        FALSE: len(matches.false), FOUND: len(matches.right), NOT_COUNTED: len(matches.ignored),
        MISSED: len(matches.missed), TRUTH: len(matches.hits),
    }  # fmt: skip
    styles = [style for style, count in counts.items() for _ in range(count)]
    return draw_boxes(small, boxes * scale, names, styles=styles)


def _name(run: Detected, label: int) -> str:
    return run.class_name(int(label) - 1)
