"""The notebook runs, with one epoch of few images in the usual tests and as it is in the long ones."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mobilenext.machine.packages import installed

nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
for package in ("ipykernel", "vl_convert", "sklearn"):
    if not installed(package):
        pytest.skip(f"{package} is not installed", allow_module_level=True)

NOTEBOOK = Path(__file__).parents[1] / "docs" / "sandglass.ipynb"
LARGEST = 300_000  # bytes: it stays in the history of the repository
SHORT = {"EPOCHS": "1", "SEEDS": "1", "SEARCH_EPOCHS": "1"}
FEWER_IMAGES = """
from mobilenext.data import digits

write_all = digits.write_digits


def write_digits(folder, part="val"):  # one in five to train on
    folder = write_all(folder, part)
    if part == "train":
        lines = (folder / "train_list.txt").read_text().splitlines(keepends=True)
        (folder / "train_list.txt").write_text("".join(lines[::5]))
    return folder


digits.write_digits = write_digits
"""


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def execute(folder: Path, monkeypatch: pytest.MonkeyPatch, first: str = "", **variables: str) -> Any:
    """Execute the notebook, after a cell that is not in it."""
    for name in SHORT:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder), **variables}.items():
        monkeypatch.setenv(name, value)
    notebook = read()
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3").execute(cwd=str(folder))
    return notebook


def texts(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def pictures(notebook: Any) -> list[Image.Image]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [Image.open(BytesIO(base64.b64decode(png))) for png in found]


def check_results(notebook: Any, seeds: int) -> None:
    """The three pictures, a result of each network and seed, and two edges for each node of the cells."""
    assert len(pictures(notebook)) == 3
    text = texts(notebook)
    counts = re.findall(r"^(mobilenext|mobilenetv2)_x0_35 +seed \d: (\d+) of 599 correct$", text, flags=re.MULTILINE)
    assert [name for name, _ in counts] == ["mobilenext", "mobilenetv2"] * seeds
    shares = re.findall(r"seed \d: +([\d.]+) %  \(95 % of this one: ([\d.]+) to ([\d.]+)\)", text)
    assert sorted(float(share) for share, *_ in shares) == sorted(
        float(f"{100 * int(count) / 599:.2f}") for _, count in counts
    )
    assert all(float(low) < float(share) < float(high) for share, low, high in shares)
    assert (
        len(re.findall(r"^(?:normal|reduce) cell, node \d: \w+ of input \d, \w+ of input \d$", text, re.MULTILINE)) == 8
    )


def test_the_stored_notebook() -> None:
    assert NOTEBOOK.stat().st_size < LARGEST
    notebook = read()
    nbformat.validate(notebook)
    assert not re.search(r"/(?:tmp|work|root|home)/", NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))  # run from the top, once
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert kinds <= {"stream", "execute_result"}  # no error
    assert all(picture.width <= 1800 for picture in pictures(notebook))
    check_results(notebook, seeds=2)


def test_links_of_the_notebook() -> None:
    prose = "\n".join(cell.source for cell in read().cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", prose)
    assert links
    for link in links:
        assert (NOTEBOOK.parent / link.partition("#")[0]).is_file(), link
    for script in re.findall(r"^    python (\S+)", prose, flags=re.MULTILINE):
        assert (NOTEBOOK.parents[1] / script).is_file()


def test_it_runs_with_one_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = execute(tmp_path, monkeypatch, FEWER_IMAGES, **SHORT)
    check_results(notebook, seeds=1)
    assert "One seed each: no interval of the difference." in texts(notebook)


@pytest.mark.long
def test_it_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = execute(tmp_path, monkeypatch)
    check_results(notebook, seeds=2)
    assert re.search(r"minus mobilenetv2_x0_35: [+-][\d.]+ points, 95 % ", texts(notebook))
