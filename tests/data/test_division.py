"""Which images validate: a share that is named, and files that are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mobilenext.data.division import draw_files, list_content, list_lines, share_of
from mobilenext.errors import UsageError


@pytest.mark.parametrize(
    ("val_split", "share"), [(0.2, 0.2), ("0.25", 0.25), ("20%", 0.2), (None, None), ("test", None)]
)
def test_a_share_or_a_name(val_split: Any, share: float | None) -> None:
    assert share_of(val_split) == share


@pytest.mark.parametrize("val_split", [0, 1, 1.5, -0.1, "20", "nan", "inf", "0", "100%", float("nan")])
def test_numbers_that_are_no_share(val_split: Any) -> None:
    with pytest.raises(UsageError, match=r"expected a share between 0 and 1, such as 0\.2, or the name of a part"):
        share_of(val_split)


@pytest.mark.parametrize("val_split", ["train", "Training"])
def test_the_training_part_does_not_validate(val_split: str) -> None:
    with pytest.raises(UsageError, match="images that train cannot validate"):
        share_of(val_split)


def test_files_are_drawn_by_their_names_and_the_seed() -> None:
    groups = {0: {Path(f"{number:02}.jpg") for number in range(20)}, 1: {Path("x.jpg")}, 7: {Path("a"), Path("b")}}
    drawn = draw_files(groups, 0.25, seed=3)
    assert len(drawn & groups[0]) == 5
    assert not drawn & groups[1]  # the only one trains
    assert len(drawn & groups[7]) == 1  # each side has one
    assert drawn == draw_files({group: sorted(paths, reverse=True) for group, paths in groups.items()}, 0.25, seed=3)
    assert drawn != draw_files(groups, 0.25, seed=4)


def test_a_list_comes_back_as_it_was(tmp_path: Path) -> None:
    names = ["a b.jpg", "\udcff.png", "ü/1.jpg"]  # the second is no text, as file systems allow
    (tmp_path / "list.txt").write_bytes(list_content(names))
    assert list_lines(tmp_path / "list.txt") == names
