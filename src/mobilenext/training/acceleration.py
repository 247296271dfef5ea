"""Let the layers of a network use the compiled loops and larger products that make its training fast on a CPU.

Only how the layers compute changes: weights, names and results stay what they were, up to the order of a sum. Not for a
network that is to be exported. On a GPU, for other types than float32 and in evaluation the layers stay Paddle's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import paddle
from paddle import nn

from mobilenext.training.batch_norm import ACTIVATIONS, NO_LIMITS, batch_norm, can_be_compiled, is_small
from mobilenext.training.depthwise import Geometry, depthwise_conv2d, geometry_of
from mobilenext.training.pointwise import is_pointwise, pays, pointwise_conv2d

Native = Callable[..., paddle.Tensor]  # a layer's own forward


def accelerate(network: nn.Layer) -> int:
    """Let `network` compute its depthwise and 1x1 convolutions and its batch norms, with the activations behind them,
    by the operators of this package, and return how many depthwise convolutions it has.
    """
    depthwise, norms = 0, set()
    for layer in network.sublayers():
        if isinstance(layer, nn.Conv2D) and (geometry := geometry_of(layer)):
            layer.forward = partial(_depthwise, layer, geometry, layer.forward)
            depthwise += 1
        elif is_pointwise(layer):
            layer.forward = partial(_pointwise, layer, layer.forward)
        elif isinstance(layer, nn.BatchNorm2D) and "forward" not in vars(layer) and layer._data_format == "NCHW":
            # One that has a forward of its own takes its statistics over several processes.
            layer.forward = partial(_norm, layer, layer.forward)
            norms.add(layer)
    for layer in network.sublayers(include_self=True):
        if type(layer) is nn.Sequential:
            steps = _steps(list(layer), norms)
            if len(steps) < len(layer):
                layer.forward = partial(_sequence, steps)
                vars(layer)["steps"] = steps  # for a choice of a super-network, which runs all but the last of them
    return depthwise


def _is_float32_on_cpu(x: paddle.Tensor, weight: paddle.Tensor) -> bool:
    return bool(x.dtype == weight.dtype == paddle.float32 and x.place.is_cpu_place())


def _depthwise(layer: nn.Conv2D, geometry: Geometry, native: Native, x: paddle.Tensor) -> paddle.Tensor:
    if not _is_float32_on_cpu(x, layer.weight):
        return native(x)
    result = depthwise_conv2d(x, layer.weight, geometry)
    return result if layer.bias is None else result + layer.bias.reshape([1, -1, 1, 1])


def _pointwise(layer: nn.Conv2D, native: Native, x: paddle.Tensor) -> paddle.Tensor:
    compiled = layer.training and _is_float32_on_cpu(x, layer.weight) and pays(x, layer.weight)
    return pointwise_conv2d(x, layer.weight) if compiled else native(x)


def _norm(
    layer: nn.BatchNorm2D, native: Native, x: paddle.Tensor, factor: paddle.Tensor | None = None
) -> paddle.Tensor:
    # On large maps Paddle's own is as fast where no activation follows.
    if can_be_compiled(layer, x) and (is_small(x) or factor is not None):
        return batch_norm(layer, x, NO_LIMITS, factor)
    return native(x) if factor is None else native(x, factor)


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
