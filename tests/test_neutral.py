"""The packages that every task shares know none of them: no identifier in them is about labels, classes or top-1."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mobilenext

ROOT = Path(mobilenext.__file__).parent
NEUTRAL = ("training", "evaluation", "runs", "report")
WORDS = frozenset(
    {"label", "labels", "labelled", "labeled", "class", "classes", "top1", "top5", "correct", "logits", "accuracy"}
)
OTHER_MEANINGS = frozenset({"classmethod", "ClassVar", "__class__"})  # what Python calls a class
EXCEPTIONS = {
    "report": {"labelExpr", "labelLimit"},  # of an axis in Vega-Lite
    "evaluation": {"correct"},  # `Counts.correct` of a task, None where it has no such number
}


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Every name, attribute, argument, keyword and imported name, and every text that is the name of a field."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.keyword(arg=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.ImportFrom(module=module, names=names):
                yield from (part for name in names for part in (name.name, *(module or "").split(".")))
            case ast.Constant(value=str(text)) if text.isidentifier():
                yield text
            case ast.Import(names=names):
                yield from (part for name in names for part in name.name.split("."))


def words(identifier: str) -> set[str]:
    """The words of an identifier, in snake case or in capitals inside it."""
    return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower().split("_"))


@pytest.mark.parametrize("package", NEUTRAL)
def test_no_identifier_is_about_a_class(package: str) -> None:
    strangers = {
        f"{path.name}: {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in identifiers(ast.parse(path.read_text()))
        if words(name) & WORDS and name not in OTHER_MEANINGS and name not in EXCEPTIONS.get(package, set())
    }
    assert strangers == set()


@pytest.mark.parametrize(
    ("identifier", "is_about_classes"),
    [("num_classes", True), ("LabelledImage", True), ("top1_percent", True), ("classify", False), ("dataclass", False)],
)
def test_the_words_are_found(identifier: str, is_about_classes: bool) -> None:
    (name,) = set(identifiers(ast.parse(identifier)))
    assert bool(words(name) & WORDS) == is_about_classes
