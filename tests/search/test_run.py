"""Whole searches on some of scikit-learn's digits, 8 pixels: what they write, how they go on, what they refuse."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from digit_folders import write_digit_folders
from mobilenext.errors import DataError, DatasetError, Stopped, UsageError
from mobilenext.models.architecture import read_architecture
from mobilenext.models.genotype import read_genotype
from mobilenext.runs.training_run import read_run
from mobilenext.search import search_architecture
from mobilenext.search.page import sections
from mobilenext.training.feeding import Feeder
from mobilenext.training.loop import Loop
from mobilenext.weights.metadata import stored_task
from mobilenext.weights.read import read_weights

OPERATORS = "none,skip_connect,sep_conv_3x3,sandglass_3x3"
SMALL = [
    "image_size=8", "padding=1", "channels=2", "cells=3", f"operators={OPERATORS}", "epochs=3", "batch_size=5",
    "alpha_warmup=0.3",
]  # fmt: skip
pytestmark = pytest.mark.usefixtures("without_curves")
TIMES = ("seconds", "images_per_second", "reader_cost", "batch_cost")
FILES = ("best.safetensors", "last.safetensors", "architecture.json")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images of each of five digits."""
    return write_digit_folders(tmp_path_factory.mktemp("search") / "data", 5, 5)


def search(data: Path, folder: Path, *settings: str, **options: Any) -> dict[str, Any]:
    return search_architecture(
        data, output=folder, settings=[*SMALL, *settings], workers=0, log_every=1, save_every=0, **options
    )


@pytest.fixture(scope="module")
def result_and_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("search") / "run"
    return search(data, folder), folder


@pytest.fixture(scope="module")
def run(result_and_run: tuple[dict[str, Any], Path]) -> Path:
    return result_and_run[1]


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in lines]


def alphas_of(row: dict[str, Any]) -> list[Any]:
    return [np.array(row["search"]["alphas"][f"alphas_{kind}"]) for kind in ("normal", "reduce")]


def test_the_journal_and_the_architecture(run: Path) -> None:
    """The alphas wait one epoch of three, then change; what is found follows from the last ones by the rule."""
    epochs = read_run(run).epochs
    first, second, last = (alphas_of(row) for row in epochs)
    config = json.loads((run / "run.json").read_text())
    assert (config["task"], config["recipe"]["operators"]) == ("search", OPERATORS)
    assert not np.array_equal(first[0], second[0])
    assert not np.array_equal(second[0], last[0])
    assert np.abs(first[0]).max() < 0.01  # 1e-3 * N(0, 1), of the beginning
    found = read_architecture(run / "architecture.json")
    assert found.genotype == read_genotype(*last, OPERATORS.split(","))
    assert found.operators == tuple(OPERATORS.split(","))
    assert epochs[-1]["search"]["architecture"] == found.to_dict()


def test_random_ones_beside_the_result(result_and_run: tuple[dict[str, Any], Path]) -> None:
    result, run = result_and_run
    (found,) = result["search"]["found"]
    assert found["architecture"] == read_architecture(run / "architecture.json").to_dict()
    assert found["random"]["architectures"] == 5
    assert 1e6 < found["random"]["parameters"] < 6e6


