"""Batch norms merged into the convolutions before them: the same function with half of the layers."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from mobilenext.models.cell_operators import FactorizedReduce


def fold_batch_norms(network: nn.Layer) -> int:
    """Merge every batch norm of `network` (evaluation mode), in place, into the convolution whose output it takes.

    That of a `FactorizedReduce` takes two, one after the other.

        gamma (w * x + b - mean) / sqrt(var + epsilon) + beta  =  (s w) * x + (b - mean) s + beta,
        s = gamma / sqrt(var + epsilon)

    The sums are computed in float64 and rounded once.

    Returns:
        The number of merged batch norms. One that no tensor passes stays.
    """
    pairs = _pairs(network)
    for convolutions, norm, parent, name in pairs:
        end = 0
        for convolution in convolutions:
            begin, end = end, end + len(convolution.weight)
            _merge(convolution, norm, slice(begin, end))
        setattr(parent, name, nn.Identity())
    return len(pairs)


def _merge(convolution: nn.Conv2D, norm: nn.BatchNorm2D, own: slice) -> None:
    """Let the convolution compute what `norm` makes of its output, whose channels are the `own` ones there."""
    gamma, variance, mean, beta = (
        _float64(tensor)[own] for tensor in (norm.weight, norm._variance, norm._mean, norm.bias)
    )
    scale = gamma / np.sqrt(variance + norm._epsilon)  # [out]
    bias = _float64(convolution.bias) if convolution.bias is not None else 0.0
    shift = (bias - mean) * scale + beta  # [out]
    weight = _float64(convolution.weight) * scale[:, None, None, None]  # [out, in / groups, k, k]
    dtype = convolution.weight.dtype
    convolution.weight.set_value(paddle.to_tensor(weight).astype(dtype))
    convolution.bias = convolution.create_parameter([len(shift)], dtype=str(dtype).split(".")[-1], is_bias=True)
    convolution.bias.set_value(paddle.to_tensor(shift).astype(dtype))


def _pairs(network: nn.Layer) -> list[tuple[list[nn.Conv2D], nn.BatchNorm2D, nn.Layer, str]]:
    """Return the convolutions before each batch norm, the batch norm, and its parent and name there.

    They are found by running an image through the network.
    """
    outputs: dict[int, tuple[nn.Conv2D, paddle.Tensor]] = {}  # the tensors are kept, or their ids would be reused
    pairs: list[tuple[list[nn.Conv2D], nn.BatchNorm2D, nn.Layer, str]] = []
    handles = []
    for parent in network.sublayers(include_self=True):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Conv2D):

                def remember(layer: nn.Layer, inputs: object, output: paddle.Tensor) -> None:
                    outputs[id(output)] = (layer, output)

                handles.append(layer.register_forward_post_hook(remember))
            elif isinstance(layer, nn.BatchNorm2D):

                def pair(
                    layer: nn.Layer, inputs: tuple[paddle.Tensor], parent: nn.Layer = parent, name: str = name
                ) -> None:
                    if id(inputs[0]) in outputs:
                        pairs.append(([outputs[id(inputs[0])][0]], layer, parent, name))
                    elif isinstance(parent, FactorizedReduce):
                        pairs.append(([parent.conv_1, parent.conv_2], layer, parent, name))

                handles.append(layer.register_forward_pre_hook(pair))
    size = getattr(network, "input_size", None) or 32
    with paddle.no_grad():
        network(paddle.zeros([1, 3, size, size], dtype=next(iter(network.parameters())).dtype))
    for handle in handles:
        handle.remove()
    return pairs


def _float64(tensor: paddle.Tensor) -> np.ndarray:
    return np.asarray(tensor.numpy(), np.float64)
