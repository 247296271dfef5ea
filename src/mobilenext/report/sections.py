"""What the report page says, in words and tables: results to cells, with every number beside its counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mobilenext.classification.analysis import Confusion, Pair, difference_interval_points, paired
from mobilenext.classification.metrics import TOP
from mobilenext.models.cards import MODELS
from mobilenext.report.bench_report import network_name, runtime_name
from mobilenext.report.heat_maps import HeatMaps
from mobilenext.report.inputs import Bench, Evaluation
from mobilenext.report.thumbnails import Thumbnails
from mobilenext.report.training_report import Run, comparison
from mobilenext.statistics import percent, wilson_percent

MOST_PAIRS, MOST_CHANGED, MOST_UNREADABLE, MOST_MISTAKES = 300, 200, 500, 24
CHANGED_PICTURES = 24
LONGEST_NAME = 80


@dataclass(frozen=True)
class Cell:
    """What stands in a table, what it is sorted by, and a bar of percent with its interval where there is one."""

    text: str
    value: float | str | None = None
    note: str = ""
    bar: tuple[float, float, float] | None = None
    numeric: bool = True
    picture: str | None = None


@dataclass(frozen=True)
class Table:
    """Cells, and what the reader may do with them."""

    name: str  # of its elements in the page
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = True
    searched: str = ""  # what one searches for; no search without
    note: str = ""
    marked: frozenset[int] = field(default_factory=frozenset)  # rows to be pointed out


def text(value: Any, *, note: str = "") -> Cell:
    return Cell(str(value), None, note, numeric=False)


def number(value: float | int | None, form: str = ",", unit: str = "", *, note: str = "") -> Cell:
    return Cell("-", None, note) if value is None else Cell(f"{value:{form}}{unit}", value, note)


def share(count: int, of: int, *, bar: bool = False) -> Cell:
    """A percentage with its counts and interval."""
    if not of:
        return Cell("-", None, f"{count}/{of}")
    value, (low, high) = percent(count, of), wilson_percent(count, of)
    note = f"{count:,}/{of:,}; 95 %: {low:.2f} to {high:.2f}"
    return Cell(f"{value:.2f} %", value, note, (value, low, high) if bar else None)


def class_name(run: Evaluation, class_id: int) -> str:
    """The name with the id, or the id alone; shortened where a name is a paragraph."""
    name = run.names.get(class_id)
    return f"class {class_id}" if name is None else f"{shortened(name)} ({class_id})" if name != str(class_id) else name


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def moment(time: Any) -> str:
    """A stored time as people write it, 2026-11-27 03:17 UTC; nothing for results of versions that stored none."""
    known = isinstance(time, str) and len(time) == len("2026-11-27T03:17:54Z") and time.endswith("Z")
    return f"{time[:10]} {time[11:16]} UTC" if known else ""


def dates(results: Sequence[Mapping[str, Any]], now: str) -> str:
    """When the results and the page were made."""
    days = sorted(day for result in results if (day := moment(result.get("finished"))[:10]))
    span = f"{days[0]} to {days[-1]}" if days and days[0] != days[-1] else "".join(days[:1])
    return f"{f'results of {span}; ' if span else ''}page of {moment(now)}"


def headline(run: Evaluation) -> dict[str, Any]:
    """The four numbers that one looks for first."""
    result, latency = run.result, run.result["latency"]
    compared = result.get("comparison")
    verdict = None
    if compared:
        difference = compared.get("difference_points")
        verdict = {
            "expected": f"{compared['expected_top1_percent']:.3f} %",
            "verdict": compared["verdict"],
            "reason": compared["reason"],
            "dataset": compared.get("dataset"),
            "difference": None if difference is None else f"{difference:+.3f} points",
            "kind": {"reproduced": "good", "differs": "bad"}.get(compared["verdict"], "neutral"),
        }
    return {
        "name": run.name,
        "made": moment(result.get("finished")),
        "command": result.get("command"),
        "model": result["model"],
        "data": result["data"].get("folder"),
        "images": f"{result['images']:,}",
        "partial": f"of {result['data'].get('images_in_list') or 0:,} images" if result["partial"] else "",
        "unreadable": result["unreadable"],
        "top1": share(result["correct_top1"], result["images"]),
        "top5": share(result["correct_top5"], result["images"]) if result["num_classes"] > TOP else None,
        "means": _class_means(run),
        "latency": f"{latency['median']:.2f} ms",
        "latency_note": f"p10 {latency['p10']:.2f}, p90 {latency['p90']:.2f} ms; {how_run(run)}",
        "compared": verdict,
        "diagnosis": [*(result.get("warnings") or ()), *(result.get("diagnosis") or ())],
    }


def _class_means(run: Evaluation) -> Mapping[str, str]:
    """Means over the classes that have images."""
    _, scores = run.class_scores
    classes = int(np.isfinite(scores.recall).sum())
    shares = {name: f"{value:.2f} %" for name, value in scores.summary().items()}
    without = run.result["num_classes"] - classes
    return shares | {"classes": f"{classes:,} classes" + (f", {without:,} others have no image" if without else "")}


def how_run(run: Evaluation) -> str:
    """Runtime, threads and processor in a line."""
    result = run.result
    extra = [str(result[key]) for key in ("engine", "precision") if result.get(key) not in (None, "", "eager", "fp32")]
    inside = f" ({', '.join(extra)})" if extra else ""
    threads = result["latency"]["threads"]
    where = result["environment"].get("processor") if result.get("device") != "gpu" else "GPU"
    return f"{result['runtime']}{inside}, batch 1, {threads} thread{'s' * (threads > 1)}, {where}"


def accuracy_table(runs: Sequence[Evaluation]) -> Table:
    """A row for each evaluation."""
    top5 = any(run.result["num_classes"] > TOP for run in runs)
    rows = []
    for run in runs:
        result, latency, card = run.result, run.result["latency"], MODELS.get(run.result["model"])
        compared = result.get("comparison") or {}
        rows.append(
            [
                text(run.name, note=f"{result['model']} on {result['data'].get('folder')}"),
                share(result["correct_top1"], result["images"]),
                *([share(result["correct_top5"], result["images"])] if top5 else []),
                number(compared.get("expected_top1_percent"), ".3f", " %", note=compared.get("verdict", "")),
                number(latency["median"], ".2f", " ms", note=f"p10 {latency['p10']:.2f}, p90 {latency['p90']:.2f}"),
                text(how_run(run)),
                number(latency.get("preprocessing_median"), ".2f", " ms"),
                number(result.get("images_per_second"), ".1f"),
                number(card.parameters / 1e6 if card else None, ".2f", " M"),
                number(card.mult_adds / 1e6 if card else None, ".0f", " M"),
            ]
        )
    head = [
        *(
            "run",
            "top-1",
            *(["top-5"] if top5 else []),
            "expected top-1",
            "latency",
            "runtime",
            "reading and preprocessing",
            "images/s",
        ),
        *("parameters", "mult-adds"),
    ]
    note = "Parameters and mult-adds are those of 1,000 classes at 224 × 224 pixels."
    return Table("accuracy", "Accuracy and latency of one image", head, rows, note=note)


def class_table(runs: Sequence[Evaluation], confused: Sequence[Sequence[Confusion]]) -> Table:
    """A row for each class that occurs, a column of top-1 for each run."""
    by_class = [{int(row["class"]): row for row in run.result["per_class"]} for run in runs]
    taken: list[dict[int, Confusion]] = []
    for pairs in confused:
        most: dict[int, Confusion] = {}
        for pair in pairs:  # the most frequent first
            most.setdefault(pair.label, pair)
        taken.append(most)
    several, rows = len(runs) > 1, []
    top5 = runs[0].result["num_classes"] > TOP
    single = ["top-1", *(["top-5"] if top5 else []), "precision", "F1", "most often taken for"]
    scores = {} if several else _scores_of_classes(runs[0])
    for class_id in sorted(set().union(*by_class)):
        owner = next(run for run, classes in zip(runs, by_class, strict=True) if class_id in classes)
        cells = [number(class_id, "d"), text(shortened(owner.names.get(class_id, "-")))]
        top1 = []
        for run, classes, most in zip(runs, by_class, taken, strict=True):
            row = classes.get(class_id)
            if row is None:
                cells += [Cell("-")] * (1 if several else len(single))
                continue
            cells.append(share(row["correct_top1"], row["images"], bar=True))
            if row["images"]:
                top1.append(percent(row["correct_top1"], row["images"]))
            if not several:
                if top5:
                    cells.append(share(row["correct_top5"], row["images"]))
                cells += scores.get(class_id) or [Cell("-"), Cell("-")]  # no image of it, and none taken for it
                cells.append(_taken(run, most.get(class_id)))
        if several:
            cells.append(number(top1[-1] - top1[0], "+.2f") if len(top1) == len(runs) else Cell("-"))
        rows.append(cells)
    head = ["class", "name"]
    if several:
        head += [f"top-1, {run.name}" for run in runs] + ["last minus first, points"]
    else:
        head += single
    return Table("classes", "Accuracy of each class", head, rows, searched="a class")


def _scores_of_classes(run: Evaluation) -> dict[int, list[Cell]]:
    """Precision and F1 of each class that occurs."""
    classes, scores = run.class_scores
    return {
        int(class_id): [number(100 * float(value), ".2f", " %") for value in values]
        for class_id, *values in zip(classes, scores.precision, scores.f1, strict=True)
    }


def _taken(run: Evaluation, pair: Confusion | None) -> Cell:
    if pair is None:
        return Cell("-", 0, numeric=False)
    return Cell(class_name(run, pair.predicted), pair.images, f"{pair.images:,} images", numeric=False)


def confusion_table(run: Evaluation, place: int, pairs: Sequence[Confusion]) -> Table:
    """The most frequent pairs and each class's most frequent one, with how often the other way round."""
    images = {int(row["class"]): int(row["images"]) for row in run.result["per_class"]}
    first_of = {pair.label: pair for pair in reversed(pairs)}  # the most frequent are in front
    shown = [pair for at, pair in enumerate(pairs) if at < MOST_PAIRS or first_of[pair.label] is pair]
    rows = [
        [
            text(class_name(run, pair.label)),
            text(class_name(run, pair.predicted)),
            number(pair.images),
            share(pair.images, images.get(pair.label, 0)),
            number(pair.back),
        ]
        for pair in shown
    ]
    wrong = sum(pair.images for pair in pairs)
    note = f"{len(pairs):,} pairs in {wrong:,} wrong images."
    if len(shown) < len(pairs):
        note += f" The {MOST_PAIRS} most frequent are shown, and the most frequent of each class."
    return Table(
        f"confused-{place}",
        f"Confused classes, {run.name}",
        ["label", "taken for", "images", "of the class", "the other way round"],
        rows,
        searched="a class",
        note=note,
    )


