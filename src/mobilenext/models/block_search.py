"""The super-network of a search over a MobileNeXt: the blocks that may change are choices between several.

Each block with a shortcut is a choice of the hidden width (the published one, three quarters and one and a half times
of it, as multiples of 8) and of the kernel (3 or 5), or is left out. Each transition of stride 2 without a first
depthwise convolution is a choice of the kernel. The published block always is a candidate, the first one.

All candidates start from the published block (`inherit`). So a search begins with a network that works, and a found
network keeps the weights of each published block in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn

from mobilenext.models.block_plan import BlockPlan
from mobilenext.models.choice import Choice
from mobilenext.models.network import Network, make_divisible
from mobilenext.models.sandglass import MobileNeXt, Sandglass

WIDTHS = (1, 0.75, 1.5)  # of the hidden channels, times those of the published block
KERNELS = (3, 5)
LEFT_OUT = "left_out"  # the name of the candidate without a block
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Candidates:
    """What may stand in place of one block."""

    block: int  # its position in the plan
    plans: tuple[BlockPlan | None, ...]  # the published one first; None: it is left out
    dropped: int  # candidates that were equal to another one

    @property
    def names(self) -> tuple[str, ...]:
        """Return a name for each, such as ``h48_k5``, of the hidden channels and the kernel."""
        return tuple(
            LEFT_OUT if plan is None else f"h{plan.hidden_channels}_k{plan.kernel_size}" for plan in self.plans
        )


def find_candidates(plan: Sequence[BlockPlan]) -> tuple[Candidates, ...]:
    """Return the choices that a search over these blocks has, in the order of the blocks."""
    choices = []
    for index, block in enumerate(plan):
        if block.shortcut:
            widths = [make_divisible(ratio * block.hidden_channels, 8) for ratio in WIDTHS if ratio != 1]
            hidden = [block.hidden_channels, *widths]
        elif block.stride == 2 and not block.first_depthwise:
            hidden = [block.hidden_channels]
        else:
            continue
        blocks = [replace(block, hidden_channels=width, kernel_size=kernel) for kernel in KERNELS for width in hidden]
        different = tuple(dict.fromkeys([block, *blocks]))
        left_out = (None,) if block.shortcut else ()
        choices.append(Candidates(index, different + left_out, len(blocks) - len(set(blocks))))
    return tuple(choices)


class BlockSearchNetwork(Network):
    """A MobileNeXt whose blocks are choices, see `mobilenext.models.choice.Choice`.

    Args:
        published: the network to begin with, whose layers become the super-network's own.

    Attributes:
        candidates: what each choice is between.
        choices: the layers, in the same order.
    """

    head_layers = ("classifier",)

    def __init__(self, published: MobileNeXt) -> None:
        super().__init__()
        self.num_classes = published.num_classes
        self.identity_divisor = published.identity_divisor
        self.features_info = published.features_info
        layers = list(published.features)  # the stem, and the blocks
        self.published_plan = tuple(block.plan for block in layers[1:])
        self.candidates = find_candidates(self.published_plan)
        choices = []
        for place in self.candidates:
            block = layers[1 + place.block]
            blocks = [block, *(plan and inherit(plan, block) for plan in place.plans[1:])]
            layers[1 + place.block] = Choice(dict(zip(place.names, blocks, strict=True)))
            choices.append(layers[1 + place.block])
        self.features = nn.Sequential(*layers)
        self.classifier = published.classifier

    @property
    def choices(self) -> list[Choice]:
        return [self.features[1 + place.block] for place in self.candidates]

    @property
    def alphas(self) -> dict[str, paddle.Tensor]:
        """Return the row of alphas of each choice, by its name in the state dict."""
        names = [f"features.{1 + place.block}.alphas" for place in self.candidates]
        return {name: choice.alphas for name, choice in zip(names, self.choices, strict=True)}

    def draw(self, random: np.random.Generator) -> None:
        """Draw the candidates that the next passes in training mode run, one for each choice."""
        for choice in self.choices:
            choice.draw(random.gumbel(size=len(choice.names)).astype(np.float32))

    @contextlib.contextmanager
    def running(self, chosen: Sequence[int]) -> Iterator[None]:
        """Run the `chosen` candidate of each choice inside, in evaluation mode."""
        for choice, index in zip(self.choices, chosen, strict=True):
            choice.chosen = index
        try:
            yield
        finally:
            for choice in self.choices:
                choice.chosen = None

    def set_drop_connect(self, rate: float) -> None:
        blocks = self.blocks()
        for index, (_, block) in enumerate(blocks):
            of_block = rate * index / len(blocks)
            if isinstance(block, Choice):
                block.set_drop_connect(of_block)
            else:
                block.drop_connect_rate = of_block

    def blocks(self) -> list[tuple[str, nn.Layer]]:
        return [(f"features.{index}", block) for index, block in enumerate(self.features)]

    def head(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.classifier(self.pooled(x))

    # Discrete networks.

    def plan(self, chosen: Sequence[int]) -> tuple[BlockPlan, ...]:
        """Return the blocks of the network with the `chosen` candidate of each choice; those left out are not in it."""
        return tuple(plan for plan, _ in self._parts(chosen))

    def network(self, chosen: Sequence[int]) -> MobileNeXt:
        """Return that network, in evaluation mode, with the weights that its parts have here."""
        parts = self._parts(chosen)
        network = MobileNeXt(
            plan=[plan for plan, _ in parts], num_classes=self.num_classes, identity_divisor=self.identity_divisor
        )
        for layer, own in zip(network.features, [self.features[0], *(block for _, block in parts)], strict=True):
            layer.set_state_dict(own.state_dict())
        network.classifier.set_state_dict(self.classifier.state_dict())
        network.eval()
        return network

    def _parts(self, chosen: Sequence[int]) -> list[tuple[BlockPlan, Sandglass]]:
        index_of = dict(zip((place.block for place in self.candidates), chosen, strict=True))
        parts = []
        for place, layer in enumerate(self.features[1:]):
            block = layer.block(index_of[place]) if isinstance(layer, Choice) else layer
            if block is not None:
                parts.append((block.plan, block))
        return parts


def inherit(plan: BlockPlan, published: Sandglass) -> Sandglass:
    """Build a block of another hidden width or kernel that starts from the weights of the published one.

    * A larger kernel starts as the published one in a ring of zeros, and computes the same.
    * More hidden channels: the published ones come first. What the others add to the output has weights of zero, so
      the block computes the same; their own weights are fresh.
    * Fewer: those are kept that move the output most, by |scale of the batch norm| * norm of the weights that read the
      channel, the channel's standard deviation times its reach. The mean of what the others added stays: the batch norm
      after them takes it into account.
    """
    block = Sandglass(plan, published.identity_divisor)
    first = 3 if plan.first_depthwise else 0  # the position of the 1x1 that narrows
    narrow, narrow_norm, widen = (published.conv[first + place] for place in range(3))
    readers = widen.weight.numpy()[:, :, 0, 0]  # [C, h]
    order = np.argsort(-np.abs(narrow_norm.weight.numpy()) * np.linalg.norm(readers, axis=0), kind="stable")
    kept, lost = np.sort(order[: plan.hidden_channels]), np.sort(order[plan.hidden_channels :])

    for layer, own in zip(published.conv, block.conv, strict=True):
        for name, tensor in layer.state_dict().items():
            value, target = tensor.numpy(), own.state_dict()[name]
            if layer is narrow or layer is narrow_norm:  # [h, ...]; what is beyond the published channels stays fresh
                value = np.concatenate([value[kept], target.numpy()[len(kept) :]])
            elif layer is widen:  # [C, h, 1, 1]
                value = _extended(value[:, kept], target.shape)
            elif isinstance(layer, nn.Conv2D):  # [C, 1, k, k]
                ring = (plan.kernel_size - value.shape[-1]) // 2
                value = np.pad(value, [(0, 0), (0, 0), (ring, ring), (ring, ring)])
            target.set_value(value)
    # Behind its batch norm the mean of a hidden channel is that norm's bias.
    mean = block.conv[first + 3]._mean
    mean.set_value(mean.numpy() - readers[:, lost] @ narrow_norm.bias.numpy()[lost])
    return block


def _extended(value: Array, shape: Sequence[int]) -> Array:
    """Return the values in an array of zeros of a larger shape."""
    result = np.zeros(shape, value.dtype)
    result[tuple(slice(size) for size in value.shape)] = value
    return result
