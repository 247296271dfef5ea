"""Whole networks that use the compiled operators, against Paddle's own and against recorded logits."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import safetensors.numpy
from paddle import nn

from golden import formula_images, formula_weights, recording
from mobilenext.classification.loss import cross_entropy_sum
from mobilenext.models import build_network
from mobilenext.models.cell_operators import FreeNorm
from mobilenext.weights.load import load_weights
from mobilenext.weights.read import read_weights

pytest.importorskip("numba", reason="numba is not installed: Paddle's own operators are in use")
from mobilenext.training import acceleration
from mobilenext.training.acceleration import accelerate

BOUND = 1e-5  # relative to the largest value


def images_of(*shape: int) -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32))


def forwards(network: nn.Layer) -> list[nn.Layer]:
    """The layers whose forward was replaced."""
    return [layer for layer in network.sublayers() if "forward" in vars(layer)]


def test_which_layers_of_a_network() -> None:
    network = build_network("mobilenext_x0_35")
    names = list(network.state_dict())
    assert accelerate(network) == 33
    replaced = forwards(network)
    depthwise = [layer for layer in replaced if isinstance(layer, nn.Conv2D) and layer._groups > 1]
    weights = [name for name, tensor in network.state_dict().items()
               if tensor.ndim == 4 and tensor.shape[1] == 1 and tensor.shape[0] > 1]  # fmt: skip
    assert {layer.weight.name for layer in depthwise} == {network.state_dict()[name].name for name in weights}
    assert len(depthwise) == 33
    pointwise = [layer for layer in replaced if isinstance(layer, nn.Conv2D) and layer._groups == 1]
    assert {tuple(layer.weight.shape[2:]) for layer in pointwise} == {(1, 1)}
    assert sum(isinstance(layer, nn.BatchNorm2D) for layer in replaced) == names_of("_mean", names)
    assert list(network.state_dict()) == names


def names_of(ending: str, names: list[str]) -> int:
    return sum(name.endswith(ending) for name in names)


def others() -> Iterator[nn.Conv2D]:
    plain = {"padding": 1, "groups": 4, "bias_attr": False}
    yield nn.Conv2D(4, 4, 3, padding=1, bias_attr=False)
    yield nn.Conv2D(4, 4, 1, bias_attr=False)
    yield nn.Conv2D(4, 4, 3, padding=1, groups=2, bias_attr=False)
    yield nn.Conv2D(4, 8, 3, **plain)  # two results of each channel
    yield nn.Conv2D(4, 4, 3, dilation=(1, 2), **plain)
    yield nn.Conv2D(4, 4, (3, 5), **plain)
    yield nn.Conv2D(4, 4, 3, stride=(1, 2), **plain)
    yield nn.Conv2D(4, 4, 3, padding_mode="reflect", **plain)
    yield nn.Conv2D(4, 4, 3, padding_mode="circular", **plain)
    yield nn.Conv2D(4, 4, 3, groups=4, bias_attr=False, padding="SAME")
    yield nn.Conv2D(4, 4, 3, groups=4, bias_attr=False, padding=[[0, 0], [0, 0], [1, 1], [2, 2]])
    yield nn.Conv2D(4, 4, 3, data_format="NHWC", **plain)


@pytest.mark.parametrize("number", range(12))
def test_other_convolutions_stay_paddles(number: int) -> None:
    layer = list(others())[number]
    assert accelerate(nn.Sequential(layer)) == 0
    assert layer.weight.shape[2:] == [1, 1] or not forwards(nn.Sequential(layer))
    with paddle.no_grad():
        assert layer(paddle.ones([1, 4, 4, 4])).shape[0] == 1


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [1, [1, 2], [1, 2, 0, 1]])
def test_every_way_to_write_a_padding(padding: Any, dilation: int) -> None:
    layer = nn.Conv2D(4, 4, 3, stride=2, padding=padding, dilation=dilation, groups=4, bias_attr=False)
    x = images_of(2, 4, 7, 6)
    expected = layer(x).numpy()
    assert accelerate(nn.Sequential(layer)) == 1
    assert np.abs(layer(x).numpy() - expected).max() <= BOUND * np.abs(expected).max()


def test_a_bias_is_added_and_trained() -> None:
    x, results = images_of(2, 4, 7, 6), []
    layer = nn.Conv2D(4, 4, 3, padding=1, groups=4)
    layer.bias.set_value(np.array([0.5, -1, 2, 0], np.float32))
    for replaced in (False, True):
        if replaced:
            assert accelerate(nn.Sequential(layer)) == 1
        y = layer(x)
        (y**2).sum().backward()
        results.append([y.numpy(), layer.bias.grad.numpy(), layer.weight.grad.numpy()])
        layer.clear_gradients()
    for expected, array in zip(*results, strict=True):
        assert np.abs(array - expected).max() <= BOUND * np.abs(expected).max()


def test_other_types_stay_paddles(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2D(4, 4, 3, padding=1, groups=4, bias_attr=False)
    accelerate(nn.Sequential(layer))
    monkeypatch.setattr(acceleration, "depthwise_conv2d", lambda *_: pytest.fail("float64 in loops for float32"))
    layer.to(dtype="float64")
    assert layer(paddle.ones([1, 4, 5, 5], "float64")).dtype == paddle.float64


# The loops check nothing: what does not fit them is Paddle's, which computes it or says what is wrong.


def layers_of_four_channels() -> list[nn.Layer]:
    depthwise = nn.Conv2D(4, 4, 3, padding=1, groups=4, bias_attr=False)
    return [depthwise, nn.BatchNorm2D(4), nn.Conv2D(4, 40, 1, bias_attr=False)]


@pytest.mark.filterwarnings("ignore:When training, we now always track")
@pytest.mark.parametrize("number", range(3))
def test_what_does_not_fit_is_refused_or_computed_by_paddle(number: int) -> None:
    layer = layers_of_four_channels()[number]
    accelerate(nn.Sequential(layer))
    for channels in (3, 5, 8):
        with pytest.raises(ValueError, match="Expected"):
            layer(paddle.ones([2, channels, 2, 2]))
    with pytest.raises(ValueError, match="4"):
        layer(paddle.ones([2, 4, 4]))
    paddle.set_default_dtype("float64")  # of tensors that say nothing else
    try:
        assert layer(paddle.ones([2, 4, 2, 2], "float32")).dtype == paddle.float32
    finally:
        paddle.set_default_dtype("float32")


@pytest.mark.filterwarnings("ignore:When training, we now always track")
@pytest.mark.parametrize("activation", [nn.ReLU6, None])
def test_a_single_value_has_no_statistics(activation: type[nn.Layer] | None) -> None:
    """One image whose maps have one pixel: Paddle's batch norm lets it pass, and keeps the running statistics."""
    layers = nn.Sequential(nn.BatchNorm2D(4), *([activation()] if activation else []))
    layers[0].bias.set_value(np.full(4, 0.5, np.float32))
    accelerate(layers)
    values = np.array([-1, 2, 3, 8], np.float32)
    x = paddle.to_tensor(values.reshape(1, 4, 1, 1), stop_gradient=False)
    y = layers(x)
    y.sum().backward()
    passes = [0, 1, 1, 0] if activation else [1, 1, 1, 1]
    assert y.flatten().tolist() == (np.clip(values, 0, 6) if activation else values).tolist()
    assert x.grad.flatten().tolist() == passes
    assert layers[0]._variance.tolist() == [1, 1, 1, 1]


