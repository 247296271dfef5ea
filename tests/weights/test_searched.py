"""Weights of searched networks: they stand alone, and files of other programs are read by an architecture."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mobilenext.errors import WeightsError
from mobilenext.models import Architecture, architecture_network, write_architecture
from mobilenext.models.architecture_fields import OPERATORS
from mobilenext.models.genotype import GENOTYPES, NONE
from mobilenext.weights.convert import convert_checkpoint
from mobilenext.weights.load import network_of
from mobilenext.weights.naming import to_pytorch
from mobilenext.weights.read import read_weights
from mobilenext.weights.record import Weights
from mobilenext.weights.searched import fresh_weights
from mobilenext.weights.write import write_weights

ARCHITECTURE = Architecture(space="cell", genotype=GENOTYPES["darts_v1"], form="cifar", channels=2, cells=2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return fresh_weights(ARCHITECTURE, tmp_path_factory.mktemp("weights") / "own.safetensors", num_classes=3)


def test_operators_of_files_are_those_that_can_be_built() -> None:
    from mobilenext.models import cell_operators

    assert set(OPERATORS) == set(cell_operators.OPERATORS) - {NONE}


def test_they_stand_alone(weights: Weights) -> None:
    write_weights(weights, weights.path)
    copy = read_weights(weights.path)
    assert (copy.model, copy.num_classes, copy.architecture) == (ARCHITECTURE.name, 3, ARCHITECTURE.to_dict())
    state = network_of(copy).state_dict()
    assert all(np.array_equal(state[name].numpy(), tensor) for name, tensor in weights.tensors.items())
    assert state.keys() == weights.tensors.keys()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"model": "mobilenext_x1_0"},
            "the record is of mobilenext_x1_0 with the identity divisor 1; its architecture",
        ),
        ({"num_classes": 4}, "these tensors do not fit the cell_"),
        ({"num_classes": 100_001}, "a classifier of 100001 classes; expected at most 100,000"),
        (
            {"architecture": {**ARCHITECTURE.to_dict(), "cells": 101}},
            "an architecture that cannot be used: cells is 101",
        ),
        ({"architecture": {**ARCHITECTURE.to_dict(), "schema": 2}}, "schema is 2; expected 1: a later version"),
    ],
)
def test_a_record_of_another_network(weights: Weights, tmp_path: Path, fields: dict, problem: str) -> None:
    write_weights(dataclasses.replace(weights, **fields), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=problem):
        read_weights(tmp_path / "other.safetensors")


def test_a_checkpoint_of_pytorch_is_converted_by_its_architecture(weights: Weights, tmp_path: Path) -> None:
    """As the authors store it: PyTorch's names, counters of batch norms, and the second head."""
    network = architecture_network(ARCHITECTURE, num_classes=3, auxiliary=True)
    second = network.auxiliary_head.state_dict()
    tensors = to_pytorch(weights.tensors, weights.entries)
    tensors |= {f"auxiliary_head.{name.replace('_mean', 'running_mean')}": second[name].numpy() for name in second}
    names = [name.removesuffix("running_mean") for name in tensors if name.endswith("running_mean")]
    counters = {f"{name}num_batches_tracked": np.zeros([], np.int64) for name in names}
    save_file(tensors | counters, tmp_path / "a.safetensors")
    write_architecture(tmp_path / "a.json", ARCHITECTURE)
    path = tmp_path / "converted.safetensors"
    certificate = convert_checkpoint(tmp_path / "a.safetensors", path, model=str(tmp_path / "a.json"))
    assert (certificate["model"], certificate["num_classes"]) == (ARCHITECTURE.name, 3)
    assert any("auxiliary_head" in note or "second head" in note for note in certificate["notes"])
    copy = read_weights(path)
    assert copy.architecture == ARCHITECTURE.to_dict()
    assert all(np.array_equal(copy.tensors[name], tensor) for name, tensor in weights.tensors.items())
    write_architecture(tmp_path / "b.json", ARCHITECTURE.replace(channels=4))
    with pytest.raises(WeightsError, match="do not fit the architecture; "):
        read_weights(tmp_path / "a.safetensors", model=tmp_path / "b.json")
    with pytest.raises(WeightsError, match="which is not the network of the architecture cell_"):
        read_weights(path, model=tmp_path / "b.json")
