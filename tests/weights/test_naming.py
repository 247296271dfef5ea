"""Which tensor of a checkpoint is which of a network, against names that PyTorch networks were recorded with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mobilenext.errors import WeightsError
from mobilenext.models import build_network
from mobilenext.models.cards import paper_models
from mobilenext.weights import naming

GOLDENS = Path(__file__).parents[1] / "goldens"
SMALL = "mobilenext_x0.35_20classes_64px"
MODEL_OF = {
    "mobilenext_x0.35": "mobilenext_x0_35",
    SMALL: "mobilenext_x0_35",
    "mobilenext_x0.75": "mobilenext_x0_75",
    "mobilenext_x1.0": "mobilenext_x1_0",
    "mobilenext_x1.0_identity_div2": "mobilenext_x1_0",  # the divisor changes neither names nor shapes
    "mobilenext_s": "mobilenext_s",
    "mobilenext_l": "mobilenext_l",
    "mobilenext_l_ghost": "mobilenext_l_ghost",
    "mobilenetv2_x0.35": "mobilenetv2_x0_35",
    "mobilenetv2_x1.0": "mobilenetv2_x1_0",
}


def recorded(name: str) -> dict[str, tuple[int, ...]]:
    """PyTorch's names and shapes, counters included."""
    return {key: tuple(shape) for key, shape in json.loads((GOLDENS / f"{name}.json").read_text())["keys"]}


def without_counters(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in shapes.items() if not key.endswith(".num_batches_tracked")}


def refusal(shapes: dict[str, tuple[int, ...]]) -> str:
    with pytest.raises(WeightsError) as caught:
        naming.recognize(shapes)
    return str(caught.value)


@pytest.mark.parametrize(("name", "model"), MODEL_OF.items())
def test_pytorch_names_are_recognised(name: str, model: str) -> None:
    shapes = recorded(name)
    found = naming.recognize(shapes)
    assert (found.model, found.dialect) == (model, "pytorch")
    assert found.num_classes == (20 if name == SMALL else 1000)
    expected = without_counters(shapes)
    assert len(found.entries) == len(expected)
    assert {entry.name("pytorch"): entry.shape("pytorch") for entry in found.entries} == expected
    assert naming.recognize(expected) == found


@pytest.mark.parametrize("model", paper_models())
def test_paddle_names_are_recognised(model: str) -> None:
    state = build_network(model, num_classes=7).state_dict()
    found = naming.recognize({key: tuple(tensor.shape) for key, tensor in state.items()})
    assert (found.model, found.num_classes, found.dialect) == (model, 7, "paddle")
    assert [entry.paddle_name for entry in found.entries] == list(state)
    assert {entry.name("paddle"): entry.shape("paddle") for entry in found.entries} == {
        key: tuple(tensor.shape) for key, tensor in state.items()
    }


def test_the_two_rules() -> None:
    entries = {entry.paddle_name: entry for entry in naming.entries_of(build_network("mobilenext_x0_35"))}
    assert entries["features.0.1._mean"].pytorch_name == "features.0.1.running_mean"
    assert entries["features.0.1._variance"].pytorch_name == "features.0.1.running_var"
    linear = entries["classifier.1.weight"]
    assert (linear.shape("paddle"), linear.shape("pytorch")) == ((1280, 1000), (1000, 1280))
    assert [name for name, entry in entries.items() if entry.transposed] == ["classifier.1.weight"]
    assert [name for name, entry in entries.items() if name != entry.pytorch_name] == [
        name for name in entries if name.endswith(("._mean", "._variance"))
    ]


def test_a_square_linear_layer_is_transposed() -> None:
    """Its shape does not tell the conventions apart; the layer does."""
    shapes = without_counters(recorded("mobilenext_x0.35"))
    shapes |= {"classifier.1.weight": (1280, 1280), "classifier.1.bias": (1280,)}
    found = naming.recognize(shapes)
    random = np.random.default_rng(0)
    tensors = {key: random.random(shape, np.float32) for key, shape in shapes.items()}
    ours = naming.to_paddle(tensors, found)
    assert list(ours) == [entry.paddle_name for entry in found.entries]
    assert np.array_equal(ours["classifier.1.weight"], tensors["classifier.1.weight"].T)
    assert not np.array_equal(ours["classifier.1.weight"], tensors["classifier.1.weight"])
    assert ours["classifier.1.weight"].flags.c_contiguous
    assert np.array_equal(ours["features.20.conv.3.weight"], tensors["features.20.conv.3.weight"])
    back = naming.to_pytorch(ours, found.entries)
    assert {key: tensor.tobytes() for key, tensor in back.items()} == {
        key: tensor.tobytes() for key, tensor in tensors.items()
    }


