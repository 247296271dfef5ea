"""Steps of the alphas, of both orders, against those of the authors' PyTorch code in float64 (tests/goldens/search)."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest
from numpy.testing import assert_allclose

from cell_recordings import (
    formula_labels,
    formula_maps,
    recorded,
    set_formula_alphas,
    set_formula_weights,
)  # fmt: skip
from golden import uniform
from mobilenext.job import Batch, Feed, Setup
from mobilenext.machine.ranks import Ranks
from mobilenext.models.cell_search import CellSearchNetwork
from mobilenext.search.architect import Architect, frozen
from mobilenext.search.recipes import RECIPES, SearchRecipe
from mobilenext.search.stepper import SearchStep
from mobilenext.training.stepper import GradientStep
from mobilenext.weights.naming import entries_of

FACTS, ARRAYS = recorded("architect")
SETTINGS = FACTS["settings"]
ETA = SETTINGS["eta"]
BOUND = {"rtol": 1e-6, "atol": 1e-6}
# Paddle's own batch norm warns.
pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track")


class CrossEntropy:
    """A job that computes nothing but the loss, in float64: that of classification is float32."""

    counted = ()

    def divisor(self, batch: Batch, ranks: Ranks) -> None:
        return None

    def loss(self, outputs: Any, batch: Batch) -> Any:
        labels = paddle.to_tensor(batch.targets["labels"])
        return paddle.nn.functional.cross_entropy(outputs[0], labels, reduction="sum"), ()


def recipe(order: int, **values: Any) -> SearchRecipe:
    assert (SETTINGS["momentum"], SETTINGS["weight_decay"], SETTINGS["clip"]) == (0.9, 3e-4, 5.0)
    size = SETTINGS["batch"]
    return RECIPES["darts"].replace(order=order, batch_size=size, lr_batch_size=size, lr=ETA, **values)


def batch_of(half: str) -> Batch:
    tag, size, images = SETTINGS["tag"], SETTINGS["size"], SETTINGS["batch"]
    maps = formula_maps(f"{tag}-{half}", images, 3, size, size).astype(np.float64)
    return Batch(maps, {"labels": formula_labels(f"{tag}-{half}-labels", images)})


@pytest.fixture(scope="module")
def double() -> Iterator[None]:
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype("float32")


class Search:
    """A super-network with the formula's weights, and what changes its weights and alphas."""

    def __init__(self, chosen: SearchRecipe) -> None:
        self.network = CellSearchNetwork(channels=SETTINGS["C"], cells=SETTINGS["layers"])
        set_formula_weights(self.network)
        set_formula_alphas(self.network, SETTINGS["tag"], SETTINGS["alpha_scale"])
        self.network.train()
        setup = Setup(chosen, CrossEntropy(), Ranks(), Feed(0, chosen.batch_size))
        self.alphas = self.network.alphas
        own = {id(value) for value in self.alphas.values()}
        self.weights = [p for p in self.network.parameters() if id(p) not in own and not p.stop_gradient]
        self.descent = GradientStep(setup, self.network, self.weights)
        self.architect = Architect(setup, self.network, self.descent, self.weights, self.alphas)
        self.batches = batch_of("train"), batch_of("valid")

    def set_momentum(self) -> None:
        arrays = {}
        trained = {name for name, value in self.network.named_parameters() if not value.stop_gradient}
        for entry in entries_of(self.network):
            if entry.paddle_name in trained - set(self.alphas):
                shape = entry.shape("pytorch")
                values = (uniform(f"momentum-{entry.pytorch_name}", int(np.prod(shape))) - 0.5).reshape(shape)
                values = (values * SETTINGS["momentum_scale"]).astype(np.float32).astype(np.float64)
                arrays[f"{entry.paddle_name}/velocity_0"] = values.T if entry.transposed else values
        self.descent.restore({"optimizer": arrays}, None)

    def tensors(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.network.state_dict().items() if name not in self.alphas}


def assert_alphas(search: Search, name: str) -> None:
    for kind in ("normal", "reduce"):
        assert_allclose(search.alphas[f"alphas_{kind}"].numpy(), ARRAYS[f"{name}_{kind}"], **BOUND)


@pytest.mark.parametrize(
    ("case", "order"),
    [
        ("order1", 1),
        pytest.param("order2", 2, marks=pytest.mark.long),  # without momentum: the first of three alternating steps
        ("order2_momentum", 2),
    ],
)
def test_two_steps_of_the_alphas(double: None, case: str, order: int) -> None:
    search = Search(recipe(order))
    if case == "order2_momentum":
        search.set_momentum()
    train, validation = search.batches
    before = search.tensors()
    gradients = search.architect.gradients(train, validation, ETA)
    for kind in ("normal", "reduce"):
        assert_allclose(gradients[f"alphas_{kind}"].numpy(), ARRAYS[f"{case}_grad_{kind}"], **BOUND)
        norm = FACTS[f"{case}_grad_norms"][kind == "reduce"]
        assert float(gradients[f"alphas_{kind}"].norm()) == pytest.approx(norm, rel=1e-6)
    search.architect.step(train, validation, ETA, 0)
    assert_alphas(search, f"{case}_alphas1")
    search.architect.step(validation, train, ETA, 0)
    assert_alphas(search, f"{case}_alphas2")
    # Weights and statistics are the same numbers, and the weights can be trained again.
    after = search.tensors()
    assert all(np.array_equal(after[name], value) for name, value in before.items())
    assert not any(value.stop_gradient for value in search.weights)


def test_three_alternating_steps(double: None) -> None:
    search = Search(recipe(SETTINGS["search_order"], clip_norm=SETTINGS["clip"]))
    search_facts = FACTS["three_steps"]
    train, validation = search.batches
    losses = []
    for number in range(3):
        search.architect.step(train, validation, ETA, 0)
        with frozen(list(search.alphas.values())):
            (sums,) = search.descent(train, number, ETA)
        losses.append(float(sums[0] / sums[1]))
        train, validation = validation, train
    expected = [loss for loss, _ in search_facts["loss_and_gradient_norm_before_clipping"]]
    assert losses == pytest.approx(expected, rel=1e-6)
    assert_alphas(search, "three_steps_alphas")


def test_terms_of_the_alphas_are_added(double: None) -> None:
    """The gradient of the mean of logsumexp over 28 rows is a softmax / 28; that of the loss is as without it."""
    search = Search(recipe(1))
    regularization = SearchStep._regularization
    stub = SimpleNamespace(_recipe=recipe(1, beta=0.5), _space=None)
    search.architect._regularizer = lambda alphas, epoch: regularization(stub, alphas, epoch)
    train, validation = search.batches
    gradients = search.architect.gradients(train, validation, ETA, 3)
    for kind in ("normal", "reduce"):
        alphas = search.alphas[f"alphas_{kind}"].numpy()
        softmax = np.exp(alphas) / np.exp(alphas).sum(1, keepdims=True)
        expected = ARRAYS[f"order1_grad_{kind}"] + 0.5 * 3 * softmax / 28
        assert_allclose(gradients[f"alphas_{kind}"].numpy(), expected, **BOUND)
    before = {name: value.numpy() for name, value in search.alphas.items()}
    search.architect.step(train, validation, ETA, 3)
    for name, value in search.alphas.items():  # the first step of Adam goes against the sign of all together
        decayed = gradients[name].numpy() + 1e-3 * before[name]
        assert np.array_equal(np.sign(before[name] - value.numpy()), np.sign(decayed))
