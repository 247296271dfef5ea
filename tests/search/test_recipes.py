"""What a recipe of a search refuses: values that would do nothing, or something else, in its space."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mobilenext.errors import UsageError
from mobilenext.search import search_architecture
from mobilenext.search.recipes import RECIPES


@pytest.mark.parametrize(
    ("recipe", "fields", "message"),
    [
        ("short", {"budget": (3.0,)}, "cost_weight, which it is multiplied with, is 0"),
        ("short", {"budget": (3.0, 4.0), "cost_weight": 1.0}, "budget has 2 numbers; expected one"),
        ("short", {"freeze": "backbone"}, "freeze is 'backbone'; expected none"),
        ("blocks", {"freeze": "3"}, "expected none: all weights of a super-network learn"),
        ("blocks", {"freeze_bn": "statistics"}, "expected none"),
        ("blocks", {"stop_at_skips": 2}, "expected 0 in the space blocks"),
        ("blocks", {"order": 2}, "expected 1 in the space blocks"),
    ],
)
def test_values_that_do_nothing(recipe: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(RECIPES[recipe], **fields)


def test_a_budget_with_a_weight_is_taken() -> None:
    assert dataclasses.replace(RECIPES["short"], budget=(3.0,), cost_weight=1.0).budget == (3.0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": ["space=blocks", "operators=darts"]}, "operators is set, which the space blocks does not have"),
        ({"recipe": "blocks", "settings": ["channels=4"]}, "channels is set, which the space blocks does not have"),
        ({"settings": ["space=cell", "costs=a.json"]}, "costs is set, which the space cell does not have"),
        ({"to_static": True}, "a graph cannot change its candidates"),
    ],
)
def test_fields_of_the_other_space(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        search_architecture(tmp_path, output=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
