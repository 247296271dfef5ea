"""A small world to evaluate in: 24 images, a network of 8 classes whose answers differ, and its predictions by hand."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import warm_workers
from mobilenext.export.images import FEWEST
from pairs import both, two
from warm import WarmCommands, WarmProcess
from written_once import files_of_networks, written_once

__all__ = ["both", "files_of_networks", "two", "written_once"]  # fixtures

IMAGES = 24  # fewer when the network cannot tell two classes apart
LONG = 120
CLASSES = 8

# Most of the time is spent in these, the longest first. `make test` starts with them, so that no process is left with
# one of them at the end, when the other has nothing more to do.
LONGEST_FILES = (
    *("cli/test_command.py", "training/test_loop.py", "evaluation/test_evaluate.py", "machine/test_ranks.py"),
    *("detection/test_export.py", "test_tipc/test_chains.py", "tipc/test_adapter.py", "export/test_checked.py"),
    *("test_nobody.py", "report/test_browser.py", "export/test_export.py", "serving/test_command.py"),
    *("evaluation/test_bench.py", "export/test_to_tflite.py", "detection/test_training_run.py"),
    *("sources/test_prepare.py", "search/test_architect.py", "detection/test_evaluate_together.py"),
    *("quantization/test_detectors.py", "test_notebook.py", "search/test_blocks.py", "test_without_paddle.py"),
    *("quantization/test_onnx_int8.py", "evaluation/test_other_task.py", "export/test_to_onnx.py"),
    *("machine/test_streams.py", "training/test_other_task.py", "weights/foreign/test_reading.py"),
    *("serving/test_page.py", "test_reproduction.py", "data/test_image_claims.py"),
)

if hasattr(signal, "SIGHUP"):
    # Under nohup it is ignored, and the commands that the tests start would rightly go on ignoring it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        file = item.path.as_posix()
        return next((place for place, end in enumerate(LONGEST_FILES) if file.endswith(f"/{end}")), len(LONGEST_FILES))

    items.sort(key=place)


@dataclass(frozen=True)
class World:
    """Everything the tests of the evaluation share; they must not write into it."""

    data: Path  # imgs/ and val_list.txt
    weights: Path  # .pdparams
    names: list[str]
    labels: list[int]
    inputs: np.ndarray  # [N, 3, 32, 32], preprocessed by other code than the package's
    logits: np.ndarray  # [N, 8], from Paddle's eager network

    def ranking(self) -> list[list[int]]:
        """All classes of each image, the best first."""
        return [sorted(range(CLASSES), key=lambda number: -row[number]) for row in self.logits.tolist()]

    def correct(self, k: int) -> int:
        return sum(label in best[:k] for best, label in zip(self.ranking(), self.labels, strict=True))


def _draw(count: int, folder: Path, seed: int) -> None:
    """Coarse colourful squares, 40 wide and 48 high."""
    (folder / "imgs").mkdir(parents=True)
    for number in range(count):
        coarse = np.random.default_rng([seed, number]).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        image = Image.fromarray(coarse.repeat(8, axis=0).repeat(8, axis=1))
        image.save(folder / "imgs" / f"val {number:04}.png")


def _preprocess(path: Path) -> np.ndarray:
    """40 x 48 to 32 x 38, the middle 32 x 32, normalised: written out for this one size."""
    with Image.open(path) as image:
        resized = image.convert("RGB").resize((32, 38), Image.Resampling.BICUBIC).crop((0, 3, 32, 35))
    scaled = np.asarray(resized, np.float32) / np.float32(255)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return ((scaled - mean) / std).transpose(2, 0, 1)


def _world(data: Path, weights: Path, inputs: np.ndarray, logits: np.ndarray) -> World:
    """Two thirds of the labels are the network's first choice, the others its third and its last."""
    # An image with two logits so close that rounding may swap them is left off the list.
    clear = np.flatnonzero(np.diff(np.sort(logits, axis=1), axis=1).min(axis=1) > 2e-3)
    inputs, logits = inputs[clear], logits[clear]
    best = np.argsort(-logits, axis=1)
    rank = [(0, 0, 2, 0, 0, CLASSES - 1)[number % 6] for number in range(len(logits))]
    labels = [int(row[place]) for row, place in zip(best, rank, strict=True)]
    names = [f"imgs/val {number:04}.png" for number in clear]
    lines = [f"{name.removeprefix('imgs/')} {label}\n" for name, label in zip(names, labels, strict=True)]
    (data / "val_list.txt").write_text("".join(lines))
    return World(data, weights, names, labels, inputs, logits)


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, World]:
    import paddle

    from mobilenext.models import build_network

    folder = tmp_path_factory.mktemp("world")
    inputs = []
    for name, count, seed in (("data", IMAGES, 0), ("long", LONG, 1)):
        _draw(count, folder / name, seed)
        inputs.append(np.stack([_preprocess(path) for path in sorted((folder / name / "imgs").iterdir())]))

    paddle.seed(1)
    network = build_network("mobilenext_x0_35", num_classes=CLASSES)

    def logits_of(batch: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            return np.asarray(network(paddle.to_tensor(batch)).numpy())

    # A fresh network answers every image alike. Statistics of these very images, and a classifier that looks at what
    # distinguishes them, make it answer differently.
    network.train()
    for layer in network.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer._momentum = 0.4  # share of the old statistics that each pass keeps
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When training, we now always track")  # Paddle says so at every call
        for _ in range(12):
            logits_of(inputs[0])
    network.eval()
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    (weight,) = (name for name, value in state.items() if value.ndim == 2)
    bias = weight.removesuffix("weight") + "bias"
    state[weight] = np.random.default_rng(3).standard_normal(state[weight].shape, dtype=np.float32)
    state[bias] = np.zeros(CLASSES, np.float32)
    network.set_state_dict(state)
    raw = logits_of(inputs[0])
    scale = 2 / raw.std(axis=0)
    state[weight] = (state[weight] * scale).astype(np.float32)
    state[bias] = (-raw.mean(axis=0) * scale).astype(np.float32)
    network.set_state_dict(state)
    path = folder / "network.pdparams"
    paddle.save(state, str(path))
    small, long = (
        _world(folder / name, path, batch, logits_of(batch))
        for name, batch in zip(("data", "long"), inputs, strict=True)
    )
    assert len(set(small.logits.argmax(axis=1).tolist())) >= CLASSES - 2, "the network uses few classes"
    return small, long


@pytest.fixture(scope="session")
def world(worlds: tuple[World, World]) -> World:
    return worlds[0]


@pytest.fixture(scope="session")
def long_world(worlds: tuple[World, World]) -> World:
    """The same network on more images, for what is to be interrupted."""
    return worlds[1]


@pytest.fixture(scope="session")
def few_images(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of as few of its images as an export is compared on."""
    folder = tmp_path_factory.mktemp("few")
    for name in world.names[:FEWEST]:
        shutil.copy(world.data / name, folder)
    return folder


def _command() -> list[str]:
    script = Path(sys.executable).with_name("mobilenext")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "mobilenext"]


@pytest.fixture(scope="session")
def installed_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed command; it must never print a traceback."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [*_command(), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def warm_commands(files_of_networks: Path) -> Iterator[WarmCommands]:
    commands = WarmCommands(files_of_networks=files_of_networks)
    yield commands
    commands.close()


@pytest.fixture(scope="session", autouse=True)
def workers_are_copies(warm_commands: WarmCommands) -> Iterator[None]:
    """Workers of pools of this process are copies of that process, too, which is started with the first of them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(warm_workers.loky_start, "fork_exec", warm_workers.starter(lambda: warm_commands.requests))
        yield


@pytest.fixture
def fresh_workers(workers_are_copies: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of this process are started as outside of tests."""
    monkeypatch.setattr(warm_workers.loky_start, "fork_exec", warm_workers.start_afresh)


@pytest.fixture(scope="module")
def without_curves() -> Iterator[None]:
    """Trainings of this process draw no curves at their end, as where the extra is not installed: it takes a second."""
    from mobilenext.training import outcome

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(outcome, "_write_curves", lambda folder: None)
        yield


@pytest.fixture(scope="module")
def short_latency() -> Iterator[None]:
    """Latencies in this process are measured in few calls, as in those of `warm`."""
    from mobilenext.evaluation.latency import measure_latency

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(measure_latency, "__defaults__", (1,))
        yield


@pytest.fixture(scope="session")
def mobilenext(warm_commands: WarmCommands) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command as `installed_command` does, in a process of its own, without the seconds of importing Paddle."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return warm_commands.run([str(word) for word in arguments], cwd)

    return run


@pytest.fixture
def start(warm_commands: WarmCommands) -> Iterator[Callable[..., WarmProcess]]:
    """Start a command, like `mobilenext`, in a process group of its own, which does not outlive the test."""
    started: list[WarmProcess] = []

    def run(*arguments: object) -> WarmProcess:
        started.append(warm_commands.start([str(word) for word in arguments]))
        return started[-1]

    yield run
    for process in started:
        process.kill_group()
        process.communicate()


@pytest.fixture(scope="session")
def wait_for_rows() -> Callable[[Path, int], None]:
    """Wait until a journal holds so many images."""

    def wait(journal: Path, rows: int) -> None:
        deadline = time.monotonic() + 300  # on a machine that is busy
        while time.monotonic() < deadline:
            if journal.is_file() and journal.read_bytes().count(b"\n") > rows:
                return
            time.sleep(0.005)
        raise AssertionError(f"{journal} does not reach {rows} rows")

    return wait
