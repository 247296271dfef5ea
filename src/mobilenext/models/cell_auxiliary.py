"""The auxiliary head of networks of cells: a second classifier on an earlier map, which only training uses."""

from __future__ import annotations

import math

import paddle
from paddle import nn

from mobilenext.models.cell_operators import conv, linear

POOL_STRIDE = {"cifar": 3, "imagenet": 2}
# The smallest side of a map that the auxiliary head takes: the pool (window 5) has to leave 2 x 2.
AUXILIARY_SIDE = {form: 5 + stride for form, stride in POOL_STRIDE.items()}
SIDE_RATIO = {"cifar": 4, "imagenet": 32}  # of an image to that map


def auxiliary_side(form: str, image_size: int) -> int:
    """Return the side of the map that the auxiliary head sees, of square images."""
    return -(-image_size // SIDE_RATIO[form])


def auxiliary_fits(form: str, image_size: int) -> bool:
    """Return whether the auxiliary head has room: 8 x 8 in the form cifar, 7 x 7 (of 224 pixels) in imagenet."""
    return auxiliary_side(form, image_size) >= AUXILIARY_SIDE[form]


class AuxiliaryHead(nn.Layer):  # type: ignore[misc]
    """A second classifier, on the map after the last reduction: [N, C, h, w] to [N, num_classes]; for training only."""

    def __init__(self, channels: int, num_classes: int, form: str) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2D(5, stride=POOL_STRIDE[form], padding=0),
            conv(channels, 128, 1),
            nn.BatchNorm2D(128),
            nn.ReLU(),
            conv_2x2(128, 768),
            # The authors' network for ImageNet was trained without this batch norm.
            *([nn.BatchNorm2D(768)] if form == "cifar" else []),
            nn.ReLU(),
        )
        self.classifier = linear(768, num_classes)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        # At the published sizes a single pixel is left; of a larger image there are more.
        return self.classifier(self.features(x).mean(axis=[2, 3]))


def conv_2x2(in_channels: int, out_channels: int) -> nn.Conv2D:
    """Build a 2x2 convolution without bias and padding."""
    bound = 1 / math.sqrt(in_channels * 4)
    weight = paddle.ParamAttr(initializer=nn.initializer.Uniform(-bound, bound))
    return nn.Conv2D(in_channels, out_channels, 2, weight_attr=weight, bias_attr=False)


def too_small(form: str, side: int) -> str:
    """Return the sentence that says why the head is left out."""
    needed = AUXILIARY_SIDE[form]
    return (
        f"the auxiliary head is left out: its map has {side} x {side} pixels, and it needs {needed} x {needed} "
        f"(images from {(needed - 1) * SIDE_RATIO[form] + 1} pixels in the form {form})"
    )
