"""Tables of detectors that were trained and measured here."""

from __future__ import annotations

from typing import Any

from document_tables.results import load
from mobilenext.drawing.markdown import table

# Titles of runs on BCCD, and the files of their evaluations on its test part.
BCCD = (
    ("MobileNeXt x0.35, priors from 24 px", "bccd_evaluate"),
    ("its weights as float16: `ssdlite320_mobilenext_x0_35.bccd`", "bccd_card"),
)


def bccd() -> str:
    """Return the average precision on the test part of BCCD: of all classes, and of each."""
    results = [(title, load(f"{name}.json")) for title, name in BCCD]
    first = results[0][1]
    names = [entry["name"] for entry in first["per_class"]]
    rows = [[title, *_scores(result, names)] for title, result in results]
    heading = ["detector", "mAP (11 points)", *names, "AP50", "AP (COCO)"]
    images, boxes = first["images"], first["objects"]
    note = f"{images} test pictures with {boxes} boxes, one seed each; of each class the VOC AP with 11 points."
    return f"{table(heading, rows)}\n\n{note}"


def _scores(result: dict[str, Any], names: list[str]) -> list[str]:
    classes = {entry["name"]: entry["voc_AP_11_point"] for entry in result["per_class"]}
    shares = [result["voc_AP_11_point"], *(classes[name] for name in names), result["AP50"], result["AP"]]
    return [f"{100 * share:.1f} %" for share in shares]
