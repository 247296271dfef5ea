"""Loss, optimisers and moving average against numpy, in float64 and written from their definitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from mobilenext.classification.loss import cross_entropy_sum
from mobilenext.classification.recipes import RECIPES
from mobilenext.recipe import Recipe
from mobilenext.training.optimization import (
    Average,
    clip_gradients,
    make_optimizer,
    optimizer_state,
    restore_optimizer,
)

RATES = (0.1, 0.05, 0.2, 0.01, 0.1)
SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
RMSPROP: dict[str, Any] = {"optimizer": "rmsprop", "momentum": 0.8, "rmsprop_decay": 0.7, "rmsprop_epsilon": 0.05,
                           "weight_decay": 0.1, "nesterov": False}  # fmt: skip
Parameters = dict[str, np.ndarray]


def recipe(**values: Any) -> Recipe:
    return dataclasses.replace(RECIPES["paper"], **values)


# --- Loss -------------------------------------------------------------------------------------------------------------

LOGITS = np.array([[1.0, 2.0, 3.0, -1.0], [0.0, 0.0, 0.0, 0.0], [30.0, 4.0, 5.0, 58.0]], np.float32)
LABELS = np.array([2, 1, 0])


def loss_by_hand(logits: np.ndarray, labels: np.ndarray, smoothing: float) -> float:
    """The definition: targets are the label's one-hot row, of which a part is spread over all classes."""
    total = 0.0
    for row, label in zip(logits.astype(float), labels, strict=True):
        log_of_sum = row.max() + np.log(np.exp(row - row.max()).sum())
        for number, value in enumerate(row):
            target = (1 - smoothing) * (number == label) + smoothing / len(row)
            total -= target * (value - log_of_sum)
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_loss(smoothing: float) -> None:
    loss = cross_entropy_sum(paddle.to_tensor(LOGITS), paddle.to_tensor(LABELS), smoothing)
    assert loss.shape == []
    assert float(loss) == pytest.approx(loss_by_hand(LOGITS, LABELS, smoothing), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_loss(smoothing: float) -> None:
    """The definition of PyTorch: the weight of a class multiplies its part of every target."""
    weights = [0.5, 2.0, 3.0, 7.0]
    expected = 0.0
    for row, label in zip(LOGITS.astype(float), LABELS.tolist(), strict=True):
        log_of_sum = row.max() + np.log(np.exp(row - row.max()).sum())
        for number, value in enumerate(row):
            target = (1 - smoothing) * (number == label) + smoothing / 4
            expected -= weights[number] * target * (value - log_of_sum)
    logits, labels = paddle.to_tensor(LOGITS), paddle.to_tensor(LABELS)
    assert float(cross_entropy_sum(logits, labels, smoothing, paddle.to_tensor(weights))) == pytest.approx(expected)
    even = cross_entropy_sum(logits, labels, smoothing, paddle.ones([4]))
    assert float(even) == pytest.approx(loss_by_hand(LOGITS, LABELS, smoothing), rel=1e-6)


def test_loss_of_an_even_guess() -> None:
    for smoothing in (0.0, 0.3):
        loss = cross_entropy_sum(paddle.zeros([5, 8]), paddle.to_tensor([0, 1, 2, 3, 7]), smoothing)
        assert float(loss) == pytest.approx(5 * np.log(8), rel=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient_of_the_loss_is_probability_minus_target(smoothing: float) -> None:
    logits = paddle.to_tensor(LOGITS, stop_gradient=False)
    cross_entropy_sum(logits, paddle.to_tensor(LABELS), smoothing).backward()
    exponents = np.exp(LOGITS.astype(float) - LOGITS.max(axis=1, keepdims=True))
    expected = exponents / exponents.sum(axis=1, keepdims=True) - (1 - smoothing) * np.eye(4)[LABELS] - smoothing / 4
    assert np.abs(logits.grad.numpy() - expected).max() < 1e-6


def test_loss_of_half_precision_is_taken_in_float32() -> None:
    logits = paddle.to_tensor(LOGITS).astype("float16")
    loss = cross_entropy_sum(logits, paddle.to_tensor(LABELS), 0.0)
    assert loss.dtype == paddle.float32
    assert float(loss) == pytest.approx(loss_by_hand(LOGITS, LABELS, 0.0), rel=1e-6)


# --- Optimisers -------------------------------------------------------------------------------------------------------


def stepped(settings: Recipe, gradients: list[Parameters], network: nn.Layer) -> Parameters:
    """The parameters after one step with each of the gradients, at the rates of RATES."""
    optimizer = make_optimizer(settings, network.parameters())
    for rate, step in zip(RATES, gradients, strict=True):
        optimizer.set_lr(rate)
        loss = sum((each * paddle.to_tensor(step[name])).sum() for name, each in network.named_parameters())
        loss.backward()  # so the gradients are those given
        optimizer.step()
        optimizer.clear_grad()
    return {name: each.numpy() for name, each in network.named_parameters()}


def small() -> tuple[nn.Layer, Parameters, list[Parameters]]:
    """A layer with a weight [3, 2] and a bias [2], its parameters, and five gradients."""
    random = np.random.default_rng(4)
    layer = nn.Linear(3, 2)
    shapes = {"weight": (3, 2), "bias": (2,)}
    start = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    layer.set_state_dict(start)
    gradients = [{name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
                 for _ in RATES]  # fmt: skip
    return layer, start, gradients


def assert_equal(found: Parameters, expected: Parameters) -> None:
    for name, values in expected.items():
        assert np.abs(found[name] - values).max() < 2e-6, name


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("decay_1d", [True, False])
def test_sgd(nesterov: bool, decay_1d: bool) -> None:
    layer, start, gradients = small()
    expected = {}
    for name, values in start.items():
        decay = 0.1 if name == "weight" or decay_1d else 0.0
        w, velocity = values.astype(float), 0.0
        for rate, step in zip(RATES, gradients, strict=True):
            g = step[name] + decay * w
            velocity = 0.9 * velocity + g
            w = w - rate * (g + 0.9 * velocity if nesterov else velocity)
        expected[name] = w
    assert_equal(stepped(recipe(**SGD | {"nesterov": nesterov}, decay_1d=decay_1d), gradients, layer), expected)


@pytest.mark.parametrize("decay_1d", [True, False])
def test_rmsprop_is_tensorflows(decay_1d: bool) -> None:
    # tf.train.RMSPropOptimizer: ms begins at 1, epsilon is under the root, the rate is within the momentum.
    layer, start, gradients = small()
    expected = {}
    for name, values in start.items():
        decay = 0.1 if name == "weight" or decay_1d else 0.0
        w, mean_square, momentum = values.astype(float), 1.0, 0.0
        for rate, step in zip(RATES, gradients, strict=True):
            g = step[name] + decay * w
            mean_square = 0.7 * mean_square + 0.3 * g**2
            momentum = 0.8 * momentum + rate * g / np.sqrt(mean_square + 0.05)
            w = w - momentum
        expected[name] = w
    assert_equal(stepped(recipe(**RMSPROP, decay_1d=decay_1d), gradients, layer), expected)


def test_only_what_is_trained_decays() -> None:
    layer, start, _ = small()
    layer.weight.stop_gradient = True
    optimizer = make_optimizer(recipe(**SGD), layer.parameters())
    (layer.weight.sum() + layer.bias.sum()).backward()
    optimizer.step()
    assert layer.weight.numpy().tobytes() == start["weight"].tobytes()
    assert not np.array_equal(layer.bias.numpy(), start["bias"])


def test_the_first_rate_is_that_of_the_batch() -> None:
    for settings in (SGD, RMSPROP):
        optimizer = make_optimizer(
            recipe(**settings, lr=0.2, batch_size=64, lr_batch_size=256), nn.Linear(2, 2).parameters()
        )
        assert optimizer.get_lr() == pytest.approx(0.05)


class Trained:
    """A network with a batch norm, and a layer that no gradient reaches, on its way."""

    def __init__(self, settings: Recipe) -> None:
        paddle.seed(3)
        self.network = nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.Flatten(), nn.Linear(36, 5))
        self.network.add_sublayer("unused", nn.BatchNorm2D(2))
        self.network.forward = self._forward
        self.optimizer = make_optimizer(settings, self.network.parameters())

    def _forward(self, x: paddle.Tensor) -> paddle.Tensor:
        for name in "0123":
            x = getattr(self.network, name)(x)
        return x

    def train(self, steps: range) -> Trained:
        for step in steps:
            random = np.random.default_rng(step)
            images = paddle.to_tensor(random.standard_normal((6, 3, 5, 5)).astype(np.float32))
            labels = paddle.to_tensor(random.integers(0, 5, 6))
            self.optimizer.set_lr(RATES[step % 5])
            cross_entropy_sum(self.network(images), labels, 0.1).backward()
            self.optimizer.step()
            self.optimizer.clear_grad()
        return self

    def weights(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}

    def state(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in optimizer_state(self.optimizer, self.network).items()}


@pytest.mark.filterwarnings("ignore:When training, we now always track")
@pytest.mark.parametrize("settings", [SGD, RMSPROP, {**SGD, "decay_1d": True}, {**SGD, "momentum": 0.0}])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_an_optimiser_goes_on_where_it_was(settings: dict[str, Any], before: int) -> None:
    whole = Trained(recipe(**settings)).train(range(6))
    first = Trained(recipe(**settings)).train(range(before))
    second = Trained(recipe(**settings))
    weights, state = first.weights(), first.state()
    del first
    second.network.set_state_dict(weights)
    restore_optimizer(second.optimizer, second.network, state)
    second.train(range(before, 6))
    assert whole.weights()["0.weight"].any()
    for name, values in whole.weights().items():
        assert second.weights()[name].tobytes() == values.tobytes(), name
    for name, values in whole.state().items():
        assert second.state()[name].tobytes() == values.tobytes(), name


@pytest.mark.filterwarnings("ignore:When training, we now always track")
@pytest.mark.parametrize(
    ("settings", "accumulators"), [(SGD, {"velocity"}), (RMSPROP, {"momentum", "mean_square", "mean_grad"})]
)
def test_the_state_has_the_names_of_the_network(settings: dict[str, Any], accumulators: set[str]) -> None:
    trained = Trained(recipe(**settings)).train(range(2))
    state = trained.state()
    shapes = {name: list(each.shape) for name, each in trained.network.named_parameters()}
    with_gradient = {"0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"}
    found = {name.rpartition("/")[0] for name in state}
    assert with_gradient <= found <= with_gradient | {"unused.weight", "unused.bias"}
    assert {name.rpartition("/")[2].removesuffix("_0") for name in state} == accumulators
    for name, values in state.items():
        assert list(values.shape) == shapes[name.rpartition("/")[0]]
    assert state[f"0.weight/{min(accumulators - {'mean_grad'})}_0"].any()


# --- Moving average ---------------------------------------------------------------------------------------------------


def scalar(value: float) -> nn.Layer:
    layer = nn.Linear(1, 1, bias_attr=False)
    layer.weight.set_value(paddle.full([1, 1], value))
    return layer


@pytest.mark.parametrize(("warmup", "expected"), [
    # 0.9 of what was and 0.1 of what is: 1, 1.1, 1.29, 1.561
    (False, [1.1, 1.29, 1.561]),
    # 1/10, 2/11 and 3/12 of what was: 0.1 + 1.8; 0.18182 * 1.9 + 0.81818 * 3; 0.25 * 2.8 + 0.75 * 4
    (True, [1.9, 2.8, 3.7]),
])  # fmt: skip
def test_average_by_hand(warmup: bool, expected: list[float]) -> None:
    layer = scalar(1.0)
    average = Average(layer, 0.9, warmup=warmup)
    for step, value in enumerate(expected):
        layer.weight.set_value(paddle.full([1, 1], 2.0 + step))
        average.update(step)
        assert average.tensors["weight"].item() == pytest.approx(value, rel=1e-6)
        assert layer.weight.item() == 2.0 + step


def test_the_warm_up_ends_at_the_decay() -> None:
    for step, kept in ((79, 80 / 89), (80, 0.9), (81, 0.9), (10_000, 0.9)):  # 81 / 90 is 0.9
        layer = scalar(1.0)
        average = Average(layer, 0.9, warmup=True)
        layer.weight.set_value(paddle.zeros([1, 1]))
        average.update(step)
        assert average.tensors["weight"].item() == pytest.approx(kept, rel=1e-6)


def test_the_average_is_paddles_interpolation_to_the_bit() -> None:
    paddle.seed(0)
    layer = nn.Linear(37, 23)
    average = Average(layer, 0.9998, warmup=False)
    expected = {name: tensor.clone() for name, tensor in average.tensors.items()}
    for step in range(3):
        for name, tensor in layer.state_dict().items():
            tensor.set_value(paddle.randn(tensor.shape))
            expected[name].lerp_(tensor, 1 - 0.9998)
        average.update(step)
    for name, tensor in average.tensors.items():
        assert tensor.numpy().tobytes() == expected[name].numpy().tobytes()


def normed() -> nn.Layer:
    paddle.seed(2)
    return nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4))


