"""MobileNeXt-S, MobileNeXt-L and its Ghost variant: sandglass blocks with squeeze-and-excitation and Swish.

These are the paper's models "with SE". They are not MobileNeXt plus SE: kernels of 5x5, strides, hidden widths and
padding differ too, since the authors built them on an EfficientNet code base (``efficient_mnext``). Parameter names
are those of that code (``_blocks.N.features.M``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import paddle
import paddle.nn.functional as F
from paddle import nn

from mobilenext.models.network import Network, classifier_linear, conv_normal, drop_connect, last_map_at_each_stride

# One row a stage: repeats, kernel, stride, reduction t, input and output channels.
STAGES = (
    (1, 3, 1, 2, 32, 96),
    (1, 3, 2, 6, 96, 144),
    (3, 5, 2, 6, 144, 192),
    (3, 3, 2, 6, 192, 288),
    (4, 5, 1, 6, 288, 384),
    (4, 5, 2, 6, 384, 576),
    (3, 3, 1, 6, 576, 960),
    (1, 3, 1, 6, 960, 1280),
)
SQUEEZE = 0.25
DROPOUT = 0.2
DROP_CONNECT = 0.2  # of the last block; it grows linearly with depth


@dataclass(frozen=True)
class SEBlockPlan:
    """What one block is made of."""

    in_channels: int
    hidden_channels: int
    out_channels: int
    squeezed_channels: int
    kernel_size: int
    stride: int
    groups: int
    first_depthwise: bool
    last_depthwise: bool
    shortcut: bool
    drop_connect: float


def plan_se_blocks(depth: float, groups: int, ghost: bool) -> tuple[SEBlockPlan, ...]:
    """Return the blocks for a depth multiplier.

    `groups` of the 1x1 convolutions apply where both depthwise convolutions are kept.
    """
    rows = [
        (kernel, stride if repeat == 0 else 1, t, c_in if repeat == 0 else c_out, c_out, repeat == 0)
        for repeats, kernel, stride, t, c_in, c_out in STAGES
        for repeat in range(math.ceil(repeats * depth))
    ]
    plans = []
    for index, (kernel, stride, t, c_in, c_out, transition) in enumerate(rows):
        keeps_both = t == 2 or not transition
        plans.append(
            SEBlockPlan(
                in_channels=c_in,
                hidden_channels=(c_in // t + 1) // 2 * 2,  # rounded up to an even number
                out_channels=c_out,
                squeezed_channels=max(1, int(c_in * SQUEEZE * 0.5) if ghost else int(c_out / t * SQUEEZE)),
                kernel_size=kernel,
                stride=stride,
                groups=groups if keeps_both else 1,
                first_depthwise=keeps_both,
                last_depthwise=keeps_both or stride == 2,
                shortcut=t != 2 and not transition,
                drop_connect=DROP_CONNECT * index / len(rows),
            )
        )
    return tuple(plans)


def conv_same(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2D:
    """Build a convolution padded as TensorFlow's "SAME" pads an even input: at stride 2, less on the left and top."""
    total = kernel_size - stride
    before, after = total // 2, total - total // 2
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=[before, after, before, after],  # top, bottom, left, right
        groups=groups,
        weight_attr=paddle.ParamAttr(initializer=conv_normal(out_channels, kernel_size)),
        bias_attr=None if bias else False,
    )


def batch_norm(channels: int) -> nn.BatchNorm2D:
    """Build a batch norm with the EfficientNet code's constants (Paddle's momentum is one minus PyTorch's)."""
    return nn.BatchNorm2D(channels, momentum=0.99, epsilon=1e-3)


class SqueezeExciteBlock(nn.Layer):  # type: ignore[misc]
    """The shared part of both kinds of block: squeeze-and-excitation after the last convolution, and the shortcut."""

    def __init__(self, plan: SEBlockPlan) -> None:
        super().__init__()
        self._se_reduce = conv_same(plan.out_channels, plan.squeezed_channels, 1, bias=True)
        self._se_expand = conv_same(plan.squeezed_channels, plan.out_channels, 1, bias=True)
        self.plan = plan
        self.drop_connect_rate = plan.drop_connect

    def residual(self, x: paddle.Tensor) -> paddle.Tensor:
        """Run the convolutions of the block: [N, in, H, W] to [N, out, H / stride, W / stride]."""
        raise NotImplementedError

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        branch = self.residual(x)
        pooled = branch.mean(axis=[2, 3], keepdim=True)  # [N, out, 1, 1]
        branch = branch * F.sigmoid(self._se_expand(F.silu(self._se_reduce(pooled))))
        if not self.plan.shortcut:
            return branch
        return drop_connect(branch, self.drop_connect_rate, self.training) + x