def test_the_page_of_a_search(run: Path, tmp_path: Path) -> None:
    """Alphas over epochs, both cells drawn, random ones beside the result; of an unfinished search without these."""
    found = read_architecture(run / "architecture.json")
    (section,) = sections([read_run(run)])
    (article,) = section.parts
    _, table, charts = article.parts[0], article.parts[-2], article.parts[-1]
    titles = [chart.title for chart in charts.charts]
    assert titles[-2:] == ["The normal cell", "The reduction cell"]
    edges = [(operator, source) for _, source, operator in charts.charts[-2].rows]
    names = ["older input", "newer input", "node 0", "node 1", "node 2", "node 3"]
    assert [(operator, names.index(source)) for operator, source in edges] == list(found.genotype.normal)
    assert [row[0].text for row in table.rows] == ["found", "mean of 5 random ones"]
    means = [float(value) for _, _, value in charts.charts[2].rows]
    assert sum(means) == pytest.approx(3, abs=1e-3)  # probabilities, of three epochs
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "result.json").unlink()
    lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
    (folder / "log.jsonl").write_text("".join(lines[:-1]))
    (section,) = sections([read_run(folder)])
    assert "found so far, after epoch 2 of 3" in section.parts[0].parts[0].spans[0]
    row = json.loads(lines[-1])
    row["search"]["alphas"] = "none"
    (folder / "log.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"the log's row of epoch 3.*alphas"):
        sections([read_run(folder)])


def test_halves_by_class_and_seed(data: Path, run: Path, tmp_path: Path) -> None:
    halves = [(run / f"{part}_list.txt").read_text().split("\n")[:-1] for part in ("train", "val")]
    assert not set(halves[0]) & set(halves[1])
    of_class = [Counter(line.rpartition("\t")[2] for line in half) for half in halves]
    assert all(sorted(counts[label] for counts in of_class) == [2, 3] for label in "01234")


def test_a_search_that_stops_goes_on_alike(data: Path, run: Path, tmp_path: Path) -> None:
    """Stopped twice: while the alphas wait, and in the middle of an epoch in which they change."""
    folder, stops = tmp_path / "run", [1, 3]

    def stop(loop: Loop, stopping: int) -> None:
        if stops and loop.position.global_step == stops[0]:
            stops.pop(0)
            raise Stopped("here", 15)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_stop_if_asked", stop)
        with pytest.raises(Stopped):
            search(data, folder)
        assert read_architecture(folder / "architecture.json").space == "cell"
        with pytest.raises(Stopped):
            search_architecture(resume=folder, workers=0, log_every=1, save_every=0)
    search_architecture(resume=folder, workers=0, log_every=1, save_every=0)
    assert rows(folder) == rows(run)
    for name in FILES:
        assert (folder / name).read_bytes() == (run / name).read_bytes(), name
    with safe_open(folder / "checkpoint.safetensors", framework="numpy") as file:
        assert {name.partition("/")[0] for name in file.keys()} == {"network", "optimizer", "alphas"}  # noqa: SIM118


def test_its_weights_are_those_of_a_super_network(run: Path) -> None:
    assert stored_task(run / "best.safetensors") == "search"
    with safe_open(run / "best.safetensors", framework="numpy") as file:
        metadata = file.metadata()
        assert "alphas_normal" in file.keys()  # noqa: SIM118
    assert json.loads(metadata["architecture"])["space"] == "cell"
    with pytest.raises(
        UsageError, match=r"holds the super-network of a search.*mobilenext train DATA --model RUN/arch"
    ):
        read_weights(run / "best.safetensors")


def test_it_ends_at_skips(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    result = search(data, tmp_path / "run", "operators=none,skip_connect", "stop_at_skips=2", "epochs=4")
    assert (result["epochs_done"], result["stopped_early"]) == (2, True)  # in the first one the alphas wait
    assert caplog.text.count("warning: 8 skip connections in the normal cell") == 1
    again = search_architecture(resume=tmp_path / "run", workers=0)
    assert again["epochs_done"] == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"val_split": "0.2"}, UsageError, "val_split is 0.2, but a search divides the training images"),
        ({"recipe": "shrt"}, UsageError, "unknown recipe 'shrt'; did you mean 'short'"),
        ({"task": "detection"}, UsageError, "task is 'detection'"),
    ],
)
def test_what_a_search_refuses(
    data: Path, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        search(data, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_too_few_images(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(data, root)
    for path in sorted((root / "train" / "3").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DatasetError, match=r"too few images for two halves: less than two of 3; expected two or more"):
        search(root, tmp_path / "run")


class Numbers:
    """A job that collates the numbers of its records."""

    def sample(self, image: Any, record: Any, random: np.random.Generator | None) -> tuple[int, float]:
        assert random is not None
        return record.index, float(random.random())

    def order(self, records: Any, random: np.random.Generator) -> Any:
        return random.permutation(len(records)), np.zeros(len(records), np.int64)

    def collate(self, samples: Any, records: Any, place: Any) -> Any:
        from mobilenext.job import Batch

        return Batch(np.array(samples, np.float32), {})


def test_draws_are_fresh_and_seeded(data: Path) -> None:
    """Each draw is a batch of all images, augmented anew; where one begins, and with how many workers, is all one."""
    from mobilenext.data.dataset import open_training
    from mobilenext.job import Feed

    records = open_training(data).records
    feeder = Feeder(records, Numbers(), Feed(1, 8))
    draws = [batch.inputs for batch in feeder.draws(0, 20)]
    assert len(draws) == 20
    assert {int(number) for batch in draws for number in batch[:, 0]} == set(range(len(records)))
    assert all(len(set(batch[:, 0])) == 8 for batch in draws)
    assert len({value for batch in draws for value in batch[:, 1]}) == 160
    later = [batch.inputs for batch in feeder.draws(7, 20)]
    assert all(map(np.array_equal, draws[7:], later))
    first = next(feeder.epoch(3)).inputs
    assert np.array_equal(first, draws[3])
