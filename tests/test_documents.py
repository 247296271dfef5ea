"""The documents say what the results and the command line say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import mobilenext
from document_tables.results import load
from mobilenext.cli.program import VERBS, parser
from result_pictures import claim_spec

ROOT = Path(__file__).parents[1]
FOLDERS = (".", "docs", "docs/*", "deploy", "examples", "examples/*", "test_tipc", "test_tipc/docs")
DOCUMENTS = sorted({path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md")})


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def commands(document: Path, program: str) -> Iterator[str]:
    """The commands that begin with `program` in the code blocks of a document, without their comments."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    code = [line.strip() for line in re.findall(r"^    (.+)$", text, flags=re.MULTILINE)]
    code += "\n".join(
        re.findall(r"^```(?:bash|sh|shell|console)?\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    ).split("\n")
    for line in code:
        for command in line.removeprefix("$ ").split(" && "):
            if found := re.match(rf"(?:.*\$\(which )?{program}\b\)? (.+)", command):
                yield found[1]


def test_results_name_no_path_of_one_machine() -> None:
    for file in sorted((ROOT / "results").glob("*.json")):
        commands = re.findall(r'"command": "([^"]*)"', file.read_text(encoding="utf-8"))
        assert [command for command in commands if re.search(r"(^|[ =])/", command)] == [], file.name


def test_tables_are_made_from_the_results() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "update_tables.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, f"run `python scripts/update_tables.py`: {done.stdout}{done.stderr}"


def test_the_picture_of_the_claim_has_the_means_of_its_table() -> None:
    result = load("claim.json")
    layers = claim_spec(result)["concat"][0]["layer"]
    rows = [row for layer in layers for row in layer["data"]["values"]]
    means = {round(row["mean"], 6) for row in rows if "mean" in row}
    raw = [row for row in result["comparison"]["groups"] if row["kind"] == "raw"]
    assert means == {round(row["mean_top1_percent"], 6) for row in raw}
    assert len([row for row in rows if "top1" in row]) == len(result["comparison"]["runs"])
    # Student's 97.5 % quantile with 2 degrees of freedom is 4.302653.
    halves = {round((row["high"] - row["low"]) / 2, 3) for row in rows if "mean" in row}
    assert halves == {round(4.302653 * row["std_points"] / 3**0.5, 3) for row in raw}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_is_understood(document: Path) -> None:
    for command in commands(document, "mobilenext"):
        parser().parse_args(shlex.split(command, comments=True))  # SystemExit names what it does not know
    for verb in re.findall(r"`mobilenext ([a-z][a-z-]+)", document.read_text(encoding="utf-8")):
        assert verb in VERBS
    for command in commands(document, "python"):
        words = shlex.split(command, comments=True)
        assert words[0] == "-m" or (ROOT / words[0]).is_file(), command
    for command in commands(document, "make"):
        target = shlex.split(command)[0]
        assert f"\n{target}: " in (ROOT / "Makefile").read_text(), command


@pytest.mark.parametrize("name", ["photos", "boxes", "cn/photos", "cn/boxes"])
def test_a_guide_installs_what_its_commands_need(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    (extras,) = re.findall(r"`pip install '\.\[([a-z,]+)\]'`", text)
    verbs = set(re.findall(r"mobilenext ([a-z]+) ", text))
    assert {"cpu", *({"train", "serve", "report"} & verbs)} <= set(extras.split(","))


def test_the_readmes_have_commands() -> None:
    for name in ("README.md", "README_cn.md"):
        assert len(list(commands(ROOT / name, "mobilenext"))) >= 6


@cache
def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = [re.sub(r"[^\w\- ]", "", title.strip().lower()) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return {title.replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_and_headings(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if not target.startswith("https://"):
            path = document.parent / target if target else document
            assert path.exists(), link
            assert not anchor or anchor in anchors(path), link


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    listed = re.findall(r"^([\w./]+)$", (ROOT / "docs" / "index.md").read_text(), flags=re.MULTILINE)
    assert {path.stem for path in ROOT.glob("docs/*.md")} - {"index"} <= set(listed)


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    for package in (mobilenext, mobilenext.detection, mobilenext.search):
        for name in set(package.__all__) - {"__version__"}:
            assert re.search(rf":: {package.__name__}\.{name}$", text, flags=re.MULTILINE), name