@pytest.mark.filterwarnings("ignore:When training, we now always track")
def test_the_average_covers_statistics() -> None:
    network = normed()
    average = Average(network, 0.75, warmup=False)
    assert set(average.tensors) == {"0.weight", "0.bias", "1.weight", "1.bias", "1._mean", "1._variance"}
    before = {name: tensor.numpy().astype(float) for name, tensor in network.state_dict().items()}
    network(paddle.randn([8, 3, 6, 6]) * 2 + 3)
    network[0].weight.set_value(network[0].weight + 1)
    average.update(0)
    for name, tensor in network.state_dict().items():
        expected = 0.75 * before[name] + 0.25 * tensor.numpy()
        assert np.abs(average.tensors[name].numpy() - expected).max() < 1e-6
    for name in ("1._mean", "1._variance", "0.weight"):
        assert not np.allclose(average.tensors[name].numpy(), before[name])


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_gets_its_own_weights_back(fails: bool) -> None:
    network = normed()
    average = Average(network, 0.5, warmup=False)
    random = np.random.default_rng(0)
    own = {name: random.random(tensor.shape, np.float32) for name, tensor in network.state_dict().items()}
    network.set_state_dict(own)
    average.update(0)
    averaged = {name: tensor.numpy() for name, tensor in average.tensors.items()}
    optimised = list(network.parameters())

    def inside() -> None:
        with average.in_use():
            for name, tensor in network.state_dict().items():
                assert tensor.numpy().tobytes() == averaged[name].tobytes()
                assert not np.array_equal(tensor.numpy(), own[name])
            if fails:
                raise KeyError("in between")

    _raised(inside, fails)
    for name, tensor in network.state_dict().items():
        assert tensor.numpy().tobytes() == own[name].tobytes()
        assert average.tensors[name].numpy().tobytes() == averaged[name].tobytes()
    assert all(one is other for one, other in zip(network.parameters(), optimised, strict=True))


