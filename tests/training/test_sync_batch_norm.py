"""Batch norm over several processes against Paddle's own batch norm on the whole batch.

`main` of this file is one of two processes, each with its uneven share.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.distributed
import pytest
from paddle import nn

from mobilenext.machine.ranks import Ranks
from mobilenext.training.sync_batch_norm import synchronize
from warm import WarmCommands

Arrays = dict[str, np.ndarray]

pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track")
SHARES = (slice(0, 3), slice(3, 8))  # of the eight images
STEPS = 3


def images(mean: float, deviation: float, step: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A batch [8, 4, 5, 3], whose channels and images differ, and a gradient."""
    random = np.random.default_rng(step)
    x = mean + deviation * random.standard_normal((8, 4, 5, 3)) * np.arange(1, 5).reshape(1, 4, 1, 1)
    x += deviation * np.arange(8).reshape(8, 1, 1, 1)
    return x.astype(np.float32), random.standard_normal(x.shape).astype(np.float32)


def batch_norm() -> nn.BatchNorm2D:
    layer = nn.BatchNorm2D(4, momentum=0.7, epsilon=1e-3)
    layer.weight.set_value(paddle.to_tensor([0.5, 1.0, 1.5, -2.0]))
    layer.bias.set_value(paddle.to_tensor([0.0, 1.0, -1.0, 0.3]))
    return layer


def steps(layer: nn.BatchNorm2D, mean: float, deviation: float, share: slice, ranks: Ranks | None = None) -> Arrays:
    """What the layer makes of this share of some batches, and all gradients."""
    found = {}
    for step in range(STEPS):
        x, gradient = (each[share] for each in images(mean, deviation, step))
        given = paddle.to_tensor(x, stop_gradient=False)
        y = layer(given)
        y.backward(paddle.to_tensor(gradient))
        if ranks:
            ranks.sum_gradients([layer.weight, layer.bias])
        found |= {f"y {step}": y.numpy(), f"of x {step}": given.grad.numpy()}
        for name, tensor in (("mean", layer._mean), ("variance", layer._variance)):
            found[f"{name} {step}"] = tensor.numpy()
        for name in ("weight", "bias"):
            found[f"of {name} {step}"] = getattr(layer, name).grad.numpy()
        layer.clear_gradients()
    return found


def assert_close(found: Arrays, expected: Arrays, bound: float) -> None:
    """To `bound`, relative to the largest value."""
    assert sorted(found) == sorted(expected)
    for name, values in expected.items():
        assert np.abs(found[name] - values).max() <= bound * max(1.0, np.abs(values).max()), name


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only process: a sum over all is what it has."""
    monkeypatch.setattr(paddle.distributed, "all_reduce", lambda *_: None)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("mean", "deviation", "bound"), [
    (0.0, 1.0, 1e-6), (3.0, 1.0, 2e-6), (-50.0, 0.01, 1e-3), (1000.0, 0.1, 1e-3),  # x has seven digits
])  # fmt: skip
def test_one_process_computes_what_paddle_does(mean: float, deviation: float, bound: float) -> None:
    expected = steps(batch_norm(), mean, deviation, slice(8))
    layer = batch_norm()
    assert synchronize(nn.Sequential(layer)) == 1
    assert_close(steps(layer, mean, deviation, slice(8)), expected, bound)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("value", [0.0, 6.1, -77.7, 1234.5])
def test_a_constant_channel_stays_finite(value: float) -> None:
    layer = batch_norm()
    synchronize(nn.Sequential(layer))
    y = layer(paddle.full([8, 4, 5, 3], value))
    assert np.isfinite(y.numpy()).all()
    # The mean of equal values is off by some digits of float32, and is multiplied by up to 2 / sqrt(epsilon).
    assert np.abs(y.numpy() - layer.bias.numpy().reshape(1, 4, 1, 1)).max() < 1e-4 * (1 + abs(value))


@pytest.mark.usefixtures("alone")
def test_the_gradient_is_the_slope() -> None:
    # In float64 both, by differences; Paddle is not asked.
    x, gradient = images(1.0, 0.5)
    layer = batch_norm()
    synchronize(nn.Sequential(layer))
    given = paddle.to_tensor(x, stop_gradient=False)
    layer(given).backward(paddle.to_tensor(gradient))

    def total(values: np.ndarray) -> float:
        centred = values - values.mean((0, 2, 3), keepdims=True)
        normal = centred / np.sqrt((centred**2).mean((0, 2, 3), keepdims=True) + 1e-3)
        return float((normal * layer.weight.numpy().astype(float).reshape(1, 4, 1, 1) * gradient).sum())

    for place in ((0, 0, 0, 0), (7, 3, 4, 2), (3, 1, 2, 1)):
        sides = []
        for shift in (1e-5, -1e-5):
            moved = x.astype(float)
            moved[place] += shift
            sides.append(total(moved))
        assert float(given.grad[place]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-5)


def test_evaluation_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paddle.distributed, "all_reduce", lambda *_: pytest.fail("a message in evaluation"))
    layer, own = batch_norm(), batch_norm()
    network = nn.Sequential(layer)
    synchronize(network)
    x = paddle.to_tensor(images(2.0, 1.0)[0])
    network.eval()
    own.eval()
    assert np.array_equal(network(x).numpy(), own(x).numpy())


def test_every_batch_norm_of_a_network() -> None:
    network = nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.Sequential(nn.BatchNorm2D(4)), nn.ReLU())
    assert synchronize(network) == 2


def test_two_processes_with_uneven_shares_are_the_whole_batch(tmp_path: Path, warm_commands: WarmCommands) -> None:
    run_two(warm_commands, tmp_path)
    parts = [dict(np.load(tmp_path / f"{rank}.npz")) for rank in (0, 1)]
    for number, (mean, deviation, bound) in enumerate(CASES):
        expected = steps(batch_norm(), mean, deviation, slice(8))
        found = [{name.partition("/")[2]: values for name, values in part.items() if name.startswith(f"{number}/")}
                 for part in parts]  # fmt: skip
        for name, values in found[0].items():
            if name.startswith(("y", "of x")):
                found[0][name] = np.concatenate([values, found[1][name]])
            else:  # the same in both, to the last bit
                assert values.tobytes() == found[1][name].tobytes(), name
        assert_close(found[0], expected, bound)


CASES = ((0.0, 1.0, 2e-6), (1000.0, 0.1, 1e-3))


def run_two(commands: WarmCommands, folder: Path) -> None:
    """Two processes of this file, which know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in (0, 1):
        environment = os.environ | {
            "PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": "2", "PADDLE_DISTRI_BACKEND": "gloo",
            "PADDLE_CURRENT_ENDPOINT": "x", "PADDLE_MASTER": f"127.0.0.1:{port}", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        program = "training.test_sync_batch_norm"
        processes.append(commands.start([str(folder)], program=program, environment=environment))
    try:
        said = ["".join(process.communicate(timeout=300)) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)


def main() -> int:
    """What each process does."""
    folder, ranks = Path(sys.argv[1]), Ranks()
    found: dict[str, Any] = {}
    for number, (mean, deviation, _) in enumerate(CASES):
        layer = batch_norm()
        synchronize(nn.Sequential(layer))
        parts = steps(layer, mean, deviation, SHARES[ranks.rank], ranks)
        found |= {f"{number}/{name}": values for name, values in parts.items()}
    np.savez(folder / f"{ranks.rank}.npz", **found)
    return 0
