"""The super-network of DARTS, beside what the authors' PyTorch code computes (tests/goldens/search)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import paddle
import pytest

from cell_recordings import (
    formula_labels,
    formula_maps,
    keys_of,
    recorded,
    recorded_keys,
    set_formula_alphas,
    set_formula_weights,
)
from golden import formula_weights
from mobilenext.errors import UsageError
from mobilenext.models.cell_operators import DARTS, OPERATORS
from mobilenext.models.cell_search import CellSearchNetwork, MixedOperator
from mobilenext.models.counting import count

pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track")  # Paddle's batch norm, of itself

SUPERNET, ARRAYS = recorded("supernet")
SETTINGS = SUPERNET["settings"]
TAG = SETTINGS["tag"]
NINE = (*DARTS, "sandglass_3x3")


@functools.cache
def super_network(operators: tuple[str, ...]) -> CellSearchNetwork:
    """Built once: it has thousands of layers."""
    return CellSearchNetwork(operators, SETTINGS["C"], SETTINGS["layers"], SUPERNET["classes"])


@functools.cache
def passes(operators: tuple[str, ...], tag: str, dtype: str) -> dict[str, Any]:
    """Logits, loss, gradients and statistics of one pass in evaluation and one in training, as the recording made."""
    network = super_network(operators).to(dtype=dtype)
    set_formula_weights(network)
    set_formula_alphas(network, tag, SETTINGS["alpha_scale"])
    network.clear_gradients()
    shape = (SETTINGS["batch"], 3, SETTINGS["size"], SETTINGS["size"])
    images = paddle.to_tensor(formula_maps(f"{TAG}-train", *shape).astype(dtype))
    network.eval()
    with paddle.no_grad():
        results: dict[str, Any] = {"logits_eval": network(images).numpy()}
    network.train()
    logits = network(images)
    loss = paddle.nn.functional.cross_entropy(logits, paddle.to_tensor(formula_labels(f"{TAG}-train-labels", 8)))
    loss.backward()
    trained = {name: tensor for name, tensor in network.named_parameters() if not tensor.stop_gradient}
    state = network.state_dict()
    results |= {"logits_train": logits.numpy(), "loss": loss.item()}
    results["state"] = {name: tensor.numpy().copy() for name, tensor in state.items()}
    results |= {f"alpha_grad_{name[7:]}": tensor.grad.numpy() for name, tensor in network.alphas.items()}
    results["gradients"] = {name: tensor.grad.numpy() for name, tensor in trained.items() if "alphas" not in name}
    return results


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-6), ("float32", 1e-3)])
def test_logits_loss_and_gradients(dtype: str, bound: float) -> None:
    results = passes(DARTS, TAG, dtype)
    for name, expected in ARRAYS.items():
        assert results[name].dtype == dtype
        assert np.abs(results[name] - expected).max() <= bound * np.abs(expected).max(), name
    assert results["loss"] == pytest.approx(SUPERNET["loss"], rel=bound)
    norms = {name: np.linalg.norm(gradient) for name, gradient in results["gradients"].items()}
    for name, expected in SUPERNET["weight_grad_norms"].items():
        assert norms[name] == pytest.approx(expected, rel=bound)
    assert np.linalg.norm([*norms.values()]) == pytest.approx(SUPERNET["weight_grad_norm_all"], rel=bound)
    # The trainable tensors, and no others, are the authors'.
    assert len(norms) == SUPERNET["n_parameter_tensors"]
    assert sum(gradient.size for gradient in results["gradients"].values()) == SUPERNET["weight_params"]


def test_running_statistics() -> None:
    state = passes(DARTS, TAG, "float64")["state"]
    values = SETTINGS["batch"] * SETTINGS["size"] ** 2  # of a channel, in the maps whose variances are recorded
    for name, (mean, deviation) in SUPERNET["running_stats_after"].items():
        statistics = state[name.replace("running_mean", "_mean").replace("running_var", "_variance")]
        if name.endswith("running_var"):
            # PyTorch keeps the variance of a sample, divided by one value less.
            kept = 0.9 * formula_weights([(name, list(statistics.shape))], "cells")[name]
            statistics = kept + (statistics - kept) * values / (values - 1)
        assert statistics.mean() == pytest.approx(mean, rel=1e-6)
        assert statistics.std() == pytest.approx(deviation, rel=1e-6)


def test_a_ninth_operator() -> None:
    proposal, arrays = recorded("sandglass_proposal")
    results = passes(NINE, f"{TAG}-9", "float64")
    for name, expected in arrays.items():
        assert np.abs(results[name] - expected).max() <= 1e-6 * np.abs(expected).max(), name
    assert results["loss"] == pytest.approx(proposal["supernet"]["loss"], rel=1e-6)
    assert sum(gradient.size for gradient in results["gradients"].values()) == proposal["supernet"]["weight_params"]


def test_names_and_shapes_are_those_of_the_authors_in_order() -> None:
    assert keys_of(super_network(DARTS)) == recorded_keys("supernet")


@pytest.mark.long
def test_the_super_network_of_the_paper_is_as_large_as_theirs() -> None:
    sizes = recorded("discrete")[0]
    size = count(CellSearchNetwork(DARTS, 16, 8, 10), 32)
    assert size.parameters - 2 * 14 * 8 == sizes["supernet_16x8_params"] == 1_930_618  # and the alphas
    assert size.mult_adds == sizes["supernet_16x8_madds"]


def test_the_order_of_operators_and_columns_does_not_matter() -> None:
    operators = np.array(["avg_pool_3x3", "none", "sep_conv_3x3", "skip_connect", "sandglass_3x3"])
    x = paddle.to_tensor(formula_maps("permuted", 1, 2, 8, 8))  # a batch of one
    weights = np.float32([0.1, 0.3, 0.2, 0.15, 0.25])
    outputs = []
    for order in ([0, 1, 2, 3, 4], [3, 4, 0, 2, 1]):
        mixed = MixedOperator(list(operators[order]), 2, 2)
        for layer, name in zip(mixed._ops, operators[order], strict=True):
            layer.set_state_dict(
                {key: paddle.full(tensor.shape, 0.1 * len(name)) for key, tensor in layer.state_dict().items()}
            )
        mixed.eval()
        outputs.append(mixed(x, paddle.to_tensor(weights[order]).unbind()).numpy())
    assert np.abs(outputs[0]).max() > 0.1
    assert np.allclose(outputs[0], outputs[1], atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_every_operator_takes_part_and_receives_gradients(stride: int) -> None:
    mixed = MixedOperator(tuple(OPERATORS), 4, stride)
    set_formula_weights(mixed)
    alphas = paddle.zeros([len(OPERATORS)])
    alphas.stop_gradient = False
    weights = paddle.nn.functional.softmax(alphas)
    output = mixed(paddle.to_tensor(formula_maps("all", 2, 4, 12, 16)), weights.unbind())
    output.square().sum().backward()
    gradient = alphas.grad.numpy()
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient) > 0).all()
    assert abs(gradient.sum()) < 1e-3 * np.abs(gradient).max()  # of a softmax
    assert all(tensor.grad is not None for tensor in mixed.parameters() if not tensor.stop_gradient)


def test_edges_without_operators_are_zero() -> None:
    network = CellSearchNetwork(("none", "skip_connect"), 2, 2, 3)
    for tensor in network.alphas.values():
        tensor.set_value(np.tile(np.float32([200.0, -200.0]), (14, 1)))
    network.eval()
    logits = network(paddle.to_tensor(formula_maps("none", 2, 3, 8, 8)))
    assert np.allclose(logits.numpy(), network.classifier.bias.numpy(), atol=1e-6)


def test_the_form_imagenet_searches_at_a_quarter_of_the_side() -> None:
    network = CellSearchNetwork(("none", "skip_connect", "max_pool_3x3"), 4, 2, 3, form="imagenet")
    assert network.stem(paddle.zeros([1, 3, 64, 64])).shape == [1, 4, 16, 16]
    assert network(paddle.zeros([1, 3, 64, 64])).shape == [1, 3]


def test_first_alphas_are_nearly_equal() -> None:
    paddle.seed(2)
    values = np.concatenate([tensor.numpy() for tensor in CellSearchNetwork(NINE, 2, 1, 2).alphas.values()])
    assert values.shape == (28, 9)
    assert values.std() == pytest.approx(1e-3, rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operators": ("none", "sep_conv_7x7")}, "unknown operator 'sep_conv_7x7'; did you mean 'sep_conv_"),
        ({"operators": ("none",)}, "expected at least one other than 'none'"),
        ({"operators": ("skip_connect", "skip_connect")}, "more than once"),
        ({"channels": 3}, "channels is 3; expected an even number"),
        ({"channels": 0}, "channels is 0; expected a whole number from 1 up"),
        ({"cells": 0}, "cells is 0"),
        ({"cells": True}, "cells is True"),
        ({"num_classes": 2.0}, "num_classes is 2.0"),
        ({"form": "imagenet1k"}, "form is 'imagenet1k'; expected cifar or imagenet"),
    ],
)
def test_impossible_super_networks(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CellSearchNetwork(**{"operators": ("none", "skip_connect"), "channels": 2, "cells": 1, **options})


def test_an_image_that_cannot_be_halved_is_refused() -> None:
    network = CellSearchNetwork(("none", "skip_connect"), 2, 3, 2)
    with pytest.raises(UsageError, match=r"a map of 9 x 9 cannot be halved: .* sides of the images be multiples of 4"):
        network(paddle.zeros([1, 3, 9, 9]))