def _raised(function: Callable[[], None], fails: bool) -> None:
    if fails:
        with pytest.raises(KeyError, match="in between"):
            function()
    else:
        function()


def test_an_average_goes_on_where_it_was() -> None:
    networks = [scalar(1.0), scalar(5.0)]
    whole, second = (Average(network, 0.9, warmup=True) for network in networks)
    for step, value in enumerate((3.0, -1.0, 0.3, 7.0)):
        if step == 2:
            second.restore({name: tensor.numpy() for name, tensor in whole.tensors.items()})
        for network, average in zip(networks, (whole, second), strict=True):
            network.weight.set_value(paddle.full([1, 1], value))
            average.update(step)
    one, other = (average.tensors["weight"].numpy().tobytes() for average in (whole, second))
    assert one == other


@pytest.mark.parametrize(("largest", "factor"), [(2.5, 0.5), (5.0, 1.0), (100.0, 1.0)])
def test_gradients_are_clipped_by_the_norm_of_all_together(largest: float, factor: float) -> None:
    parameters = [paddle.create_parameter([size], "float32") for size in (2, 1, 1)]
    (3 * parameters[0][0] + 4 * parameters[1].sum()).backward()  # norm 5; the third has no gradient
    norm = clip_gradients(parameters, largest)
    assert norm.item() == pytest.approx(5.0)
    # PyTorch adds 1e-6 to the norm.
    assert parameters[0].grad.tolist() == pytest.approx([3 * factor, 0.0], rel=1e-6)
    assert parameters[1].grad.tolist() == pytest.approx([4 * factor], rel=1e-6)
    assert parameters[2].grad is None
