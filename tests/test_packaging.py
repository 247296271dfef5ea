"""What people and tools read before the package: extras, requirements, lists of files, the citation, the hooks."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import mobilenext
from mobilenext.cli.program import parser

ROOT = Path(__file__).parents[1]
tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]


def expand(*extras: str) -> set[str]:
    """The requirements of extras, with those of the extras that they name."""
    requirements: set[str] = set()
    for extra in extras:
        for requirement in EXTRAS[extra]:
            own = re.fullmatch(r"mobilenext\[(.+)\]", requirement)
            requirements |= expand(*own[1].split(",")) if own else {requirement}
    return requirements


def test_requirements_are_the_core_and_the_quickstart() -> None:
    lines = {line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")}
    core = set(PYPROJECT["project"]["dependencies"])
    assert lines == core | expand("cpu", "quickstart", "onnx", "report")


def test_all_has_what_every_other_extra_for_users_has() -> None:
    assert expand("all") == expand(*(set(EXTRAS) - {"all", "dev", "docs"}))


def test_extras_that_messages_and_documents_name_are_there() -> None:
    places = ("src/mobilenext/**/*.py", "*.md", "docs/*.md", "examples/*.md", "deploy/*.*")
    texts = [path for place in places for path in ROOT.glob(place)]
    installs = re.compile(r"pip install .{0,60}?['\"/](?:mobilenext|\.|/source)\[([a-z,]+)\]")
    named = {extra for path in texts for names in installs.findall(path.read_text()) for extra in names.split(",")}
    assert {"cpu", "quickstart", "serve"} <= named <= set(EXTRAS)


def test_every_requirement_is_pinned_where_all_is_installed() -> None:
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    names = {re.split(r"[<>=\[]", requirement)[0] for requirement in expand("all", "dev", "docs")}
    assert names - pinned == {"setuptools"}  # which comes with Python's environments


def test_the_source_distribution_names_what_is_there_and_leaves_nothing_out() -> None:
    include = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    listed = {name.removeprefix("/") for name in include}
    tracked = subprocess.run(
        ["git", "ls-tree", "--name-only", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    assert all((ROOT / name).exists() for name in listed)
    assert set(tracked) - listed <= {"pyproject.toml", ".gitignore"}  # which hatchling adds by itself


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_the_citation_is_of_this_version_and_of_the_paper() -> None:
    citation = read("CITATION.cff")
    assert (citation["version"], citation["license"]) == (mobilenext.__version__, PYPROJECT["project"]["license"])
    assert citation["authors"][0]["name"] in (ROOT / "NOTICE").read_text()
    paper = citation["preferred-citation"]
    families = [author["family-names"] for author in paper["authors"]]
    assert f"{', '.join(families[:-1])} and {families[-1]}" in (ROOT / "NOTICE").read_text()
    assert f'"{paper["title"]}"' in " ".join((ROOT / "NOTICE").read_text().split())


def test_the_hooks_run_what_make_runs() -> None:
    entries = [hook["entry"] for hook in read(".pre-commit-config.yaml")["repos"][0]["hooks"]]
    recipes = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    assert len(entries) == 4
    assert all(re.search(rf"^\t{re.escape(entry)}(?: \.)?$", recipes, flags=re.MULTILINE) for entry in entries)


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")), ids=lambda path: path.stem)
def test_issue_templates_are_forms(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert form == {"blank_issues_enabled": False}
        return
    assert {"name", "description", "body"} <= set(form)
    assert all(item["type"] in ("textarea", "input") and item["attributes"]["label"] for item in form["body"])
    assert len({item["id"] for item in form["body"]}) == len(form["body"])


@pytest.mark.parametrize("name", ["serve", "evaluate"])
def test_images_have_a_pinned_base_a_user_without_rights_and_a_command_that_is_understood(name: str) -> None:
    text = (ROOT / "deploy" / f"Dockerfile.{name}").read_text().replace("\\\n", "")
    bases = re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE)
    assert bases == ["python:3.11-slim-bookworm"] * 2
    last = dict(line.partition(" ")[::2] for line in text.rpartition("\nFROM")[2].splitlines()[1:])
    assert last["USER"] == "10001:10001"
    assert "HEALTHCHECK" in last
    program, *words = json.loads(last["ENTRYPOINT"]) + json.loads(last.get("CMD", "[]"))
    assert program == "mobilenext"
    parser().parse_args(words)


def test_the_unit_runs_a_command_that_is_understood() -> None:
    unit = (ROOT / "deploy" / "mobilenext-serve.service").read_text()
    words = re.findall(r"^ExecStart=/opt/mobilenext/bin/mobilenext (.+)$", unit, flags=re.MULTILINE)
    parser().parse_args(words[0].split())
