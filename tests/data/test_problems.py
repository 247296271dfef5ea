"""How many problems are shown, and that the numbers beyond them are told."""

from __future__ import annotations

from mobilenext.data.problems import MOST_SHOWN, PROBLEMS_SHOWN, shortened


def test_the_first_of_each_file() -> None:
    sentences = [f"a.xml: object {number}" for number in range(440_000)] + ["b.xml: inverted"]
    shown = shortened(sentences)
    assert shown[:PROBLEMS_SHOWN] == sentences[:PROBLEMS_SHOWN]
    assert shown[PROBLEMS_SHOWN:] == [
        "b.xml: inverted", "... and 439,980 more, most of them in a.xml (--json has all)",
    ]  # fmt: skip
    assert shortened(sentences[:20]) == sentences[:20]


def test_a_bound_for_all_files() -> None:
    sentences = [f"{number}.xml: empty" for number in range(MOST_SHOWN + 5)]
    assert shortened(sentences) == [*sentences[:MOST_SHOWN], "... and 5 more (--json has all)"]
    assert shortened([]) == []
