"""The documents say what the results and the command line say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from document_tables.results import load
from mobilenext.cli.program import parser
from mobilenext.runs.curves import curves
from update_pictures import claim_runs

ROOT = Path(__file__).parents[1]


def test_tables_are_made_from_the_results() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "update_tables.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, f"run `python scripts/update_tables.py`: {done.stdout}{done.stderr}"


def test_the_curves_of_the_claim_end_at_the_means_of_its_table() -> None:
    result = load("claim.json")
    _, validation, rates = curves(claim_runs(result))["concat"]
    points = [point for layer in validation["layer"] for point in layer["data"]["values"] if point["epoch"] == 20]
    ends = {(point["weights"].split()[0].lower(), round(point["value"], 6)) for point in points}
    assert ends >= {(row["kind"], round(row["mean_top1_percent"], 6)) for row in result["comparison"]["groups"]}
    assert all(len(layer["data"]["values"]) == 20 for layer in rates["layer"])


@pytest.mark.parametrize("name", ["README.md", "README_cn.md"])
def test_every_command_in_the_readme_is_understood(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    commands = re.findall(r"^    mobilenext (.+?)(?:\s+#.*)?$", text, flags=re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        parser().parse_args(command.split())  # SystemExit names what it does not know


@pytest.mark.parametrize("folder", ["", "test_tipc"])
def test_the_two_readmes_have_the_same_sections_and_commands(folder: str) -> None:
    texts = [(ROOT / folder / name).read_text(encoding="utf-8") for name in ("README.md", "README_cn.md")]
    headings = [len(re.findall(r"^#+ ", text, flags=re.MULTILINE)) for text in texts]
    commands = [
        re.findall(r"^    (?:mobilenext|make|pip|bash) \S+(?: \S+)?", text, flags=re.MULTILINE) for text in texts
    ]
    assert headings[0] == headings[1]
    assert commands[0] == commands[1]


def test_links_lead_to_files() -> None:
    for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("test_tipc/**/*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document.name}: {target}"
