"""The base of all networks: rounding rules, initialization, blocks, feature maps and taps."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import paddle
from paddle import nn

from mobilenext.errors import UsageError


def make_divisible(value: float, divisor: int) -> int:
    """Return the multiple of `divisor` nearest to `value`, at least `divisor` and never below 90 % of `value`."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def conv_normal(channels: int, kernel_size: int) -> nn.initializer.Normal:
    """Return He's initializer by fan-out, N(0, 2 / (k * k * out_channels)), also for depthwise convolutions.

    The authors do not divide the fan by the groups (``mnext.py``); neither do we.
    """
    return nn.initializer.Normal(0.0, math.sqrt(2.0 / (kernel_size * kernel_size * channels)))


def classifier_linear(in_features: int, num_classes: int) -> nn.Linear:
    """Build the last layer: weights N(0, 0.01), zero bias. Paddle stores the weight as [in_features, num_classes]."""
    weight = paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, 0.01))
    return nn.Linear(in_features, num_classes, weight_attr=weight)


def drop_connect(x: paddle.Tensor, rate: float, training: bool) -> paddle.Tensor:
    """Zero whole samples of `x` [N, C, H, W] with probability `rate` and scale the others up (stochastic depth)."""
    if not training or rate == 0.0:
        return x
    keep = paddle.floor(1.0 - rate + paddle.rand([x.shape[0], 1, 1, 1], dtype=x.dtype))
    return x / (1.0 - rate) * keep


class Feature(NamedTuple):
    """One map of the feature pyramid."""

    block: int  # index into the network's blocks() whose output this is
    channels: int
    stride: int  # of the input, in pixels


class Tap(NamedTuple):
    """A tensor to take out of a network: the output of a block, or a tensor inside it."""

    block: int  # index into the network's blocks()
    layers: int | None  # layers of the block's ``conv`` that come before the tensor; None: the output of the block
    channels: int
    stride: int  # of the input, in pixels


