"""Every verb as a user whom the system does not know, without a home, where only the output can be written to.

Each runs in a mount namespace of its own: all is read-only, the installation too, and /dev/shm has one megabyte.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from conftest import World
from mobilenext.cli.program import VERBS
from mobilenext.errors import UsageError
from mobilenext.machine.environment import processor
from mobilenext.runtime import check_precision

NOBODY = 54321  # no such user
SCRIPT = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -t tmpfs -o size=1m,mode=1777 tmpfs /dev/shm
mount -o remount,bind,ro /
cd "$1"
shift
exec setpriv --reuid NUMBER --regid NUMBER --clear-groups --inh-caps=-all,+dac_read_search \\
    --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search "$@"
""".replace("NUMBER", str(NOBODY))  # it may read what is root's, as the Python of these tests may be
HOMES = cycle(({"HOME": "/nonexistent"}, {"HOME": "/dev/null"}, {}, {"HOME": "/"}))
Nobody = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """The one folder that can be written to; those of pytest cannot be entered by others."""
    folder = Path(tempfile.mkdtemp(prefix="nobody-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def command(place: Path, *words: object) -> list[str]:
    program = [sys.executable, "-m", "mobilenext", *map(str, words)]
    return ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", str(place), *program]


def variables(home: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS")}
    return {**kept, **home, "LC_ALL": "C"}


@pytest.fixture(scope="module")
def nobody(place: Path) -> Nobody:
    os.chown(place, NOBODY, NOBODY) if os.geteuid() == 0 else None

    def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command(place, *words), capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL,
            env=variables(next(HOMES)),
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == code, done.stderr
        left = [path.name for path in place.iterdir() if path.name.startswith((".", "mobilenext-", "~"))]
        assert left == []
        return done

    try:
        run("--version")
    except (AssertionError, FileNotFoundError) as error:
        message = f"no mount namespace for another user here: {error}"
        print(message)
        pytest.skip(message)
    return run


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    """A small data set with both parts, and weights."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copytree(world.data, folder / "data")
    shutil.copy(folder / "data/val_list.txt", folder / "data/train_list.txt")
    shutil.copy(world.weights, folder / "w.pdparams")
    lines = (folder / "data/val_list.txt").read_text().splitlines(keepends=True)
    (folder / "data/first.txt").write_text("".join(lines[:12]))
    (folder / "data/second.txt").write_text("".join(lines[12:]))
    names = [line.rpartition(" ")[0] for line in lines]
    (folder / "data/two.txt").write_text("".join(f"{name} {number % 2}\n" for number, name in enumerate(names)))
    return folder


def test_verbs_that_need_no_folder(nobody: Nobody, inputs: Path) -> None:
    for words in (["list"], ["recipes", "--json"], ["info", "--json"]):
        assert nobody(*words).stdout


def test_without_an_output_the_folder_that_is_needed_is_named(nobody: Nobody, inputs: Path) -> None:
    photo = sorted((inputs / "data/imgs").iterdir())[0]
    done = nobody("predict", photo, "--weights", inputs / "w.pdparams", "--image-size", 32, code=3)
    assert "set TMPDIR to" in done.stderr


def words_of(verb: str, inputs: Path) -> tuple[object, ...]:
    """The smallest command of a verb that has an output; those that need another's output come after it."""
    data, weights = inputs / "data", ("--weights", inputs / "w.pdparams", "--image-size", 32)
    photo = data / "imgs" / "val 0000.png"
    return {
        "convert": (inputs / "w.pdparams", "-o", "w.safetensors"),
        "check-data": (data,),
        "diagram": ("--model", "mobilenext_x0_35", "-o", "drawn.svg"),
        "evaluate": (data, *weights, "--limit", 4, "-o", "new/evaluation"),
        "explain": (photo, *weights, "-o", "explained"),
        "train": (
            data, "--model", "mobilenext_x0_35", "--recipe", "tiny", "-o", "run", "--set", "epochs=1",
            "--set", "warmup_epochs=0", "--set", "batch_size=8", "--set", "image_size=32",
        ),
        "search": (
            data, "--train-list", data / "two.txt", "--recipe", "short", "--operators", "skip_connect,sandglass_3x3",
            "-o", "search", "--set", "epochs=1", "--set", "batch_size=4", "--set", "channels=4", "--set", "cells=3",
            "--set", "image_size=8",
        ),
        "compare": ("run", "run", "-o", "curves.png"),
        "export": ("--weights", inputs / "w.pdparams", "--image-size", 32, "--images", data / "imgs", "-o", "exported"),
        "bench": (
            "--model", "mobilenext_x0_35", "--image-size", 32, "--samples", 30, "--runtime", "onnxruntime",
            "-o", "bench",
        ),
        "quantize": (
            *weights, "--calibration", data, "--calibration-list", data / "first.txt", "--calibration-images", 8,
            "--data", data, "--list", data / "second.txt", "--max-drop", 100, "-o", "int8",
        ),
        "quickstart": ("-o", "quickstart"),
        "report": ("new/evaluation", "-o", "report.html", "--data", data),
    }[verb]  # fmt: skip


# What a verb needs of the system is much the same: those of every kind are enough for each run of the tests.
LONG = [
    pytest.param(verb, marks=pytest.mark.long)
    for verb in ("train", "search", "compare", "export", "quantize", "bench", "quickstart", "diagram", "explain")
]
WITH_OUTPUT = ("convert", "check-data", "evaluate", "report", *LONG)  # evaluate exports, too


@pytest.mark.parametrize("verb", WITH_OUTPUT)
def test_a_verb_with_an_output(nobody: Nobody, inputs: Path, place: Path, verb: str) -> None:
    if verb == "quantize":
        try:
            check_precision("int8", processor()[1])
        except UsageError as error:
            pytest.skip(str(error))
    before = {path.name for path in place.iterdir()}
    nobody(verb, *words_of(verb, inputs))
    assert verb == "check-data" or {path.name for path in place.iterdir()} > before


def test_serve(nobody: Nobody, place: Path) -> None:
    """It has no output: it names the folder that it needs, and works where it has one."""
    words = ("serve", "--port", 0)
    assert "set TMPDIR to" in nobody(*words, code=3).stderr
    (place / "tmp").mkdir()
    os.chown(place / "tmp", NOBODY, NOBODY)
    process = subprocess.Popen(
        command(place, *words), stderr=subprocess.PIPE, text=True, env=variables({"TMPDIR": str(place / "tmp")})
    )
    with process:
        assert process.stderr is not None
        assert any("serving mobilenext_x0_35.digits at" in line for line in process.stderr)
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readlines()[-1] == "stopped\n"
    assert process.returncode == 0
    assert {path.name for path in (place / "tmp").iterdir()} <= {".ses"}  # ONNX Runtime's, when it is imported


def test_all_verbs_are_here() -> None:
    here = {verb for verb in WITH_OUTPUT if isinstance(verb, str)} | {str(each.values[0]) for each in LONG}
    assert here | {"list", "recipes", "info", "predict", "serve"} == set(VERBS)
