"""Networks of cells: a stem, cells that a genotype describes, a global average pool and a linear layer.

Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv 1806.09055); layout and parameter names are
those of the authors' code (quark0/darts, ``cnn/model.py``).

    form cifar:    stem, 3x3 to 3 C                           cells see the whole image
    form imagenet: stem0, two 3x3 / 2 to C; stem1, 3x3 / 2    cells see an eighth of its side

A cell takes the outputs of the two cells before it, the first those of the stems. The cells at one and at two thirds of
the depth halve the side and double the channels. The output of a cell is the concatenation of its four nodes, each the
sum of two operators.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import paddle
from paddle import nn

from mobilenext.errors import UsageError
from mobilenext.models.cell_auxiliary import (
    AUXILIARY_SIDE,
    SIDE_RATIO,
    AuxiliaryHead,
    auxiliary_fits,
    auxiliary_side,
    too_small,
)
from mobilenext.models.cell_operators import (
    FactorizedReduce,
    Identity,
    build_operator,
    check_operators,
    conv,
    linear,
    relu_conv_bn,
)
from mobilenext.models.genotype import INPUTS, NODES, Genotype
from mobilenext.models.network import Network, Tap, drop_connect

log = logging.getLogger(__name__)

FORMS = ("cifar", "imagenet")
STEM_CIFAR = 3  # channels of the stem, as a multiple of those of a cell


class CellShape(NamedTuple):
    """Where a cell stands in a network."""

    before: tuple[int, int]  # channels of its two inputs, the older first
    channels: int  # of each of its nodes
    reduction: bool  # halves the side
    reduces_older: bool  # its older input has twice the side of the other


def cell_shapes(form: str, channels: int, cells: int, stem: int | None = None) -> Iterator[CellShape]:
    """Return the cells of a network in order.

    Args:
        form: cifar, or imagenet, whose first cell takes inputs of two sizes.
        channels: of the nodes of the first cell.
        cells: how many.
        stem: channels of the inputs of the first cell.
    """
    older = newer = (STEM_CIFAR * channels if form == "cifar" else channels) if stem is None else stem
    reduced = form == "imagenet"
    for index in range(cells):
        reduction = index in (cells // 3, 2 * cells // 3)
        channels *= 2 if reduction else 1
        yield CellShape((older, newer), channels, reduction, reduced)
        older, newer, reduced = newer, NODES * channels, reduction


def check_form(form: str, channels: int, cells: int, num_classes: int) -> None:
    """Raise UsageError for sizes that no network of cells has."""
    if form not in FORMS:
        raise UsageError(f"form is {form!r}; expected cifar or imagenet")
    for name, value in (("channels", channels), ("cells", cells), ("num_classes", num_classes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} is {value!r}; expected a whole number from 1 up")
    if channels % 2:
        raise UsageError(f"channels is {channels}; expected an even number: two convolutions share them")


def preprocess(shape: CellShape, affine: bool) -> tuple[nn.Layer, nn.Layer]:
    """Build what gives the two inputs of a cell its channels, and its side."""
    older, newer = shape.before
    reduce = FactorizedReduce if shape.reduces_older else relu_conv_bn
    return reduce(older, shape.channels, affine), relu_conv_bn(newer, shape.channels, affine)


def stem_cifar(channels: int) -> nn.Sequential:
    """Build a 3x3 convolution and its batch norm: [N, 3, H, W] to [N, channels, H, W]."""
    return nn.Sequential(conv(3, channels, 3), nn.BatchNorm2D(channels))


def stem_imagenet(channels: int) -> nn.Sequential:
    """Build two 3x3 convolutions of stride 2: [N, 3, H, W] to [N, channels, H / 4, W / 4]."""
    half = channels // 2
    first = [conv(3, half, 3, 2), nn.BatchNorm2D(half), nn.ReLU()]
    return nn.Sequential(*first, conv(half, channels, 3, 2), nn.BatchNorm2D(channels))


class Cell(nn.Layer):  # type: ignore[misc]
    """One cell: the maps of the two cells before it, the newer first, to its own [N, 4 * channels, H, W] and the newer.

    A reduction halves the side.
    """

    def __init__(self, shape: CellShape, edges: Sequence[tuple[str, int]]) -> None:
        super().__init__()
        self.preprocess0, self.preprocess1 = preprocess(shape, affine=True)
        self._ops = nn.LayerList(
            build_operator(name, shape.channels, 2 if shape.reduction and source < INPUTS else 1, affine=True)
            for name, source in edges
        )
        self.sources = [source for _, source in edges]
        self.drop_path = 0.0

    def forward(self, maps: tuple[paddle.Tensor, paddle.Tensor]) -> tuple[paddle.Tensor, paddle.Tensor]:
        newer, older = maps
        states = [self.preprocess0(older), self.preprocess1(newer)]
        for node in range(NODES):
            first, second = (self._run(edge, states) for edge in (INPUTS * node, INPUTS * node + 1))
            states.append(first + second)
        return paddle.concat(states[INPUTS:], axis=1), newer

    def _run(self, edge: int, states: Sequence[paddle.Tensor]) -> paddle.Tensor:
        operator = self._ops[edge]
        output = operator(states[self.sources[edge]])
        return output if isinstance(operator, Identity) else drop_connect(output, self.drop_path, self.training)


class CellNetwork(Network):
    """The network of a genotype. In training it returns ``(logits, auxiliary_logits)`` where it has the second head.

    Args:
        genotype: of its cells.
        form: cifar or imagenet.
        channels: of the nodes of the first cell, an even number.
        cells: how many.
        num_classes: outputs of the classifiers.
        auxiliary: whether it has the auxiliary head.
        image_size: pixels, the side of the images that it is trained on, where it is known: where their map is too
            small for it, the auxiliary head is left out, and the log says so. Where it is not known, the images tell.

    Raises:
        UsageError: an operator that does not exist, or a size that no network has.
    """

    head_layers = ("auxiliary_head", "classifier")
    training_layers = ("auxiliary_head",)

    def __init__(
        self,
        genotype: Genotype,
        form: str = "cifar",
        channels: int = 36,
        cells: int = 20,
        num_classes: int = 10,
        auxiliary: bool = False,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        check_form(form, channels, cells, num_classes)
        check_operators(genotype.operators)
        self.genotype, self.form, self.num_classes = genotype, form, num_classes
        if form == "cifar":
            self.add_sublayer("stem", stem_cifar(STEM_CIFAR * channels))  # beside the method of that name
        else:
            self.stem0 = stem_imagenet(channels)
            self.stem1 = nn.Sequential(nn.ReLU(), conv(channels, channels, 3, 2), nn.BatchNorm2D(channels))
        shapes = list(cell_shapes(form, channels, cells))
        self.cells = nn.LayerList(
            Cell(shape, genotype.reduce if shape.reduction else genotype.normal) for shape in shapes
        )
        self.auxiliary_cell = 2 * cells // 3  # the last reduction
        self.auxiliary_head: AuxiliaryHead | None = None
        self._auxiliary_channels = NODES * shapes[self.auxiliary_cell].channels
        if auxiliary:
            self.add_auxiliary_head(image_size)
        self.classifier = linear(NODES * shapes[-1].channels, num_classes)
        # The maps that the heads see; their stride is that of the form.
        indices = (self.auxiliary_cell, cells - 1)
        self._heads = [Tap(index, None, NODES * shapes[index].channels, SIDE_RATIO[form]) for index in indices]
        self._told = False

    def blocks(self) -> list[tuple[str, nn.Layer]]:
        return [(f"cells.{index}", cell) for index, cell in enumerate(self.cells)]

    def add_auxiliary_head(self, image_size: int | None = None) -> None:
        """Add a freshly initialized auxiliary head; or log that it is left out, where the images are too small."""
        if image_size is not None and not auxiliary_fits(self.form, image_size):
            log.warning("%s", too_small(self.form, auxiliary_side(self.form, image_size)))
        else:
            self.auxiliary_head = AuxiliaryHead(self._auxiliary_channels, self.num_classes, self.form)

    def set_drop_path(self, probability: float) -> None:
        """Set the probability that the output of an operator is dropped in training, for each image by itself.

        An identity is never dropped.

        Raises:
            UsageError: no probability from 0 to below 1.
        """
        if not 0 <= probability < 1:
            raise UsageError(f"the probability of drop-path is {probability}; expected at least 0 and less than 1")
        for cell in self.cells:
            cell.drop_path = probability

    def set_drop_connect(self, rate: float) -> None:
        """Refuse what belongs to shortcuts of blocks: the operators of a cell have drop-path."""
        if rate:
            raise UsageError(f"a network of cells has no drop_connect; found {rate}, expected 0 (it has drop_path)")

    def stem(self, x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Return the two maps that the first cell takes, the newer first."""
        if self.form == "cifar":
            x = self._sub_layers["stem"](x)
            return x, x
        older = self.stem0(x)
        return self.stem1(older), older

    # As in Network.forward.
    @paddle.jit.not_to_static  # type: ignore[untyped-decorator]
    def forward(self, x: paddle.Tensor) -> paddle.Tensor | tuple[paddle.Tensor, paddle.Tensor]:
        """Turn normalized images [N, 3, H, W] into logits [N, num_classes]; in training, with the auxiliary ones."""
        if self.training and self.auxiliary_head is not None:
            return self._both_logits(x, self.auxiliary_head)
        return super().forward(x)

    def _both_logits(
        self, x: paddle.Tensor, auxiliary_head: AuxiliaryHead
    ) -> paddle.Tensor | tuple[paddle.Tensor, paddle.Tensor]:
        middle, last = self.maps(x, self._heads)
        logits, side = self.head(last), min(middle.shape[2:])
        if side >= AUXILIARY_SIDE[self.form]:
            return logits, auxiliary_head(middle)
        if not self._told:
            log.warning("%s", too_small(self.form, side))
            self._told = True
        return logits

    @property
    def class_layers(self) -> tuple[str, ...]:
        return ("auxiliary_head.classifier", "classifier")

    def remove_head(self) -> None:
        super().remove_head()
        self.auxiliary_head = None

    def head(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.classifier(self.pooled(x))
