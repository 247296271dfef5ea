"""Writing weights: whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import paddle
import pytest

from mobilenext.errors import OutputError, UsageError
from mobilenext.models import build_network
from mobilenext.weights.read import read_weights
from mobilenext.weights.write import write_weights


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pdparams_out_and_in_again(file: Path, tmp_path: Path) -> None:
    weights, path = read_weights(file), tmp_path / "ours.pdparams"
    written = write_weights(weights, path)
    again = read_weights(path)
    assert again.dialect == "paddle"
    loaded = paddle.load(str(path))
    assert written.keys() == loaded.keys() == again.tensors.keys() == weights.tensors.keys()
    for key, tensor in weights.tensors.items():
        assert again.tensors[key].tobytes() == loaded[key].numpy().tobytes() == tensor.tobytes()
    build_network("mobilenext_x0_35", num_classes=20).set_state_dict(loaded)


@pytest.mark.parametrize(("name", "to"), [("a.pth", "paddle"), ("a", "paddle"), ("a.pdparams", "pytorch")])
def test_a_suffix_that_cannot_be_written(name: str, to: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has the suffix '.*'; expected \.safetensors"):
        write_weights(read_weights(file), tmp_path / name, to=to)
    assert names_in(tmp_path) == [file.name]


def test_a_folder_is_made_for_the_output(file: Path, tmp_path: Path) -> None:
    write_weights(read_weights(file), tmp_path / "a" / "b" / "ours.safetensors")
    assert names_in(tmp_path / "a" / "b") == ["ours.safetensors"]


def test_an_output_in_what_is_no_folder(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(OutputError, match=r"cannot write .*ours\.safetensors"):
        write_weights(read_weights(file), file / "ours.safetensors")
    assert file.read_bytes() == before
    assert names_in(tmp_path) == [file.name]


def test_an_output_that_is_a_folder(file: Path, tmp_path: Path) -> None:
    (tmp_path / "ours.safetensors").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_weights(read_weights(file), tmp_path / "ours.safetensors")
    assert names_in(tmp_path) == ["ours.safetensors", file.name]


def test_a_full_disk_leaves_the_old_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    weights, output = read_weights(file), tmp_path / "ours.safetensors"
    output.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=f"{os.strerror(errno.ENOSPC)}; nothing was changed there"):
        write_weights(weights, output)
    assert output.read_bytes() == b"old"
    assert names_in(tmp_path) == ["ours.safetensors", file.name]
