"""What a network is made of: an image is passed through it, and what happens is recorded.

Channels, shapes, strides, parameters and mult-adds are those of the layers and tensors that were seen, counted as
``models.counting`` does, and an activation is what turns one layer's output into the next one's input.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mobilenext.models.network import Network

Shape = tuple[int, int, int]  # channels, height, width
Tensor = npt.NDArray[np.float32]
Layer = tuple[str, Any, Tensor, Tensor]  # name, layer, input, output
# Squeeze-and-excitation: by the end of a layer's name, its kind, and the activation where none is seen between layers.
SIDE_BRANCH = {
    "._se_reduce": ("squeeze", ""),
    "._se_expand": ("excite", "sigmoid"),
    ".fc.1": ("squeeze", "ReLU"),
    ".fc.4": ("excite", "hard sigmoid"),
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One convolution or linear layer and what follows it until the next."""

    name: str  # inside the block
    kind: str  # conv | depthwise | pointwise | squeeze | excite | linear
    kernel: int
    stride: int
    groups: int
    before: Shape
    after: Shape
    norm: bool
    activation: str  # "" for linear, ReLU6, Swish, sigmoid
    parameters: int  # with those of the batch norm
    mult_adds: int

    @property
    def label(self) -> str:
        size = f"{self.kernel}x{self.kernel}"
        kind = {"conv": f"{size} conv", "depthwise": f"{size} depthwise", "pointwise": "1x1 conv"}.get(self.kind)
        if kind is None:
            kind = {"squeeze": "mean, 1x1", "excite": "1x1", "linear": "linear layer"}[self.kind]
        grouped = f", {self.groups} groups" if self.kind == "pointwise" and self.groups > 1 else ""
        stride = f" / {self.stride}" if self.stride > 1 else ""
        activation = self.activation or ("linear" if self.kind != "linear" else "")
        return ", ".join(filter(None, [kind + stride + grouped, "BN" if self.norm else "", activation]))


