"""MobileNetV2, the baseline whose block the paper turns round (Sandler et al., CVPR 2018, arXiv 1801.04381).

The layout, the channel rounding and the parameter names are torchvision's, so that its checkpoints convert by name.
"""

from __future__ import annotations

from collections.abc import Callable

import paddle
from paddle import nn

from mobilenext.models.network import (
    Block,
    Network,
    classifier_linear,
    drop_connect,
    last_map_at_each_stride,
    make_divisible,
)
from mobilenext.models.sandglass import conv_bn, depthwise, pointwise

# One row a stage: expansion t, output channels, repeats, stride of the first block (MobileNetV2, table 2).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(Block):
    """1x1 widen by t, 3x3 depthwise, 1x1 narrow (linear); shortcut between the thin ends when the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(*self.layers(in_channels, out_channels, stride, expansion))
        self.shortcut = stride == 1 and in_channels == out_channels

    def layers(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> list[nn.Layer]:
        """Build the layers of the branch in order; variants of the block have others."""
        hidden = in_channels * expansion
        layers: list[nn.Layer] = []
        if expansion != 1:
            layers.append(nn.Sequential(*pointwise(in_channels, hidden), nn.ReLU6()))
        layers.append(nn.Sequential(*depthwise(hidden, stride), nn.ReLU6()))
        return [*layers, *pointwise(hidden, out_channels)]

    def join(self, branch: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
        return x + drop_connect(branch, self.drop_connect_rate, self.training) if self.shortcut else branch


class MobileNetV2(Network):
    """MobileNetV2 of any width: a stem, 17 inverted residuals, a 1x1 head to at least 1280 channels, a classifier.

    Args:
        width: multiplier of the published channels.
        num_classes: outputs of the classifier.
        block: builds a block from its input and output channels, its stride and its expansion.
    """

    head_layers = ("classifier",)

    def __init__(
        self,
        width: float = 1.0,
        num_classes: int = 1000,
        block: Callable[[int, int, int, int], nn.Layer] = InvertedResidual,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        channels = make_divisible(32 * width, 8)
        layers: list[nn.Layer] = [nn.Sequential(*conv_bn(3, channels, 3, stride=2), nn.ReLU6())]
        shapes, total_stride = [(channels, 2)], 2
        for expansion, base_channels, repeats, stage_stride in STAGES:
            out_channels = make_divisible(base_channels * width, 8)
            for stride in (stage_stride, *[1] * (repeats - 1)):
                layers.append(block(channels, out_channels, stride, expansion))
                channels, total_stride = out_channels, total_stride * stride
                shapes.append((channels, total_stride))
        head = make_divisible(1280 * max(1.0, width), 8)
        layers.append(nn.Sequential(*pointwise(channels, head), nn.ReLU6()))
        shapes.append((head, total_stride))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), classifier_linear(head, num_classes))
        self.features_info = last_map_at_each_stride(shapes)

    def blocks(self) -> list[tuple[str, nn.Layer]]:
        return [(f"features.{index}", block) for index, block in enumerate(self.features)]

    def head(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.classifier(self.pooled(x))
