"""`mobilenext explain` through the installed command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., CompletedProcess[str]]
DIGITS = ("--model", "mobilenext_x0_35.digits")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A landscape lying on its side as a phone stores it, a grey picture, two of one name, and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[274] = 6  # to be turned clockwise
    picture = Image.fromarray(random.integers(0, 256, (40, 90, 3), dtype=np.uint8))
    picture.save(folder / "a_phone.jpg", exif=exif)
    Image.fromarray(random.integers(0, 256, (50, 50), dtype=np.uint8)).save(folder / "grey.png")
    picture.save(folder / "more" / "grey.png")
    (folder / "no_image.png").write_text("<html>")
    return folder


def test_a_folder_with_one_unreadable(mobilenext: Run, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "pages"
    done = mobilenext("explain", photos, *DIGITS, "--crop-pct", 0.8, "--class", 4, "--topk", 3, "-o", out, "--json")
    assert done.returncode == 3
    assert "no_image.png" in done.stderr
    phone, grey, other, broken = json.loads(done.stdout)
    assert set(broken) == {"path", "error"}
    assert sorted(path.name for path in out.iterdir()) == ["a_phone.png", "grey.png", "grey_2.png"]
    assert (grey["output"], other["output"]) == (str(out / "grey.png"), str(out / "grey_2.png"))
    # Upright it is 40 wide and 90 high, and the crop is 0.8 of the width, in the middle.
    left, top, right, bottom = phone["crop"]
    assert right - left == pytest.approx(32, abs=0.5)
    assert (left + right) / 2 == pytest.approx(20, abs=0.5)
    assert (top + bottom) / 2 == pytest.approx(45, abs=0.5)
    for row in (phone, grey, other):
        assert row["class"] == 4
        assert row["block"] == "features.5"
        assert len(row["classes"]) == 3
        assert np.array(row["map"]).shape == (8, 8)
        with Image.open(row["output"]) as page:
            assert min(page.size) > 300

    predicted = mobilenext("predict", photos / "grey.png", *DIGITS, "--crop-pct", 0.8, "--topk", 3, "--json")
    (row,) = json.loads(predicted.stdout)
    assert row["classes"] == grey["classes"]
    assert row["scores"] == pytest.approx(grey["scores"], abs=1e-4)


def test_what_is_refused(mobilenext: Run, photos: Path, tmp_path: Path) -> None:
    image = photos / "grey.png"
    for arguments, message in (
        ((image, "--block", "features.99", "-o", tmp_path / "a.png"), "expected last, 0 to 20 or one of features.0"),
        (
            (image, "--class", 10, "-o", tmp_path / "a.png"),
            "class 10 was asked for; this network has the classes 0 to 9",
        ),
        ((image, "--topk", 0, "-o", tmp_path / "a.png"), "topk is 0"),
        ((image, "-o", tmp_path / "a.jpg"), "expected .png or .svg, or a folder"),
        ((image, image, "-o", tmp_path / "a.png"), "2 images and one picture"),
    ):
        done = mobilenext("explain", *arguments, *DIGITS)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
    assert not list(tmp_path.glob("a.*"))
    assert mobilenext("explain", image, *DIGITS, "--block", "last", "-o", tmp_path / "a.svg").returncode == 0
    assert "<svg" in (tmp_path / "a.svg").read_text()
