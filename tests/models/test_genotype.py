"""The genotype that alphas stand for, as the authors' code reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cell_recordings import formula_alphas, recorded
from mobilenext import search
from mobilenext.errors import UsageError
from mobilenext.models.genotype import DARTS, GENOTYPES, Genotype, read_genotype

TABLES = recorded("genotypes")[0]
NAN = float("nan")


def tables_of(table: dict[str, Any]) -> list[Any]:
    if "formula" not in table:
        return [table["alphas_normal"], table["alphas_reduce"]]
    scale = float(table["formula"].split("* ")[1].split(",")[0])
    tag = table["formula"].split("keys ")[1].split("-normal")[0]
    return [formula_alphas(f"{tag}-{cell}", len(table["primitives"]), scale) for cell in ("normal", "reduce")]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table["name"])
def test_genotypes_are_those_of_the_authors(table: dict[str, Any]) -> None:
    genotype = search.read_genotype(*tables_of(table), operators=table["primitives"])
    assert genotype.normal == [tuple(edge) for edge in table["normal"]]
    assert genotype.reduce == [tuple(edge) for edge in table["reduce"]]


@pytest.mark.parametrize("table", TABLES[:5], ids=lambda table: table["name"])
def test_the_order_of_the_columns_does_not_matter_where_nothing_ties(table: dict[str, Any]) -> None:
    order = np.random.default_rng(3).permutation(len(table["primitives"]))
    permuted = [np.asarray(alphas)[:, order] for alphas in tables_of(table)]
    genotype = read_genotype(*permuted, operators=[table["primitives"][column] for column in order])
    assert genotype.to_dict() == {"normal": table["normal"], "reduce": table["reduce"]}


def test_names_need_not_be_known_and_none_may_stand_anywhere_or_be_missing() -> None:
    alphas = np.zeros((14, 3))
    alphas[:, 2] = 1.0
    assert set(read_genotype(alphas, alphas, ["a", "b", "none"]).normal) == {("a", 0), ("a", 1)}
    assert set(read_genotype(alphas, alphas, ["none", "b", "a"]).normal) == {("a", 0), ("a", 1)}
    assert set(read_genotype(alphas, alphas, ["a", "b", "c"]).normal) == {("c", 0), ("c", 1)}


def test_rows_with_permuted_values_tie_exactly() -> None:
    generator = np.random.default_rng(0)
    row = generator.normal(size=11)
    row[4] = 5.0  # the largest
    for _ in range(20):
        # The columns of the largest differ from row to row, their probabilities do not: the lower inputs win.
        alphas = np.stack([generator.permutation(row) for _ in range(14)])
        edges = read_genotype(alphas, alphas, [f"operator_{column}" for column in range(11)]).normal
        assert [source for _, source in edges] == [0, 1] * 4


def test_none_takes_probability_from_its_edge() -> None:
    alphas = np.zeros((14, 2))
    alphas[0] = [3.0, 3.0]  # of the operator 0.5
    alphas[2:5] = [[0.0, 2.0], [0.0, 1.0], [4.0, 3.0]]  # 0.88, 0.73 and 0.27
    edges = read_genotype(alphas, alphas, ["none", "skip"]).normal
    assert edges[:4] == [("skip", 0), ("skip", 1), ("skip", 0), ("skip", 1)]


@pytest.mark.parametrize(
    ("normal", "message"),
    [
        (np.full((14, 8), NAN), r"alphas_normal has nan in row 0, column 0 \(none\); expected finite"),
        (np.zeros((13, 8)), r"alphas_normal has the shape \[13, 8\]; expected \[14, 8\]"),
        (np.zeros((14, 9)), r"alphas_normal has the shape \[14, 9\]; expected \[14, 8\]"),
        (np.zeros(14), r"alphas_normal has the shape \[14\]"),
        ([[0.0] * 8] * 13 + [[0.0]], "alphas_normal is no table of numbers"),
        ("alphas", "alphas_normal is no table of numbers"),
        (None, "alphas_normal"),
    ],
)
def test_alphas_that_are_none(normal: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_genotype(normal, np.zeros((14, 8)))


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        (["none"], "expected at least one other than 'none'"),
        ([], "expected at least one other"),
        (["a", "a"], "have a more than once"),
        ("skip", "expected a list of names"),
        ([1, 2], "expected a list of names"),
    ],
)
def test_operators_that_cannot_be_columns(operators: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_genotype(np.zeros((14, len(operators))), np.zeros((14, len(operators))), operators)


def test_published_genotypes_are_those_of_the_recordings() -> None:
    for name, cells in recorded("discrete")[0]["genotypes"].items():
        assert GENOTYPES[name.lower()].to_dict() == {kind: cells[kind] for kind in ("normal", "reduce")}
    assert all(set(genotype.operators) <= set(DARTS) for genotype in GENOTYPES.values())


def test_a_genotype_comes_back_from_what_json_stores() -> None:
    genotype = GENOTYPES["darts_v2"]
    assert Genotype(**genotype.to_dict()) == genotype
    assert len({genotype, Genotype(**genotype.to_dict())}) == 1


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([("a", 0)] * 6, "has 8 edges"),
        ([("a", 2), *[("a", 0)] * 7], "node 2 takes its inputs from 0 to 1"),
        ([*[("a", 0)] * 7, ("a", 5)], "node 5 takes its inputs from 0 to 4"),
        ([*[("a", 0)] * 7, ("a", -1)], "node 5 takes"),
        ([*[("a", 0)] * 7, ("a", True)], "node 5 takes"),
        ([*[("a", 0)] * 7, "ab"], "edge 7 of the normal cell"),
        ("aaaaaaaa", "has 8 edges"),
        (None, "has 8 edges"),
    ],
)
def test_edges_that_no_cell_has(edges: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Genotype(edges, GENOTYPES["darts_v1"].reduce)
