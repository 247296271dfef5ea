"""The list of experiments: who takes which run, what is kept of those that are finished, and the tables made of it."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from document_tables import experiments as tables
from experiments import runs as runs_module
from experiments.cells import ARMS, Cells, is_shown
from experiments.pairs import FIRST, SECOND, VARIANTS, Pairs
from experiments.runs import Run, carry_out, command, difference, taken
from experiments.swap import Swap, genotype_of
from mobilenext.errors import UsageError
from run_folders import a_run

EPOCHS = 3


class FewPairs(Pairs):
    epochs, seeds, variant_seeds = EPOCHS, 3, 1


@pytest.fixture
def pairs(tmp_path: Path) -> FewPairs:
    return FewPairs(Path("data"), tmp_path / "runs", tmp_path / "results" / "tiny20_pairs.json")


def finish(folder: Path, correct: int, epochs: int = EPOCHS, **changes: Any) -> None:
    model, _, seed = folder.name.rpartition("_")
    a_run(folder, correct, ema=correct + 2, model=model, seed=int(seed), recipe={"epochs": epochs}, **changes)


def test_the_order(tmp_path: Path) -> None:
    names = [(run.rank, name) for name, run in Pairs(tmp_path, tmp_path, tmp_path / "a.json").runs.items()]
    assert names[:4] == [(1, f"{FIRST}_0"), (1, f"{SECOND}_0"), (1, f"{FIRST}_1"), (1, f"{SECOND}_1")]
    assert names[10:] == [(5, f"{name}_0") for name in VARIANTS]
    assert len(VARIANTS) == 7
    searches = [run.rank for run in Cells(tmp_path, tmp_path, tmp_path / "b.json").planned()]
    assert [searches.count(rank) for rank in (3, 6, 7)] == [12, 12, 24]


def test_a_run_begins_or_goes_on(pairs: FewPairs) -> None:
    run, other, *_ = pairs.planned()
    folder = pairs.folder / other.name
    a_run(folder, done=1, model=SECOND)
    begun = command(run, pairs.folder / run.name)
    assert begun is not None
    assert begun[3:] == [
        *("train", "data", "--model", FIRST, "--recipe", "tiny", "--set", "epochs=3", "--seed", "0"),
        *("-o", str(pairs.folder / run.name)),
    ]
    assert (command(other, folder) or [])[3:] == ["train", "--resume", str(folder)]
    assert pairs.row(other, folder) is None


class Trained:
    """In place of `subprocess.run`: every run of MobileNeXt is finished with 100 images right, others fail."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, arguments: list[str], **_: object) -> Trained:
        folder = Path(arguments[-1])
        self.names.append(folder.name)
        self.returncode = 0 if folder.name.startswith(FIRST) else 5
        if self.returncode == 0:
            finish(folder, 100)
        return self


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    fake = Trained()
    monkeypatch.setattr(runs_module.subprocess, "run", fake)
    return fake


def test_only_what_is_neither_finished_nor_taken_is_trained(pairs: FewPairs, trained: Trained) -> None:
    finish(pairs.folder / f"{SECOND}_0", 90)  # its folder is finished, its row is not written
    with taken(pairs.folder / f"{FIRST}_0.lock") as mine:
        assert mine
        failed = carry_out([pairs])
    assert trained.names == [*(f"{model}_{seed}" for seed in (1, 2) for model in (FIRST, SECOND)), *_variants()]
    assert len(failed) == 2 + len(VARIANTS)
    assert f"{SECOND}_1: exit code 5" in failed[0]
    assert list(pairs.rows()) == [f"{SECOND}_0", f"{FIRST}_1", f"{FIRST}_2"]


def _variants() -> list[str]:
    return [f"{name}_0" for name in VARIANTS]


def test_a_row_outlives_its_folder(pairs: FewPairs, trained: Trained, tmp_path: Path) -> None:
    carry_out([pairs])
    (pairs.folder / f"{FIRST}_0").rename(tmp_path / "elsewhere")
    trained.names.clear()
    carry_out([pairs])
    assert f"{FIRST}_0" not in trained.names
    assert f"{FIRST}_0" in pairs.rows()


def test_what_needs_another_run_comes_after_it(tmp_path: Path, trained: Trained) -> None:
    class Chain(FewPairs):
        def planned(self) -> list[Run]:
            first, second = (self._run(FIRST, seed, 1) for seed in (0, 1))
            failing = self._run(SECOND, 0, 1)
            after = self._run(FIRST, 2, 0)
            return [
                *(Run(after.name, 0, after.begin, after.expected, (second.name,)), first, second, failing),
                Run(f"{SECOND}_1", 2, failing.begin, {}, (failing.name,)),
            ]

    chain = Chain(Path("data"), tmp_path / "runs", tmp_path / "chain.json")
    assert len(carry_out([chain])) == 1
    assert trained.names == [f"{FIRST}_0", f"{FIRST}_1", f"{FIRST}_2", f"{SECOND}_0"]


