"""The bundled digits behind an application, images of them, and what `mobilenext.predict` says of these."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from written_once import writing_once

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from mobilenext.serving.models import ServedModel

PACKAGES = (
    "fastapi",
    "uvicorn",
    "httptools",
    "python_multipart",
    "prometheus_client",
    "fastapi_offline",
    "sklearn",
    "onnxruntime",
)
DIGITS = "mobilenext_x0_35.digits"


@pytest.fixture(scope="session", autouse=True)
def extra() -> None:
    """Skips, and says why, where the extra is not installed."""
    for package in PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed: the extras serve and quickstart")


@pytest.fixture(scope="session")
def open_client(extra: None) -> Callable[..., TestClient]:
    """A client of an application of some models; a context manager."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using `httpx` with")  # Starlette's successor of httpx
        from starlette.testclient import TestClient

    from mobilenext.serving.app import create_app
    from mobilenext.serving.front import Front
    from mobilenext.serving.limits import Limits

    def opened(models: list[ServedModel], *, front: Front | None = None, **limits: Any) -> TestClient:
        app = create_app(models, Limits(**limits), front=front)
        return TestClient(app)

    return opened


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve of the last 599 digits, which the network was not trained on."""
    from mobilenext.data.digits import write_digits

    folder = write_digits(tmp_path_factory.mktemp("digits"))
    return sorted((folder / "imgs").iterdir())[:120:10]


@pytest.fixture(scope="session")
def expected(digits: list[Path], files_of_networks: Path) -> list[dict[str, Any]]:
    from mobilenext import predict

    with writing_once(files_of_networks):
        return predict(digits, model=DIGITS, topk=3)


@pytest.fixture(scope="session")
def exported(digits: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as an exported folder, named "folder", which was compared on the twelve digits."""
    from mobilenext.exporting import export_model

    output = tmp_path_factory.mktemp("exported") / "folder"
    export_model(output, model=DIGITS, images=digits)
    return output


@pytest.fixture(scope="session")
def models(
    tmp_path_factory: pytest.TempPathFactory, extra: None, exported: Path, files_of_networks: Path
) -> list[ServedModel]:
    from mobilenext.serving.models import open_models
    from mobilenext.serving.server import subjects_of

    folder = tmp_path_factory.mktemp("networks")
    with writing_once(files_of_networks):
        return open_models(subjects_of(models=[DIGITS], exported=[exported]), folder, copies=2)


@pytest.fixture(scope="session")
def client(open_client: Callable[..., TestClient], models: list[ServedModel]) -> Iterator[TestClient]:
    with open_client(models) as opened:
        yield opened


class Slow:
    """A network that waits to be let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray]:
        self.go.wait(300)
        return (np.zeros((len(batch), 10), np.float32),)


@pytest.fixture
def slow(models: list[ServedModel]) -> Iterator[tuple[ServedModel, Slow]]:
    network = Slow()
    yield replace(models[0], networks=[network], open_heat_map=None, no_heat_map="none here"), network
    network.go.set()


@pytest.fixture
def serving(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[subprocess.Popen[str], int]]:
    """Start `mobilenext serve` on a free port and wait until it answers: the process, and the port."""

    def begin(*arguments: object) -> tuple[subprocess.Popen[str], int]:
        process = start("serve", "--port", 0, *arguments)
        assert process.stderr is not None
        lines = []
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and (line := process.stderr.readline()):
            lines.append(line)
            if found := re.search(r"http://\S+?:(\d+) ", line):
                return process, int(found[1])
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise AssertionError(f"it did not start: {''.join(lines)}")

    return begin
