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
from mobilenext.models import Architecture
from mobilenext.models.genotype import Genotype
from mobilenext.report.heat_maps import HeatMaps
from mobilenext.report.page import write_report
from mobilenext.weights.read import read_weights
from mobilenext.weights.searched import fresh_weights
from mobilenext.weights.write import write_weights

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
    section = page.read_text(encoding="utf-8").partition('<ol class="mistakes')[2].partition("</ol>")[0]
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', section)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))) for picture in pictures]


def test_a_heat_map_beside_each_picture(world: World, evaluated: Path, tmp_path: Path) -> None:
    write_report([evaluated], tmp_path / "plain.html", world.data)
    write_report([evaluated], tmp_path / "heat.html", world.data, [world.weights])
    mistakes = len(world.labels) - world.correct(1)
    assert len(_pictures(tmp_path / "plain.html")) == mistakes
    pictures = _pictures(tmp_path / "heat.html")
    assert len(pictures) == 2 * mistakes
    assert {picture.shape for picture in pictures[1::2]} == {(32, 32, 3)}  # the crop that the network saw
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_a_network_that_a_search_has_found(world: World, tmp_path: Path) -> None:
    """Its name is in no table: the weights say what it is."""
    cells = Genotype(*[[("avg_pool_3x3", 0), ("max_pool_3x3", 1)] * 4] * 2)
    architecture = Architecture(space="cell", genotype=cells, form="cifar", channels=2, cells=1)
    file = tmp_path / "weights.safetensors"
    write_weights(fresh_weights(architecture, file, num_classes=8), file)
    weights = read_weights(file)
    result = {"weights": {"sha256": weights.sha256}, "model": weights.model}
    result |= {"preprocessing": weights.preprocessing.to_dict()}
    maps = HeatMaps(world.data, [file])
    name = next((world.data / "imgs").iterdir()).relative_to(world.data)
    assert str(maps.of(result, str(name), 0)).startswith("data:image/jpeg")


def test_weights_that_were_not_evaluated(world: World, evaluated: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of the evaluations was made with these weights"):
        write_report([evaluated], tmp_path / "x.html", world.data, ["mobilenext_x0_35.digits"])
    with pytest.raises(UsageError, match="give their folder as well: --data FOLDER"):
        write_report([evaluated], tmp_path / "x.html", None, [world.weights])
    assert not (tmp_path / "x.html").exists()