class SandglassSE(SqueezeExciteBlock):
    """A sandglass block with Swish in place of ReLU6, and squeeze-and-excitation on its output."""

    def __init__(self, plan: SEBlockPlan) -> None:
        super().__init__(plan)
        c_in, hidden, c_out = plan.in_channels, plan.hidden_channels, plan.out_channels
        layers: list[nn.Layer] = []
        if plan.first_depthwise:
            layers += [conv_same(c_in, c_in, plan.kernel_size, groups=c_in), batch_norm(c_in), nn.Silu()]
        layers += [conv_same(c_in, hidden, 1, groups=plan.groups), batch_norm(hidden)]
        layers += [conv_same(hidden, c_out, 1, groups=plan.groups), batch_norm(c_out), nn.Silu()]
        if plan.last_depthwise:
            layers += [conv_same(c_out, c_out, plan.kernel_size, plan.stride, groups=c_out), batch_norm(c_out)]
        self.features = nn.Sequential(*layers)

    def residual(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.features(x)


class GhostSandglass(SqueezeExciteBlock):
    """A sandglass block whose 1x1 convolutions see half of the channels; the other half goes round them.

    Transition blocks have no first depthwise convolution and no bypass.
    """

    def __init__(self, plan: SEBlockPlan) -> None:
        super().__init__(plan)
        c_in, hidden, c_out = plan.in_channels, plan.hidden_channels, plan.out_channels
        self.narrowed = c_in // 2 if plan.first_depthwise else c_in
        bypassed = c_in - self.narrowed
        if plan.first_depthwise:
            self.dwise_conv1 = conv_same(c_in, c_in, plan.kernel_size, groups=c_in)
            self.bn1 = batch_norm(c_in)
        self.project_layer = conv_same(self.narrowed, hidden, 1)
        self.bn2 = batch_norm(hidden)
        self.expand_layer = conv_same(hidden, c_out - bypassed, 1)
        self.bn3 = batch_norm(c_out - bypassed)
        if plan.last_depthwise:
            self.dwise_conv2 = conv_same(c_out, c_out, plan.kernel_size, plan.stride, groups=c_out)
            self.bn4 = batch_norm(c_out)

    def residual(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.plan.first_depthwise:
            x = F.silu(self.bn1(self.dwise_conv1(x)))
        narrow, bypass = x[:, : self.narrowed], x[:, self.narrowed :]
        x = F.silu(self.bn3(self.expand_layer(self.bn2(self.project_layer(narrow)))))
        if self.plan.first_depthwise:
            x = paddle.concat([x, bypass], axis=1)
        return self.bn4(self.dwise_conv2(x)) if self.plan.last_depthwise else x


class MobileNeXtSE(Network):
    """MobileNeXt-S (depth 1.0, groups 1), -L (depth 1.1, groups 2) or the Ghost variant of -L."""

    head_layers = ("_bn1", "_dropout", "_fc")

    def __init__(self, depth: float = 1.0, groups: int = 1, ghost: bool = False, num_classes: int = 1000) -> None:
        super().__init__()
        plans = plan_se_blocks(depth, groups, ghost)
        block = GhostSandglass if ghost else SandglassSE
        self.num_classes = num_classes
        self._conv_stem = conv_same(3, 32, 3, stride=2)
        self._bn0 = batch_norm(32)
        self._blocks = nn.LayerList([block(plan) for plan in plans])
        self._bn1 = batch_norm(1280)  # not used by any tensor, but every checkpoint has it
        self._dropout = nn.Dropout(DROPOUT)
        self._fc = classifier_linear(1280, num_classes)

        shapes, stride = [], 2
        for plan in plans:
            stride *= plan.stride
            shapes.append((plan.out_channels, stride))
        self.features_info = last_map_at_each_stride(shapes)

    def stem(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.silu(self._bn0(self._conv_stem(x)))

    def blocks(self) -> list[tuple[str, nn.Layer]]:
        return [(f"_blocks.{index}", block) for index, block in enumerate(self._blocks)]

    def head(self, x: paddle.Tensor) -> paddle.Tensor:
        return self._fc(self._dropout(self.pooled(x)))
