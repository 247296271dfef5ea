"""The same network in the same format is written once: a converter takes seconds, and gives the same file again.

The processes of a test run share the files: those of pytest, and the commands and workers that `warm` makes. What is
started as a program of its own, such as the commands of test_nobody.py, converts for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mobilenext.models.network import Network

    Write = Callable[[Network, Path, int], None]


@pytest.fixture(scope="session")
def files_of_networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that were written, in folders named by digests."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "written"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def written_once(files_of_networks: Path) -> Iterator[None]:
    """For tests of what is done with the files, in this process."""
    with writing_once(files_of_networks):
        yield


@contextlib.contextmanager
def writing_once(folder: Path) -> Iterator[None]:
    """`write_onnx` and `write_paddle` give copies of what is in `folder`, and add to it."""
    from mobilenext.export import to_onnx, to_paddle

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(to_onnx, "write_onnx", _once(to_onnx.write_onnx, folder))
        patched.setattr(to_paddle, "write_paddle", _once(to_paddle.write_paddle, folder))
        yield


def _once(write: Write, folder: Path) -> Write:
    def write_or_copy(network: Network, file: Path, image_size: int, **options: bool) -> None:
        kept = folder / _digest(network, file.suffix, image_size, options)
        if not kept.is_dir():
            write(network, file, image_size, **options)
            _keep([file, file.with_suffix(".pdiparams")], kept)
            return
        for written in kept.iterdir():
            shutil.copy(written, file.with_suffix(written.suffix))

    return write_or_copy


def _keep(files: list[Path], folder: Path) -> None:
    """Copy those files that are there to a new folder, which appears with all of them."""
    scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    for file in filter(Path.is_file, files):
        shutil.copy(file, scratch / f"network{file.suffix}")
    try:
        scratch.rename(folder)
    except OSError:  # another process has made it meanwhile
        shutil.rmtree(scratch)


def _digest(network: Network, suffix: str, image_size: int, options: dict[str, bool]) -> str:
    """All that decides what is written: layers, weights, names of the outputs, format, size and options."""
    digest = hashlib.sha256(f"{type(network)} {network} {network.outputs} {suffix} {image_size} {options}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.shape}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
