"""Paddle's own formats."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import NoReturn

import pytest

from mobilenext.export.to_paddle import write_paddle
from mobilenext.models import build_network
from mobilenext.models.build import build_cell_network
from mobilenext.models.genotype import GENOTYPES


def test_no_source_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing takes most of the time of an export, and programs that are frozen to one file have no sources."""

    def refuse(*_: object) -> NoReturn:
        raise OSError("there is no source")

    networks = {
        32: build_network("mobilenext_x0_35", num_classes=2),
        16: build_cell_network(GENOTYPES["darts_v2"], form="cifar", channels=4, cells=3, num_classes=2),
        320: build_network("ssdlite320_mobilenext_x0_35", num_classes=2),
    }
    monkeypatch.setattr(inspect, "getsource", refuse)
    monkeypatch.setattr(inspect, "getsourcelines", refuse)
    for size, network in networks.items():
        network.eval()
        write_paddle(network, tmp_path / f"{size}.pdmodel", size)
        assert (tmp_path / f"{size}.pdiparams").is_file()
