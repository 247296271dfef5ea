"""Genotypes: which operators, on which inputs, make up the two kinds of cell of a network; and the rule of DARTS.

Liu et al., "DARTS: Differentiable Architecture Search", ICLR 2019 (arXiv 1806.09055). A cell has two inputs, the
outputs of the two cells before it (numbers 0 and 1), and four nodes (numbers 2 to 5). An edge leads to a node from an
input or from an earlier node, so there are 2 + 3 + 4 + 5 = 14 of them; a searched cell keeps two edges for each node.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mobilenext.errors import UsageError

NODES = 4  # of a cell
INPUTS = 2  # of a cell, and of each of its nodes in a genotype
EDGES = sum(INPUTS + node for node in range(NODES))
NONE = "none"  # the operator of an edge that is not there: has a column of alphas, and is never chosen
DARTS = (
    NONE,
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)  # the operators of DARTS, in the order of its columns

Edges: TypeAlias = "list[tuple[str, int]]"


@dataclass(frozen=True)
class Genotype:
    """The operators of the normal and of the reduction cell.

    Each is a list of eight (operator, input), two for each of the nodes 2 to 5, in order. Any pairs are taken, such as
    the lists of a JSON file, and become tuples.

    Raises:
        UsageError: another number of edges, or an edge from a node that is not before its own.
    """

    normal: Edges
    reduce: Edges

    def __post_init__(self) -> None:
        for cell in ("normal", "reduce"):
            object.__setattr__(self, cell, _checked_edges(cell, getattr(self, cell)))

    def __hash__(self) -> int:
        return hash((*self.normal, *self.reduce))

    @classmethod
    def from_dict(cls, cells: Mapping[str, Any]) -> Genotype:
        """Return the genotype of ``{"normal": [[operator, input], ...], "reduce": [...]}``.

        Raises:
            UsageError: other keys, or edges that no cell can have.
        """
        if not isinstance(cells, Mapping) or set(cells) != {"normal", "reduce"}:
            keys = sorted(map(str, cells)) if isinstance(cells, Mapping) else type(cells).__name__
            raise UsageError(f"a genotype has the keys normal and reduce; found {keys}")
        return cls(cells["normal"], cells["reduce"])

    def to_dict(self) -> dict[str, list[list[Any]]]:
        """Return the genotype as JSON stores it."""
        return {"normal": [list(edge) for edge in self.normal], "reduce": [list(edge) for edge in self.reduce]}

    @property
    def operators(self) -> list[str]:
        """Return the names of the operators, each once, in the order in which they appear."""
        return list(dict.fromkeys(name for name, _ in (*self.normal, *self.reduce)))


def _checked_edges(cell: str, edges: Any) -> Edges:
    if isinstance(edges, str) or not isinstance(edges, Sequence) or len(edges) != INPUTS * NODES:
        size = len(edges) if isinstance(edges, Sequence) else type(edges).__name__
        raise UsageError(
            f"the {cell} cell of a genotype has {INPUTS * NODES} edges, two for each of {NODES} nodes; found {size}"
        )
    pairs = []
    for position, edge in enumerate(edges):
        node = INPUTS + position // INPUTS
        if isinstance(edge, str) or not isinstance(edge, Sequence) or len(edge) != 2 or not isinstance(edge[0], str):
            raise UsageError(f"edge {position} of the {cell} cell is {edge!r:.60}; expected (operator, input)")
        operator, source = edge
        if isinstance(source, bool) or not isinstance(source, int) or not 0 <= source < node:
            raise UsageError(
                f"edge {position} of the {cell} cell comes from {source!r:.60}; node {node} takes its inputs from 0 to "
                f"{node - 1}"
            )
        pairs.append((operator, source))
    return pairs


def _published(normal: str, reduce: str) -> Genotype:
    """Return the genotype of two lists of ``operator input``, parted by commas."""
    cells = [[edge.split() for edge in cell.split(",")] for cell in (normal, reduce)]
    return Genotype(*([(operator, int(source)) for operator, source in cell] for cell in cells))


# As the authors print them: quark0/darts (V1 by the first order, V2 by the second) and yuhuixu1993/PC-DARTS.
GENOTYPES: Mapping[str, Genotype] = MappingProxyType(
    {
        "darts_v1": _published(
            "sep_conv_3x3 1, sep_conv_3x3 0, skip_connect 0, sep_conv_3x3 1, "
            "skip_connect 0, sep_conv_3x3 1, sep_conv_3x3 0, skip_connect 2",
            "max_pool_3x3 0, max_pool_3x3 1, skip_connect 2, max_pool_3x3 0, "
            "max_pool_3x3 0, skip_connect 2, skip_connect 2, avg_pool_3x3 0",
        ),
        "darts_v2": _published(
            "sep_conv_3x3 0, sep_conv_3x3 1, sep_conv_3x3 0, sep_conv_3x3 1, "
            "sep_conv_3x3 1, skip_connect 0, skip_connect 0, dil_conv_3x3 2",
            "max_pool_3x3 0, max_pool_3x3 1, skip_connect 2, max_pool_3x3 1, "
            "max_pool_3x3 0, skip_connect 2, skip_connect 2, max_pool_3x3 1",
        ),
        "pc_darts_cifar": _published(
            "sep_conv_3x3 1, skip_connect 0, sep_conv_3x3 0, dil_conv_3x3 1, "
            "sep_conv_5x5 0, sep_conv_3x3 1, avg_pool_3x3 0, dil_conv_3x3 1",
            "sep_conv_5x5 1, max_pool_3x3 0, sep_conv_5x5 1, sep_conv_5x5 2, "
            "sep_conv_3x3 0, sep_conv_3x3 3, sep_conv_3x3 1, sep_conv_3x3 2",
        ),
        "pc_darts_imagenet": _published(
            "skip_connect 1, sep_conv_3x3 0, sep_conv_3x3 0, skip_connect 1, "
            "sep_conv_3x3 1, sep_conv_3x3 3, sep_conv_3x3 1, dil_conv_5x5 4",
            "sep_conv_3x3 0, skip_connect 1, dil_conv_5x5 2, max_pool_3x3 1, "
            "sep_conv_3x3 2, sep_conv_3x3 1, sep_conv_5x5 0, sep_conv_3x3 3",
        ),
    }
)


def read_genotype(alphas_normal: Any, alphas_reduce: Any, operators: Sequence[str] = DARTS) -> Genotype:
    """Return the genotype that two tables of alphas stand for, by the rule of DARTS.

    Each row becomes probabilities by a softmax over all operators, ``none`` included. A node keeps the two edges whose
    largest probability of another operator than ``none`` is largest, largest first; ties go to the lower input. Each
    has the operator of that probability; ties go to the lower column.

    Args:
        alphas_normal: numbers [14, operators], a row for each edge, node by node; an array, a tensor or lists.
        alphas_reduce: the same of the reduction cell.
        operators: the name of each column. ``none`` may stand anywhere, or be missing; other names are not checked, so
            that they need not be known here.

    Raises:
        UsageError: names that are not unique, a table of another shape, or a value that is no finite number.
    """
    names = checked_operators(operators)
    tables = (("alphas_normal", alphas_normal), ("alphas_reduce", alphas_reduce))
    return Genotype(*(_edges_of(_checked_alphas(title, alphas, names), names) for title, alphas in tables))


def checked_operators(operators: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns of a table of alphas.

    Raises:
        UsageError: no list of unique names, or none of them can be chosen.
    """
    if isinstance(operators, str) or not all(isinstance(name, str) for name in operators):
        raise UsageError(f"operators is {operators!r:.80}; expected a list of names")
    names = tuple(operators)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"the operators have {twice[0]} more than once; expected each name once")
    if not set(names) - {NONE}:
        raise UsageError(f"the operators are {list(names)}; expected at least one other than {NONE!r}")
    return names


