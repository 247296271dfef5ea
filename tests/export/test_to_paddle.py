"""Paddle's own formats."""

from __future__ import annotations

import inspect
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import paddle
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


@pytest.mark.parametrize("limit", [None, 7])
def test_no_stack_is_recorded_and_tracebacks_are_whole_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    def save(*_: object) -> NoReturn:
        assert list(traceback.extract_stack()) == []  # as Paddle asks for each operator
        raise OSError("the disk is full")

    if limit is not None:
        monkeypatch.setattr(sys, "tracebacklimit", limit, raising=False)
    monkeypatch.setattr(paddle.jit, "save", save)
    network = build_network("mobilenext_x0_35", num_classes=2)
    network.eval()
    with pytest.raises(OSError, match="the disk is full"):
        write_paddle(network, tmp_path / "network.json", 32)
    assert getattr(sys, "tracebacklimit", None) == limit
