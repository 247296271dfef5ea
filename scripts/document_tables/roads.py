"""The roads that readers take, and how long each was when it was walked."""

from __future__ import annotations

from document_tables.results import load
from mobilenext.drawing.markdown import table

# What the reader has, what the reader wants, and where to begin.
READERS = {
    "evaluation": ("ILSVRC2012 and `val_list.txt`", "the accuracy and latency table", "[Evaluation](#evaluation)"),
    "photos": (
        "photos in a folder for each class", "a classifier in int8 and a small server",
        "[From photos to a server](docs/photos.md)",
    ),
    "boxes": ("pictures with boxes", "a detector", "[From boxes to a detector](docs/boxes.md)"),
    "notebook": (
        "an interest in the block", "to try the paper's claim in minutes",
        "[the notebook](docs/sandglass.ipynb), then [paper and code](docs/paper_and_code.md)",
    ),
}  # fmt: skip
SIZES = {"evaluation": "1,000 images", "photos": "300 photos", "boxes": "205 pictures, 4 of 64 epochs"}


def roads() -> str:
    """Return the table of the roads with their commands and minutes, from `git clone` on."""
    rows = []
    for name, road in load("roads.json").items():
        size = [SIZES[name]] if name in SIZES else []
        if any(command["exit_code"] for command in road["commands"]):  # the page's way without int8 was taken
            size.append("without int8")
        time = f"{len(road['commands'])} commands, {round(road['minutes'])} min"
        rows.append([*READERS[name], f"{time} ({', '.join(size)})" if size else time])
    return table(["you have", "you want", "begin with", "takes, with installation"], rows)
