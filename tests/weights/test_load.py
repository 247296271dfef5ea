"""Putting weights into a network: every tensor on both sides exactly once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from mobilenext.errors import WeightsError
from mobilenext.models import build_network
from mobilenext.weights.load import load_backbone, load_weights, network_of
from mobilenext.weights.read import read_weights
from weights_files import pytorch_tensors


def test_network_of(file: Path) -> None:
    weights = read_weights(file, identity_divisor=3)
    network = network_of(weights)
    assert not network.training
    assert (network.num_classes, network.identity_divisor) == (20, 3)
    assert all(np.array_equal(t.numpy(), weights.tensors[key]) for key, t in network.state_dict().items())


def test_loading_a_file_or_what_was_read(file: Path) -> None:
    network = build_network("mobilenext_x0_35", num_classes=20)
    weights = load_weights(network, file)
    assert weights.model == "mobilenext_x0_35"
    assert load_weights(network, weights) is weights
    assert np.array_equal(network.state_dict()["classifier.1.bias"].numpy(), weights.tensors["classifier.1.bias"])


@pytest.mark.parametrize(
    ("model", "classes", "shown"),
    [
        ("mobilenext_x0_35", 21, ["classifier.1.weight", "[1280, 21]", "[1280, 20]"]),
        ("mobilenext_x0_5", 20, ["features.1.conv.5.weight", "[48, 8, 1, 1]", "[32, 8, 1, 1]"]),
        ("mobilenetv2_x0_35", 20, ["features.1.conv.0.0.weight", "[16, 1, 3, 3]", "-"]),
    ],
)
def test_a_network_is_untouched_by_what_does_not_fit(model: str, classes: int, shown: list[str], file: Path) -> None:
    network = build_network(model, num_classes=classes)
    before = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(network, file)
    assert "(mobilenext_x0_35, 20 classes) does not fit this network, which is unchanged" in str(caught.value)
    lines = [line for line in str(caught.value).splitlines() if line.startswith(shown[0])]
    assert [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines] == [shown]
    assert all(np.array_equal(tensor.numpy(), before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("recording", ["mobilenext_x0.35_20classes_64px", "mobilenext_s", "mobilenetv2_x0.35"])
def test_a_network_without_head_takes_whole_weights(recording: str, tmp_path: Path) -> None:
    path = tmp_path / "whole.safetensors"
    safetensors.numpy.save_file(pytorch_tensors(recording), path)
    weights = read_weights(path)
    network = build_network(weights.model, num_classes=3)
    network.keep_features_only()
    load_weights(network, weights)
    state = network.state_dict()
    assert all(np.array_equal(tensor.numpy(), weights.tensors[key]) for key, tensor in state.items())
    heads = ("classifier.", "_fc.", "_bn1.")
    assert set(state) == {key for key in weights.tensors if not key.startswith(heads)}
    missing = dataclasses.replace(weights, tensors={k: t for k, t in weights.tensors.items() if k != next(iter(state))})
    with pytest.raises(WeightsError, match="1 differences"):
        load_weights(network, missing)


def test_a_backbone_is_loaded_and_the_head_of_the_network_stays(file: Path) -> None:
    network = build_network("mobilenext_x0_35", num_classes=3)
    head = network.classifier[1].weight.numpy()
    weights = load_backbone(network, file)
    assert np.array_equal(network.classifier[1].weight.numpy(), head)
    state = network.state_dict()
    names = [name for name in state if not name.startswith("classifier.")]
    assert len(names) == 370
    assert all(np.array_equal(state[name].numpy(), weights.tensors[name]) for name in names)
    network = build_network("mobilenext_x0_35", num_classes=3)
    network.keep_pooled_only()
    load_weights(network, weights)
    assert np.array_equal(network.state_dict()[names[0]].numpy(), weights.tensors[names[0]])
