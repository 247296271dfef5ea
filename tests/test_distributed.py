"""Two processes, for real: what they exchange, what they train, and what becomes of one when the other is gone.

Run as a program, this file is one of the two processes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from PIL import Image

from mobilenext.data import Preprocessing, open_dataset
from mobilenext.distributed import PeerLost, Ranks, launched
from mobilenext.models import build_network
from mobilenext.training.validation import Validation

MOBILENEXT = Path(sys.executable).with_name("mobilenext")
COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60))
TRAINING, VALIDATION, EPOCHS = 48, 23, 2  # an odd number cannot be shared evenly
# Of each step's loss, relative; measured: 1e-4 at the last step. S is the network to see it with: the plain ones have
# gradients a hundred times as long at first, by which rounding grows to per cents, in one process as in two.
MODEL, LOSS_BOUND = "mobilenext_s", 1e-3


def settings(**others: Any) -> list[str]:
    values = {
        "epochs": EPOCHS, "batch_size": 12, "lr_batch_size": 12, "lr": 0.003, "warmup_epochs": 1, "image_size": 32,
        "padding": 2, "dropout": 0, "drop_connect": 0, "sync_bn": "true", "erasing": 0.2, "ema_decay": 0.8,
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
            label = number % len(COLOURS)
            folder = root / part / f"colour {label}"
            folder.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([number, len(part)])
            pixels = np.array(COLOURS[label]) + noise.normal(0, 40, (24, 28, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02}.png")
    return root


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def two(command: list[str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that know of each other, without a launcher; none outlives the block."""
    processes, port = [], free_port()
    for rank in (0, 1):
        environment = os.environ | {
            "PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": "2", "PADDLE_DISTRI_BACKEND": "gloo",
            "PADDLE_CURRENT_ENDPOINT": "x", "PADDLE_MASTER": f"127.0.0.1:{port}", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True))
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def both(command: list[str]) -> list[str]:
    """Run two processes to their end; what each of them said."""
    with two(command) as processes:
        said = [process.communicate(timeout=110)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return said


def rows(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row for row in lines if row["event"] == event]


def wait_for_lines(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
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


def test_two_processes_exchange_what_they_have(data: Path, tmp_path: Path) -> None:
    both([sys.executable, __file__, str(data), str(tmp_path)])
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
    validation = Validation(records, preprocessing, num_classes=4, batch_size=4, ranks=ranks, pool=None)
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
    with pytest.raises(
        PeerLost, match=r"an exchange with .*has ended.*\(Connection closed by peer\)"
    ) as lost:
        ranks.sum([1])
    assert lost.value.exit_code == 3


# --- What they train --------------------------------------------------------------------------------------------------


def test_two_processes_train_what_one_does(data: Path, tmp_path: Path) -> None:
    """Every step's loss, and both validations'."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    subprocess.run([str(MOBILENEXT), *train_arguments(data, alone)], check=True, capture_output=True, timeout=110)
    said = both([str(MOBILENEXT), *train_arguments(data, together)])
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
            assert a["val"][kind]["loss"] == pytest.approx(b["val"][kind]["loss"], rel=LOSS_BOUND)
    assert json.loads((together / "result.json").read_text())["processes"] == 2


@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_is_killed_the_other_says_so(killed: int, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = train_arguments(data, folder, epochs=500, sync_bn="false")
    with two([str(MOBILENEXT), *arguments]) as processes:
        wait_for_lines(folder, 6)
        processes[killed].send_signal(signal.SIGKILL)
        started = time.monotonic()
        said, _ = processes[1 - killed].communicate(timeout=60)
        assert time.monotonic() - started < 40
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
        env=environment, capture_output=True, text=True, timeout=110, check=False, cwd=tmp_path,
    )  # fmt: skip
    said = [(logs / f"workerlog.{rank}").read_text() for rank in (0, 1)]
    assert done.returncode == 0, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "run"]
    assert json.loads((folder / "result.json").read_text())["processes"] == 2
    assert len(rows(folder, "step")) == 4
    assert f"written: {folder}" in said[0]
    assert "written" not in said[1]


if __name__ == "__main__":
    one_of_two(Path(sys.argv[1]), Path(sys.argv[2]))
