"""Variants of the sandglass block: what the paper changes to show which of its parts matter.

Of five, code was published without a name in the paper (github.com/yitu-opensource/MobileNeXt at 10f7805); tests
compare them with outputs of that code. All have the stages and the hidden widths of MobileNeXt, a batch norm after each
convolution, and the parameter names of their authors:

    rm_3x3           i2rnetv3_rm_3x3: no first depthwise convolution in blocks that keep the size of the map
    more_1x1         i2rnetv3_more_1x1: one more linear 1x1, hidden to hidden, between the two (not in the first block)
    se_hidden        i2rnetv4: squeeze-and-excitation of the hidden tensor
    thin_shortcut    i2rnetv5: the shortcut joins hidden tensors, not wide ones
    two_depthwise    i2rnetv6: two depthwise convolutions of the hidden tensor, none of the wide ones

Two others are in the paper's figure of block structures, and in no code. They are built here, and their sizes are ours:

    classic_bottleneck   the bottleneck of ResNet with a depthwise 3x3: `two_depthwise` with one of the two. All else is
                         equal, so that the difference between them is the second convolution
    thin_depthwise       the inverted residual of MobileNetV2, with its stages and widths, and its depthwise convolution
                         moved from the wide middle to the two thin ends, as in a sandglass block:

        [N, M, H, W] -> dw 3x3, BN                thin, linear
                     -> pw 1x1, BN, ReLU6         t M channels, the only wide tensor and the only activation
                     -> pw 1x1, BN                N channels
                     -> dw 3x3 / stride, BN       thin, linear
                     (+ the input, when M == N and the stride is 1)

        The first block, which does not widen (t = 1), stays that of MobileNetV2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import paddle
import paddle.nn.functional as F
from paddle import nn

from mobilenext.models.block_plan import BlockPlan
from mobilenext.models.inverted_residual import InvertedResidual, MobileNetV2
from mobilenext.models.network import Network, drop_connect
from mobilenext.models.sandglass import (
    MobileNeXt,
    Sandglass,
    add_to_first,
    depthwise,
    narrowing,
    plan_blocks,
    pointwise,
    widening,
)


def build_variant(variant: str, width: float = 1.0, num_classes: int = 1000) -> Network:
    """Build a freshly initialized network of a variant, one of VARIANTS."""
    return VARIANTS[variant](width, num_classes)


def _of_first_stage(plan: BlockPlan) -> bool:
    """Return whether this is the first block, the only one that halves the map with both depthwise convolutions."""
    return plan.first_depthwise and plan.stride == 2


def _without_first_depthwise(width: float, num_classes: int) -> Network:
    blocks = (
        block if _of_first_stage(block) else replace(block, first_depthwise=False) for block in plan_blocks(width)
    )
    return MobileNeXt(num_classes=num_classes, plan=tuple(blocks))


class MorePointwise(Sandglass):
    """A sandglass block with one more 1x1 between hidden tensors, except in the first stage."""

    def layers(self, plan: BlockPlan) -> list[nn.Layer]:
        hidden = plan.hidden_channels
        extra = () if _of_first_stage(plan) else pointwise(hidden, hidden)
        return [*narrowing(plan), *extra, *widening(plan)]


class SqueezeExcite(nn.Layer):  # type: ignore[misc]
    """A factor from 0 to 1 for each channel, from the means of all: [N, C, H, W] to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The first and the last of the authors' list are the mean and the hard sigmoid, which have no parameters.
        self.fc = nn.Sequential(
            nn.Identity(), *pointwise(channels, channels), nn.ReLU(), *pointwise(channels, channels)
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        factors = self.fc(x.mean(axis=[2, 3], keepdim=True))  # [N, C, 1, 1]
        return x * (F.relu6(factors + 3.0) / 6.0)  # hard sigmoid


class SqueezedSandglass(Sandglass):
    """A sandglass block with squeeze-and-excitation of its hidden tensor."""

    def layers(self, plan: BlockPlan) -> list[nn.Layer]:
        return [*narrowing(plan), SqueezeExcite(plan.hidden_channels), *widening(plan)]


class ThinShortcut(nn.Layer):  # type: ignore[misc]
    """A sandglass block whose hidden tensor takes that of the block before it.

    A block that would have a shortcut hands on its output and its hidden tensor, which the next block, of whatever
    kind, adds to the first channels of its own. The wide tensors have no shortcut.
    """

    drop_connect_rate = 0.0

    def __init__(self, plan: BlockPlan, identity_divisor: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*narrowing(plan))
        self.conv2 = nn.Sequential(*widening(plan))
        self.plan = replace(plan, shortcut=False)
        self.hands_on = plan.shortcut

    def forward(
        self, x: paddle.Tensor | tuple[paddle.Tensor, paddle.Tensor]
    ) -> paddle.Tensor | tuple[paddle.Tensor, paddle.Tensor]:
        """Turn [N, in_channels, H, W], and perhaps [N, K, H, W] with it, into an output and perhaps a hidden tensor."""
        wide, before = x if isinstance(x, tuple) else (x, None)
        hidden = self.conv1(wide)  # [N, hidden_channels, H, W]
        if before is not None:
            hidden = add_to_first(drop_connect(hidden, self.drop_connect_rate, self.training), before)
        output = self.conv2(hidden)  # [N, out_channels, H / stride, W / stride]
        return (output, hidden) if self.hands_on else output


class TwoDepthwise(Sandglass):
    """A bottleneck with depthwise convolutions of its hidden tensor, where the sandglass block has them of wide ones.

    A stride is that of the 1x1 that widens; the shortcut joins the wide tensors after the last ReLU6.
    """

    convolutions = 2

    def layers(self, plan: BlockPlan) -> list[nn.Layer]:
        hidden = plan.hidden_channels
        layers: list[nn.Layer] = [*pointwise(plan.in_channels, hidden)]
        if plan.last_depthwise:
            for _ in range(self.convolutions):
                layers += depthwise(hidden, 1, plan.kernel_size)
            layers.append(nn.ReLU6())
        return [*layers, *pointwise(hidden, plan.out_channels, plan.stride), nn.ReLU6()]


class OneDepthwise(TwoDepthwise):
    """The classic bottleneck with a depthwise convolution in its middle."""

    convolutions = 1


class ThinDepthwise(InvertedResidual):
    """An inverted residual with depthwise convolutions of its thin ends in place of the one of its wide middle."""

    def layers(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> list[nn.Layer]:
        if expansion == 1:
            return super().layers(in_channels, out_channels, stride, expansion)
        wide = in_channels * expansion
        return [
            *depthwise(in_channels),
            *(*pointwise(in_channels, wide), nn.ReLU6()),
            *pointwise(wide, out_channels),
            *depthwise(out_channels, stride),
        ]


def _of_block(block: type[nn.Layer]) -> Callable[[float, int], Network]:
    return lambda width, num_classes: MobileNeXt(width, num_classes, block=block)


VARIANTS: Mapping[str, Callable[[float, int], Network]] = {
    "rm_3x3": _without_first_depthwise,
    "more_1x1": _of_block(MorePointwise),
    "se_hidden": _of_block(SqueezedSandglass),
    "thin_shortcut": _of_block(ThinShortcut),
    "two_depthwise": _of_block(TwoDepthwise),
    "classic_bottleneck": _of_block(OneDepthwise),
    "thin_depthwise": lambda width, num_classes: MobileNetV2(width, num_classes, block=ThinDepthwise),
}
