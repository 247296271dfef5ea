"""The sandglass block and MobileNeXt.

Zhou et al., "Rethinking Bottleneck Structure for Efficient Mobile Network Design", ECCV 2020 (arXiv 2007.02269).

An inverted residual (MobileNetV2) joins thin tensors by its shortcut and widens them inside. The sandglass block
turns that round: the shortcut joins wide tensors, the two 1x1 convolutions narrow and widen again, and both
depthwise convolutions work on the wide ends, where the spatial information is.

    [N, M, H, W] -> dw k x k, BN, ReLU6        M channels (k is 3 in the paper)
                 -> pw 1x1, BN                 M / t: narrow, linear
                 -> pw 1x1, BN, ReLU6          N channels
                 -> dw k x k / stride, BN      N channels, linear
                 (+ the input, on its first 1 / identity_divisor channels, when M == N)

The authors' code drops the depthwise convolutions of the blocks that change the number of channels; see
``plan_blocks``. Parameter names are those of the authors' code (``features.N.conv.M``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import paddle
from paddle import nn

from mobilenext.errors import UsageError
from mobilenext.models.block_plan import BlockPlan as BlockPlan
from mobilenext.models.network import (
    Block,
    Network,
    classifier_linear,
    conv_normal,
    drop_connect,
    last_map_at_each_stride,
    make_divisible,
)

# One row a stage: reduction t, output channels, repeats, stride of the first block (paper, table 2, with the
# authors' correction of the 960 stage: three blocks, not two).
STAGES = (
    (2, 96, 1, 2),
    (6, 144, 1, 1),
    (6, 192, 3, 2),
    (6, 288, 3, 2),
    (6, 384, 4, 1),
    (6, 576, 4, 2),
    (6, 960, 3, 1),
    (6, 1280, 1, 1),
)


def hidden_width(in_channels: int, out_channels: int, reduction: int) -> int:
    """Return the channels between the two 1x1 convolutions: in / t, but not less than a sixth of the output.

    Only where the floor applies is the width rounded, to a multiple of 16: the last block of x1.0 gets 208, not 160.
    """
    hidden = in_channels // reduction
    if hidden < out_channels / 6:
        hidden = make_divisible(math.ceil(out_channels / 6), 16)
    return hidden


def plan_blocks(width: float) -> tuple[BlockPlan, ...]:
    """Return the 20 blocks of a MobileNeXt of this width multiplier.

    A stage starts with a transition block, whose depthwise convolutions depend on what it changes (authors' code):

    * the first stage (t = 2) and a stage of a single block at stride 1: both depthwise convolutions;
    * a stride of 2: only the last one, which carries the stride;
    * a stride of 1: none; the block ends with the ReLU6 of its second 1x1.

    The blocks after it have both, and the shortcut.
    """
    in_channels = make_divisible(32 * width, 8)  # of the stem
    blocks: list[BlockPlan] = []
    for reduction, base_channels, repeats, stride in STAGES:
        # Below width 1 the last stage stays at 1280 channels, so that the classifier keeps its input.
        scale = max(1.0, width) if base_channels == STAGES[-1][1] else width
        channels = make_divisible(base_channels * scale, 8)
        keeps_both = reduction == 2 or (repeats == 1 and stride == 1)
        blocks.append(
            BlockPlan(
                in_channels,
                hidden_width(in_channels, channels, reduction),
                channels,
                stride,
                first_depthwise=keeps_both,
                last_depthwise=keeps_both or stride == 2,
                shortcut=False,
            )
        )
        hidden = hidden_width(channels, channels, reduction)
        blocks += [BlockPlan(channels, hidden, channels, 1, True, True, shortcut=True)] * (repeats - 1)
        in_channels = channels
    return tuple(blocks)


def conv_bn(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2D, nn.BatchNorm2D]:
    """Build a convolution without bias, padded to keep the size at stride 1, and its batch norm."""
    conv = nn.Conv2D(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        weight_attr=paddle.ParamAttr(initializer=conv_normal(out_channels, kernel_size)),
        bias_attr=False,
    )
    return conv, nn.BatchNorm2D(out_channels)


def depthwise(channels: int, stride: int = 1, kernel_size: int = 3) -> tuple[nn.Conv2D, nn.BatchNorm2D]:
    """Build a convolution of each channel by itself, and its batch norm."""
    return conv_bn(channels, channels, kernel_size, stride, groups=channels)


def pointwise(in_channels: int, out_channels: int, stride: int = 1) -> tuple[nn.Conv2D, nn.BatchNorm2D]:
    """Build a 1x1 convolution and its batch norm."""
    return conv_bn(in_channels, out_channels, 1, stride)


def partial_shortcut(branch: paddle.Tensor, identity: paddle.Tensor, divisor: int) -> paddle.Tensor:
    """Add `identity` to the first ``C // divisor`` channels of `branch` [N, C, H, W] (identity tensor multiplier).

    Written without in-place assignment, which exporters turn into a scatter that costs more than the network's
    convolutions.
    """
    return branch + identity if divisor == 1 else add_to_first(branch, identity[:, : branch.shape[1] // divisor])


def add_to_first(branch: paddle.Tensor, identity: paddle.Tensor) -> paddle.Tensor:
    """Add `identity` [N, K, H, W] to the first K channels of `branch` [N, C, H, W], C >= K; not in place."""
    kept = identity.shape[1]
    if kept == branch.shape[1]:
        return branch + identity
    return paddle.concat([branch[:, :kept] + identity, branch[:, kept:]], axis=1)


def narrowing(plan: BlockPlan) -> list[nn.Layer]:
    """Build the first half of a block: the depthwise convolution, if there is one, and the 1x1 that narrows."""
    layers: list[nn.Layer] = []
    if plan.first_depthwise:
        layers += [*depthwise(plan.in_channels, 1, plan.kernel_size), nn.ReLU6()]
    return [*layers, *pointwise(plan.in_channels, plan.hidden_channels)]


def widening(plan: BlockPlan) -> list[nn.Layer]:
    """Build the second half of a block: the 1x1 that widens, and the depthwise convolution, if there is one."""
    layers = [*pointwise(plan.hidden_channels, plan.out_channels), nn.ReLU6()]
    if plan.last_depthwise:
        layers += depthwise(plan.out_channels, plan.stride, plan.kernel_size)
    return layers


class Sandglass(Block):
    """One sandglass block: [N, in_channels, H, W] to [N, out_channels, H / stride, W / stride]."""

    def __init__(self, plan: BlockPlan, identity_divisor: int = 1) -> None:
        super().__init__()
        self.conv = nn.Sequential(*self.layers(plan))
        self.plan = plan
        self.identity_divisor = identity_divisor

    def layers(self, plan: BlockPlan) -> list[nn.Layer]:
        """Build the layers of the branch in order; variants of the block have others."""
        return [*narrowing(plan), *widening(plan)]

    def join(self, branch: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
        if not self.plan.shortcut:
            return branch
        branch = drop_connect(branch, self.drop_connect_rate, self.training)
        return partial_shortcut(branch, x, self.identity_divisor)


class MobileNeXt(Network):
    """MobileNeXt: a stem, sandglass blocks, global average pool, dropout and a linear classifier.

    Args:
        width: multiplier of the published 20 blocks.
        num_classes: outputs of the classifier.
        identity_divisor: the shortcut joins the first ``C // identity_divisor`` channels of a block.
        plan: the blocks, in place of those of `width`; the stem gives as many channels as the first block takes.
        block: builds one of them from its plan and the identity divisor.

    Raises:
        UsageError: a block of `plan` takes another number of channels than the one before it gives, or there is none.
    """

    head_layers = ("classifier",)

    def __init__(
        self,
        width: float = 1.0,
        num_classes: int = 1000,
        identity_divisor: int = 1,
        plan: Sequence[BlockPlan] | None = None,
        block: Callable[[BlockPlan, int], nn.Layer] = Sandglass,
    ) -> None:
        super().__init__()
        blocks = plan_blocks(width) if plan is None else tuple(plan)
        _check_plan(blocks)
        stem = blocks[0].in_channels
        self.num_classes = num_classes
        self.identity_divisor = identity_divisor
        self.features = nn.Sequential(
            nn.Sequential(*conv_bn(3, stem, 3, stride=2), nn.ReLU6()),
            *(block(block_plan, identity_divisor) for block_plan in blocks),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), classifier_linear(blocks[-1].out_channels, num_classes))

        shapes, stride = [(stem, 2)], 2
        for block_plan in blocks:
            stride *= block_plan.stride
            shapes.append((block_plan.out_channels, stride))
        self.features_info = last_map_at_each_stride(shapes)

    def blocks(self) -> list[tuple[str, nn.Layer]]:
        return [(f"features.{index}", block) for index, block in enumerate(self.features)]

    def head(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.classifier(self.pooled(x))


def _check_plan(blocks: Sequence[BlockPlan]) -> None:
    if not blocks:
        raise UsageError("the plan has no block; expected one or more")
    for number, (before, block) in enumerate(itertools.pairwise(blocks), start=1):
        if before.out_channels != block.in_channels:
            raise UsageError(
                f"block {number} of the plan takes {block.in_channels} channels, but the one before it gives "
                f"{before.out_channels}"
            )
