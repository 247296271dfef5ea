"""Two classifications of the same images: agreement, McNemar's test, and the images that changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mobilenext.classification.analysis import Ids, Pair, difference_interval_points, paired
from mobilenext.classification.answers import Answers
from mobilenext.drawing.cells import Cell, Table, counted, share, words
from mobilenext.drawing.parts import Article, Paragraph, Part, Section, Span, Tile, Tiles
from mobilenext.presentation import PageImages
from mobilenext.statistics import percent_text

MOST_CHANGED, CHANGED_PICTURES = 200, 24


def comparison_section(evaluations: Sequence[Answers], images: PageImages) -> Section:
    """Return every evaluation beside the first one."""
    correction = ""
    if len(evaluations) > 2:
        correction = f"; it is not corrected for {len(evaluations) - 1} comparisons"
    text = Paragraph(
        [
            "Each run beside the first, on the images that both have. p is that of McNemar's test in its exact, "
            "two-sided form: how often two equally good networks would differ by at least as much" + correction + "."
        ]
    )
    articles = [_compared(evaluations[0], other, place, images) for place, other in enumerate(evaluations[1:], 1)]
    return Section("comparison", "Comparison", [text, *articles], before="metric-latency")


def _compared(first: Answers, second: Answers, place: int, images: PageImages) -> Article:
    """Compare two evaluations on the images that both have, with the same label."""
    heading = (Span(second.name, "bdi"), " beside ", Span(first.name, "bdi"))
    where = {path: at for at, path in enumerate(first.paths)}
    both = [
        (at, other)
        for other, path in enumerate(second.paths)
        if (at := where.get(path)) is not None and first.labels[at] == second.labels[other]
    ]
    if not both:
        nothing = "They have no image with the same name and label in common: there is nothing to compare."
        return Article(heading, [Paragraph([nothing], "warning")])
    one, two = np.array(both).T
    pair = paired(first.best[one, 0], second.best[two, 0], first.labels[one])
    changed = _changed(first, second, one, two, place, images)
    parts: list[Part] = [
        _tiles(pair),
        _pair_table(first, second, pair, place),
        changed or Paragraph(["No image has another best class."]),
    ]
    if left_out := max(len(first.paths), len(second.paths)) - pair.images:
        missing = f"Left out here: {counted(left_out, 'image')} not in both, or with another label there."
        parts.insert(0, Paragraph([missing], "warning"))
    return Article(heading, parts)


def _tiles(pair: Pair) -> Tiles:
    low, high = difference_interval_points(pair)
    same = share(pair.same_class, pair.images)
    return Tiles(
        [
            Tile(
                "Difference of top-1",
                f"{pair.difference_points:+.2f} points",
                f"95 %: {low:+.2f} to {high:+.2f}; {counted(pair.images, 'image')}",
                lead=True,
            ),
            Tile(
                "McNemar's test, exact",
                f"p {'< 0.0001' if pair.p_value < 0.0001 else f'= {pair.p_value:.4f}'}",
                "more than chance explains, at 5 %" if pair.p_value < 0.05 else "chance can explain it, at 5 %",
            ),
            Tile("Agreement", same.text, f"same best class: {same.note} %"),
        ]
    )


def _pair_table(first: Answers, second: Answers, pair: Pair, place: int) -> Table:
    alone = {f"{first.name} alone": pair.only_first, f"{second.name} alone": pair.only_second}
    counts = {"both": pair.both, **alone, "neither": pair.neither}
    rows = [[words(name), share(count, pair.images)] for name, count in counts.items()]
    return Table(f"pair-{place}", "Who is right", ["correct", "images"], rows, sortable=False)


def _changed(first: Answers, second: Answers, one: Ids, two: Ids, place: int, images: PageImages) -> Table | None:
    """Return the images with another best class: those that were right before first, by falling confidence."""
    different = np.flatnonzero(first.best[one, 0] != second.best[two, 0])
    if not len(different):
        return None
    before, after = first.correct[one[different]], second.correct[two[different]]
    group = np.where(before & ~after, 0, np.where(after & ~before, 1, 2))
    order = np.lexsort((-second.scores[two[different], 0], group))
    kinds = ("newly wrong", "newly right", "wrong in another way")
    rows: list[list[Cell]] = []
    for at in order[:MOST_CHANGED]:
        a, b = int(one[different[at]]), int(two[different[at]])
        path = first.paths[a]
        picture = images.thumbnail(path) if len(rows) < CHANGED_PICTURES else None
        rows.append(
            [
                Cell(path, numeric=False, picture=picture),
                Cell(kinds[group[at]], int(group[at]), numeric=False),
                words(first.class_name(int(first.labels[a]))),
                _answer(first, a),
                _answer(second, b),
            ]
        )
    totals = ", ".join(f"{int((group == at).sum()):,} {kind}" for at, kind in enumerate(kinds))
    shown = "" if len(different) <= MOST_CHANGED else f" {MOST_CHANGED} are shown, the newly wrong first."
    return Table(
        f"changed-{place}",
        f"Images that changed from {first.name} to {second.name}",
        ["image", "change", "label", first.name, second.name],
        rows,
        searched="an image or class",
        note=f"{len(different):,} of {counted(len(one), 'image')}: {totals}.{shown}",
        shown=5,
    )


def _answer(run: Answers, place: int) -> Cell:
    if not run.readable[place]:
        return Cell("unreadable", 0, numeric=False)
    score = float(run.scores[place, 0])
    return Cell(run.class_name(int(run.best[place, 0])), score, percent_text(100 * score), numeric=False)
