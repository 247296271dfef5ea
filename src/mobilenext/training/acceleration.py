"""Let the layers of a network use the compiled loops and larger products that make its training fast on a CPU.

Only how the layers compute changes: weights, names and results stay what they were, up to the order of a sum. On a GPU
and for other types than float32 the layers stay Paddle's; in evaluation all but the depthwise convolutions do. Not for
a network that is to be exported, or of whose gradients gradients are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import paddle
from paddle import nn

from mobilenext.models.cell_operators import FreeNorm
from mobilenext.models.choice import scaled_batch_norm
from mobilenext.training.batch_norm import ACTIVATIONS, NO_LIMITS, batch_norm, can_be_compiled, is_small
from mobilenext.training.compiled_loops import can_take
from mobilenext.training.depthwise import Geometry, depthwise_conv2d, geometry_of
from mobilenext.training.pointwise import is_pointwise, pays, pointwise_conv2d

Native = Callable[..., paddle.Tensor]  # a layer's own forward


def accelerate(network: nn.Layer) -> int:
    """Let `network` compute its depthwise and 1x1 convolutions and its batch norms, with the activations behind them,
    by the operators of this package, and return how many depthwise convolutions it has.
    """
    depthwise, norms = 0, set()
    for layer in network.sublayers():
        if _is_paddles(layer, nn.Conv2D) and (geometry := geometry_of(layer)):
            layer.forward = partial(_depthwise, layer, geometry, layer.forward)
            depthwise += 1
        elif _is_paddles(layer, nn.Conv2D) and is_pointwise(layer):
            layer.forward = partial(_pointwise, layer, layer.forward)
        elif _is_paddles(layer, nn.BatchNorm2D, FreeNorm) and layer._data_format == "NCHW":
            layer.forward = partial(_norm, layer, layer.forward)
            norms.add(layer)
    for layer in network.sublayers(include_self=True):
        if _is_paddles(layer, nn.Sequential):
            steps = _steps(list(layer), norms)
            if len(steps) < len(layer):
                layer.forward = partial(_sequence, steps)
                vars(layer)["steps"] = steps  # for a choice of a super-network, which runs all but the last of them
    return depthwise


def _is_paddles(layer: nn.Layer, *kinds: type[nn.Layer]) -> bool:
    """Return whether a layer computes what one of these kinds does, and neither its class nor itself another thing.

    A batch norm with a forward of its own, for one, takes its statistics over several processes.
    """
    own = "forward" in vars(layer)
    return not own and any(isinstance(layer, kind) and type(layer).forward is kind.forward for kind in kinds)


def _depthwise(layer: nn.Conv2D, geometry: Geometry, native: Native, x: paddle.Tensor) -> paddle.Tensor:
    weight = layer.weight
    if not can_take(x, weight, weight.shape[0]) or min(geometry.output(x.shape[2], x.shape[3], weight.shape[-1])) < 1:
        return native(x)
    result = depthwise_conv2d(x, weight, geometry)
    return result if layer.bias is None else result + layer.bias.reshape([1, -1, 1, 1])


def _pointwise(layer: nn.Conv2D, native: Native, x: paddle.Tensor) -> paddle.Tensor:
    weight = layer.weight
    compiled = layer.training and can_take(x, weight, weight.shape[1]) and pays(x, weight)
    return pointwise_conv2d(x, weight) if compiled else native(x)


def _norm(
    layer: nn.BatchNorm2D, native: Native, x: paddle.Tensor, factor: paddle.Tensor | None = None
) -> paddle.Tensor:
    # On large maps Paddle's own is as fast where no activation follows.
    if can_be_compiled(layer, x) and (is_small(x) or factor is not None):
        return batch_norm(layer, x, NO_LIMITS, factor)
    return native(x) if factor is None else scaled_batch_norm(layer, x, factor)


# Layers in a row: a batch norm and the activation behind it are one step.

Step = Callable[[paddle.Tensor], paddle.Tensor]


def _steps(layers: Sequence[nn.Layer], norms: set[nn.Layer]) -> list[Step]:
    steps: list[Step] = []
    for layer in layers:
        if type(layer) in ACTIVATIONS and steps and steps[-1] in norms:
            steps[-1] = partial(_norm_and_activation, steps[-1], layer)
        else:
            steps.append(layer)
    return steps


def _norm_and_activation(norm: nn.BatchNorm2D, activation: nn.Layer, x: paddle.Tensor) -> paddle.Tensor:
    return batch_norm(norm, x, ACTIVATIONS[type(activation)]) if can_be_compiled(norm, x) else activation(norm(x))


def _sequence(steps: Sequence[Step], x: Any) -> paddle.Tensor:
    for step in steps:
        x = step(x)
    return x