def test_results_and_tables(pairs: FewPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "load", lambda name: json.loads((tmp_path / "results" / name).read_text()))
    assert "n = 0" in tables.pairs()
    for seed, (ours, theirs) in enumerate(((100, 94), (104, 96), (110, 100))):  # 3, 4 and 5 points of 200 images apart
        for model, correct in ((FIRST, ours), (SECOND, theirs)):
            finish(pairs.folder / f"{model}_{seed}", correct)
            pairs.keep(pairs.runs[f"{model}_{seed}"])
    finish(pairs.folder / f"{VARIANTS[0]}_0", 90)
    pairs.keep(pairs.runs[f"{VARIANTS[0]}_0"])
    content = json.loads(pairs.output.read_text())
    assert (len(content["runs"]), content["runs_planned"]) == (7, 13)
    pair = next(pair for pair in content["pairs"] if (pair["second"], pair["weights"]) == (SECOND, "raw"))
    assert (pair["n"], pair["differences"], pair["mean"]) == (3, [3, 4, 5], 4)
    # Standard error 1 / sqrt(3), Student's t of two degrees of freedom 4.3027.
    assert pair["interval"] == pytest.approx([4 - 4.3027 / 3**0.5, 4 + 4.3027 / 3**0.5], abs=1e-4)
    assert "+4.00 (+1.52 to +6.48; n 3)" in tables.pairs()
    assert "+5.00 (no interval; n 1)" in tables.variant_runs()
    assert "7 of 13 runs are finished" in tables.variant_runs()


def test_another_run_in_its_folder(pairs: FewPairs) -> None:
    finish(pairs.folder / f"{FIRST}_0", 90, epochs=44)
    with pytest.raises(UsageError, match=r"holds a run of .*44.*expected .*3.*; name another folder"):
        pairs.row(pairs.runs[f"{FIRST}_0"], pairs.folder / f"{FIRST}_0")


def test_other_data_or_another_configuration(pairs: FewPairs) -> None:
    finish(pairs.folder / f"{FIRST}_0", 90)
    finish(pairs.folder / f"{SECOND}_0", 90, data={"train_sha256": "c" * 64})
    pairs.keep(pairs.runs[f"{FIRST}_0"])
    with pytest.raises(UsageError, match="of other data"):
        pairs.keep(pairs.runs[f"{SECOND}_0"])
    assert list(pairs.rows()) == [f"{FIRST}_0"]
    with pytest.raises(UsageError, match="of another configuration"):
        Pairs(Path("data"), pairs.folder, pairs.output).rows()


def test_differences_are_those_of_common_seeds() -> None:
    assert difference({0: 3.0, 2: 5.0}, {1: 1.0}) == {"n": 0, "seeds": []}
    row = difference({0: 3.0, 1: 5.0, 2: 9.0}, {1: 1.0, 2: 3.0, 3: 0.0})
    assert (row["n"], row["seeds"], row["differences"], row["mean"]) == (2, [1, 2], [4.0, 6.0], 5.0)


def test_what_is_swapped(tmp_path: Path) -> None:
    """Three of the five separable convolutions, none of the reduction cell."""
    published, swapped = genotype_of("darts_v2"), genotype_of("sandglass")
    names = [name for name, _ in swapped.normal]
    assert (names.count("sandglass_3x3"), names.count("sep_conv_3x3")) == (3, 2)
    assert [source for _, source in swapped.normal] == [source for _, source in published.normal]
    assert swapped.reduce == published.reduce
    assert len(Swap(tmp_path, tmp_path, tmp_path / "a.json").runs) == 9


def a_search(arm: str, seed: int, parameters: int) -> dict[str, Any]:
    row = {"run": f"search_{arm}_{seed}", "kind": "search", "arm": arm, "seed": seed, "parameters": parameters}
    return {**row, "normal_sandglasses": 2, "normal_skips": 1}


def test_what_searches_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In percent of the search over the shorter list from the same seed: geometric means, as of random cells."""
    cells = Cells(tmp_path, tmp_path / "runs", tmp_path / "results" / "search_cells.json")
    sizes = {"darts": (4_000_000, 2_000_000), "sandglass": (3_000_000, 1_000_000)}  # 25 and 50 % fewer
    rows = [a_search(arm, seed, size) for arm, both in sizes.items() for seed, size in enumerate(both)]
    summary = cells.summary({row["run"]: row for row in rows})
    saved, plain = summary["saved_percent"]
    assert saved["differences"] == pytest.approx([25, 50])
    assert saved["mean"] == pytest.approx(100 * (1 - (0.75 * 0.5) ** 0.5))
    assert saved["interval"][0] < 0 < saved["mean"] < saved["interval"][1] < 100
    assert (plain["n"], summary["shown"]) == (0, {"sandglass": False, "plain": False})
    # Measured with PyTorch: random cells of DARTS have 2.90 M parameters at 36 channels, 20 cells, give or take 17 %.
    assert summary["random"]["darts"]["mean"] == pytest.approx(2.90e6, rel=0.03)
    assert summary["random"]["darts"]["deviation"] == pytest.approx(0.48e6, rel=0.1)
    assert 0 < saved["random"] < 10
    assert is_shown({"random": 1.0, "interval": [2.0, 30.0]}, {"interval": [-0.9, 2.0]})
    assert not is_shown({"random": 2.5, "interval": [2.0, 30.0]}, {"interval": [-0.9, 2.0]})
    assert not is_shown({"random": 1.0, "interval": [2.0, 30.0]}, {"interval": [-1.1, 2.0]})
    assert not is_shown({"random": 1.0, "interval": [2.0, 30.0]}, {"n": 0})
    content = {
        "configuration": json.loads(json.dumps(cells.configuration())),
        "runs": rows,
        "runs_planned": 48,
        **summary,
    }
    monkeypatch.setattr(tables, "_read", lambda file: content)
    (row,) = [line for line in tables.cells().splitlines() if line.startswith(f"| `{ARMS['sandglass']}`")]
    assert f"+{saved['mean']:.2f}" in row
    assert "`darts,sandglass_3x3` not shown" in tables.cells()
    assert f"{statistics.mean(sizes['sandglass']) / 1e6:.2f}" in row
