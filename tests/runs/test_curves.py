from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilenext.errors import MissingDependency, OutputError, UsageError
from mobilenext.machine.packages import installed
from mobilenext.runs.curves import write_curves
from mobilenext.runs.training_run import read_run
from run_folders import a_run, two_groups

needs_vl_convert = pytest.mark.skipif(not installed("vl_convert"), reason="vl-convert is not installed (extra train)")


def ink(path: Path) -> list[float]:
    """The share of colored pixels in each third of the picture, left to right, above the legend."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.int16)[:500]  # [500, about 1600, 3]
    colorful = pixels.max(axis=2) - pixels.min(axis=2) > 60
    return [float(part.mean()) for part in np.array_split(colorful, 3, axis=1)]


@needs_vl_convert
def test_the_picture_has_something_in_each_panel(tmp_path: Path) -> None:
    runs = [read_run(folder) for folder in two_groups(tmp_path)]
    for name, some in (("one", runs[:1]), ("six", runs)):
        write_curves(some, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            assert 1500 < image.width < 1650
            assert 550 < image.height < 700
        assert min(ink(tmp_path / f"{name}.png")) > 0.002
    write_curves(runs, tmp_path / "six.svg")
    assert "<svg" in (tmp_path / "six.svg").read_text()


@needs_vl_convert
def test_a_picture_of_twelve_runs_and_of_none_that_got_far(tmp_path: Path) -> None:
    folders = [a_run(tmp_path / f"{rate}", recipe={"lr": rate}, done=rate % 4) for rate in range(12)]
    write_curves([read_run(folder) for folder in folders], tmp_path / "twelve.png")
    assert min(ink(tmp_path / "twelve.png")) > 0.002
    write_curves([read_run(folders[0])], tmp_path / "nothing.png")  # without a row
    assert max(ink(tmp_path / "nothing.png")) == 0
    write_curves([read_run(folders[1])], tmp_path / "single.png")  # one evaluation: a dot
    assert ink(tmp_path / "single.png")[1] > 0


@needs_vl_convert
def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    runs = [read_run(a_run(tmp_path / "run"))]
    with pytest.raises(UsageError, match=r"'curves\.gif'; expected a name that ends in \.png or \.svg"):
        write_curves(runs, tmp_path / "curves.gif")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        write_curves(runs, tmp_path / "file" / "curves.png")


def test_a_picture_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobilenext.machine.packages.installed", lambda package: package != "vl_convert")
    message = r"^the picture .* needs vl_convert, which is not installed: pip install 'mobilenext\[train\]'$"
    with pytest.raises(MissingDependency, match=message):
        write_curves([read_run(a_run(tmp_path / "run"))], tmp_path / "curves.png")
