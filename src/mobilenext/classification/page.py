"""The sections of the report page that are a classification's: its classes, confusions, calibration and mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mobilenext.classification.analysis import (
    Confusion,
    calibration_error,
    confidence_bins,
    confusions,
    worst_mistakes,
)
from mobilenext.classification.answers import Answers
from mobilenext.classification.charts import confidence_histogram, confusion_matrix, reliability
from mobilenext.classification.page_comparison import comparison_section
from mobilenext.classification.page_tables import class_table, confusion_table
from mobilenext.drawing.parts import (
    Article,
    Bar,
    Card,
    Cards,
    Charts,
    Paragraph,
    Part,
    Section,
    Span,
    Split,
    article_of,
)
from mobilenext.presentation import PageImages

HISTOGRAM_BINS, MOST_MISTAKES = 20, 24


def sections(evaluations: Sequence[Answers], images: PageImages) -> list[Section]:
    """Return the sections of these evaluations, the first of which is what the others are compared with."""
    confused = [confusions(run.labels[run.readable], run.best[run.readable, 0]) for run in evaluations]
    several = len(evaluations) > 1
    articles = [_mistakes(run, images, several=several) for run in evaluations]
    compared = [comparison_section(evaluations, images)] if several else []
    return [
        *compared,
        Section(
            "per-class",
            "Classes",
            [
                Paragraph(["The line in a bar is the 95 % interval (Wilson)."]),
                class_table(evaluations, confused),
            ],
        ),
        Section("confusion", "Confusion", _confusion(evaluations, confused)),
        Section("calibration", "Calibration", _calibration(evaluations)),
        Section("mistakes", "Worst mistakes", [_about_mistakes(images), *articles], before="unreadable"),
    ]


def _confusion(evaluations: Sequence[Answers], confused: Sequence[Sequence[Confusion]]) -> list[Article]:
    """Return the most frequent pairs beside the matrix of their classes."""
    articles = []
    for place, (run, pairs) in enumerate(zip(evaluations, confused, strict=True)):
        matrix = confusion_matrix(run, pairs)
        part: Part = Paragraph(["No readable image was taken for another class."])
        if matrix is not None:
            part = Split(confusion_table(run, place, pairs), matrix)
        articles.append(article_of(run.name, [part], several=len(evaluations) > 1))
    return articles


def _calibration(evaluations: Sequence[Answers]) -> list[Part]:
    parts: list[Part] = []
    for run in evaluations:
        confidence, correct = run.scores[run.readable, 0], run.correct[run.readable]
        bins = confidence_bins(confidence, correct)
        error = calibration_error(bins)
        if not parts:
            parts.append(
                Paragraph(
                    [
                        "Confidence is the softmax probability of the best class. The expected calibration error (ECE) "
                        "is the mean over images of the difference between accuracy and mean confidence of their bin: "
                        f"{len(bins)} bins of equal width, closed on the right. Unreadable images have no confidence "
                        "and are left out. Where bars end below the dashed line the network is too sure of itself."
                    ]
                )
            )
        text = "-" if error is None else f"{100 * error:.2f} %"
        note = f"{int(run.readable.sum()):,} images, {len(bins)} bins"
        histogram = confidence_histogram(confidence_bins(confidence, correct, HISTOGRAM_BINS))
        number = Paragraph(["ECE ", Span(text), " ", Span(note, "small")], "score")
        charts = Charts([reliability(bins, error), histogram])
        parts.append(article_of(run.name, [number, charts], several=len(evaluations) > 1))
    return parts


def _about_mistakes(images: PageImages) -> Paragraph:
    """Return the paragraph on what is shown, and why pictures are missing."""
    spans: list[str | Span] = ["The images with the most confidence in a wrong class."]
    if images.explained:
        spans.append(
            " The brighter a part of the second picture, the more it spoke for that class (Grad-CAM, on the crop that "
            "the network saw)."
        )
    if not images.folder:
        spans.append(" There are no pictures, because the folder of the images was not given: ")
        spans += [Span("--data FOLDER", "code"), "."]
    elif images.missing:
        spans.append(
            f" {len(images.missing)} of the pictures could not be read in {images.folder.name}, {images.missing[0]} "
            "for one."
        )
    return Paragraph(spans)


def _mistakes(run: Answers, images: PageImages, *, several: bool) -> Article:
    """Return the images with the largest confidence in a wrong class, with their top-5."""
    confidence, correct = run.scores[run.readable, 0], run.correct[run.readable]
    places = np.flatnonzero(run.readable)
    worst = [int(places[at]) for at in worst_mistakes(confidence, correct, MOST_MISTAKES)]
    cards = [_card(run, place, images) for place in worst]
    note = Paragraph([f"{len(cards)} of {int((~correct).sum()):,} wrong images."], "note")
    return article_of(run.name, [note, Cards(cards)], several=several)


def _card(run: Answers, place: int, images: PageImages) -> Card:
    label, path = int(run.labels[place]), run.paths[place]
    bars = [
        Bar(run.class_name(int(number)), f"{100 * score:.1f} %", round(100 * score, 1), int(number) == label)
        for number, score in zip(run.best[place], run.scores[place], strict=True)
        if number >= 0
    ]
    name, pictures = run.class_name(label), []
    if picture := images.thumbnail(path):
        pictures.append((picture, f"{name}, taken for {bars[0].name}"))
        if heat := images.heat_map(run.result, path, int(run.best[place][0])):
            pictures.append((heat, f"what in it speaks for {bars[0].name}"))
    return Card(name, path, f"Top-5 of {path}", bars, pictures)
