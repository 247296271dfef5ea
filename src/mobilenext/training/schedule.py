"""The learning rate of each step."""

from __future__ import annotations

import math

from mobilenext.recipe import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the rate of a step, counted from 0 over the whole run.

    A pure function, so that resuming needs no schedule's state. With peak the highest rate, t the place in the run and
    T the length of the schedule, both in epochs, or in steps where the recipe has `steps`:

        cosine       min_lr + (peak - min_lr) * (1 + cos(pi * t / T)) / 2
        step         peak * step_factor ** floor(t / step_epochs), at least min_lr
        milestones   peak * milestone_factor ** (milestones up to t), at least min_lr; PyTorch's MultiStepLR
        warm-up      start + (peak - start) * t / its length; with start = warmup_factor * peak PyTorch's LinearLR

    The warm-up takes the place of the schedule's beginning, which goes on after it as if it had run all the time
    (timm's convention, which the released runs had). After T, in the cooldown, the cosine stays at min_lr.
    """
    at: float
    if recipe.steps:
        at, length, every = step, float(recipe.steps), recipe.step_epochs * steps_per_epoch
    else:
        # By epoch the rate is that of the epoch's beginning.
        at = step // steps_per_epoch if recipe.schedule_by == "epoch" else step / steps_per_epoch
        length, every = recipe.epochs, recipe.step_epochs
    peak = recipe.scaled_lr
    risen, warmup = _warmup(recipe, step, at, steps_per_epoch)
    if risen < warmup:
        start = recipe.warmup_lr * (recipe.batch_size / recipe.lr_batch_size)  # scaled as the peak is
        if recipe.warmup_factor:
            start = recipe.warmup_factor * peak
        return start + (peak - start) * risen / warmup
    if recipe.schedule == "step":
        return max(recipe.min_lr, peak * recipe.step_factor ** math.floor(at / every))
    if recipe.schedule == "milestones":
        passed = sum(milestone <= at for milestone in recipe.milestones)
        return max(recipe.min_lr, peak * recipe.milestone_factor**passed)
    return recipe.min_lr + (peak - recipe.min_lr) * (1 + math.cos(math.pi * min(at, length) / length)) / 2


def _warmup(recipe: Recipe, step: int, at: float, steps_per_epoch: int) -> tuple[float, float]:
    """Return where the run stands in its warm-up, and how long that is, both in steps or both in epochs."""
    if recipe.warmup_steps:
        return step, recipe.warmup_steps
    return at, recipe.warmup_epochs * (steps_per_epoch if recipe.steps else 1)