class Block(nn.Layer):  # type: ignore[misc]
    """A block that is a sequence of layers and perhaps a shortcut: what a :class:`Tap` can look into."""

    conv: nn.Sequential
    drop_connect_rate = 0.0

    def join(self, branch: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
        """Return the output of the block: the output of ``conv`` and, where there is a shortcut, the block's input."""
        raise NotImplementedError

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """[N, in_channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        return self.join(self.conv(x), x)

    def forward_with(self, x: paddle.Tensor, counts: Collection[int]) -> tuple[paddle.Tensor, dict[int, paddle.Tensor]]:
        """Return the output of the block, and the tensor after the first n layers of ``conv`` for each n in `counts`.

        Raises:
            UsageError: a count that ``conv`` does not have.
        """
        if outside := sorted(set(counts) - set(range(1, len(self.conv) + 1))):
            raise UsageError(f"a tap after {outside[0]} layers; the block has {len(self.conv)}")
        branch, tensors = x, {}
        for index, layer in enumerate(self.conv):  # without `start`, which Paddle's static graphs cannot take
            branch = layer(branch)
            if index + 1 in counts:
                tensors[index + 1] = branch
        return self.join(branch, x), tensors


def map_of(handed_on: paddle.Tensor | tuple[paddle.Tensor, ...]) -> paddle.Tensor:
    """Return the map [N, C, H, W] of what a block hands on: that itself, or the first of a tuple.

    Blocks with a shortcut between their thin tensors hand on two tensors (models/variants.py).
    """
    return handed_on[0] if isinstance(handed_on, tuple) else handed_on


class Network(nn.Layer):  # type: ignore[misc]
    """A classifier that is a stem, a sequence of named blocks, a global average pool and a linear layer.

    With :meth:`keep_features_only` it loses its head and returns a feature pyramid, with :meth:`keep_pooled_only` the
    pooled vector of the last map; names stay as they are, so that the same weights fit. :meth:`maps` returns any maps.
    """

    outputs: tuple[str, ...] = ("logits",)  # the names, in exported graphs, of what `forward` returns
    # Operators on shapes, such as Reshape, that its exported ONNX graph needs; without them no other may be left in it.
    shape_operators: frozenset[str] = frozenset()
    num_classes: int
    # The last map at each of the strides 4, 8, 16 and 32; empty where a network does not have them all.
    features_info: tuple[Feature, ...] = ()
    head_layers: tuple[str, ...]  # the names of what is no backbone; a classifier's head can be removed
    training_layers: tuple[str, ...] = ()  # the names of what only training uses: it is not stored with the weights
    input_size: int | None = None  # pixels, the side of the square images; None: images of any size
    features_only = False
    pooled_only = False

    def pooled(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return the mean of each map: [N, C, H, W] to [N, C]."""
        # The same number; this gradient Paddle computes several times as fast. Exported graphs keep their one operator.
        return x.flatten(2).mean(axis=-1) if self.training else x.mean(axis=[2, 3])

    def stem(self, x: paddle.Tensor) -> paddle.Tensor:
        """Run what comes before the first of the blocks()."""
        return x

    def blocks(self) -> list[tuple[str, nn.Layer]]:
        """Return every block in order, with the name that the original network gives it."""
        raise NotImplementedError

    def head(self, x: paddle.Tensor) -> paddle.Tensor:
        """Turn the last feature map [N, C, h, w] into logits [N, num_classes]."""
        raise NotImplementedError

    # No branch depends on values: a static graph records the calls, and the source is not parsed.
    @paddle.jit.not_to_static  # type: ignore[untyped-decorator]
    def forward(self, x: paddle.Tensor) -> paddle.Tensor | list[paddle.Tensor]:
        """Turn normalized images [N, 3, H, W], H and W free, into logits [N, num_classes], into the four feature maps
        or into the pooled vector [N, C]."""
        if self.features_only:
            return self.maps(x, [Tap(block, None, channels, stride) for block, channels, stride in self.features_info])
        x = self.forward_features(x)
        return self.pooled(x) if self.pooled_only else self.head(x)

    def forward_features(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return the last feature map [N, C, h, w], in front of the pooling, of normalized images [N, 3, H, W]."""
        x = self.stem(x)
        for _, block in self.blocks():
            x = block(x)
        return map_of(x)

    def maps(self, x: paddle.Tensor, taps: Sequence[Tap]) -> list[paddle.Tensor]:
        """Return the tensor [N, channels, H / stride, W / stride] of each tap, in the order of `taps`.

        Blocks after the last tap are not run.

        Args:
            x: normalized images [N, 3, H, W].
            taps: of this network; a tap inside a block needs a :class:`Block` there.

        Raises:
            UsageError: a tap inside a block of another kind, or after layers that the block does not have.
        """
        tensors: dict[tuple[int, int | None], paddle.Tensor] = {}
        x = self.stem(x)
        for index, (name, block) in enumerate(self.blocks()[: max(tap.block for tap in taps) + 1]):
            counts = [tap.layers for tap in taps if tap.block == index and tap.layers is not None]
            if not counts:
                x = block(x)
            elif isinstance(block, Block):
                x, inside = block.forward_with(x, counts)
                tensors |= {(index, count): tensor for count, tensor in inside.items()}
            else:
                raise UsageError(f"a tap inside {name}, a {type(block).__name__}; expected the output of the block")
            tensors[index, None] = map_of(x)
        return [tensors[tap.block, tap.layers] for tap in taps]

    @property
    def class_layers(self) -> tuple[str, ...]:
        """Return the names of the layers whose every value belongs to one class."""
        return self.head_layers[-1:]

    def set_drop_connect(self, rate: float) -> None:
        """Set the probability that the branch beside a shortcut is dropped in training: it grows linearly with depth,
        from 0 to just below `rate`."""
        blocks = self.blocks()
        for index, (_, block) in enumerate(blocks):
            block.drop_connect_rate = rate * index / len(blocks)

    def keep_features_only(self) -> None:
        """Remove the head: from now on :meth:`forward` returns the maps that ``features_info`` describes.

        Raises:
            UsageError: the network has no map at one of the strides 4, 8, 16 and 32.
        """
        if not self.features_info:
            raise UsageError("this network has no maps at the strides 4, 8, 16 and 32; take others with `maps`")
        self.remove_head()
        self.features_only = True

    def keep_pooled_only(self) -> None:
        """Remove the head: from now on :meth:`forward` returns the mean of each channel of the last map."""
        self.remove_head()
        self.pooled_only, self.num_classes = True, 0

    def remove_head(self) -> None:
        """Remove the layers that turn the last map into logits."""
        for name in self.head_layers:
            delattr(self, name)


def last_map_at_each_stride(channels_and_strides: list[tuple[int, int]]) -> tuple[Feature, ...]:
    """Return the last block at each of the strides 4, 8, 16 and 32, or nothing where one of them is missing.

    Args:
        channels_and_strides: of the output of every block; the stride is that of the input image.
    """
    last = {stride: Feature(index, channels, stride) for index, (channels, stride) in enumerate(channels_and_strides)}
    pyramid = (4, 8, 16, 32)
    return tuple(last[stride] for stride in pyramid) if last.keys() >= set(pyramid) else ()