def mistakes(run: Evaluation, places: Sequence[int], pictures: Thumbnails, heat_maps: HeatMaps) -> list[dict[str, Any]]:
    """Images with the largest confidence in a wrong class, with their top-5."""
    cards = []
    for place in places:
        label = int(run.labels[place])
        top5 = [
            {"name": class_name(run, int(number)), "score": f"{100 * score:.1f} %", "width": round(100 * score, 1)}
            | {"right": int(number) == label}
            for number, score in zip(run.best[place], run.scores[place], strict=True)
            if number >= 0
        ]
        path = run.paths[place]
        card = {"path": path, "label": class_name(run, label), "top5": top5, "picture": pictures.of(path)}
        cards.append({**card, "heat": heat_maps.of(run.result, path, int(run.best[place][0]))})
    return cards


def unreadable_table(run: Evaluation, place: int) -> Table | None:
    """Images that were counted as wrong because they could not be read."""
    if not run.errors:
        return None
    rows = [[text(run.paths[at]), text(reason)] for at, reason in list(run.errors.items())[:MOST_UNREADABLE]]
    shown = "" if len(run.errors) <= MOST_UNREADABLE else f" The first {MOST_UNREADABLE} are shown."
    note = f"{len(run.errors):,} of {len(run.paths):,} images, each of them counted as wrong.{shown}"
    return Table(f"unreadable-{place}", f"Unreadable images, {run.name}", ["image", "reason"], rows, note=note)


