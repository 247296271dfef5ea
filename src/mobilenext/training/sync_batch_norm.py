"""Batch norm whose statistics are those of the whole batch, over all processes.

Paddle's own works on GPUs only; this one is made of sums that are added over the processes, and works wherever they
can be. With it, N processes compute what one process computes on the whole batch.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import paddle
import paddle.distributed
from paddle import nn
from paddle.autograd import PyLayer


class _AllReduce(PyLayer):  # type: ignore[misc]
    """The sum over the processes; its gradient is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor) -> paddle.Tensor:
        total = x.clone()
        paddle.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: paddle.Tensor) -> paddle.Tensor:
        total = gradient.reshape([-1]).clone()
        paddle.distributed.all_reduce(total)
        return total.reshape(gradient.shape)


def synchronize(network: nn.Layer) -> int:
    """Let every batch norm of `network` that is not frozen use the statistics of all processes in training.

    Returns:
        How many there are.
    """
    layers = [layer for layer in network.sublayers() if isinstance(layer, nn.BatchNorm2D)]
    layers = [layer for layer in layers if not layer._use_global_stats]
    for layer in layers:
        layer.forward = partial(_forward, layer, layer.forward)
    return len(layers)


def _forward(
    layer: nn.BatchNorm2D, native: Any, x: paddle.Tensor, factor: paddle.Tensor | None = None
) -> paddle.Tensor:
    """Return x [N, C, H, W] normalized by the mean and variance of all processes' images.

    `factor` is a number that the result is multiplied by, as the batch norms of a super-network do.
    """
    if not layer.training:
        return native(x) if factor is None else native(x, factor)
    dtype, x = x.dtype, x.astype("float32")  # in mixed precision the statistics stay exact
    channels, world = x.shape[1], paddle.distributed.get_world_size()
    shape = [1, channels, 1, 1]
    # Each process sends its count, mean and sum of squared deviations: a row of a matrix that is zero elsewhere. Added
    # up over the processes, it has all rows. E[x^2] - E[x]^2 would need less, but loses a small variance in rounding.
    mean = x.mean([0, 2, 3])
    deviations = x - mean.reshape(shape)
    own = paddle.concat([paddle.full([1], x.size // channels, "float32"), mean, (deviations**2).sum([0, 2, 3])])
    rows = [own if rank == paddle.distributed.get_rank() else paddle.zeros_like(own) for rank in range(world)]
    of_all = _AllReduce.apply(paddle.stack(rows))  # [world, 1 + 2 C]
    counts, means, squares = of_all[:, :1].detach(), of_all[:, 1 : channels + 1], of_all[:, channels + 1 :]
    # The mean of all is that of the means, weighted by counts. The squares around it are those around each process' own
    # mean, and count times the squared distance of that mean (Chan et al. 1979).
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    variance = (squares + counts * (means - mean) ** 2).sum(0) / total
    # Paddle's momentum is the share of the old statistics; its running variance is the biased one, over N, not N - 1.
    with paddle.no_grad():
        kept = layer._momentum
        layer._mean.set_value(kept * layer._mean + (1 - kept) * mean.detach())
        layer._variance.set_value(kept * layer._variance + (1 - kept) * variance.detach())
    scale, bias = layer.weight * (variance + layer._epsilon).rsqrt(), layer.bias
    if factor is not None:
        scale, bias = scale * factor, bias * factor
    return ((x - mean.reshape(shape)) * scale.reshape(shape) + bias.reshape(shape)).astype(dtype)
