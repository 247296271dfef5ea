"""What all the networks here are made of: rounding rules, initialisation and the feature-map interface."""

from __future__ import annotations

import math
from typing import NamedTuple

import paddle
from paddle import nn


def make_divisible(value: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `value`, at least `divisor` and never below 90 % of `value`."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def conv_normal(channels: int, kernel_size: int) -> nn.initializer.Normal:
    """He initialisation by fan-out, N(0, 2 / (k * k * out_channels)), also for depthwise convolutions.

    The authors do not divide the fan by the groups (``mnext.py``); neither do we.
    """
    return nn.initializer.Normal(0.0, math.sqrt(2.0 / (kernel_size * kernel_size * channels)))


def classifier_linear(in_features: int, num_classes: int) -> nn.Linear:
    """The last layer: weights N(0, 0.01), zero bias. Paddle stores the weight as [in_features, num_classes]."""
    weight = paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, 0.01))
    return nn.Linear(in_features, num_classes, weight_attr=weight)


def drop_connect(x: paddle.Tensor, rate: float, training: bool) -> paddle.Tensor:
    """Stochastic depth: zero whole samples of `x` [N, C, H, W] with probability `rate`, scale the others up."""
    if not training or rate == 0.0:
        return x
    keep = paddle.floor(1.0 - rate + paddle.rand([x.shape[0], 1, 1, 1], dtype=x.dtype))
    return x / (1.0 - rate) * keep


class Feature(NamedTuple):
    """One map of the feature pyramid."""

    block: int  # index into the network's blocks() whose output this is
    channels: int
    stride: int  # of the input, in pixels


class Network(nn.Layer):  # type: ignore[misc]
    """A classifier that is a stem, a sequence of named blocks, a global average pool and a linear layer.

    With :meth:`keep_features_only` it loses its head and returns a feature pyramid, with :meth:`keep_pooled_only` the
    pooled vector of the last map; names stay as they are, so that the same weights fit.
    """

    outputs: tuple[str, ...] = ("logits",)  # the names, in exported graphs, of what `forward` returns
    num_classes: int
    features_info: tuple[Feature, ...]  # the last map at each of the strides 4, 8, 16 and 32
    head_layers: tuple[str, ...]  # the attributes that keep_features_only removes
    features_only = False
    pooled_only = False

    def stem(self, x: paddle.Tensor) -> paddle.Tensor:
        """What comes before the first of the blocks()."""
        return x

    def blocks(self) -> list[tuple[str, nn.Layer]]:
        """Every block in order, with the name that the original network gives it."""
        raise NotImplementedError

    def head(self, x: paddle.Tensor) -> paddle.Tensor:
        """From the last feature map [N, C, h, w] to logits [N, num_classes]."""
        raise NotImplementedError

    def forward(self, x: paddle.Tensor) -> paddle.Tensor | list[paddle.Tensor]:
        """Normalised images [N, 3, H, W], H and W free, to logits [N, num_classes], to the four feature maps or to the
        pooled vector [N, C]."""
        x = self.stem(x)
        wanted = [feature.block for feature in self.features_info]
        maps = []
        for index, (_, block) in enumerate(self.blocks()):
            x = block(x)
            if index in wanted:
                maps.append(x)  # [N, channels, H / stride, W / stride] of features_info
        if self.features_only:
            return maps
        return x.mean(axis=[2, 3]) if self.pooled_only else self.head(x)

    def forward_features(self, x: paddle.Tensor) -> paddle.Tensor:
        """Normalised images [N, 3, H, W] to the last feature map [N, C, H / 32, W / 32], in front of the pooling."""
        x = self.stem(x)
        for _, block in self.blocks():
            x = block(x)
        return x

    def set_drop_connect(self, rate: float) -> None:
        """From now on, in training, the branch beside a shortcut is dropped with a probability that grows linearly
        with depth, from 0 to just below `rate`."""
        blocks = self.blocks()
        for index, (_, block) in enumerate(blocks):
            block.drop_connect_rate = rate * index / len(blocks)

    def keep_features_only(self) -> None:
        """Remove the head: from now on :meth:`forward` returns the maps that ``features_info`` describes."""
        self._remove_head()
        self.features_only = True

    def keep_pooled_only(self) -> None:
        """Remove the head: from now on :meth:`forward` returns the mean of each channel of the last map."""
        self._remove_head()
        self.pooled_only, self.num_classes = True, 0

    def _remove_head(self) -> None:
        for name in self.head_layers:
            delattr(self, name)


def last_map_at_each_stride(channels_and_strides: list[tuple[int, int]]) -> tuple[Feature, ...]:
    """From (channels, total stride) after every block to the last block at each of the strides 4, 8, 16, 32."""
    last = {stride: (index, channels) for index, (channels, stride) in enumerate(channels_and_strides)}
    return tuple(Feature(last[stride][0], last[stride][1], stride) for stride in (4, 8, 16, 32))
