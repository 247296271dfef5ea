"""Paddle's own formats."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import NoReturn

import pytest

from mobilenext.export.to_paddle import write_paddle
from mobilenext.models import build_network


@pytest.mark.parametrize(
    ("model", "size"), [("mobilenext_x0_35", 32), ("darts_v2_cifar", 32), ("ssdlite320_mobilenext_x0_35", 320)]
)
def test_no_source_is_parsed(model: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing takes most of the time of an export, and programs that are frozen to one file have no sources."""

    def refuse(*_: object) -> NoReturn:
        raise OSError("there is no source")

    network = build_network(model, num_classes=2)
    network.eval()
    monkeypatch.setattr(inspect, "getsource", refuse)
    monkeypatch.setattr(inspect, "getsourcelines", refuse)
    write_paddle(network, tmp_path / "network.pdmodel", size)
    assert {"network.pdmodel", "network.pdiparams"} <= {path.name for path in tmp_path.iterdir()}
