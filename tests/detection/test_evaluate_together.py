"""Two processes give a trained detector the precision that one gives it, on drawn cells."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from boxed_pictures import OBJECT, SIDES
from warm import WarmCommands

WEIGHTS = "ssdlite320_mobilenext_x0_35.bccd"
PICTURES = 10


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of red and white blood cells as they look under a microscope, of which the boxes lie a little aside."""
    root = tmp_path_factory.mktemp("cells")
    for name in ("Annotations", "JPEGImages"):
        (root / name).mkdir()
    for number in range(PICTURES):
        random = np.random.default_rng(number)
        picture = Image.new("RGB", (640, 480), (214, 192, 196))
        draw, objects = ImageDraw.Draw(picture), ""
        for column in range(5):
            name = "wbc" if column == number % 5 else "rbc"
            left, top = 10 + 125 * column + int(random.integers(8)), int(random.integers(20, 250))
            side = 190 if name == "wbc" else 105
            right, bottom = min(639, left + side), top + side
            draw.ellipse((left, top, right, bottom), fill=(106, 72, 160) if name == "wbc" else (190, 128, 134))
            aside = int(random.integers(-14, 15))
            corners = (max(0, left + aside), top + aside, min(639, right + aside), bottom + aside)
            box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(SIDES, corners, strict=True))
            objects += OBJECT.format(name, "", box)
        picture.filter(ImageFilter.GaussianBlur(3)).save(root / f"JPEGImages/{number}.jpg", quality=90)
        size = "<size><width>640</width><height>480</height><depth>3</depth></size>"
        (root / f"Annotations/{number}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return root


@pytest.mark.long  # the same of classification, and of rows that a journal has kept, is quick
def test_two_processes_give_the_precision_of_one(warm_commands: WarmCommands, cells: Path, tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        master = f"127.0.0.1:{one.getsockname()[1]}"
    runs: list[tuple[Path, list[dict[str, str]]]] = [
        (tmp_path / "one", [{}]),
        (
            tmp_path / "two",
            [
                {
                    "PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": "2", "PADDLE_DISTRI_BACKEND": "gloo",
                    "PADDLE_CURRENT_ENDPOINT": "x", "PADDLE_MASTER": master,
                }
                for rank in range(2)
            ],
        ),
    ]  # fmt: skip
    for folder, environments in runs:
        words = ["evaluate", str(cells), "--model", WEIGHTS, "--runtime", "paddle", "--workers", "1", "-o", str(folder)]
        processes = [warm_commands.start(words, environment=os.environ | extra) for extra in environments]
        for process in processes:
            _, output = process.communicate(timeout=240)
            assert process.wait() == 0, output
    (one_result, one_rows), (two_result, two_rows) = (
        (json.loads((folder / "result.json").read_text()), (folder / "predictions.jsonl").read_bytes())
        for folder, _ in runs
    )
    assert (one_result["processes"], two_result["processes"]) == (1, 2)
    assert 0.05 < one_result["AP"] < 0.95
    assert one_rows == two_rows
    for name in ("AP", "AP50", "voc_AP_11_point", "per_class"):
        assert one_result[name] == two_result[name]
