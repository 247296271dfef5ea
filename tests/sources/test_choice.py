from __future__ import annotations

import pytest

from mobilenext.errors import UsageError
from mobilenext.machine.cores import available_cores
from mobilenext.sources.choice import Choice, choose, choose_one


def test_what_is_asked_for_is_taken() -> None:
    choice = choose({"device": "cpu", "threads": 1, "batch_size": 16, "precision": "bf16"}, workers=3)
    assert choice == Choice("auto", "auto", "cpu", 1, "bf16", workers=3, batch_size=16)


def test_every_core_has_a_process_of_one_image_at_a_time() -> None:
    assert choose({"device": "cpu"}) == Choice(workers=available_cores())
    assert choose_one({"device": "cpu", "threads": None}) == Choice()


def test_the_processes_are_told_their_threads() -> None:
    environment = Choice(threads=3).environment()
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("3", "3")


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_numbers_that_cannot_be(value: object) -> None:
    with pytest.raises(UsageError, match=f"threads is {value}; expected a whole number from 1 up"):
        choose_one({"threads": value})  # type: ignore[typeddict-item]
