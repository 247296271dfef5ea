"""Two processes, for real: what they exchange, train and evaluate, and what becomes of one when the other is gone.

`main` of this file is one of the two processes.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import pytest
from PIL import Image

from mobilenext.classification.recipes import RECIPES
from mobilenext.classification.task import TASK
from mobilenext.classification.training import ClassificationJob
from mobilenext.data import Preprocessing, Record, open_dataset
from mobilenext.errors import PeerLost
from mobilenext.machine.process_environment import FAST_PROCESS
from mobilenext.machine.ranks import Ranks, launched
from mobilenext.models import build_network
from mobilenext.runs.run_folder import config_digest, read_config
from mobilenext.seeds import ORDER, generator
from mobilenext.training.state import read_state
from mobilenext.training.validation import Validation
from mobilenext.weights.load import load_weights
from mobilenext.weights.read import read_weights
from pairs import Both, Two
from warm import WarmCommands

if TYPE_CHECKING:
    from tests.conftest import World

MOBILENEXT = Path(sys.executable).with_name("mobilenext")
COLORS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60))
TRAINING, VALIDATION, EPOCHS = 48, 23, 2  # an odd number cannot be shared evenly
# Of each step's loss, relative; measured: 1e-4 at the last step. S is the network to see it with: the plain ones have
# gradients a hundred times as long at first, by which rounding grows to per cents, in one process as in two.
MODEL, LOSS_BOUND = "mobilenext_s", 1e-3
BATCH = 12
ROUND = 8  # images that each process predicts before they exchange their rows; 64 would be all at once


def settings(**others: Any) -> list[str]:
    values = {
        "epochs": EPOCHS, "batch_size": BATCH, "lr_batch_size": BATCH, "lr": 0.003, "warmup_epochs": 1,
        "image_size": 32, "padding": 2, "dropout": 0, "drop_connect": 0, "sync_bn": "true", "erasing": 0.2,
        "ema_decay": 0.8,
    } | others  # fmt: skip
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def train_arguments(data: Path, folder: Path, *options: object, **others: Any) -> list[str]:
    model = ["--model", MODEL, "--recipe", "tiny", "--seed", "5", "--log-every", "1", "--workers", "0"]
    return ["train", str(data), "-o", str(folder), *model, *settings(**others), *map(str, options)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four colours with noise."""
    root = tmp_path_factory.mktemp("colours")
    for part, count in (("train", TRAINING), ("val", VALIDATION)):
        for number in range(count):
            label = number % len(COLORS)
            folder = root / part / f"colour {label}"
            folder.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([number, len(part)])
            pixels = np.array(COLORS[label]) + noise.normal(0, 40, (24, 28, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
    return root


HERE = "machine.test_ranks"  # this file as a program


def rows(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row for row in lines if row["event"] == event]


def wait_for_lines(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 300  # on a machine that is busy
    while time.monotonic() < deadline:
        if (folder / "log.jsonl").is_file() and (folder / "log.jsonl").read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{folder} does not reach {count} lines")


# --- What they exchange -----------------------------------------------------------------------------------------------


def test_one_process_has_nothing_to_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == (0, 1)
    ranks = Ranks()
    assert (ranks.rank, ranks.world, ranks.first) == (0, 1, True)
    assert ranks.sum([1, 2]).tolist() == [1.0, 2.0]
    assert ranks.gather(b"ab") == [b"ab"]
    assert ranks.from_first({"a": [1]}) == {"a": [1]}
    weight = paddle.create_parameter([2], "float32")
    (weight * 3).sum().backward()
    ranks.sum_gradients([weight])
    ranks.share([weight])
    assert weight.grad.tolist() == [3.0, 3.0]


def test_two_processes_exchange_what_they_have(data: Path, tmp_path: Path, both: Both) -> None:
    both([str(data), str(tmp_path)], HERE)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert [found.pop("launched") for found in (first, second)] == [[0, 2], [1, 2]]
    assert [found.pop("first") for found in (first, second)] == [True, False]
    assert first == second  # from here on they know the same
    # Rank r has 1 + 10 r, and 2**52 - 1 - r, which float32 would round.
    assert first["sum"] == [1 + 11, 2**53 - 3]
    assert first["gathered"] == ["", "1" * 1000, "00", "1111", "", ""]
    assert first["from_first"] == {"rank": 0, "text": "für alle", "none": None}
    assert first["shared"] == [[[0.0, 0.5], [1.0, 1.5]], 7]
    # Gradients 1, 2, 3 of the first and 10, 20, 30 of the second; the bias has none in either.
    assert first["gradients"] == [[[11.0, 22.0, 33.0]], None, [5.0]]
    alone = validation_counts(Ranks(), data)
    assert first["counts"]["images"] == alone["images"] == VALIDATION
    assert 0 < alone["correct_top1"] < VALIDATION
    for name in ("correct_top1", "correct_top5", "top1_percent", "top5_percent", "per_class"):
        assert first["counts"][name] == alone[name], name
    assert first["counts"]["loss"] == pytest.approx(alone["loss"], abs=2e-6)


def validation_of(
    records: tuple[Record, ...], preprocessing: Preprocessing, ranks: Ranks, *, batch_size: int
) -> Validation:
    """Of four classes."""
    job = ClassificationJob(RECIPES["tiny"], preprocessing, 4)
    return Validation(records, job, TASK.evaluation, {"num_classes": 4}, batch_size=batch_size, ranks=ranks, pool=None)


def validation_counts(ranks: Ranks, data: Path) -> dict[str, Any]:
    """Of a fresh network, whose answers are spread by statistics of the images."""
    paddle.seed(1)
    network = build_network("mobilenetv2_x0_35", num_classes=4)
    random = np.random.default_rng(3)
    for layer in network.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer.weight.set_value(paddle.to_tensor(random.uniform(1, 3, layer.weight.shape).astype(np.float32)))
            layer.bias.set_value(paddle.to_tensor(random.uniform(-1, 1, layer.bias.shape).astype(np.float32)))
    weight = network.classifier[-1].weight
    weight.set_value(paddle.to_tensor(random.standard_normal(weight.shape).astype(np.float32)))
    records = open_dataset(data).records
    preprocessing = Preprocessing(image_size=32, crop_pct=1.0)
    validation = validation_of(records, preprocessing, ranks, batch_size=4)
    counts = validation.counts(network)
    assert network.training
    return {**counts.summary(), "per_class": counts.by_class.tolist()}


def one_of_two(data: Path, folder: Path) -> None:
    """What each process does in the test above."""
    ranks = Ranks()
    rank = ranks.rank
    found: dict[str, Any] = {"launched": launched(), "first": ranks.first}
    found["sum"] = [int(value) for value in ranks.sum([1 + 10 * rank, 2**52 - 1 - rank])]
    parts = [b"1" * 1000 * rank, b"001111"[2 * rank : 2 + 4 * rank], b""]
    found["gathered"] = [each.decode() for part in parts for each in ranks.gather(part)]
    found["from_first"] = ranks.from_first({"rank": rank, "text": "für alle", "none": None})
    tensors = [paddle.to_tensor([[0.0, 0.5], [1.0, 1.5]]) - 4 * rank, paddle.to_tensor(7 + rank)]
    ranks.share(tensors)
    found["shared"] = [tensor.tolist() for tensor in tensors]
    parameters = [paddle.create_parameter(shape, "float32") for shape in ([1, 3], [3], [1])]
    ((1 + 9 * rank) * (parameters[0] * paddle.to_tensor([1.0, 2.0, 3.0])).sum()).backward()
    ((2 + rank) * parameters[2]).sum().backward()
    ranks.sum_gradients(parameters)
    found["gradients"] = [each.grad.tolist() if each.grad is not None else None for each in parameters]
    ranks.wait()
    found["counts"] = validation_counts(ranks, data)
    (folder / f"{rank}.json").write_text(json.dumps(found))


def test_a_failed_exchange_says_that_another_process_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    import paddle.distributed

    def gone(*_: object) -> None:
        raise RuntimeError("details\nConnection closed by peer")

    monkeypatch.setattr(paddle.distributed, "all_reduce", gone)
    ranks = Ranks()
    ranks.world = 2
    with pytest.raises(PeerLost, match=r"an exchange with .*has ended.*\(Connection closed by peer\)") as lost:
        ranks.sum([1])
    assert lost.value.exit_code == 3


# --- What they train --------------------------------------------------------------------------------------------------


def test_two_processes_train_what_one_does(data: Path, tmp_path: Path, both: Both, mobilenext: Any) -> None:
    """Every step's loss, and both validations'; with images that are mixed, and classes that are weighted."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    others = {"mixup": 0.4, "cutmix": 1.0, "class_weights": "1,2,3,4", "sampling": "balanced"}
    words = train_arguments(data, alone, **others)
    assert mobilenext(*words).returncode == 0
    said = both(train_arguments(data, together, **others))
    assert "Traceback" not in said[0] + said[1]
    assert "epoch 1/2" in said[0]
    assert "epoch 1/2" not in said[1]  # the first one says what all would
    one, other = rows(alone, "step"), rows(together, "step")
    assert len(one) == len(other) == EPOCHS * 4
    apart = [abs(a["loss"] - b["loss"]) / a["loss"] for a, b in zip(one, other, strict=True)]
    assert max(apart) <= LOSS_BOUND, apart
    assert [row["lr"] for row in one] == [row["lr"] for row in other]
    for a, b in zip(rows(alone, "epoch"), rows(together, "epoch"), strict=True):
        for kind in ("raw", "ema"):
            assert b["val"][kind]["images"] == VALIDATION
            assert a["val"][kind]["macro_f1_percent"] == b["val"][kind]["macro_f1_percent"]
            assert a["val"][kind]["loss"] == pytest.approx(b["val"][kind]["loss"], rel=LOSS_BOUND)
    assert json.loads((together / "result.json").read_text())["processes"] == 2


@pytest.mark.long
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_is_killed_the_other_says_so(killed: int, data: Path, tmp_path: Path, two: Two) -> None:
    folder = tmp_path / "run"
    arguments = train_arguments(data, folder, epochs=500, sync_bn="false")
    with two(arguments) as processes:
        wait_for_lines(folder, 6)
        processes[killed].send_signal(signal.SIGKILL)
        said = "".join(processes[1 - killed].communicate(timeout=300))
        assert processes[1 - killed].returncode == 3
    assert "mobilenext: an exchange with the other processes of this run failed; if one of them has ended" in said
    assert "Traceback" not in said
    assert (folder / "checkpoint.safetensors").is_file()


def test_the_launcher(data: Path, tmp_path: Path) -> None:
    folder, logs = tmp_path / "run", tmp_path / "logs"
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", str(logs)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PADDLE_")}
    done = subprocess.run(
        [sys.executable, *launcher, str(MOBILENEXT), *train_arguments(data, folder, epochs=1, warmup_epochs=0)],
        env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
    )  # fmt: skip
    said = [(logs / f"workerlog.{rank}").read_text() for rank in (0, 1)]
    assert done.returncode == 0, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "run"]
    assert json.loads((folder / "result.json").read_text())["processes"] == 2
    assert len(rows(folder, "step")) == 4
    assert f"written: {folder}" in said[0]
    assert "written" not in said[1]


# --- Several commands by the same two processes -----------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """One command of both processes."""

    codes: list[int]
    said: list[str]


@dataclass(frozen=True)
class Together:
    """What two processes have done, one command after another: to start a pair for each takes seconds."""

    data: Path  # two training images cannot be read; in the first epoch each process meets one of them
    broken: list[str]  # their names
    folder: Path  # runs and evaluations, named as the commands
    spoiled: Path  # the evaluation's images, one of which cannot be read
    spoiled_image: int
    commands: dict[str, Done]


def small_arguments(data: Path, folder: Path, *options: object) -> list[str]:
    """A run that two processes have soon finished, with worker processes that read its images."""
    arguments = ("--model", "mobilenext_x0_35", "--workers", 1, *options)
    return train_arguments(data, folder, *arguments, sync_bn="false")


def evaluate_arguments(data: Path, weights: Path, folder: Path) -> list[str]:
    preprocessing = ("--image-size", 32, "--crop-pct", 1.0)
    arguments = ("evaluate", data, "--weights", weights, *preprocessing, "--runtime", "paddle", "--workers", 1)
    return [*map(str, arguments), "-o", str(folder)]


def spoil(image: Path) -> None:
    image.write_bytes(image.read_bytes()[:60])


@pytest.fixture(scope="module")
def together(data: Path, long_world: World, tmp_path_factory: pytest.TempPathFactory, two: Two) -> Together:
    root = tmp_path_factory.mktemp("together")
    broken = shutil.copytree(data, root / "data")
    order = generator(5, 0, 0, ORDER).permutation(TRAINING)
    # The first process has the first half of a batch. Both meet an image in the second step, so that both see at its
    # end that there are two: a process that has too many by itself ends at once, and the other as that has ended.
    records = open_dataset(broken / "train").records
    met = [records[order[place]] for place in (BATCH + 3, BATCH + BATCH // 2 + 2)]
    for record in met:
        spoil(record.path)
    spoiled = shutil.copytree(long_world.data, root / "images")
    image = 3 * 2 * ROUND + ROUND + 2  # of the second process, in the fourth round
    spoil(spoiled / long_world.names[image])
    commands = {
        "too many": small_arguments(broken, root / "too many", "--max-unreadable", 1),
        "as many": small_arguments(broken, root / "as many", "--max-unreadable", 2),
        "evaluated": evaluate_arguments(long_world.data, long_world.weights, root / "evaluated"),
        # The last one: it ends one process by an error, and the other because that has ended.
        "spoiled": evaluate_arguments(spoiled, long_world.weights, root / "spoiled"),
    }
    done = carry_out(commands, root, two)
    return Together(broken, [record.name for record in met], root, spoiled, image, done)


def carry_out(commands: dict[str, list[str]], folder: Path, two: Two) -> dict[str, Done]:
    """Run them by two processes."""
    listed = folder / "commands.json"
    listed.write_text(json.dumps(commands))
    with two([str(listed)], HERE) as processes:
        said = ["".join(process.communicate(timeout=300)) for process in processes]
    done: dict[str, Done] = {}
    for name in commands:
        files = [folder / f"{name}.{rank}.json" for rank in (0, 1)]
        assert all(file.is_file() for file in files), (name, said)
        codes, said_there = zip(*(json.loads(file.read_text()) for file in files), strict=True)
        done[name] = Done(list(codes), list(said_there))
        assert "Traceback" not in "".join(said_there)
    return done


def one_of_two_with_commands(listed: Path) -> int:
    """What each process does for `carry_out`; it predicts by itself, which saves starting two workers each time."""
    from in_process import Pool
    from mobilenext.cli import main
    from mobilenext.evaluation import collecting, latency, pipeline, run

    for module in (collecting, run):
        module.WorkerPool = Pool  # type: ignore[assignment,misc]
    latency.measure_latency.__defaults__ = (1,)
    pipeline.ROUND = ROUND
    code = 0
    for name, words in json.loads(listed.read_text()).items():
        said = io.StringIO()
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            code = main(words)
        listed.with_name(f"{name}.{launched()[0]}.json").write_text(json.dumps([code, said.getvalue()]))
    return code


def test_unreadable_images_of_all_processes_count_together(together: Together) -> None:
    """Either process alone has as many as it may."""
    done = together.commands["too many"]
    assert done.codes == [3, 3]
    for said in done.said:
        assert "mobilenext: 2 training images cannot be read; expected up to 1 (--max-unreadable):" in said
        for name in together.broken:
            assert str(together.data / "train" / name) in said
    folder = together.folder / "too many"
    assert [row["step"] for row in rows(folder, "step")] == [1]
    assert not (folder / "result.json").exists()


def test_unreadable_images_that_all_processes_may_meet(together: Together) -> None:
    done = together.commands["as many"]
    assert done.codes == [0, 0], done.said
    result = json.loads((together.folder / "as many" / "result.json").read_text())
    assert result["processes"] == 2
    assert sorted(result["unreadable"]) == sorted(together.broken)
    for name in together.broken:
        assert str(together.data / "train" / name) in result["unreadable"][name]
        assert f"left out, unreadable: {name}: " in done.said[0]


def test_two_processes_validate_the_weights_that_they_keep(together: Together) -> None:
    """Each of them has seen other images, and has statistics of its own in its batch norms."""
    run = together.folder / "as many"
    final = json.loads((run / "result.json").read_text())["final"]
    for kind, name in (("raw", "last.safetensors"), ("ema", "last_ema.safetensors")):
        weights = read_weights(run / name)
        network = build_network("mobilenext_x0_35", num_classes=4)
        load_weights(network, weights)
        records = open_dataset(together.data).records
        validation = validation_of(records, weights.preprocessing, Ranks(), batch_size=6)
        counts = validation.counts(network).summary()
        assert {name: final[kind][name] for name in ("images", "correct_top1", "correct_top5")} == {
            name: counts[name] for name in ("images", "correct_top1", "correct_top5")
        }
        assert final[kind]["loss"] == pytest.approx(counts["loss"], abs=4e-6), kind  # rounded to 1e-6


@pytest.mark.long  # one process that is stopped: tests/training/test_loop.py
def test_two_processes_that_are_stopped_end_alike(together: Together, tmp_path: Path, two: Two, both: Both) -> None:
    folder, whole = tmp_path / "run", together.folder / "as many"
    options = ("--max-unreadable", 2, "--workers", 0)
    with two(small_arguments(together.data, folder, *options)) as processes:
        wait_for_lines(folder, 2)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        said = ["".join(process.communicate(timeout=300)) for process in processes]
        assert [process.returncode for process in processes] == [143, 143], said
    assert "Traceback" not in said[0] + said[1]
    position, _ = read_state(
        folder / "checkpoint.safetensors", config_digest(read_config(folder)), TASK.presentation.check_counts
    )
    assert position.global_step == rows(folder, "step")[-1]["global_step"] < len(rows(whole, "step"))
    where = f"stopped after step {position.step} of epoch {position.epoch + 1}, with a checkpoint; go on with: "
    assert f"{where}mobilenext train --resume {folder}" in said[0]

    options = ("--log-every", 1, *options)
    both(["train", "--resume", str(folder), *map(str, options)])
    for event, times in (("step", 3), ("epoch", 4)):
        one, other = ([without_times(row) for row in rows(run, event)] for run in (folder, whole))
        assert one == other
        assert len(one[0]) == len(rows(folder, event)[0]) - times
    for name in ("best.safetensors", "last.safetensors", "last_ema.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    results = [json.loads((run / "result.json").read_text()) for run in (folder, whole)]
    for name in ("best", "final", "unreadable", "processes", "run_sha256"):
        assert results[0][name] == results[1][name], name


def without_times(row: dict[str, Any]) -> dict[str, Any]:
    times = ("seconds", "images_per_second", "reader_cost", "batch_cost")
    return {name: value for name, value in row.items() if name not in times}


# --- What they evaluate -----------------------------------------------------------------------------------------------

COUNTED = ("images", "correct_top1", "correct_top5", "loss", "unreadable", "per_class", "setup_digest")


@pytest.fixture(scope="module")
def alone(long_world: World, tmp_path_factory: pytest.TempPathFactory, warm_commands: WarmCommands) -> Path:
    """The evaluation by one process."""
    folder = tmp_path_factory.mktemp("alone") / "evaluated"
    evaluate_alone(warm_commands, long_world, folder)
    return folder


def evaluate_alone(commands: WarmCommands, world: World, folder: Path, *options: str) -> None:
    """By one process, which has the environment of the two."""
    listed = folder.parent / "commands.json"
    listed.write_text(json.dumps({"alone": [*evaluate_arguments(world.data, world.weights, folder), *options]}))
    environment = os.environ | FAST_PROCESS | {"OMP_NUM_THREADS": "1"}
    assert commands.run([str(listed)], program=HERE, environment=environment).returncode == 0


def assert_evaluated_alike(folder: Path, alone: Path) -> dict[str, Any]:
    assert (folder / "predictions.jsonl").read_bytes() == (alone / "predictions.jsonl").read_bytes()
    result, expected = (json.loads((each / "result.json").read_text()) for each in (folder, alone))
    for name in COUNTED:
        assert result[name] == expected[name], name
    assert not (folder / "journal.jsonl").exists()
    return dict(result)


def test_two_processes_evaluate_what_one_does(together: Together, alone: Path, long_world: World) -> None:
    assert len(long_world.names) % (2 * ROUND) <= ROUND, "else the second process has some of the last round"
    assert together.commands["evaluated"].codes == [0, 0], together.commands["evaluated"].said
    result = assert_evaluated_alike(together.folder / "evaluated", alone)
    assert (result["processes"], result["resumed_images"]) == (2, 0)
    assert 0 < result["correct_top1"] < result["images"] == len(long_world.names)
    for rank, said in enumerate(together.commands["evaluated"].said):
        assert ("written: " in said) == (rank == 0)


def test_what_one_process_cannot_read_ends_both(together: Together) -> None:
    done = together.commands["spoiled"]
    assert done.codes == [3, 3], done.said
    name = json.loads(
        (together.folder / "evaluated" / "predictions.jsonl").read_text().splitlines()[together.spoiled_image]
    )["path"]
    assert "cannot be read:" in done.said[1]
    assert f"    {together.spoiled / name}: " in done.said[1]
    ended = ("an exchange with the other processes of this run failed", "cannot be read:")  # whichever comes first
    assert any(sentence in done.said[0] for sentence in ended)
    folder = together.folder / "spoiled"
    assert sorted(path.name for path in folder.iterdir()) == ["evaluate.log", "journal.jsonl"]
    assert (folder / "journal.jsonl").read_bytes().count(b"\n") == 1 + 3 * 2 * ROUND, "the rounds before"


@pytest.mark.long  # a lost process, and a killed evaluation that goes on: above, and evaluation/test_evaluate.py
def test_one_process_goes_on_after_a_kill(
    alone: Path, long_world: World, tmp_path: Path, wait_for_rows: Callable[[Path, int], None], two: Two,
    warm_commands: WarmCommands,
) -> None:  # fmt: skip
    """Of two processes with a worker each, the one that writes the journal is killed."""
    folder = tmp_path / "run"
    arguments = evaluate_arguments(long_world.data, long_world.weights, folder)
    with two(["with workers", *arguments], HERE) as processes:
        wait_for_rows(folder / "journal.jsonl", 2 * 2 * ROUND)
        processes[0].send_signal(signal.SIGKILL)
        said = "".join(processes[1].communicate(timeout=300))
        assert processes[1].returncode == 3, said
    assert "mobilenext: an exchange with the other processes of this run failed" in said
    assert sorted(path.name for path in folder.iterdir()) == ["evaluate.log", "journal.jsonl"]
    kept = (folder / "journal.jsonl").read_bytes().count(b"\n") - 1  # a line that was cut counts for nothing
    assert 2 * 2 * ROUND <= kept < len(long_world.names), "it was not killed midway"
    evaluate_alone(warm_commands, long_world, folder, "--resume")
    result = assert_evaluated_alike(folder, alone)
    assert (result["processes"], result["resumed_images"]) == (1, kept)


def main() -> int:
    """Be one of the two processes, or the one that evaluates alone."""
    if sys.argv[1] == "with workers":
        from mobilenext.cli import main as command
        from mobilenext.evaluation import pipeline

        pipeline.ROUND = ROUND
        del sys.argv[1]
        return command()
    if len(sys.argv) == 2:
        return one_of_two_with_commands(Path(sys.argv[1]))
    one_of_two(Path(sys.argv[1]), Path(sys.argv[2]))
    return 0
