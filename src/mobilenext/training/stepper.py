"""Make one step of training: from a batch to changed weights."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import paddle
from paddle import nn

from mobilenext.job import Batch, Setup, Stepper
from mobilenext.training.optimization import (
    Arrays,
    clip_gradients,
    make_optimizer,
    optimizer_state,
    restore_optimizer,
)
from mobilenext.training.validation import as_tuple


def add_gradients(
    setup: Setup, network: nn.Layer, batch: Batch, scaler: paddle.amp.GradScaler | None = None
) -> list[paddle.Tensor]:
    """Add the gradient of the mean loss over a batch to the gradients of the parameters that are not frozen.

    The gradients are those of this process' part: with several processes they have to be summed.

    Returns:
        For each part of the process' batch its sums, as a `Stepper` returns them.
    """
    recipe, job = setup.recipe, setup.job
    # Each part's sum of losses is divided by one number, which belongs to the whole batch, and not by the images
    # of the part. So the gradients of parts and of processes only have to be added up to be that of the mean over
    # the whole batch, also where a process has left out an image that cannot be read.
    divisor = job.divisor(batch, setup.ranks)
    sums = []
    for part in batch.split(recipe.accumulate):
        with _mixed_precision(recipe.precision):
            outputs = as_tuple(network(paddle.to_tensor(part.inputs)))
        loss, counted = job.loss(outputs, part)
        mean = loss / (recipe.batch_size if divisor is None else divisor)
        (scaler.scale(mean) if scaler else mean).backward()  # adds to the gradients of the parts before
        with paddle.no_grad():
            # The log divides by images: let it show the mean that is minimized.
            shown = loss if divisor is None else mean * recipe.batch_size
            numbers = [shown, paddle.full([], len(part), "float64"), *counted]
            sums.append(paddle.stack([number.astype("float64") for number in numbers]))
    return sums


def _mixed_precision(precision: str) -> contextlib.AbstractContextManager[None]:
    if precision == "fp32":
        return contextlib.nullcontext()
    dtype = {"bf16": "bfloat16", "fp16": "float16"}[precision]
    mixed: contextlib.AbstractContextManager[None] = paddle.amp.auto_cast(dtype=dtype, level="O1")
    return mixed


class GradientStep(Stepper):
    """Gradient descent on the job's loss by the recipe's optimizer."""

    def __init__(self, setup: Setup, network: nn.Layer, parameters: Sequence[paddle.Tensor] | None = None) -> None:
        """Prepare to train `parameters` of `network`; None: all that are not frozen."""
        self._setup, self._network = setup, network
        every = network.parameters() if parameters is None else parameters
        self._parameters = [parameter for parameter in every if not parameter.stop_gradient]
        self._optimizer = make_optimizer(setup.recipe, self._parameters)
        self._scaler = paddle.amp.GradScaler() if setup.recipe.precision == "fp16" else None

    def __call__(self, batch: Batch, global_step: int, rate: float) -> list[paddle.Tensor]:
        setup, scaler = self._setup, self._scaler
        self._optimizer.set_lr(rate)
        # Dropout depends on where the run stands, not on how it came there.
        paddle.seed((setup.feed.seed << 40) + (global_step << 8) + setup.ranks.rank)
        sums = add_gradients(setup, self._network, batch, scaler)
        # One message for all gradients; afterwards every process makes the same step with the same weights.
        setup.ranks.sum_gradients(self._parameters)
        if setup.recipe.clip_norm:
            if scaler:
                scaler.unscale_(self._optimizer)  # the norm is that of the true gradients
            clip_gradients(self._parameters, setup.recipe.clip_norm)
        if scaler:
            scaler.step(self._optimizer)  # leaves the step out where a gradient is not finite
            scaler.update()
        else:
            self._optimizer.step()
        # A parameter that the next pass does not use must have no gradient then: one of zeros would let it move on by
        # its momentum, and by the decay of weights.
        self._optimizer.clear_grad(set_to_zero=False)
        return sums

    def velocities(self) -> dict[str, paddle.Tensor]:
        """Return the momentum of each parameter, by Paddle's name of it; nothing before the first step."""
        state, suffix = self._optimizer.state_dict(), "_velocity_0"
        return {name.removesuffix(suffix): tensor for name, tensor in state.items() if name.endswith(suffix)}

    def parts(self) -> Mapping[str, Arrays]:
        state = optimizer_state(self._optimizer, self._network)
        return {"optimizer": {name: tensor.numpy() for name, tensor in state.items()}}

    def values(self) -> dict[str, Any] | None:
        if self._scaler is None:
            return None
        state = self._scaler.state_dict()
        return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in state.items()}

    def restore(self, parts: Mapping[str, Arrays], values: Mapping[str, Any] | None) -> None:
        restore_optimizer(self._optimizer, self._network, parts["optimizer"])
        if self._scaler and values:
            self._scaler.load_state_dict(dict(values))
