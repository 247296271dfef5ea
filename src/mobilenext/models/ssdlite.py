"""SSDLite: a detector whose heads look at six maps of a classification network's backbone and what is added to it.

Sandler et al. (MobileNetV2, CVPR 2018) proposed it: SSD with separable convolutions. The layout, the initialization and
the parameter names are those of the MobileNeXt authors' SSDLite repository (commit 6219e33).

    [N, 3, S, S] -> backbone: two of its maps, at the strides 16 and 32
                 -> extras: four maps, each of half the side of the one before
                 -> heads of the six maps -> scores [N, P, classes + 1], regressions [N, P, 4]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import paddle
from paddle import nn
from paddle.nn import initializer

from mobilenext.errors import UsageError
from mobilenext.models.detector_form import LEVELS, Form, find_form
from mobilenext.models.inverted_residual import MobileNetV2
from mobilenext.models.lookup import find_model
from mobilenext.models.network import Network, Tap
from mobilenext.models.sandglass import MobileNeXt, depthwise, pointwise

_RARE = 0.01  # focal loss begins with this probability of every class, as most priors have none


class SandglassExtra(nn.Sequential):  # type: ignore[misc]
    """A map of half the side: 3x3 depthwise of stride 2 on the wide end, 1x1 to the narrow middle, 1x1 to the output.

    [N, in_channels, H, W] to [N, out_channels, ceil(H / 2), ceil(W / 2)], for the backbone MobileNeXt.
    """

    def __init__(self, in_channels: int, out_channels: int, ratio: float) -> None:
        hidden = int(in_channels * ratio)
        super().__init__(
            *depthwise(in_channels, 2), nn.ReLU6(),
            *pointwise(in_channels, hidden),
            *pointwise(hidden, out_channels), nn.ReLU6(),
        )  # fmt: skip


class InvertedExtra(nn.Layer):  # type: ignore[misc]
    """A map of half the side, by an inverted residual that narrows: 1x1, 3x3 depthwise of stride 2, 1x1 (linear).

    [N, in_channels, H, W] to [N, out_channels, ceil(H / 2), ceil(W / 2)], for the backbone MobileNetV2.
    """

    def __init__(self, in_channels: int, out_channels: int, ratio: float) -> None:
        super().__init__()
        hidden = round(in_channels * ratio)
        self.conv = nn.Sequential(
            nn.Sequential(*pointwise(in_channels, hidden), nn.ReLU6()),
            nn.Sequential(*depthwise(hidden, 2), nn.ReLU6()),
            *pointwise(hidden, out_channels),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.conv(x)


# By the backbone: the layer, and of each extra map the output channels and the ratio of the middle to the input.
_EXTRAS: Mapping[type[Network], tuple[Callable[[int, int, float], nn.Layer], tuple[tuple[int, float], ...]]] = {
    MobileNeXt: (SandglassExtra, ((512, 0.2), (256, 0.25), (256, 0.5), (128, 0.5))),
    MobileNetV2: (InvertedExtra, ((512, 0.2), (256, 0.5), (256, 0.5), (64, 0.5))),
}


class SeparableConv(nn.Layer):  # type: ignore[misc]
    """3x3 depthwise, BN, ReLU6, 1x1, both with a bias: [N, in_channels, H, W] to [N, out_channels, H, W]."""

    def __init__(self, in_channels: int, out_channels: int, rare: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _head_conv(in_channels, in_channels, 3, rare, groups=in_channels),
            nn.BatchNorm2D(in_channels),
            nn.ReLU6(),
            _head_conv(in_channels, out_channels, 1, rare),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.conv(x)


def _head_conv(in_channels: int, out_channels: int, kernel_size: int, rare: bool, groups: int = 1) -> nn.Conv2D:
    """Build a convolution of a head.

    Args:
        in_channels, out_channels, kernel_size, groups: of the convolution.
        rare: it begins with weights N(0, 0.01) and a bias that stands for a probability of 0.01, as focal loss needs
            it; else with Xavier's uniform weights and no bias. The authors do so with depthwise convolutions, too.
    """
    weight = initializer.Normal(0.0, 0.01) if rare else initializer.XavierUniform()
    bias = initializer.Constant(-math.log((1 - _RARE) / _RARE) if rare else 0.0)
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        groups=groups,
        weight_attr=paddle.ParamAttr(initializer=weight),
        bias_attr=paddle.ParamAttr(initializer=bias),
    )


class Predictor(nn.Layer):  # type: ignore[misc]
    """The heads of all levels: one of the classes and one of the boxes each.

    Args:
        channels: of the map of each level.
        columns: class scores of a prior.
        form: of the detector.
    """

    def __init__(self, channels: Sequence[int], columns: int, form: Form) -> None:
        super().__init__()
        self.columns = columns
        self.cls_headers = _heads(channels, [count * columns for count in form.priors_per_cell], form.loss == "focal")
        self.reg_headers = _heads(channels, [count * 4 for count in form.priors_per_cell], rare=False)

    def forward(self, maps: Sequence[paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Turn the maps into scores [N, P, columns] and regressions [N, P, 4], the priors of the first map first."""
        # By index, since Paddle's static graphs cannot take `zip(..., strict=True)`.
        scores = [_by_prior(self.cls_headers[level](x), self.columns) for level, x in enumerate(maps)]
        regressions = [_by_prior(self.reg_headers[level](x), 4) for level, x in enumerate(maps)]
        return paddle.concat(scores, axis=1), paddle.concat(regressions, axis=1)


