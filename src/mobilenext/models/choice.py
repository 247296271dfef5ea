"""A choice between blocks in one place of a network, which a search learns: differentiable by one row of alphas.

With p = softmax(alphas), the network's place computes

    soft      sum over the candidates of p[k] * block k (x)
    single    block k (x) of one candidate, drawn with the probabilities p

A candidate of None leaves the block out: it returns x.

A draw is made by the Gumbel maximum: k is the largest of log p + g, where g are Gumbel numbers. Its gradient is that of
y = softmax(log p + g), straight through: what the candidate computes is multiplied by 1 + y[k] - detach(y[k]), which is
1 to the bit. Beside a shortcut only the branch is: the candidates share the shortcut, and the sum of y is always 1, so
x would add nothing to the gradient but noise. A branch ends with a batch norm: its weight and bias are what is
multiplied, so that neither the product nor its gradient takes a pass over the map.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import paddle
import paddle.nn.functional as F
from paddle import nn

from mobilenext.models.network import Block

MODES = ("soft", "single")


class Choice(nn.Layer):  # type: ignore[misc]
    """Candidates for one place: [N, C, H, W] to what all of them return.

    In evaluation mode ``single`` runs the candidate with the largest alpha, the first of equal ones.

    Args:
        candidates: by name. Where one of them is None, the others have shortcuts and keep channels and size.
    """

    mode = "soft"

    def __init__(self, candidates: Mapping[str, Block | None]) -> None:
        super().__init__()
        self.names = tuple(candidates)
        for name, block in candidates.items():
            if block is not None:
                self.add_sublayer(name, block)
        self.alphas = self.create_parameter([len(candidates)], default_initializer=nn.initializer.Constant(0.0))
        self.drawn = 0  # the candidate that ``single`` runs in training mode
        self._noise = np.zeros(len(candidates), np.float32)

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
        """Return the candidate with the largest alpha, the first of equal ones."""
        return int(np.argmax(self.alphas.numpy()))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.mode == "soft":
            return self._mixture(x, F.softmax(self.alphas))
        block = self.block(self.drawn if self.training else self.best())
        if block is None:
            return x
        if not self.training or self.alphas.stop_gradient:
            return block(x)
        y = F.softmax(self.alphas + paddle.to_tensor(self._noise))[self.drawn]  # log p is alphas less one number
        *layers, norm = block.conv
        branch = x
        for layer in layers:
            branch = layer(branch)
        return block.join(_normalized(norm, branch, 1 + (y - y.detach())), x)

    def _mixture(self, x: paddle.Tensor, weights: paddle.Tensor) -> paddle.Tensor:
        outputs = []
        for weight, name in zip(weights.unbind(), self.names, strict=True):
            block = getattr(self, name, None)
            outputs.append(weight * (x if block is None else block(x)))
        return paddle.add_n(outputs)


def _normalized(norm: nn.BatchNorm2D, x: paddle.Tensor, factor: paddle.Tensor) -> paddle.Tensor:
    """Return the batch norm of x [N, C, H, W] times a number."""
    if norm.training and "forward" in vars(
        norm
    ):  # in a run of several processes it is replaced by one that sums over them
        return norm(x, factor)
    return F.batch_norm(
        x, norm._mean, norm._variance, norm.weight * factor, norm.bias * factor, training=norm.training,
        momentum=norm._momentum, epsilon=norm._epsilon, use_global_stats=norm._use_global_stats,
    )  # fmt: skip