class Doubled(nn.Conv2D):  # type: ignore[misc]
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return 2 * super().forward(x)


class Passed(nn.BatchNorm2D):  # type: ignore[misc]
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x


class Summed(nn.Sequential):  # type: ignore[misc]
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x + super().forward(x)


def test_layers_that_compute_something_else_stay_what_they_are() -> None:
    layers = nn.Sequential(
        Doubled(4, 4, 3, padding=1, groups=4, bias_attr=False), Doubled(4, 40, 1, bias_attr=False), Passed(40),
        Summed(nn.BatchNorm2D(40), nn.ReLU6()),
    )  # fmt: skip
    assert accelerate(layers) == 0
    assert forwards(layers) == [layers[3][0]]


def test_a_copy_is_a_network_of_its_own() -> None:
    layers = nn.Sequential(*layers_of_four_channels()[:2], nn.ReLU6())
    accelerate(layers)
    x, state = images_of(6, 4, 3, 3), {name: tensor.numpy() for name, tensor in layers.state_dict().items()}
    expected, other = layers(x).numpy(), copy.deepcopy(layers)
    layers.set_state_dict({name: paddle.to_tensor(array) for name, array in state.items()})
    other[0].weight.set_value(paddle.zeros_like(other[0].weight))
    other[1].bias.set_value(np.full(4, 0.5, np.float32))
    assert (other(x).numpy() == 0.5).all()
    assert all(np.array_equal(tensor.numpy(), state[name]) for name, tensor in layers.state_dict().items())
    assert np.array_equal(layers(x).numpy(), expected)