def _checked_alphas(title: str, alphas: Any, operators: Sequence[str]) -> npt.NDArray[np.float64]:
    shape = (EDGES, len(operators))
    try:
        table = np.asarray(alphas, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{title} is no table of numbers; expected {list(shape)}: {error}") from None
    if table.shape != shape:
        raise UsageError(
            f"{title} has the shape {list(table.shape)}; expected {list(shape)}, a row for each edge and a column for "
            "each operator"
        )
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise UsageError(
            f"{title} has {table[row, column]} in row {row}, column {column} ({operators[column]}); expected finite "
            "numbers"
        )
    return table


def _edges_of(alphas: npt.NDArray[np.float64], operators: Sequence[str]) -> Edges:
    columns = [column for column, name in enumerate(operators) if name != NONE]
    best = []  # (probability, column) of each edge
    for row in alphas:
        exponentials = np.exp(row - row.max())
        # The exact sum: it does not depend on the order of the columns, so rows that are permuted tie exactly.
        probabilities = exponentials / math.fsum(exponentials)
        column = max(columns, key=probabilities.__getitem__)  # the first of equals
        best.append((probabilities[column], column))
    edges: Edges = []
    for node in range(NODES):
        first_row = sum(INPUTS + earlier for earlier in range(node))
        rows = best[first_row : first_row + INPUTS + node]
        sources = sorted(range(len(rows)), key=lambda source: -rows[source][0])  # stable: of equals, the lower input
        edges += [(operators[rows[source][1]], source) for source in sources[:INPUTS]]
    return edges