def _heads(channels: Sequence[int], outputs: Sequence[int], rare: bool) -> nn.LayerList:
    """Build a head for each level. That of the last, a single cell, is a plain 1x1 convolution."""
    *separable, last = zip(channels, outputs, strict=True)
    return nn.LayerList([*(SeparableConv(*pair, rare) for pair in separable), _head_conv(*last, 1, rare)])


def _by_prior(x: paddle.Tensor, columns: int) -> paddle.Tensor:
    """Turn [N, priors of a cell * columns, H, W] into [N, H * W * priors of a cell, columns], cells row by row."""
    _, channels, height, width = x.shape
    # Flat in between: oneDNN in Paddle 3.3 joins a transposition with a reshape behind it, and gets the shape wrong.
    return x.transpose([0, 2, 3, 1]).flatten(1).reshape([-1, height * width * channels // columns, columns])


class SSDLite(Network):
    """SSDLite on MobileNeXt or MobileNetV2: raw class scores and box regressions of each prior.

    Args:
        backbone: name of a model of the family mobilenext or mobilenetv2.
        num_classes: without background; the scores have one column more.
        form: voc, coco, or a record; ``network.form`` is the record.
        identity_divisor: of the sandglass blocks of MobileNeXt.

    Raises:
        UsageError: an unknown backbone or form.
    """

    outputs = ("scores", "regressions")
    shape_operators = frozenset({"Reshape"})
    head_layers = ("backbone.extras", "box_head")

    def __init__(
        self,
        backbone: str,
        num_classes: int = 20,
        form: str | Form | Mapping[str, Any] = "voc",
        identity_divisor: int = 1,
    ) -> None:
        super().__init__()
        self.form = find_form(form)
        self.num_classes = num_classes
        self.input_size = self.form.image_size
        self.backbone_model = find_model(backbone).name
        self.backbone, self.taps = _backbone(backbone, identity_divisor)
        self.identity_divisor = identity_divisor
        last = self.backbone.features_info[-1].channels
        extra, widths = _EXTRAS[type(self.backbone)]
        inputs = [last, *(channels for channels, _ in widths)]
        self.backbone.extras = nn.LayerList(
            [extra(before, *width) for before, width in zip(inputs[:-1], widths, strict=True)]
        )
        channels = [*(tap.channels for tap in self.taps), *inputs[1:]]
        self.box_head = nn.Sequential(("predictor", Predictor(channels, num_classes + 1, self.form)))

    @property
    def class_layers(self) -> tuple[str, ...]:
        *separable, last = (f"box_head.predictor.cls_headers.{level}" for level in range(LEVELS))
        return (*(f"{name}.conv.3" for name in separable), last)

    def blocks(self) -> list[tuple[str, nn.Layer]]:
        """Return every block of the backbone."""
        return [(f"backbone.{name}", block) for name, block in self.backbone.blocks()]

    # As in Network.forward.
    @paddle.jit.not_to_static  # type: ignore[untyped-decorator]
    def forward(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Turn normalized images [N, 3, S, S] into scores [N, P, num_classes + 1] and regressions [N, P, 4], both raw.

        It does so in training and in evaluation. S is the form's ``image_size``, P its ``priors``.

        Raises:
            UsageError: images of another size.
        """
        height, width = x.shape[2:]
        if height != self.input_size or width != self.input_size:
            raise UsageError(
                f"images of {height} x {width} pixels; expected {self.input_size} x {self.input_size}, the image_size "
                "of the detector's form"
            )
        scores, regressions = self.box_head(self.pyramid(x))
        return scores, regressions

    def pyramid(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        """Return the maps of the six levels, [N, C, side, side] each, of normalized images [N, 3, S, S]."""
        *levels, x = self.maps(x, [*self.taps, Tap(len(self.blocks()) - 1, None, 0, 0)])
        for extra in self.backbone.extras:
            x = extra(x)
            levels.append(x)
        return levels

    def keep_features_only(self) -> None:
        """Raise UsageError: the maps of a detector are those of `pyramid`."""
        raise UsageError(
            f"a detector has no features_only; expected the model {self.backbone_model}, or the method `pyramid`"
        )

    def keep_pooled_only(self) -> None:
        """Raise UsageError: a detector pools nothing."""
        raise UsageError(
            f"num_classes is 0, but a detector has no pooled vector; expected 1 or more, or the model "
            f"{self.backbone_model}"
        )


def _backbone(name: str, identity_divisor: int) -> tuple[Network, tuple[Tap, Tap]]:
    """Return the backbone without its classifier, and where its two maps are taken out."""
    card = find_model(name)
    if card.family == "mobilenetv2":
        backbone: Network = MobileNetV2(**card.arguments, num_classes=1)
        first, second = (Tap(block, None, channels, stride) for block, channels, stride in backbone.features_info[-2:])
    elif card.family == "mobilenext":
        backbone = MobileNeXt(**card.arguments, num_classes=1, identity_divisor=identity_divisor)
        # Behind the 1x1 that widens, before the last depthwise convolution. The other layers of the block run on.
        first, second = (
            Tap(block, layers, backbone.features[block].plan.out_channels, stride)
            for block, layers, stride in ((13, 5, 16), (20, 8, 32))
        )
    else:
        raise UsageError(f"no SSDLite on {card.name}; expected a backbone mobilenext_x.. or mobilenetv2_x..")
    backbone.remove_head()
    return backbone, (first, second)