def compared(first: Evaluation, second: Evaluation, place: int, pictures: Thumbnails) -> dict[str, Any]:
    """Two evaluations on the images that both have, with the same label: agreement, McNemar's test, what changed."""
    where = {path: at for at, path in enumerate(first.paths)}
    both = [
        (at, other)
        for other, path in enumerate(second.paths)
        if (at := where.get(path)) is not None and first.labels[at] == second.labels[other]
    ]
    title = {"first": first.name, "second": second.name, "place": place}
    if not both:
        return {**title, "images": 0}
    one, two = np.array(both).T
    pair = paired(first.best[one, 0], second.best[two, 0], first.labels[one])
    low, high = difference_interval_points(pair)
    changed = _changed(first, second, one, two, place, pictures)
    return {
        **title,
        "images": f"{pair.images:,}",
        "left_out": max(len(first.paths), len(second.paths)) - pair.images,
        "same": share(pair.same_class, pair.images),
        "difference": f"{pair.difference_points:+.2f} points",
        "interval": f"95 %: {low:+.2f} to {high:+.2f}",
        "p": "< 0.0001" if pair.p_value < 0.0001 else f"= {pair.p_value:.4f}",
        "significant": pair.p_value < 0.05,
        "counts": _pair_table(first, second, pair, place),
        "changed": changed,
    }


