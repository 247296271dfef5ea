"""The rules of the house that can be read off the source: sizes, names, and what one package takes from another.

Imports between packages are checked by the contracts of import-linter (`make lint`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import mobilenext

ROOT = Path(mobilenext.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
PACKAGES = sorted({path.relative_to(ROOT).parts[0] for path in FILES})

LONGEST_FUNCTION = 60  # lines
MOST_PARAMETERS = 8
LONGEST_FILE = 330  # lines

LONG_FUNCTIONS = {
    "weights.foreign.pickle_machine._Machine._step",  # a dispatch: one case for each operation of a pickle
}
LONG_PARAMETER_LISTS: set[str] = set()
LONG_FILES: set[str] = set()
# Participles say what happened to a value, not what it is.
FORBIDDEN_NAMES = frozenset({"found", "made", "said", "given", "held", "asked"})
FORBIDDEN_LOOP_VARIABLES = frozenset({"each"})
# Not yet clean:
PACKAGES_WITH_FORBIDDEN_NAMES: set[str] = set()
INITS_WITH_LOGIC: set[str] = set()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module_of(path: Path) -> str:
    """The name of a module below `mobilenext`; of a package's `__init__`, that of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def package_of(path: Path) -> str:
    """The package of a file, below `mobilenext`; "" for the files of `mobilenext` itself."""
    return ".".join(path.relative_to(ROOT).parent.parts)


def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function below `node` with its dotted name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}.{child.name}", child
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from functions(child, f"{prefix}.{child.name}" if named else prefix)


@cache
def all_functions() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    return [item for path in FILES for item in functions(tree_of(path), module_of(path))]


def imports_from_here(tree: ast.AST) -> Iterator[tuple[str, ast.alias]]:
    """The module, below `mobilenext`, and the name of every `from mobilenext... import name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mobilenext":
            yield from ((str(node.module).partition(".")[2], alias) for alias in node.names)


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def test_no_private_name_of_another_package() -> None:
    problems = []
    for path in FILES:
        tree, package = tree_of(path), package_of(path)
        modules = {}  # the name in this file of a module of another package
        for module, alias in imports_from_here(tree):
            owner = module if module in PACKAGES_OF_FILES else module.rpartition(".")[0]
            if owner != package and any(map(is_private, [alias.name, *module.split(".")])):
                problems.append(f"{module_of(path)} imports {module}.{alias.name}")
            if f"{module}.{alias.name}" in MODULES and owner != package:
                modules[alias.asname or alias.name] = module
        problems += [
            f"{module_of(path)} uses {node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
            if is_private(node.attr)
        ]
    assert problems == []


PACKAGES_OF_FILES = {package_of(path) for path in FILES}


def test_functions_are_short() -> None:
    long = {
        f"{name} ({length})"
        for name, node in all_functions()
        if (length := int(node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION and name not in LONG_FUNCTIONS
    }
    assert long == set()


def test_parameter_lists_are_short() -> None:
    long = set()
    for name, node in all_functions():
        arguments = node.args
        names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        count = len(names) - (names[:1] in (["self"], ["cls"])) + len(arguments.kwonlyargs)
        count += (arguments.vararg is not None) + (arguments.kwarg is not None)  # **options: Unpack[...] counts as one
        if count > MOST_PARAMETERS and name not in LONG_PARAMETER_LISTS:
            long.add(f"{name} ({count})")
    assert long == set()


def test_files_are_short() -> None:
    lengths = {module_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE and name not in LONG_FILES} == {}


def test_typing_has_these_names_in_python_3_10() -> None:
    """Names that came later are imported for type checking only."""
    later = {"LiteralString", "Never", "NotRequired", "Required", "Self", "Unpack", "assert_never", "override"}
    problems = [
        f"{module_of(path)}: {alias.name}"
        for path in FILES
        for node in tree_of(path).body
        if isinstance(node, ast.ImportFrom) and node.module == "typing"
        for alias in node.names
        if alias.name in later
    ]
    assert problems == []


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=module_of)
def test_an_init_only_hands_names_on(path: Path) -> None:
    """Imports and ``__all__``; or names by their homes, which ``__getattr__`` imports when they are used."""

    def fits(node: ast.stmt) -> bool:
        if isinstance(node, ast.If):  # of TYPE_CHECKING
            return ast.unparse(node.test) == "TYPE_CHECKING" and all(map(fits, node.body)) and not node.orelse
        if isinstance(node, ast.FunctionDef):
            return node.name in ("__getattr__", "__dir__")
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return [ast.unparse(target) for target in targets] in (["__all__"], ["_HOMES"])
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        return docstring or isinstance(node, ast.Import | ast.ImportFrom)

    if module_of(path) not in INITS_WITH_LOGIC:
        assert [ast.unparse(node)[:80] for node in tree_of(path).body if not fits(node)] == []


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=module_of)
def test_no_module_hides_a_name_that_its_package_hands_on(path: Path) -> None:
    """`from mobilenext.x import name` would be the module or the function, by who has imported what."""
    tree, prefix = tree_of(path), f"{package_of(path)}.".lstrip(".")
    names = {alias.asname or alias.name for _, alias in imports_from_here(tree)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "_HOMES"):
            names |= set(ast.literal_eval(node.value))
    modules = {name.removeprefix(prefix) for name in MODULES if name.startswith(prefix)}
    assert names & modules - {alias for alias in LAZY_PACKAGES if not prefix} == set()


LAZY_PACKAGES = frozenset({"detection", "search"})  # are attributes of `mobilenext`, and imported when they are used


def names_bound(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every variable and parameter of a forbidden name, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in FORBIDDEN_NAMES:
            yield node.id, node.lineno
        elif isinstance(node, ast.arg) and node.arg in FORBIDDEN_NAMES:
            yield node.arg, node.lineno
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            for target in ast.walk(node.target):
                if isinstance(target, ast.Name) and target.id in FORBIDDEN_LOOP_VARIABLES:
                    yield target.id, target.lineno


@pytest.mark.parametrize("package", PACKAGES)
def test_variables_are_nouns(package: str) -> None:
    problems = [
        f"{module_of(path)}:{line}: {name}"
        for path in FILES
        if path.relative_to(ROOT).parts[0] == package
        for name, line in names_bound(tree_of(path))
    ]
    if package not in PACKAGES_WITH_FORBIDDEN_NAMES:
        assert problems == []
