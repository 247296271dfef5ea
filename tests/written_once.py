"""The same network in the same format is written once: a converter takes seconds, and gives the same file again."""

from __future__ import annotations

import hashlib
import shutil
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
    return tmp_path_factory.mktemp("written")


@pytest.fixture(scope="module")
def written_once(files_of_networks: Path) -> Iterator[None]:
    """For tests of what is done with the files, in this process: `write_onnx` and `write_paddle` give copies."""
    from mobilenext.export import to_onnx, to_paddle

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(to_onnx, "write_onnx", _once(to_onnx.write_onnx, files_of_networks))
        patched.setattr(to_paddle, "write_paddle", _once(to_paddle.write_paddle, files_of_networks))
        yield


def _once(write: Write, folder: Path) -> Write:
    def write_or_copy(network: Network, file: Path, image_size: int) -> None:
        kept = folder / _digest(network, file.suffix, image_size)
        if not kept.is_dir():
            write(network, file, image_size)
            kept.mkdir()
            for written in (file, file.with_suffix(".pdiparams")):
                if written.is_file():
                    shutil.copy(written, kept / f"network{written.suffix}")
            return
        for written in kept.iterdir():
            shutil.copy(written, file.with_suffix(written.suffix))

    return write_or_copy


def _digest(network: Network, suffix: str, image_size: int) -> str:
    """All that decides what is written: layers, weights, names of the outputs, format and size."""
    digest = hashlib.sha256(f"{type(network)} {network} {network.outputs} {suffix} {image_size}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.shape}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
