"""A choice between blocks in one place of a network, which a search learns: differentiable by one row of alphas.

In training a place computes block k (x) of one candidate k, which is drawn with the probabilities p = softmax(alphas).
A candidate of None leaves the block out: it returns x.

A draw is made by the Gumbel maximum: k is the largest of log p + g, where g are Gumbel numbers. Its gradient is that of
y = softmax(log p + g), straight through: what candidate j computes is multiplied by

    1 + y[j] - detach(y[j])    of the one that was drawn: 1 to the bit
    0 + y[j] - detach(y[j])    of the others: 0 to the bit

Beside a shortcut only the branch is, and the others need not be run: the factor says how much of a branch the network
wants. Where there is no shortcut a factor says nothing, since the batch norms behind it take it out again. There all
candidates are run, and what moves the alphas is how they differ.

A branch ends with a batch norm: its weight and bias are what is multiplied, so that neither the product nor its
gradient takes a pass over the map.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import paddle
import paddle.nn.functional as F
from paddle import nn

from mobilenext.models.network import Block


class Choice(nn.Layer):  # type: ignore[misc]
    """Candidates for one place: [N, C, H, W] to what all of them return.

    In evaluation mode it runs the candidate with the largest alpha, the first of equal ones.

    Args:
        candidates: by name. Where one of them is None, the others have shortcuts and keep channels and size.
    """

    chosen: int | None = None  # the candidate that evaluation runs; None: that of the largest alpha

    def __init__(self, candidates: Mapping[str, Block | None]) -> None:
        super().__init__()
        self.names = tuple(candidates)
        for name, block in candidates.items():
            if block is not None:
                self.add_sublayer(name, block)
        self.alphas = self.create_parameter([len(candidates)], default_initializer=nn.initializer.Constant(0.0))
        self.drawn = 0  # the candidate that training runs
        self._noise = np.zeros(len(candidates), np.float32)
        self._shortcut = None in candidates.values()

    def block(self, index: int) -> Block | None:
        """Return a candidate by its position."""
        return getattr(self, self.names[index], None)

    def blocks(self) -> list[tuple[str, Block]]:
        """Return the candidates that are blocks, with their names."""
        return [(name, block) for name, block in self.named_children() if isinstance(block, Block)]

    def set_drop_connect(self, rate: float) -> None:
        """Set the probability that a branch beside a shortcut is dropped in training."""
        for _, block in self.blocks():
            block.drop_connect_rate = rate

    def draw(self, noise: npt.NDArray[np.float32]) -> None:
        """Draw the candidate that the next pass in training mode runs, by a Gumbel number for each [K]."""
        self._noise = noise
        self.drawn = int(np.argmax(self.alphas.numpy() + noise))  # log p is alphas less one number

    def best(self) -> int:
        """Return the candidate that evaluation runs."""
        return int(np.argmax(self.alphas.numpy())) if self.chosen is None else self.chosen

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        index = self.drawn if self.training else self.best()
        block = self.block(index)
        if block is None:
            return x
        if not self.training or self.alphas.stop_gradient:
            return block(x)
        y = F.softmax(self.alphas + paddle.to_tensor(self._noise))  # log p is alphas less one number
        straight = y - y.detach()
        if self._shortcut:
            return block.join(_branch(block, x, 1 + straight[index]), x)
        factors = straight + paddle.to_tensor(np.eye(len(self.names))[index], straight.dtype)
        return paddle.add_n([_branch(other, x, factors[place]) for place, (_, other) in enumerate(self.blocks())])


def _branch(block: Block, x: paddle.Tensor, factor: paddle.Tensor) -> paddle.Tensor:
    """Return what a block computes beside its shortcut, times a number."""
    # In training on a CPU some layers are done in one step.
    *steps, norm = vars(block.conv).get("steps", block.conv)
    for step in steps:
        x = step(x)
    return _normalized(norm, x, factor)


def _normalized(norm: nn.BatchNorm2D, x: paddle.Tensor, factor: paddle.Tensor) -> paddle.Tensor:
    """Return the batch norm of x [N, C, H, W] times a number."""
    # In training it may be replaced: by one that sums over processes, or by compiled loops.
    if norm.training and "forward" in vars(norm):
        return norm(x, factor)
    return scaled_batch_norm(norm, x, factor)


def scaled_batch_norm(norm: nn.BatchNorm2D, x: paddle.Tensor, factor: paddle.Tensor) -> paddle.Tensor:
    """Return the batch norm of x [N, C, H, W] times a number, by Paddle's own operator."""
    return F.batch_norm(
        x, norm._mean, norm._variance, norm.weight * factor, norm.bias * factor, training=norm.training,
        momentum=norm._momentum, epsilon=norm._epsilon, use_global_stats=norm._use_global_stats,
    )  # fmt: skip
