"""The learning rate against numbers by hand and the formulas that PyTorch documents; the older cases: test_recipes."""

from __future__ import annotations

import pytest

from mobilenext.classification.recipes import RECIPES, ClassificationRecipe
from mobilenext.errors import UsageError
from mobilenext.training.schedule import learning_rate


def recipe(*settings: str) -> ClassificationRecipe:
    """Of the rate 0.08 for any batch, by steps, with nothing else."""
    return RECIPES["paper"].with_settings(["lr=0.08", "schedule_by=step", *settings])


def rates(recipe: ClassificationRecipe, steps: int, steps_per_epoch: int) -> list[float]:
    return [learning_rate(recipe, step, steps_per_epoch) for step in range(steps)]


def multi_step(rate: float, milestones: tuple[int, ...], gamma: float, steps: int) -> list[float]:
    """torch.optim.lr_scheduler.MultiStepLR: decays the rate by gamma once the number of steps reaches a milestone."""
    values = []
    for step in range(steps):
        if step in milestones:
            rate *= gamma
        values.append(rate)
    return values


def linear(rate: float, start_factor: float, total_iters: int, steps: int) -> list[float]:
    """torch.optim.lr_scheduler.LinearLR, by its recursion, up to end_factor 1."""
    values = [rate * start_factor]
    for step in range(1, steps):
        if step <= total_iters:
            rise = (1 - start_factor) / (total_iters * start_factor + (step - 1) * (1 - start_factor))
            values.append(values[-1] * (1 + rise))
        else:
            values.append(values[-1])
    return values


def test_milestones_in_steps() -> None:
    found = rates(recipe("steps=24", "schedule=milestones", "milestones=16,20", "milestone_factor=0.1"), 24, 7)
    assert found == pytest.approx([0.08] * 16 + [0.008] * 4 + [0.0008] * 4, rel=1e-12)
    assert found == pytest.approx(multi_step(0.08, (16, 20), 0.1, 24), rel=1e-12)


def test_milestones_in_epochs() -> None:
    by_step = recipe("epochs=6", "schedule=milestones", "milestones=2,4.5", "milestone_factor=0.5")
    assert rates(by_step, 24, 4) == pytest.approx([0.08] * 8 + [0.04] * 10 + [0.02] * 6, rel=1e-12)
    by_epoch = by_step.with_settings(["schedule_by=epoch"])  # 4.5 is reached at the beginning of the sixth epoch
    assert rates(by_epoch, 24, 4) == pytest.approx([0.08] * 8 + [0.04] * 12 + [0.02] * 4, rel=1e-12)
    lowest = by_step.with_settings(["min_lr=0.03"])
    assert rates(lowest, 24, 4)[-6:] == pytest.approx([0.03] * 6, rel=1e-12)


def test_the_authors_detector() -> None:
    """240,000 steps, a tenth of the rate from 160,000 and 200,000 on, and 500 steps of warm-up from a third of it."""
    ssd = recipe("steps=240000", "schedule=milestones", "milestones=160000,200000", "warmup_steps=500")
    ssd = ssd.with_settings(["warmup_factor=0.333333333333"])
    at = {0: 0.08 / 3, 250: 0.08 * 2 / 3, 500: 0.08, 159_999: 0.08, 160_000: 0.008, 200_000: 0.0008, 239_999: 0.0008}
    for step, rate in at.items():
        assert learning_rate(ssd, step, 517) == pytest.approx(rate, rel=1e-9), step
    assert (ssd.total_steps(517), ssd.total_epochs(517)) == (240_000, 465)  # 464.2 epochs


@pytest.mark.parametrize("words", [("steps=20",), ("epochs=5",)])
def test_warm_up_from_a_factor(words: tuple[str, ...]) -> None:
    warm = recipe(*words, "warmup_steps=8", "warmup_factor=0.25", "schedule=milestones", "milestones=4", "warmup_lr=9")
    expected = [0.02, 0.0275, 0.035, 0.0425, 0.05, 0.0575, 0.065, 0.0725]
    assert rates(warm, 8, 4) == pytest.approx(expected, rel=1e-12)
    assert rates(warm, 8, 4) == pytest.approx(linear(0.08, 0.25, 8, 8), rel=1e-12)
    in_epochs = warm.with_settings(["warmup_steps=0", "warmup_epochs=2"])
    assert rates(in_epochs, 8, 4) == pytest.approx(expected, rel=1e-12)


def test_the_factor_goes_with_the_batch() -> None:
    warm = recipe("warmup_epochs=1", "warmup_factor=0.5", "batch_size=512")
    assert learning_rate(warm, 0, 4) == pytest.approx(0.08, rel=1e-12)  # half of 0.16


def test_cosine_in_steps() -> None:
    # 0.08 * (1 + cos(pi * step / 4)) / 2, and the cooldown of an epoch of three steps
    cosine = recipe("steps=4", "cooldown_epochs=1")
    expected = [0.08, 0.0682842712, 0.04, 0.0117157288, 0.0, 0.0, 0.0]
    assert rates(cosine, 7, 3) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert (cosine.total_steps(3), cosine.total_epochs(3)) == (7, 3)
    assert (recipe().total_steps(3), recipe().total_epochs(3)) == (600, 200)


def test_steps_every_so_many_epochs() -> None:
    stepped = recipe("steps=10", "schedule=step", "step_epochs=1.5", "step_factor=0.5")
    assert rates(stepped, 10, 2) == pytest.approx([0.08] * 3 + [0.04] * 3 + [0.02] * 3 + [0.01], rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("schedule=milestones",), r"milestones is \(\) with schedule milestones; expected rising numbers of epochs"),
        (("schedule=milestones", "milestones=5,3"), r"between 0 and 200, such as --set milestones=133,166"),
        (("schedule=milestones", "milestones=200"), "rising numbers of epochs between 0 and 200"),
        (("schedule=milestones", "milestones=0,3"), "rising numbers of epochs between 0 and 200"),
        (("schedule=milestones", "milestones=9,100", "steps=100"), "rising numbers of steps between 0 and 100"),
        (("milestones=a",), "--set milestones=a: expected numbers with commas"),
        (("milestone_factor=0",), "milestone_factor is 0.0; expected above 0 and up to 1"),
        (("warmup_factor=1.5",), "warmup_factor is 1.5; expected from 0 to 1"),
        (("steps=-1",), "steps is -1; expected 0 or more"),
        (("steps=10", "warmup_steps=10"), r"warmup_steps is 10; expected less than steps \(10\)"),
        (("schedule=milestone",), "expected cosine or step or milestones; did you mean 'milestones'"),
    ],
)
def test_what_is_refused(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipe(*settings)


def test_new_fields_are_stored_where_they_are_set() -> None:
    stored = recipe("steps=24", "schedule=milestones", "milestones=16,20").stored()
    assert (stored["steps"], stored["milestones"]) == (24, [16.0, 20.0])
    assert not {"warmup_steps", "warmup_factor", "milestone_factor"} & set(stored)
    assert ClassificationRecipe.from_dict(stored) == recipe("steps=24", "schedule=milestones", "milestones=16,20")
