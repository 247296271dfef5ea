"""A search by two processes, with batch norms over both, computes what one process does.

One step of the alphas and one of the weights are compared. Later ones part by more than rounding: where an input of a
ReLU is 1e-8 here and -1e-8 there, its whole gradient is missing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from digit_folders import write_digit_folders
from mobilenext.machine.process_environment import FAST_PROCESS
from pairs import Both
from warm import WarmCommands

COMMON = [
    "epochs=1", "batch_size=12", "alpha_warmup=0", "sync_bn=true", "dropout=0", "padding=1", "crop=pad",
    "cost_weight=1", "budget=0.5",
]  # fmt: skip
SPACES = {
    "cell": ["image_size=8", "channels=4", "cells=3", "operators=none,skip_connect,dil_conv_3x3,sandglass_3x3"],
    "blocks": ["image_size=32", "drop_connect=0"],  # and weights: fresh ones have endless gradients
}
BOUND = 1e-3  # of the largest value of its kind


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of each of four digits: two halves of twelve, which is one step."""
    return write_digit_folders(tmp_path_factory.mktemp("pair") / "data", 4, 6)


def words(data: Path, folder: Path, space: str) -> list[str]:
    settings = [word for setting in (*COMMON, *SPACES[space]) for word in ("--set", setting)]
    model = ["--weights", "mobilenext_x0_35.digits", "--num-classes", "4"] if space == "blocks" else []
    return [
        *("search", str(data), "-o", str(folder), "--space", space, "--seed", "5", "--log-every", "1"),
        *("--workers", "0", "--threads", "1", *model, *settings),
    ]


def state(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The tensors of the checkpoint by kind: weights, statistics, alphas, and what both optimizers have."""
    kinds: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in load_file(folder / "checkpoint.safetensors").items():
        kind = name.partition("/")[0] if "/" in name else "other"
        for ending in ("_mean", "_variance", "moment1_0", "moment2_0"):
            kind += f" {ending}" if name.endswith(ending) else ""
        kinds.setdefault("the alphas" if "alphas" in name and kind == "network" else kind, {})[name] = tensor
    return kinds


@pytest.mark.parametrize("space", ["cell", pytest.param("blocks", marks=pytest.mark.long)])  # a minute each
def test_two_processes_search_as_one_does(
    space: str, data: Path, tmp_path: Path, both: Both, warm_commands: WarmCommands
) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    environment = os.environ | FAST_PROCESS | {"OMP_NUM_THREADS": "1"}
    done = warm_commands.run(words(data, alone, space), environment=environment)
    assert done.returncode == 0, done.stderr
    both(words(data, together, space))
    assert json.loads((together / "result.json").read_text())["processes"] == 2
    one, other = state(alone), state(together)
    assert {"the alphas", "alphas moment1_0", "alphas moment2_0", "optimizer", "network _mean"} <= set(one)
    apart = {}
    for kind, tensors in one.items():
        assert sorted(tensors) == sorted(other[kind])
        largest = max(np.abs(tensor).max() for tensor in tensors.values())
        apart[kind] = max(float(np.abs(other[kind][name] - tensors[name]).max() / largest) for name in tensors)
    assert max(apart.values()) <= BOUND, apart
    files = [json.loads((folder / "architecture.json").read_text()) for folder in (alone, together)]
    assert files[0] == files[1]
