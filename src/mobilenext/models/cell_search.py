"""The super-network of DARTS: every edge of its cells is a mixture of all operators, weighted by its alphas.

Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv 1806.09055); layout and parameter names are
those of the authors' code (quark0/darts, ``cnn/model_search.py``). Its batch norms have no weights and biases, but for
the stem's, since these could undo what the alphas say.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn

from mobilenext.models.cell import (
    STEM_CIFAR,
    CellShape,
    cell_shapes,
    check_form,
    preprocess,
    stem_cifar,
    stem_imagenet,
)
from mobilenext.models.cell_operators import (
    DARTS,
    FactorizedReduce,
    FreeNorm,
    Identity,
    Operator,
    Residual,
    Zero,
    batch_norm,
    build_operator,
    check_operators,
    linear,
)
from mobilenext.models.genotype import EDGES, INPUTS, NODES, checked_operators
from mobilenext.models.network import Network

ALPHA_SCALE = 1e-3  # standard deviation of the first alphas


class MixedOperator(nn.Layer):  # type: ignore[misc]
    """The sum of all operators, each times its weight: [N, C, H, W] to [N, C, ceil(H / stride), ceil(W / stride)].

    Written so that a training step needs little time and memory; the result is that of the plain sum up to rounding:

    * An operator ends with a batch norm that has no scale of its own: there the weight is the scale. So neither the
      outputs of operators nor their products with weights are kept for the gradients.
    * The input itself, which the identity and the shortcuts of blocks pass on, is multiplied once, by their weights.
    * The operators of DARTS begin with a ReLU of the same input: it is computed once for all edges from it.
    * ``none`` is zero times its weight, which is left out: its alpha acts through the softmax.
    """

    def __init__(self, operators: Sequence[str], channels: int, stride: int) -> None:
        super().__init__()
        layers = []
        for name in operators:
            layer = build_operator(name, channels, stride, affine=False)
            # Pools have a batch norm here, and none in the final network.
            layers.append(nn.Sequential(layer, batch_norm(channels, False)) if "_pool_" in name else layer)
        self._ops = nn.LayerList(layers)

    def forward(
        self, x: paddle.Tensor, weights: Sequence[paddle.Tensor], rectified: paddle.Tensor | None = None
    ) -> paddle.Tensor:
        """Return the sum.

        Args:
            x: [N, C, H, W].
            weights: a number for each operator.
            rectified: the ReLU of `x`, where it is known.
        """
        rectified = F.relu(x) if rectified is None else rectified
        terms, of_input = [], []  # maps, and the weights of the input itself
        for layer, weight in zip(self._ops, weights, strict=True):
            if isinstance(layer, Identity | Residual):
                of_input.append(weight)
            if not isinstance(layer, Zero | Identity):
                terms.append(_weighted(layer, weight, x, rectified))
        if of_input:
            terms.append(x * paddle.add_n(of_input))
        return paddle.add_n(terms)


def _weighted(layer: nn.Layer, weight: paddle.Tensor, x: paddle.Tensor, rectified: paddle.Tensor) -> paddle.Tensor:
    """Return an operator's output times its weight, without its shortcut."""
    if isinstance(layer, FactorizedReduce):
        branch, norm = layer.halves(rectified), layer.bn
    else:
        *layers, norm = layer.op if isinstance(layer, Operator) else layer
        starts_with_relu = isinstance(layers[0], nn.ReLU)
        branch = rectified if starts_with_relu else x
        for inner in layers[starts_with_relu:]:
            branch = inner(branch)
    # In a run of several processes it may have been replaced by one that sums over them.
    return norm(branch, weight) if isinstance(norm, FreeNorm) else norm(branch) * weight