@dataclass(frozen=True, kw_only=True)
class Part:
    """A stem, a block or the head."""

    name: str
    kind: str
    before: Shape
    after: Shape
    shortcut: int  # channels that it joins; 0 where there is none
    steps: tuple[Step, ...]
    parameters: int
    mult_adds: int

    @property
    def stride(self) -> int:
        return self.before[1] // self.after[1]

    @property
    def channels(self) -> list[int]:
        """Return the channels of each tensor, without the side branch of squeeze-and-excitation."""
        return [self.before[0], *(step.after[0] for step in self.steps if step.kind not in ("squeeze", "excite"))]


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What was seen of a whole network."""

    image_size: int
    num_classes: int
    identity_divisor: int
    parts: tuple[Part, ...]
    parameters: int
    mult_adds: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Recorder:
    """Hooks that record what passes the layers and blocks of a network."""

    layers: list[Layer] = field(default_factory=list)  # in the order in which they ran
    inputs: dict[str, Tensor] = field(default_factory=dict)  # of the blocks, by their names
    outputs: dict[str, Tensor] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)  # layers of a block: the place of the first in `layers`,
    stop: dict[str, int] = field(default_factory=dict)  # and that behind the last
    hidden: dict[str, Tensor] = field(default_factory=dict)  # what a block adds to its hidden tensor, by its name

    def run(self, network: Network, image: Tensor) -> Tensor:
        """Return the logits of `image` [1, 3, S, S] in evaluation mode, and record all layers before them."""
        import paddle
        from paddle import nn

        handles = []
        for name, layer in network.named_sublayers():
            if isinstance(layer, nn.Conv2D | nn.BatchNorm2D | nn.Linear):
                handles.append(layer.register_forward_post_hook(partial(self._layer, name)))
        for name, block in network.blocks():
            handles.append(block.register_forward_pre_hook(partial(self._begin, name)))
            handles.append(block.register_forward_post_hook(partial(self._end, name)))
        training = network.training
        network.eval()
        try:
            with paddle.no_grad():
                output: Tensor = network(paddle.to_tensor(image)).numpy()
        finally:
            for handle in handles:
                handle.remove()
            network.train() if training else network.eval()
        return output

    def _layer(self, name: str, layer: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self.layers.append((name, layer, inputs[0].numpy(), output.numpy()))

    def _begin(self, name: str, block: Any, inputs: tuple[Any, ...]) -> None:
        x, *hidden = inputs[0] if isinstance(inputs[0], tuple) else inputs
        self.inputs[name], self.first[name] = x.numpy(), len(self.layers)
        if hidden:
            self.hidden[name] = hidden[0].numpy()

    def _end(self, name: str, block: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self.stop[name] = len(self.layers)
        self.outputs[name] = (output[0] if isinstance(output, tuple) else output).numpy()


def anatomy(network: Network, image_size: int = 224) -> Anatomy:
    """Pass a random image through a network, in evaluation mode, and return what happens in it."""
    recorder = _Recorder()
    image = np.random.default_rng(0).standard_normal((1, 3, image_size, image_size)).astype(np.float32)
    logits = recorder.run(network, image)  # [1, classes]
    parts = _parts(network, recorder, image, logits)
    parameters = sum(int(values.size) for values in network.parameters() if not values.stop_gradient)
    unused = parameters - sum(part.parameters for part in parts)
    if unused:  # S and L carry a batch norm of their code base that no tensor passes
        nothing = (network.num_classes, 1, 1)
        part = Part(
            name="unused", kind="batch norm", before=nothing, after=nothing, shortcut=0, steps=(), parameters=unused,
            mult_adds=0,
        )  # fmt: skip
        parts.append(part)
    return Anatomy(
        image_size=image_size,
        num_classes=network.num_classes,
        identity_divisor=getattr(network, "identity_divisor", 1),
        parts=tuple(parts),
        parameters=parameters,
        mult_adds=sum(part.mult_adds for part in parts),
    )


def _parts(network: Network, recorder: _Recorder, image: Tensor, logits: Tensor) -> list[Part]:
    """Return the stem where there is one, the blocks, and the head."""
    parts: list[Part] = []
    layers, blocks = recorder.layers, network.blocks()
    first, last = blocks[0][0], blocks[-1][0]
    if recorder.first[first] > 0:  # layers before the first block
        parts.append(_part("stem", "stem", layers[: recorder.first[first]], image, recorder.inputs[first]))
    for name, block in blocks:
        before, after = recorder.inputs[name], recorder.outputs[name]
        own = layers[recorder.first[name] : recorder.stop[name]]
        own = _without(recorder.hidden[name], own) if name in recorder.hidden else own
        parts.append(_part(name, _kind_of(block), own, before, after, _joined(block, before, after)))
    head = layers[recorder.stop[last] :]
    return [*parts, _part("head", "mean, linear", head, recorder.outputs[last], logits[..., None, None])]


def _without(hidden: Tensor, layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers of a block with a thin shortcut, the input of its second half without what was added to it."""
    changed = list(layers)
    for index, (name, layer, before, after) in enumerate(layers):
        if name.endswith(".conv2.0"):
            branch = before.copy()
            branch[:, : hidden.shape[1]] -= hidden
            changed[index] = (name, layer, branch, after)
    return changed


def _kind_of(block: Any) -> str:
    kinds = {
        "Sandglass": "sandglass",
        "SandglassSE": "sandglass, SE",
        "GhostSandglass": "ghost sandglass, SE",
        "InvertedResidual": "inverted residual",
        "MorePointwise": "sandglass, three 1x1",
        "SqueezedSandglass": "sandglass, SE inside",
        "ThinShortcut": "sandglass, thin shortcut",
        "TwoDepthwise": "bottleneck, two depthwise",
        "OneDepthwise": "bottleneck, one depthwise",
        "ThinDepthwise": "inverted residual, thin depthwise",
    }
    return kinds.get(type(block).__name__, "convolution")


