"""Tables of the page on phones: the sizes of files, and int8 by MNN's own tool."""

from __future__ import annotations

from document_tables.results import load
from mobilenext.drawing.markdown import table


def phone_files() -> str:
    """Return the megabytes of each network in each format."""
    result = load("phone_files.json")
    megabytes = {(row["format"], row["network"]): row["bytes"] / 1e6 for row in result["rows"]}
    formats = dict.fromkeys(row["format"] for row in result["rows"])
    rows = [
        [f"`{name}`", *(f"{megabytes[name, network]:.2f} MB" for network in result["image_sizes"])] for name in formats
    ]
    return table(["format", *result["image_sizes"]], rows)


def mnn_int8() -> str:
    """Return what int8 by MNN's tool costs and gains, for each of its methods."""
    result = load("mnn_int8.json")
    rows = [
        [
            row["network"],
            str(row["correct_top1"]),
            f"{row['equal_predictions']} of {result['images']}",
            f"{row['bytes'] / 1e6:.2f} MB",
            f"{row['processor_ms']:.2f} ms",
        ]
        for row in result["rows"]
    ]
    return table(["ranges", "correct top-1", "equal predictions", "size", "one image"], rows)