class SearchCell(nn.Layer):  # type: ignore[misc]
    """A cell with a mixed operator on each of its 14 edges."""

    def __init__(self, operators: Sequence[str], shape: CellShape) -> None:
        super().__init__()
        self.reduction = shape.reduction
        self.preprocess0, self.preprocess1 = preprocess(shape, affine=False)
        self._ops = nn.LayerList(
            MixedOperator(operators, shape.channels, 2 if shape.reduction and source < INPUTS else 1)
            for node in range(NODES)
            for source in range(INPUTS + node)
        )

    def forward(
        self, older: paddle.Tensor, newer: paddle.Tensor, weights: Sequence[Sequence[paddle.Tensor]]
    ) -> paddle.Tensor:
        states = [self.preprocess0(older), self.preprocess1(newer)]
        rectified = [F.relu(state) for state in states]
        edge = 0
        for node in range(NODES):
            terms = []
            for state, positive in zip(states, rectified, strict=True):
                terms.append(self._ops[edge](state, weights[edge], positive))
                edge += 1
            states.append(paddle.add_n(terms))
            if node < NODES - 1:
                rectified.append(F.relu(states[-1]))
        return paddle.concat(states[INPUTS:], axis=1)


class CellSearchNetwork(Network):
    """The super-network; its alphas are parameters, one table for all normal and one for all reduction cells.

    Args:
        operators: the names of the columns of alphas, in order.
        channels: of the nodes of the first cell, an even number.
        cells: how many.
        num_classes: outputs of the classifier.
        form: cifar, whose cells see the whole image; or imagenet, whose cells see a quarter of its side: the first two
            convolutions of that form's stem stand before them.

    Raises:
        UsageError: an operator that does not exist, or a size that no network has.
    """

    head_layers = ("classifier",)

    def __init__(
        self,
        operators: Sequence[str] = DARTS,
        channels: int = 16,
        cells: int = 8,
        num_classes: int = 10,
        form: str = "cifar",
    ) -> None:
        super().__init__()
        check_form(form, channels, cells, num_classes)
        self.operators = checked_operators(operators)
        check_operators(self.operators)
        self.form, self.num_classes = form, num_classes
        width = STEM_CIFAR * channels if form == "cifar" else channels
        # A layer beside the method of that name.
        self.add_sublayer("stem", stem_cifar(width) if form == "cifar" else stem_imagenet(width))
        shapes = list(cell_shapes("cifar", channels, cells, stem=width))
        self.cells = nn.LayerList(SearchCell(self.operators, shape) for shape in shapes)
        self.classifier = linear(NODES * shapes[-1].channels, num_classes)
        self.alphas_normal, self.alphas_reduce = self._new_alphas(), self._new_alphas()

    def _new_alphas(self) -> paddle.Tensor:
        first = paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, ALPHA_SCALE))
        return self.create_parameter([EDGES, len(self.operators)], attr=first)

    @property
    def alphas(self) -> dict[str, paddle.Tensor]:
        """Return the parameters of the architecture by name, each [14, operators]."""
        return {"alphas_normal": self.alphas_normal, "alphas_reduce": self.alphas_reduce}

    def stem(self, x: paddle.Tensor) -> paddle.Tensor:
        return self._sub_layers["stem"](x)

    def blocks(self) -> list[tuple[str, nn.Layer]]:
        return [(f"cells.{index}", cell) for index, cell in enumerate(self.cells)]

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """Turn normalized images [N, 3, H, W] into logits [N, num_classes]."""
        return self.head(self.forward_features(x))

    def forward_features(self, x: paddle.Tensor) -> paddle.Tensor:
        normal, reduce = (_weights(alphas) for alphas in self.alphas.values())
        older = newer = self.stem(x)
        for cell in self.cells:
            older, newer = newer, cell(older, newer, reduce if cell.reduction else normal)
        return newer

    def head(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.classifier(self.pooled(x))


def _weights(alphas: paddle.Tensor) -> list[list[paddle.Tensor]]:
    """Return the softmax of each row of alphas, as numbers without a shape."""
    return [row.unbind() for row in F.softmax(alphas, axis=-1).unbind()]