def _pair_table(first: Evaluation, second: Evaluation, pair: Pair, place: int) -> Table:
    alone = {f"{first.name} alone": pair.only_first, f"{second.name} alone": pair.only_second}
    counts = {"both": pair.both, **alone, "neither": pair.neither}
    rows = [[text(name), share(count, pair.images)] for name, count in counts.items()]
    return Table(f"pair-{place}", "Who is right", ["correct", "images"], rows, sortable=False)


def _changed(
    first: Evaluation, second: Evaluation, one: Any, two: Any, place: int, pictures: Thumbnails
) -> Table | None:
    """The images with another best class: those that were right before first, the most confident of them first."""
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
        picture = pictures.of(path) if len(rows) < CHANGED_PICTURES else None
        rows.append(
            [
                Cell(path, numeric=False, picture=picture),
                Cell(kinds[group[at]], int(group[at]), numeric=False),
                text(class_name(first, int(first.labels[a]))),
                _said(first, a),
                _said(second, b),
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
        note=f"{len(different):,} of {len(one):,} images: {totals}.{shown}",
    )


def _said(run: Evaluation, place: int) -> Cell:
    if not run.readable[place]:
        return Cell("unreadable", 0, numeric=False)
    score = float(run.scores[place, 0])
    return Cell(class_name(run, int(run.best[place, 0])), score, f"{100 * score:.1f} %", numeric=False)


def training_table(runs: Sequence[Run]) -> Table:
    """A row for each training run."""
    rows = []
    for run, row in zip(runs, comparison(runs)["runs"], strict=True):
        final, best = row["final"], row["best"]
        cells = [
            text(run.name, note=f"{row['model']}, recipe {row['recipe']}, seed {row['seed']}"),
            text(f"{row['epochs_done']}/{row['epochs']}", note="" if row["finished"] else "unfinished"),
        ]
        for counts in (final.get("raw"), final.get("ema"), best):
            cells.append(share(counts["correct_top1"], counts["images"]) if counts else Cell("-"))
        cells += [
            text(f"epoch {best['epoch']}, {best['kind']}" if best else "-"),
            number(row["train_loss"], ".4f"),
            number(row["images_per_second"], ",.1f"),
            number(row["train_seconds"] / 3600, ".2f", " h"),
        ]
        rows.append(cells)
    head = [
        "run",
        "epochs",
        "final top-1, raw",
        "final top-1, EMA",
        "best top-1",
        "best at",
        "training loss",
        "images/s",
    ]
    return Table("training", "Training runs", [*head, "time"], rows)


def bench_table(bench: Bench, place: int) -> Table:
    """Every row of a bench; accuracy is the paper's, and said to be."""
    rows = []
    for row in bench.result["rows"]:
        card = MODELS.get(row["network"])
        adds = row.get("mult_adds")
        rows.append(
            [
                text(network_name(row)),
                text(runtime_name(row)),
                number(row["threads"]),
                number(row["batch_size"]),
                number(row["median_ms"], ".3f", " ms", note=f"{row['p10_ms']:.2f} to {row['p90_ms']:.2f}"),
                number(row["images_per_second"], ",.1f"),
                number(adds and adds / 1e6, ".0f", " M"),
                number(card.paper_top1_percent if card else None, ".2f", " %"),
                number(row.get("times_compute_floor"), ".2f"),
                number(row["start_up_ms"] / 1000, ".2f", " s"),
                number(row.get("peak_memory_mib"), ".0f", " MiB"),
            ]
        )
    head = [
        *(
            "network",
            "runtime",
            "threads",
            "batch",
            "median (p10 to p90)",
            "images/s",
            "mult-adds",
            "top-1 in the paper",
        ),
        *("times the compute floor", "start-up", "memory"),
    ]
    where = bench.result["environment"]
    samples = bench.result["configuration"].get("samples")
    note = (
        f"{where.get('processor')}, {where.get('cores')} cores; medians of at least {samples} calls, interleaved. The "
        "paper's top-1 is of ImageNet and was not measured here."
    )
    return Table(f"bench-{place}", f"Latency, {bench.name}", head, rows, searched="a network or runtime", note=note)


def facts_table(name: str, caption: str, columns: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """Nested facts as rows, a column for each run; rows in which the runs differ are marked."""
    flat = [_flat(facts) for _, facts in columns]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    rows = [[text(key), *(text(one.get(key, "-")) for one in flat)] for key in keys]
    marked = frozenset(
        place for place, key in enumerate(keys) if len({one.get(key, "-") for one in flat}) > 1 and len(flat) > 1
    )
    note = f"{len(marked)} of {len(keys)} rows differ; they are marked." if len(flat) > 1 else ""
    head = ["", *(column for column, _ in columns)] if len(columns) > 1 else ["", "value"]
    return Table(name, caption, head, rows, sortable=False, searched="a setting", note=note, marked=marked)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            values |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            values[prefix + key] = ", ".join(map(str, value)) or "none"
        else:
            values[prefix + key] = "-" if value is None or value == "" else str(value)
    return values


CONFIGURATION = (
    *("model", "weights", "num_classes", "identity_divisor", "preprocessing", "data", "partial", "runtime", "engine"),
    *(
        "precision",
        "device",
        "workers",
        "threads",
        "batch_size",
        "processes",
        "resumed_images",
        "notes",
        "started",
        "finished",
        "command",
        "setup_digest",
    ),
)


def configuration(run: Evaluation) -> dict[str, Any]:
    """What decided the numbers."""
    return {key: run.result[key] for key in CONFIGURATION if key in run.result}