def test_a_missing_tensor() -> None:
    shapes = recorded("mobilenext_x0.35")
    del shapes["features.7.conv.3.weight"]
    message = refusal(shapes)
    assert "the nearest is mobilenext_x0_35, with 1 differences" in message
    (line,) = (line for line in message.splitlines() if line.startswith("features.7.conv.3.weight"))
    assert line.split() == ["features.7.conv.3.weight", "[32,", "104,", "1,", "1]", "-"]


@pytest.mark.parametrize(("shape", "shown"), [((3, 4), "[3, 4]"), ((), "[]")])
def test_a_tensor_too_many(shape: tuple[int, ...], shown: str) -> None:
    message = refusal(recorded("mobilenext_x0.35") | {"features.21.weight": shape})
    (line,) = (line for line in message.splitlines() if line.startswith("features.21.weight"))
    assert line.split(maxsplit=2) == ["features.21.weight", "-", shown]


@pytest.mark.parametrize(("shape", "shown"), [((16,), "[16]"), ((), "[]")])
def test_a_tensor_of_another_shape(shape: tuple[int, ...], shown: str) -> None:
    message = refusal(recorded("mobilenext_x0.35") | {"features.1.conv.9.running_var": shape})
    (line,) = (line for line in message.splitlines() if line.startswith("features.1.conv.9.running_var"))
    assert line.split(maxsplit=2) == ["features.1.conv.9.running_var", "[32]", shown]


def test_a_width_that_is_none_of_ours() -> None:
    shapes = recorded("mobilenext_x1.0")
    message = refusal(
        {
            key: (*shape[:-1], 1 + shape[-1]) if shape and key.startswith("features.2") else shape
            for key, shape in shapes.items()
        }
    )
    assert "these tensors fit none of the models; the nearest is mobilenext_x1_0" in message
    assert "another implementation or width" in message
    assert "... and " in message  # not hundreds of lines
    assert len(message.splitlines()) < 20


def test_neither_or_both_dialects() -> None:
    expected = r"expected names such as features.0.1.running_mean \(PyTorch\) or features.0.1._mean \(Paddle\)"
    with pytest.raises(WeightsError, match=f"no batch norm statistics.*{expected}"):
        naming.dialect_of(["features.0.0.weight"])
    with pytest.raises(WeightsError, match=f"both Paddle and PyTorch batch norm statistics.*{expected}"):
        naming.dialect_of(["features.0.1._mean", "features.1.conv.1.running_mean"])
    assert naming.dialect_of(["a._mean", "b.weight"]) == "paddle"
    assert naming.dialect_of(["a.running_mean", "b._mean_of"]) == "pytorch"


def test_a_network_that_is_none_of_ours() -> None:
    message = refusal({"layer1.0.bn1.running_mean": (64,), "conv1.weight": (64, 3, 7, 7)})
    assert "belong to no network here" in message
    assert "found conv1.weight, layer1.0.bn1.running_mean" in message


@pytest.mark.parametrize("name", ["mobilenext_x0.35", "mobilenext_s"])
def test_no_classifier(name: str) -> None:
    shapes = {key: shape for key, shape in recorded(name).items() if not key.startswith(("classifier", "_fc"))}
    head = "_fc.bias" if name == "mobilenext_s" else "classifier.1.bias"
    assert f"expected a tensor {head} [classes], found none" in refusal(shapes)
    assert f"expected a tensor {head} [classes], found (10, 1)" in refusal(shapes | {head: (10, 1)})


def test_a_classifier_of_no_classes() -> None:
    shapes = recorded("mobilenext_x0.35") | {"classifier.1.weight": (0, 1280), "classifier.1.bias": (0,)}
    assert "classifier.1.bias" in refusal(shapes)


def test_the_classifier_is_checked_before_a_network_of_its_size_is_built() -> None:
    shapes = recorded("mobilenext_x0.35") | {"classifier.1.bias": (10**12,)}  # the linear layer would be 5 PB
    message = refusal(shapes)
    assert "classifier.1.weight" in message
    assert "[1000, 1280]" in message
    assert "1000000000000" in message


def test_a_long_table_says_how_much_is_left_out() -> None:
    table = naming.table_of([f"line {index}" for index in range(15)]).splitlines()
    assert table[0].split() == ["tensor", "expected", "found"]
    assert table[1:] == [*(f"line {index}" for index in range(12)), "... and 3 more"]
