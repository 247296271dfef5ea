"""Heat maps of the worst mistakes in the report."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from mobilenext.errors import UsageError
from mobilenext.evaluation.run import evaluate
from mobilenext.machine.packages import installed
from mobilenext.report.page import write_report

if TYPE_CHECKING:
    from tests.conftest import World

pytestmark = pytest.mark.skipif(
    not (installed("jinja2") and installed("vl_convert")), reason="jinja2 or vl-convert is not installed (extra report)"
)
SMALL = {"image_size": 32, "crop_pct": 1.0}


@pytest.fixture(scope="module")
def evaluated(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    evaluate(world.data, weights=world.weights, preprocessing=SMALL, output=folder, workers=1)
    return folder


def _pictures(page: Path) -> list[np.ndarray]:
    """Those of the worst mistakes."""
    section = page.read_text(encoding="utf-8").partition('<ol class="mistakes">')[2].partition("</ol>")[0]
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', section)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found]


def test_a_heat_map_beside_each_picture(world: World, evaluated: Path, tmp_path: Path) -> None:
    write_report([evaluated], tmp_path / "plain.html", world.data)
    write_report([evaluated], tmp_path / "heat.html", world.data, [world.weights])
    mistakes = len(world.labels) - world.correct(1)
    assert len(_pictures(tmp_path / "plain.html")) == mistakes
    pictures = _pictures(tmp_path / "heat.html")
    assert len(pictures) == 2 * mistakes
    assert {picture.shape for picture in pictures[1::2]} == {(32, 32, 3)}  # the crop that the network saw
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_weights_that_were_not_evaluated(world: World, evaluated: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of the evaluations was made with these weights"):
        write_report([evaluated], tmp_path / "x.html", world.data, ["mobilenext_x0_35.digits"])
    with pytest.raises(UsageError, match="give their folder as well: --data FOLDER"):
        write_report([evaluated], tmp_path / "x.html", None, [world.weights])
    assert not (tmp_path / "x.html").exists()
