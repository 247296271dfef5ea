"""The optimizer and the moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from mobilenext.recipe import Recipe

Arrays = Mapping[str, npt.NDArray[np.float32]]


def decays(recipe: Recipe, parameter: paddle.Tensor) -> bool:
    """Return whether a parameter decays; biases and batch norms do not unless the recipe says so."""
    # Weights of convolutions and of the head have two dimensions or more; what scales or shifts a channel has one.
    return bool(parameter.ndim > 1 or recipe.decay_1d)


def make_optimizer(recipe: Recipe, parameters: Iterable[paddle.Tensor]) -> paddle.optimizer.Optimizer:
    """Make the recipe's optimizer of the parameters that are not frozen."""
    decayed: list[paddle.Tensor] = []
    free: list[paddle.Tensor] = []
    for parameter in parameters:
        if not parameter.stop_gradient:
            (decayed if decays(recipe, parameter) else free).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, recipe.weight_decay), (free, 0.0))
        if parameters
    ]
    if recipe.optimizer == "rmsprop":
        optimizer = paddle.optimizer.RMSProp(
            recipe.scaled_lr,
            rho=recipe.rmsprop_decay,
            epsilon=recipe.rmsprop_epsilon,
            momentum=recipe.momentum,
            parameters=groups,
        )
    else:
        optimizer = paddle.optimizer.Momentum(recipe.scaled_lr, recipe.momentum, groups, use_nesterov=recipe.nesterov)
    optimizer.set_state_dict(_first_state(optimizer, decayed + free))
    return optimizer


def _first_state(
    optimizer: paddle.optimizer.Optimizer, parameters: Iterable[paddle.Tensor]
) -> dict[str, npt.NDArray[Any]]:
    """Return what an optimizer of `make_optimizer` has of the parameters before their first step, in Paddle's names."""
    starts = {"velocity": 0.0} if isinstance(optimizer, paddle.optimizer.Momentum) else {}
    if isinstance(optimizer, paddle.optimizer.RMSProp):
        # In TensorFlow, which the released runs followed, the averages of the squared gradients start at 1.
        starts = {"momentum": 0.0, "mean_square": 1.0, "mean_grad": 0.0}
    return {
        f"{parameter.name}_{name}_0": np.full(
            parameter.shape, value, np.float64 if parameter.dtype == paddle.float64 else np.float32
        )
        for parameter in parameters
        for name, value in starts.items()
    }


def clip_gradients(parameters: Sequence[paddle.Tensor], largest: float) -> paddle.Tensor:
    """Scale all gradients by one factor where the norm of them together is larger than `largest`; return that norm.

    As PyTorch's ``clip_grad_norm_``. The gradients are the sums over all processes, so all have the same norm.
    """
    with paddle.no_grad():
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = paddle.stack([gradient.astype("float32").square().sum() for gradient in gradients]).sum().sqrt()
        # On the device: reading the norm here would make the processor wait for the backward pass.
        factor = paddle.clip(largest / (norm + 1e-6), max=1.0)
        for gradient in gradients:
            gradient.multiply_(factor.astype(gradient.dtype))
    return norm


def drop_gradients(parameters: Iterable[paddle.Tensor]) -> None:
    """Leave the parameters without gradients: zeros in their place would let an optimizer move them."""
    for parameter in parameters:
        parameter.clear_gradient(False)  # Paddle does not look at the keyword set_to_zero, and leaves zeros


def optimizer_state(optimizer: paddle.optimizer.Optimizer, network: nn.Layer) -> dict[str, paddle.Tensor]:
    """Return the optimizer's tensors as ``parameter/accumulator``, in the network's names.

    Paddle's own names count the layers made in this process (``conv2d_7.w_0_velocity_0``), so they cannot be stored.
    """
    state = {name: value for name, value in optimizer.state_dict().items() if isinstance(value, paddle.Tensor)}
    # What no step has used yet since it was set, as in a network that draws its blocks, Paddle keeps elsewhere.
    state |= {name: paddle.to_tensor(value) for name, value in optimizer._accumulators_holder.items()}
    named = {}
    for name, parameter in network.named_parameters():
        prefix = f"{parameter.name}_"
        for key in [key for key in state if key.startswith(prefix)]:
            named[f"{name}/{key.removeprefix(prefix)}"] = state.pop(key)
    if state:
        raise RuntimeError(f"optimizer tensors of no parameter: {', '.join(state)}")
    return named


def restore_optimizer(optimizer: paddle.optimizer.Optimizer, network: nn.Layer, state: Arrays) -> None:
    """Take over what :func:`optimizer_state` returned, before the optimizer's first step."""
    names = {name: parameter.name for name, parameter in network.named_parameters()}
    tensors = dict(optimizer._accumulators_holder)  # a state of earlier versions lacks what no step had used yet
    for key, value in state.items():
        name, _, accumulator = key.rpartition("/")
        tensors[f"{names[name]}_{accumulator}"] = value
    if tensors:  # before its first step an optimizer has none, and begins as it was made
        optimizer.set_state_dict(tensors)


class Average:
    """The exponential moving average of a network's weights and batch-norm statistics."""

    def __init__(self, network: nn.Layer, decay: float, *, warmup: bool, frozen: frozenset[str] = frozenset()) -> None:
        """Begin with the network's values. The tensors named in `frozen` do not change, so they are not averaged."""
        self._network, self._decay, self._warmup, self._frozen = network, decay, warmup, frozen
        self.tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def update(self, step: int) -> None:
        """Take in the weights after the optimizer's step number `step`, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step)) if self._warmup else self._decay
        with paddle.no_grad():
            for name, tensor in self._network.state_dict().items():
                if name not in self._frozen:  # average = decay * average + (1 - decay) * weight
                    average = self.tensors[name]
                    # What lerp_ computes, to the bit; on a CPU that takes five times as long.
                    average.add_((tensor - average).scale_(1 - decay))

    def restore(self, state: Arrays) -> None:
        """Take over what was stored."""
        for name, tensor in self.tensors.items():
            tensor.set_value(state[name])

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Give the network the average's values inside, and its own again afterwards."""
        own = {name: tensor.clone() for name, tensor in self._network.state_dict().items()}
        self._network.set_state_dict(self.tensors)
        try:
            yield
        finally:
            self._network.set_state_dict(own)
