"""All processes of a distributed run do the same, or none does anything."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from mobilenext.errors import UsageError
from mobilenext.machine.ranks import Ranks
from mobilenext.runs.setups import changes, require_same

SETUP = {"data_sha256": "1f", "images": 50_000, "preprocessing": {"image_size": 224, "mean": [0.5, 0.1, 1 / 3]}}


class Gathered(Ranks):
    """The processes of a run of which each has a setup."""

    def __init__(self, *setups: Mapping[str, Any]) -> None:
        self.rank, self.world, self._contents = 1, len(setups), [json.dumps(setup).encode() for setup in setups]

    def gather(self, content: bytes) -> list[bytes]:
        assert content == self._contents[self.rank]
        return self._contents


def test_the_same_setup_is_accepted() -> None:
    require_same(Gathered(SETUP, SETUP, SETUP), SETUP)


def test_one_process_has_nothing_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "gather", lambda *arguments: pytest.fail("one process alone exchanges nothing"))
    require_same(Ranks(), SETUP)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("data_sha256", "2e", "data_sha256: '{}' in process 0, '{}' in process {}"),
        ("images", 49_999, "images: {} in process 0, {} in process {}"),
        ("kind", "ema", "kind: {} in process 0, {} in process {}"),
    ],
)
def test_another_setup_in_any_process_is_refused(place: int, field: str, value: object, told: str) -> None:
    setups: list[dict[str, Any]] = [dict(SETUP) for _ in range(3)]
    setups[place][field] = value
    with pytest.raises(UsageError) as refused:
        require_same(Gathered(*setups), setups[1])
    number = place or 1
    values = [setups[0].get(field), setups[number].get(field)]
    shown = told.format(*(value if "'" in told else repr(value) for value in values), number)
    assert shown in str(refused.value)
    assert "images: 50000" not in str(refused.value) or field == "images", "what is the same is not shown"
    assert "same data, weights and options" in str(refused.value)


def test_long_values_are_not_written_out() -> None:
    before, now = ({"architecture": {"blocks": [{"stride": stride}] * 40}} for stride in (1, 2))
    line = changes(before, now)
    assert len(line) < 120
    (there, other) = re.findall(r"1 entry \(sha256 ([0-9a-f]{8})\)", line)
    assert there != other