def loss_and_gradients(network: nn.Layer, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    network.train()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When training, we now always track")
        logits = network(paddle.to_tensor(images))
    loss = cross_entropy_sum(logits, paddle.to_tensor(labels), 0.1) / len(labels)
    loss.backward()
    gradients = {name: tensor.grad.numpy() for name, tensor in network.named_parameters() if tensor.grad is not None}
    network.clear_gradients()
    return gradients | {"loss": loss.numpy()}


# The bound is on the distance of all gradients together, relative to their length.
@pytest.mark.parametrize(
    ("model", "loss_bound", "bound"), [("mobilenext_x0_35", 1e-5, 1e-3), ("mobilenext_s", 1e-5, 1e-3)]
)
def test_loss_and_gradients_of_a_network(model: str, loss_bound: float, bound: float) -> None:
    paddle.seed(5)
    network = build_network(model, num_classes=10)
    for layer in network.sublayers():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    if hasattr(network, "set_drop_connect"):
        network.set_drop_connect(0.0)
    random = np.random.default_rng(0)
    images = random.standard_normal((12, 3, 64, 64)).astype(np.float32)
    labels = random.integers(0, 10, 12)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected = loss_and_gradients(network, images, labels)
    network.set_state_dict(state)
    accelerate(network)
    values = loss_and_gradients(network, images, labels)
    loss_apart = abs(values.pop("loss") - expected["loss"]) / expected.pop("loss")
    assert sorted(values) == sorted(expected)
    distance = np.sqrt(sum(((values[name] - expected[name]).astype(float) ** 2).sum() for name in expected))
    length = np.sqrt(sum((value.astype(float) ** 2).sum() for value in expected.values()))
    print(model, loss_apart, distance / length, file=sys.stderr)
    assert length > 0.1
    assert loss_apart <= loss_bound
    assert distance <= bound * length


@pytest.mark.parametrize(("name", "model", "size", "bound"),
                         [("mobilenext_x0.35_20classes_64px", "mobilenext_x0_35", 64, 1e-4),
                          ("mobilenext_s", "mobilenext_s", 224, 1e-4)])  # fmt: skip
def test_the_recorded_logits(name: str, model: str, size: int, bound: float, tmp_path: Path) -> None:
    record, logits = recording(name)
    file = tmp_path / "formula.safetensors"
    safetensors.numpy.save_file(formula_weights(record["keys"], model), file)
    weights = read_weights(file)
    network = build_network(model, num_classes=weights.num_classes)
    load_weights(network, weights)
    network.eval()
    assert accelerate(network) > 0
    with paddle.no_grad():
        output = network(formula_images(size)).numpy()
    assert np.abs(output - logits).max() <= bound * logits.std()


# --- Batch norms and activations in a row -----------------------------------------------------------------------------


def outcome(layers: nn.Layer, x: paddle.Tensor) -> list[np.ndarray]:
    """What layers compute in training mode: the result, all gradients, and the state after it."""
    x = x.clone().detach()
    x.stop_gradient = False
    layers.train()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When training, we now always track")
        y = layers(x)
    (y * images_of(*y.shape)).sum().backward()
    gradients = [tensor.grad.numpy() for tensor in layers.parameters() if not tensor.stop_gradient]
    layers.clear_gradients()
    return [y.numpy(), x.grad.numpy(), *gradients, *(tensor.numpy() for tensor in layers.state_dict().values())]


@pytest.mark.parametrize("side", [3, 9])
@pytest.mark.parametrize("activation", [nn.ReLU6, nn.ReLU, nn.Sigmoid, None])
@pytest.mark.parametrize("norm", [nn.BatchNorm2D, FreeNorm])
def test_a_batch_norm_with_its_activation(side: int, activation: type[nn.Layer] | None, norm: type[nn.Layer]) -> None:
    layers = nn.Sequential(
        nn.Conv2D(3, 5, 1, bias_attr=False), norm(5), *([activation()] if activation else []), nn.Conv2D(5, 2, 3)
    )
    if norm is nn.BatchNorm2D:
        layers[1].weight.set_value(np.array([3, -4, 5, 0.5, 2], np.float32))  # some are cut at 6
    state, x = {name: tensor.clone() for name, tensor in layers.state_dict().items()}, images_of(7, 3, side, side)
    expected = outcome(layers, x)
    layers.set_state_dict(state)
    accelerate(layers)
    assert ("forward" in vars(layers)) == (activation in (nn.ReLU6, nn.ReLU))
    for array, other in zip(outcome(layers, x), expected, strict=True):
        assert np.abs(array - other).max() <= BOUND * max(np.abs(other).max(), 1)


def test_a_batch_norm_that_is_frozen_or_evaluated_stays_paddles(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = nn.Sequential(nn.BatchNorm2D(4), nn.ReLU6())
    layers[0]._mean.set_value(np.arange(4, dtype=np.float32))
    accelerate(layers)
    monkeypatch.setattr(acceleration, "batch_norm", lambda *_: pytest.fail("statistics of a batch are not wanted"))
    x = images_of(6, 4, 3, 3)
    expected = np.clip((x.numpy() - np.arange(4).reshape(4, 1, 1)) / np.sqrt(1 + 1e-5), 0, 6)
    layers.eval()
    assert np.abs(layers(x).numpy() - expected).max() <= 1e-5
    layers[0]._use_global_stats = True
    layers.train()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When training, we now always track")
        assert np.abs(layers(x).numpy() - expected).max() <= 1e-5


def test_a_forward_of_several_processes_is_kept() -> None:
    layers = nn.Sequential(nn.BatchNorm2D(4), nn.ReLU6())
    layers[0].forward = lambda x: x + 7
    accelerate(layers)
    assert np.array_equal(layers(paddle.zeros([1, 4, 2, 2])).numpy(), np.full((1, 4, 2, 2), 6, np.float32))


def test_a_factor_of_a_batch_norm() -> None:
    """The batch norms of a super-network are multiplied by a number that has a gradient."""
    factor, results = paddle.to_tensor(1.5, stop_gradient=False), []
    norm = FreeNorm(4)
    for accelerated in (False, True):
        if accelerated:
            accelerate(nn.Sequential(norm))
        y = norm(images_of(6, 4, 5, 5), factor)
        (y * images_of(*y.shape)).sum().backward()
        results.append([y.numpy(), factor.grad.numpy()])
        factor.clear_gradient()
    for array, other in zip(*results, strict=True):
        assert np.abs(array - other).max() <= BOUND * np.abs(other).max()


@pytest.mark.filterwarnings("ignore:When training, we now always track")
def test_a_factor_of_a_batch_norm_that_is_frozen() -> None:
    norm, x = nn.BatchNorm2D(4), images_of(6, 4, 3, 3)
    accelerate(nn.Sequential(norm))
    norm._mean.set_value(np.arange(4, dtype=np.float32))
    norm._use_global_stats = True
    expected = 1.5 * (x.numpy() - np.arange(4).reshape(4, 1, 1)) / np.sqrt(1 + 1e-5)
    assert np.abs(norm(x, paddle.to_tensor(1.5)).numpy() - expected).max() <= 1e-5
