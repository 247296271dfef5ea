"""A choice between blocks in one place of a network, which a search learns: differentiable by one row of alphas.

With p = softmax(alphas), the network's place computes

    soft      sum over the candidates of p[k] * block k (x)
    single    block k (x) of one candidate, drawn with the probabilities p

A candidate of None leaves the block out: it returns x.

A draw is made by the Gumbel maximum: k is the largest of log p + g, where g are Gumbel numbers. Its gradient is that of
y = softmax(log p + g), straight through: what the candidate computes is multiplied by 1 + y[k] - detach(y[k]), which is
1 to the bit. Beside a shortcut only the branch is: the candidates share the shortcut, and the sum of y is always 1, so
x would add nothing to the gradient but noise.
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
        branch = block.conv(x)
        if self.training and not self.alphas.stop_gradient:
            y = F.softmax(F.log_softmax(self.alphas) + paddle.to_tensor(self._noise))[self.drawn]
            branch = branch * (1 + (y - y.detach()))
        return block.join(branch, x)

    def _mixture(self, x: paddle.Tensor, weights: paddle.Tensor) -> paddle.Tensor:
        outputs = []
        for weight, name in zip(weights.unbind(), self.names, strict=True):
            block = getattr(self, name, None)
            outputs.append(weight * (x if block is None else block(x)))
        return paddle.add_n(outputs)