def _joined(block: Any, before: Tensor, after: Tensor) -> int:
    """Return the number of channels that the shortcut joins."""
    joins = getattr(getattr(block, "plan", block), "shortcut", False)
    return int(after.shape[1]) // getattr(block, "identity_divisor", 1) if joins else 0


def _part(name: str, kind: str, layers: Sequence[Layer], before: Tensor, after: Tensor, joined: int = 0) -> Part:
    branch = after.copy()
    if joined:
        branch[:, :joined] -= before[:, :joined]  # what came out of the last layer
    steps = tuple(_steps(name, layers, branch))
    return Part(
        name=name,
        kind=kind,
        before=_shape(before),
        after=_shape(after),
        shortcut=joined,
        steps=steps,
        parameters=sum(step.parameters for step in steps),
        mult_adds=sum(step.mult_adds for step in steps),
    )


def _steps(part: str, layers: Sequence[Layer], branch: Tensor) -> Iterable[Step]:
    """Return the convolutions and linear layers in order, each with its batch norm and activation."""
    from paddle import nn

    starts = [index for index, (_, layer, *_) in enumerate(layers) if not isinstance(layer, nn.BatchNorm2D)]
    for start, stop in zip(starts, [*starts[1:], len(layers)], strict=True):
        name, layer, before, after = layers[start]
        follows = layers[stop][2] if stop < len(layers) else branch
        step_layers = [inner for _, inner, *_ in layers[start:stop]]
        kind, activation = _kind_of_step(name, layer), _activation(layers[stop - 1][3], follows)
        convolution = isinstance(layer, nn.Conv2D)
        # One output value costs in_channels / groups * k * k, which is the size of one filter.
        cost = layer.weight.size // layer.weight.shape[0] if convolution else layer.weight.shape[0]
        yield Step(
            name=name.removeprefix(f"{part}."),
            kind=kind,
            kernel=layer.weight.shape[-1] if convolution else 1,
            stride=before.shape[2] // after.shape[2] if convolution else 1,
            groups=before.shape[1] * layer.weight.shape[0] // (layer.weight.size // layer.weight.shape[-1] ** 2)
            if convolution
            else 1,
            before=_shape(before),
            after=_shape(after),
            norm=len(step_layers) > 1,
            activation=next((own for end, (_, own) in SIDE_BRANCH.items() if own and name.endswith(end)), activation),
            parameters=sum(int(p.size) for inner in step_layers for p in inner.parameters() if not p.stop_gradient),
            mult_adds=int(after.size * cost),
        )


def _kind_of_step(name: str, layer: Any) -> str:
    if side := next((kind for end, (kind, _) in SIDE_BRANCH.items() if name.endswith(end)), None):
        return side
    if len(layer.weight.shape) == 2:
        return "linear"
    filters, per_group, kernel, _ = layer.weight.shape
    if kernel == 1:
        return "pointwise"
    return "depthwise" if per_group == 1 and filters > 1 else "conv"


def _activation(output: Tensor, follows: Tensor) -> str:
    """Return the activation between two layers from the output [1, C, H, W] of one and the input of the next.

    Only the channels that both have are compared: the ghost block leaves some out and joins them again.
    """
    output = output.astype(np.float64)
    candidates = {
        "": output,
        "ReLU6": output.clip(0, 6),
        "Swish": output / (1 + np.exp(-output)),
    }
    errors = {}
    for name, value in candidates.items():
        pooled = value.mean(axis=(2, 3)) if value.ndim == 4 and follows.shape[2:] in ((), (1, 1)) else value
        flat = follows.reshape(pooled.shape[0], -1, *pooled.shape[2:])
        channels = min(pooled.shape[1], flat.shape[1])
        errors[name] = float(np.abs(pooled[:, :channels] - flat[:, :channels]).max())
    return min(errors, key=lambda name: errors[name])


def _shape(tensor: Tensor) -> Shape:
    channels, height, width = (*tensor.shape[1:], 1, 1)[:3]
    return int(channels), int(height), int(width)
