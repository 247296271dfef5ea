"""The sections of the report page that are a classification's: its classes, confusions, calibration and mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mobilenext.classification.analysis import (
    BINS,
    Bin,
    Confusion,
    calibration_error,
    confidence_bins,
    confusions,
    worst_mistakes,
)
from mobilenext.classification.answers import Answers
from mobilenext.classification.charts import FEW, confidence_histogram, confusion_matrix, reliability
from mobilenext.classification.page_comparison import comparison_section
from mobilenext.classification.page_tables import class_table, confusion_table
from mobilenext.drawing.cells import counted
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
    article_of,
)
from mobilenext.presentation import MOST_PICTURES, PageImages
from mobilenext.statistics import percent_text

HISTOGRAM_BINS = 20


def sections(evaluations: Sequence[Answers], images: PageImages) -> list[Section]:
    """Return the sections of these evaluations, the first of which is what the others are compared with."""
    evaluations = named_alike(evaluations)
    confused = [confusions(run.labels[run.readable], run.best[run.readable, 0]) for run in evaluations]
    several = len(evaluations) > 1
    articles = [_mistakes(run, images, several=several, folded=place > 0) for place, run in enumerate(evaluations)]
    compared = [comparison_section(evaluations, images)] if several else []
    return [
        *compared,
        Section("per-class", "Classes", [class_table(evaluations, confused)]),
        Section("confusion", "Confusion", _confusion(evaluations, confused)),
        Section("calibration", "Calibration", _calibration(evaluations)),
        Section("mistakes", "Worst mistakes", [_about_mistakes(images), *articles], before="unreadable"),
    ]


def named_alike(evaluations: Sequence[Answers]) -> list[Answers]:
    """Return evaluations whose classes have one name in all runs of the same data: the first run's with names."""
    names: dict[tuple[Any, ...], list[str]] = {}
    alike = []
    for run in evaluations:
        data = run.result["data"].get("sha256") or run.result["data"].get("folder"), run.result["num_classes"]
        own = run.result.get("class_names")
        if own and own != [str(number) for number in range(len(own))]:
            names.setdefault(data, own)
        alike.append(data)
    return [
        replace(run, result={**run.result, "class_names": names[data]}) if data in names else run
        for run, data in zip(evaluations, alike, strict=True)
    ]


def _confusion(evaluations: Sequence[Answers], confused: Sequence[Sequence[Confusion]]) -> list[Article]:
    """Return the matrix of the most frequent pairs and, below it, the pairs."""
    articles = []
    for place, (run, pairs) in enumerate(zip(evaluations, confused, strict=True)):
        matrix = confusion_matrix(run, pairs)
        parts: list[Part] = [Paragraph(["No readable image was taken for another class."])]
        if matrix is not None:
            parts = [Charts([matrix]), confusion_table(run, place, pairs)]
        articles.append(article_of(run.name, parts, several=len(evaluations) > 1, folded=place > 0))
    return articles


ABOUT_CALIBRATION = (
    "Confidence is the softmax probability of the best class. Where bars end below the dashed line the network is too "
    "sure of itself; where they end above it, it is not sure enough. Pale bars are of fewer than "
    f"{FEW} images and have no interval. The expected calibration error (ECE) is the mean over images of the "
    f"difference between accuracy and mean confidence of their bin: {BINS} bins of equal width, closed on the right. "
    "Unreadable images have no confidence and are left out."
)


def _calibration(evaluations: Sequence[Answers]) -> list[Part]:
    parts: list[Part] = [Paragraph([ABOUT_CALIBRATION])]
    for run in evaluations:
        confidence, correct = run.scores[run.readable, 0], run.correct[run.readable]
        bins = confidence_bins(confidence, correct)
        error = calibration_error(bins)
        text = "-" if error is None else percent_text(100 * error)
        histogram = confidence_histogram(confidence_bins(confidence, correct, HISTOGRAM_BINS))
        number = Paragraph(["ECE ", Span(text), " ", Span(_sureness(bins), "small")], "score")
        charts = Charts([reliability(bins, error), histogram])
        parts.append(article_of(run.name, [number, charts], several=len(evaluations) > 1))
    return parts


def _sureness(bins: Sequence[Bin]) -> str:
    """Return mean confidence and accuracy, and which of them is larger."""
    images, correct = (sum(values) for values in zip(*((one.images, one.correct) for one in bins), strict=True))
    if not images:
        return "no readable image"
    confidence, accuracy = 100 * sum(one.confidence_sum for one in bins) / images, 100 * correct / images
    verdict = "too sure" if confidence > accuracy else "not sure enough"
    return (
        f"{counted(images, 'image')}: mean confidence {percent_text(confidence)}, accuracy {percent_text(accuracy)}, "
        f"on the whole {verdict} by {abs(confidence - accuracy):.2f} points"
    )


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


def _mistakes(run: Answers, images: PageImages, *, several: bool, folded: bool) -> Article:
    """Return the images with the largest confidence in a wrong class, with their top-5."""
    confidence, correct = run.scores[run.readable, 0], run.correct[run.readable]
    places = np.flatnonzero(run.readable)
    worst = [int(places[at]) for at in worst_mistakes(confidence, correct, MOST_PICTURES)]
    cards = [_card(run, place, images) for place in worst]
    note = Paragraph([f"{len(cards)} of {counted(int((~correct).sum()), 'wrong image')}."], "note")
    return article_of(run.name, [note, Cards(cards)], several=several, folded=folded)


def _card(run: Answers, place: int, images: PageImages) -> Card:
    label, path = int(run.labels[place]), run.paths[place]
    bars = [
        Bar(run.class_name(int(number)), percent_text(100 * score), round(100 * score, 1), int(number) == label)
        for number, score in zip(run.best[place], run.scores[place], strict=True)
        if number >= 0
    ]
    name, pictures = run.class_name(label), []
    if picture := images.thumbnail(path):
        pictures.append((picture, f"{name}, taken for {bars[0].name}"))
        if heat := images.heat_map(run.result, path, int(run.best[place][0])):
            pictures.append((heat, f"what in it speaks for {bars[0].name}"))
    return Card(name, path, f"Top-5 of {path}", bars, pictures)
