"""Detection as it is shown: average precision, boxes on pictures, on the report page and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL.Image import Image, Resampling

from mobilenext.detection.detected import Detected, collect_detections, f1_percent
from mobilenext.detection.drawing import draw_boxes
from mobilenext.detection.evaluation import SUMMARY_FIELDS
from mobilenext.detection.page import sections
from mobilenext.detection.page_tables import score_cell
from mobilenext.drawing.cells import Cell, counted, shortened
from mobilenext.drawing.markdown import table
from mobilenext.drawing.parts import Tile
from mobilenext.json_files import record
from mobilenext.presentation import Measured, Presentation
from mobilenext.statistics import percent_text

SMALLEST_SIDE = 320  # pixels, to which the longer side of smaller pictures is enlarged: boxes need room for their texts
RULE_NAMES = {"voc_AP_11_point": "mAP (VOC, 11 points)", "AP": "AP (COCO)"}
MOST_CLASSES = 100  # rows of the table in a terminal


def measured(counts: Mapping[str, Any]) -> Measured:
    """Return the score that the network's form is judged by, in percent; 0 where there is no box to be found."""
    value = counts["map_percent"]
    objects = f"{counts['objects']:,} boxes"
    if value is None:
        return Measured(0.0, "-", f"{objects} to be found")
    return Measured(float(value), percent_text(value), objects)


def share_text(share: float | None) -> str:
    """Return a share from 0 to 1 as a percentage; a dash for None."""
    return "-" if share is None else percent_text(100 * share)


def columns_of_result(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the score of the network's form first, then COCO's AP, AP at an overlap of 0.5, and VOC's mAP."""
    rule = result["map_rule"]
    objects = f"{counted(result['objects'], 'box', 'boxes')} in {counted(result['images'], 'image')}"
    columns = {RULE_NAMES[rule]: f"{share_text(result[rule])} ({objects})"}
    columns |= {name: share_text(result[field]) for field, name in RULE_NAMES.items() if field != rule}
    return columns | {"AP50": share_text(result["AP50"]), "AP75": share_text(result["AP75"])}


def lines(result: Mapping[str, Any]) -> list[str]:
    """Return AP and recall by the size of objects, and the scores of each class."""
    sizes = ", ".join(
        f"{name} {share_text(result[f'AP{key}'])}" for key, name in (("s", "small"), ("m", "medium"), ("l", "large"))
    )
    rows = [
        [
            shortened(row["name"], 40),
            *(share_text(row[name]) for name in (result["map_rule"], "AP50", "AP75", "AR100")),
            f"{row['objects']:,}",
            f"{row['found']:,}",
        ]
        for row in result["per_class"]
        if row["objects"] or row["detections"]
    ]
    head = ["class", result["map_rule"].replace("_", " "), "AP50", "AP75", "AR100", "boxes", "found at IoU 0.5"]
    scores = [table(head, rows[:MOST_CLASSES])] if rows else []
    if len(rows) > MOST_CLASSES:
        scores.append(f"{len(rows) - MOST_CLASSES} more classes are in result.json")
    return [f"AP by size of the boxes: {sizes}; recall with 100 boxes an image: {share_text(result['AR100'])}", *scores]


def draw(image: Image, answer: Mapping[str, Any]) -> Image:
    """Return the picture with the boxes of an answer; one that is too small for texts is enlarged by a whole factor."""
    factor = max(1, -(-SMALLEST_SIDE // max(image.size)))
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Resampling.NEAREST)
    rows = answer["detections"]
    return draw_boxes(
        image,
        [[factor * value for value in row["box"]] for row in rows],
        [name_of_class(row) for row in rows],
        labels=[row["label"] for row in rows],
        scores=[row["score"] for row in rows],
    )


def name_of_class(row: Mapping[str, Any]) -> str:
    """Return the name of a detection's class, or its number where it has none."""
    return row["name"] or f"class {row['label']}"


def answer_rows(answer: Mapping[str, Any]) -> list[Sequence[Any]]:
    """Return corners, class and score of each box of an answer."""
    return [[*row["box"], row["label"], row["name"] or "", row["score"]] for row in answer["detections"]]


def tiles(detected: Detected) -> list[Tile]:
    """Return the numbers that one looks for first: the score of the form, AP50, sizes, and what a threshold gives."""
    result, rule = detected.result, detected.result["map_rule"]
    objects = f"{counted(result['objects'], 'box', 'boxes')} in {counted(result['images'], 'image')}"
    (other,) = (field for field in RULE_NAMES if field != rule)
    sizes = [f"{size} {share_text(result[f'AP{size[0]}'])}" for size in ("small", "medium", "large")]
    counts = [detected.at_threshold(category) for category in range(len(result["per_class"]))]
    right, missed, false = map(sum, zip(*counts, strict=True))
    return [
        Tile(RULE_NAMES[rule], share_text(result[rule]), objects, lead=True),
        Tile("AP50", share_text(result["AP50"]), f"AP75 {share_text(result['AP75'])}"),
        Tile(RULE_NAMES[other], share_text(result[other]), f"by size: {', '.join(sizes)}"),
        Tile(
            "Best F1",
            percent_text(f1_percent(right, missed, false)),
            f"from a score of {detected.threshold:.3f} on: {right:,} found, {missed:,} missed, {false:,} false",
        ),
    ]


def columns(evaluations: Sequence[Detected]) -> tuple[list[str], list[list[Cell]]]:
    """Return the heads and cells of VOC's mAP, COCO's AP and AP at an overlap of 0.5 and 0.75."""
    fields = {**{name: field for field, name in RULE_NAMES.items()}, "AP50": "AP50", "AP75": "AP75"}
    rule = evaluations[0].result["map_rule"]
    heads = sorted(fields, key=lambda name: fields[name] != rule)
    return heads, [[score_cell(run.result[fields[name]]) for name in heads] for run in evaluations]


def remarks(detected: Detected) -> list[str]:
    """Return what makes the numbers other than those of one look at each picture, or leaves a class out."""
    remarks = []
    if detected.result.get("flip"):
        remarks.append("Each picture was shown to the network twice, the second time mirrored (flip).")
    nothing = [row["name"] for row in detected.result["per_class"] if row["objects"] and not row["found"]]
    if nothing:
        names = ", ".join(shortened(name, 40) for name in nothing[:10]) + ", ..." * (len(nothing) > 10)
        remarks.append(f"No box was found of {len(nothing)} of {len(detected.result['per_class'])} classes: {names}.")
    return remarks


PRESENTATION = Presentation(
    check_counts=record(SUMMARY_FIELDS),
    measured=measured,
    collect=collect_detections,
    facts=("num_classes", "map_rule", "score_threshold", "iou_threshold", "max_detections", "clip", "flip"),
    columns_of_result=columns_of_result,
    lines=lines,
    tiles=tiles,
    columns=columns,
    remarks=remarks,
    sections=sections,
    draw=draw,
    answer_heads=("x1", "y1", "x2", "y2", "label", "name", "score"),
    answer_rows=answer_rows,
)
