"""The operators on the edges of cells: those of DARTS, and the blocks of MobileNeXt and MobileNetV2 as operators.

All turn a map [N, C, H, W] into [N, C, ceil(H / stride), ceil(W / stride)], by a sum of batch norms or pools, without a
last activation. Parameter names, and initial weights of the convolutions of DARTS, are those of the authors' code
(quark0/darts, folder ``cnn``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import paddle
from paddle import nn

from mobilenext.errors import UsageError, nearest
from mobilenext.models.genotype import DARTS, NONE
from mobilenext.models.inverted_residual import InvertedResidual
from mobilenext.models.sandglass import BlockPlan, Sandglass

REDUCTION = 6  # t of the sandglass
EXPANSION = 6  # t of the inverted residual
LEAST_HIDDEN = 4  # channels between the 1x1 convolutions of a sandglass

__all__ = ["DARTS", "OPERATORS", "build_operator", "check_operators"]


class FreeNorm(nn.BatchNorm2D):  # type: ignore[misc]
    """A batch norm without weight and bias (PyTorch's ``affine=False``): only its statistics are stored."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, weight_attr=False, bias_attr=False)
        # Paddle before 3 makes two frozen parameters in spite of that. Constants are neither counted nor stored.
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            self._parameters.pop(name, None)
            self.__dict__.pop(name, None)
            self.register_buffer(name, paddle.full([channels], value), persistable=False)

    def forward(self, x: paddle.Tensor, scale: paddle.Tensor | None = None) -> paddle.Tensor:
        """Return the normalized map, times the number `scale` where there is one."""
        weight, bias = self.weight, self.bias
        if scale is not None:
            # Paddle computes the gradient of a batch norm's weight together with that of its bias only.
            weight, bias = scale.expand([self._num_features]), paddle.zeros_like(bias)
            bias.stop_gradient = False
        return nn.functional.batch_norm(
            x,
            self._mean,
            self._variance,
            weight=weight,
            bias=bias,
            training=self.training,
            momentum=self._momentum,
            epsilon=self._epsilon,
            data_format=self._data_format,
            use_global_stats=self._use_global_stats,
        )


def batch_norm(channels: int, affine: bool) -> nn.BatchNorm2D:
    """Build a batch norm, with a weight and a bias where `affine`."""
    return nn.BatchNorm2D(channels) if affine else FreeNorm(channels)


def conv(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2D:
    """Build a convolution without bias that keeps the size at stride 1, with PyTorch's initial weights.

    They are uniform within 1 / sqrt(fan_in), as in the authors' code.
    """
    bound = 1 / math.sqrt(in_channels // groups * kernel_size**2)
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        groups=groups,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.Uniform(-bound, bound)),
        bias_attr=False,
    )


def linear(in_features: int, out_features: int) -> nn.Linear:
    """Build a linear layer with PyTorch's initial weights, uniform within 1 / sqrt(in_features)."""
    bound = 1 / math.sqrt(in_features)
    uniform = nn.initializer.Uniform(-bound, bound)
    return nn.Linear(
        in_features,
        out_features,
        weight_attr=paddle.ParamAttr(initializer=uniform),
        bias_attr=paddle.ParamAttr(initializer=uniform),
    )


class Zero(nn.Layer):  # type: ignore[misc]
    """No edge: zeros."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Identity(nn.Layer):  # type: ignore[misc]
    """The map itself."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x


class Operator(nn.Layer):  # type: ignore[misc]
    """A sequence of layers under the name ``op``."""

    def __init__(self, *layers: nn.Layer) -> None:
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.op(x)


class Residual(Operator):
    """A sequence of layers, and a shortcut round them."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.op(x) + x


class FactorizedReduce(nn.Layer):  # type: ignore[misc]
    """Half the side without a pool: two 1x1 convolutions of stride 2, the second on the map shifted by one pixel.

    [N, in_channels, H, W] to [N, out_channels, H / 2, W / 2]; H and W have to be even.
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool) -> None:
        super().__init__()
        self.conv_1 = conv(in_channels, out_channels // 2, 1, stride=2)
        self.conv_2 = conv(in_channels, out_channels // 2, 1, stride=2)
        self.bn = batch_norm(out_channels, affine)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.bn(self.halves(nn.functional.relu(x)))

    def halves(self, rectified: paddle.Tensor) -> paddle.Tensor:
        """Return what the batch norm takes, of the ReLU of the input."""
        height, width = rectified.shape[2:]
        if min(height, width) > 0 and (height % 2 or width % 2):  # free sides of a static graph are -1
            raise UsageError(
                f"a map of {height} x {width} cannot be halved: FactorizedReduce takes even sides only. Let the sides "
                "of the images be multiples of 4 (form cifar) or of 32 (form imagenet)"
            )
        # [N, out_channels / 2, H / 2, W / 2], twice
        return paddle.concat([self.conv_1(rectified), self.conv_2(rectified[:, :, 1:, 1:])], axis=1)


def relu_conv_bn(in_channels: int, out_channels: int, affine: bool) -> Operator:
    """Build ReLU, 1x1 convolution, batch norm."""
    return Operator(nn.ReLU(), conv(in_channels, out_channels, 1), batch_norm(out_channels, affine))


def skip_connect(channels: int, stride: int, affine: bool) -> nn.Layer:
    """Build the identity, or the :class:`FactorizedReduce` of stride 2."""
    return Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


def separable(channels: int, stride: int, affine: bool, *, kernel_size: int) -> Operator:
    """Build ReLU, k x k depthwise, 1x1, batch norm, twice; the stride is in the first depthwise convolution."""
    layers: list[nn.Layer] = []
    for stride_here in (stride, 1):
        layers += [
            nn.ReLU(),
            conv(channels, channels, kernel_size, stride_here, groups=channels),
            conv(channels, channels, 1),
            batch_norm(channels, affine),
        ]
    return Operator(*layers)


def dilated(channels: int, stride: int, affine: bool, *, kernel_size: int) -> Operator:
    """Build ReLU, k x k depthwise with gaps of one pixel (dilation 2), 1x1, batch norm."""
    return Operator(
        nn.ReLU(),
        conv(channels, channels, kernel_size, stride, dilation=2, groups=channels),
        conv(channels, channels, 1),
        batch_norm(channels, affine),
    )


def sandglass(channels: int, stride: int, affine: bool, *, kernel_size: int = 3, shortcut: bool = True) -> Operator:
    """Build MobileNeXt's block with both depthwise convolutions; at stride 1 with the shortcut, where wanted.

    Its hidden width is a sixth of the channels, rounded down, at least 4: without the floors of the published networks,
    which would make another operator of it at the widths of a search than at those of the final network.
    """
    hidden = max(LEAST_HIDDEN, channels // REDUCTION)
    plan = BlockPlan(channels, hidden, channels, stride, True, True, shortcut=False, kernel_size=kernel_size)
    layers = [_with_norm(layer, affine) for layer in Sandglass(plan).conv]
    return (Residual if shortcut and stride == 1 else Operator)(*layers)


def inverted_residual(channels: int, stride: int, affine: bool) -> Operator:
    """Build MobileNetV2's block (t = 6, 3x3); at stride 1 with the shortcut."""
    flat: list[nn.Layer] = []
    for layer in InvertedResidual(channels, channels, stride, EXPANSION).conv:
        flat += layer if isinstance(layer, nn.Sequential) else [layer]
    return (Residual if stride == 1 else Operator)(*(_with_norm(layer, affine) for layer in flat))


def _with_norm(layer: nn.Layer, affine: bool) -> nn.Layer:
    """Return the layer, or in place of a batch norm one without weight and bias where not `affine`."""
    return FreeNorm(layer._num_features) if isinstance(layer, nn.BatchNorm2D) and not affine else layer


# The only table: channels, stride (1 or 2), affine -> layer.
OPERATORS: Mapping[str, Callable[[int, int, bool], nn.Layer]] = MappingProxyType(
    {
        NONE: lambda channels, stride, affine: Zero(stride),
        "max_pool_3x3": lambda channels, stride, affine: nn.MaxPool2D(3, stride, padding=1),
        # The padding is not counted.
        "avg_pool_3x3": lambda channels, stride, affine: nn.AvgPool2D(3, stride, padding=1, exclusive=True),
        "skip_connect": skip_connect,
        "sep_conv_3x3": partial(separable, kernel_size=3),
        "sep_conv_5x5": partial(separable, kernel_size=5),
        "dil_conv_3x3": partial(dilated, kernel_size=3),
        "dil_conv_5x5": partial(dilated, kernel_size=5),
        "sandglass_3x3": sandglass,
        "sandglass_3x3_plain": partial(sandglass, shortcut=False),  # the control
        "sandglass_5x5": partial(sandglass, kernel_size=5),
        "inverted_residual_3x3": inverted_residual,  # the paper's control
    }
)


def check_operators(names: list[str] | tuple[str, ...]) -> None:
    """Raise UsageError for the name of an operator that cannot be built."""
    for name in names:
        if name not in OPERATORS:
            raise UsageError(f"unknown operator {name!r}{nearest(name, OPERATORS)}\nknown: {', '.join(OPERATORS)}")


def build_operator(name: str, channels: int, stride: int, affine: bool) -> nn.Layer:
    """Build the operator of this name.

    Args:
        name: one of OPERATORS.
        channels: of its input and output, an even number.
        stride: 1, or 2 for half the side.
        affine: whether its batch norms have weights and biases: not while an architecture is searched.

    Raises:
        UsageError: no such operator.
    """
    check_operators([name])
    return OPERATORS[name](channels, stride, affine)
