"""Tables of detectors that were trained and measured here."""

from __future__ import annotations

import statistics
from typing import Any

from document_tables.results import load
from mobilenext.drawing.markdown import table
from mobilenext.report.names import runtime_of

# Titles of kinds of runs on BCCD, and the files of their evaluations on its test part, one for each seed.
BCCD = (
    ("MobileNeXt x0.35, priors from 24 px", ("bccd_evaluate", "bccd_seed1_evaluate")),
    ("the first seed's weights as float16: `ssdlite320_mobilenext_x0_35.bccd`", ("bccd_card",)),
    ("the standard priors, from 45 px", ("bccd_standard_evaluate",)),
    ("26 epochs in place of 64", ("bccd_26_epochs_evaluate",)),
    ("MobileNetV2 x0.35, priors from 24 px", ("bccd_mobilenetv2_evaluate", "bccd_mobilenetv2_seed1_evaluate")),
)


def bccd() -> str:
    """Return the average precision on the test part of BCCD: of all classes, and of each."""
    kinds = [(title, [load(f"{name}.json") for name in names]) for title, names in BCCD]
    first = kinds[0][1][0]
    names = [entry["name"] for entry in first["per_class"]]
    rows = [[title, str(len(results)), *_scores(results, names)] for title, results in kinds]
    heading = ["detector", "seeds", "mAP (11 points)", *names, "AP50", "AP (COCO)"]
    images, boxes = first["images"], first["objects"]
    note = (
        f"{images} test pictures with {boxes} boxes; of each class the VOC AP with 11 points. Of several seeds the "
        "mean, with the smallest and the largest value in brackets."
    )
    return f"{table(heading, rows)}\n\n{note}"


def _scores(results: list[dict[str, Any]], names: list[str]) -> list[str]:
    shares = []  # of each result: [columns]
    for result in results:
        classes = {entry["name"]: entry["voc_AP_11_point"] for entry in result["per_class"]}
        shares.append([result["voc_AP_11_point"], *(classes[name] for name in names), result["AP50"], result["AP"]])
    return [_mean_and_range([100 * share for share in column]) for column in zip(*shares, strict=True)]


def _mean_and_range(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.1f} %"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f} to {max(values):.1f})"


def detection_speed() -> str:
    """Return how long a training step takes beside PyTorch's, and the work on a picture beside the network's."""
    step, boxes = load("bench_detection_step.json"), load("bench_boxes.json")
    ratios = [record["ratio"] for record in step["rounds"]]
    name = f"training step of x0.35 at {step['image_size']} px, {step['batch']} pictures"
    rows = [
        [name, f"{1000 * step['seconds']:.0f} ms"],
        [f"the same in PyTorch {step['pytorch']}, channels_last", f"{1000 * step['pytorch_seconds']:.0f} ms"],
        *([f"{work}, one picture", f"{times['median_ms']:.1f} ms"] for work, times in boxes["steps"].items()),
    ]
    note = (
        f"One core, medians. PyTorch's time over ours: {step['ratio']:.2f} ({len(ratios)} interleaved rounds: "
        f"{min(ratios):.2f} to {max(ratios):.2f})."
    )
    return f"{table(['work', 'time'], rows)}\n\n{note}"


def bench_detection() -> str:
    """Return the latency of detectors by runtime, the trained one with and without its boxes."""
    result = load("bench_detection.json")
    trained, larger = "ssdlite320_mobilenext_x0_35", "ssdlite320_mobilenext_x1_0"
    rows = {(runtime_of(row), row["network"], row.get("post_processing")): row for row in result["rows"]}
    cells = []
    for runtime in dict.fromkeys(runtime_of(row) for row in result["rows"]):
        alone, whole, large = (rows[(runtime, *key)] for key in ((trained, None), (trained, "boxes"), (larger, None)))
        times = [alone["median_ms"], whole["median_ms"], whole["post_processing_ms"], large["median_ms"]]
        cells.append([runtime, *(f"{time:.1f} ms" for time in times), f"{times[3] / times[0]:.1f}"])
    heading = [
        "runtime, 1 thread",
        "x0.35",
        "x0.35 + boxes",
        "of it, boxes",
        "x1.0",
        "x1.0 by x0.35",
    ]
    where, how, amounts = result["environment"], result["configuration"], whole["amounts_per_image"]
    alone_ms = load("bench_boxes.json")["steps"]["post-processing, voc"]["median_ms"]
    note = (
        f"MobileNeXt at {alone['image_size']} pixels, a picture a call: medians of at least {how['samples']} calls in "
        f"{how['rounds']} interleaved rounds, {where['processor']}, {where['cores']} cores. x0.35 is the bundled "
        f"`.bccd`, on {how['input'].split()[0]} of its pictures with {amounts['candidates']:,.0f} candidates and "
        f"{amounts['boxes']:.0f} boxes each; decoding and suppression are timed within the same calls. x1.0 has fresh "
        f"weights, so its boxes were not timed: with 20 classes and about 1,900 candidates they take {alone_ms:.1f} ms "
        f"of a core, whatever the width (`results/bench_boxes.json`). The computer had other work (load average "
        f"{where['load_average'][0]} before, {result['load_average_after'][0]} after): a row is uncertain by a half, "
        "so that + boxes can be the faster one; only large ratios count."
    )
    return f"{table(heading, cells)}\n\n{note}"


def bccd_runtimes() -> str:
    """Return the average precision of the bundled detector in every format and runtime."""
    result = load("bccd_runtimes.json")
    boxes = result["rows"][0]["boxes"]
    cells = [
        [
            row["format"],
            row["runtime"],
            f"{row['map_percent']:.2f} %",
            f"{100 * row['AP']:.2f} %",
            f"{row['AP_difference']:+.6f}" if number else "-",
            f"{row['equal_boxes']:,} of {boxes:,}" if number else "-",
        ]
        for number, row in enumerate(result["rows"])
    ]
    heading = ["format", "runtime", "mAP (11 points)", "AP (COCO)", "AP, difference to Paddle", "equal boxes"]
    pixels, score = result["tolerance"]
    note = f"{result['images']} test pictures; boxes are equal within {pixels:g} pixels and {score:g} of the score."
    return f"{table(heading, cells)}\n\n{note}"
