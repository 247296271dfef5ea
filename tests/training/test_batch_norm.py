"""The compiled batch norm, for large and small maps, against its formulas in float64."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paddle import nn

pytest.importorskip("numba", reason="numba is not installed: Paddle's own batch norm is in use")
from mobilenext.training import compiled_loops
from mobilenext.training.batch_norm import NO_LIMITS, SMALL, Limits, batch_norm
from mobilenext.training.batch_norm_small_maps import LENGTH

Shape = tuple[int, int, int, int]
RELU6 = Limits(0, 6)
EPSILON, KEPT = 1e-5, 0.9
BOUND = 2e-5  # relative to the largest value


def arrays_of(shape: Shape, center: float = 0.0, spread: float = 1.0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(list(shape))
    channels = shape[1]
    return {
        "x": (center + spread * random.standard_normal(shape)).astype(np.float32),
        "weight": random.uniform(-4, 4, channels).astype(np.float32),
        "bias": random.uniform(-1, 3, channels).astype(np.float32),
        "of_y": random.standard_normal(shape).astype(np.float32),
        "mean": random.standard_normal(channels).astype(np.float32),
        "variance": random.uniform(0.5, 2, channels).astype(np.float32),
    }


def layer_of(arrays: dict[str, np.ndarray]) -> nn.BatchNorm2D:
    layer = nn.BatchNorm2D(len(arrays["weight"]), momentum=KEPT, epsilon=EPSILON)
    pairs = (("weight", "weight"), ("bias", "bias"), ("_mean", "mean"), ("_variance", "variance"))
    for attribute, name in pairs:
        getattr(layer, attribute).set_value(arrays[name])
    return layer


def compiled(arrays: dict[str, np.ndarray], limits: Limits) -> dict[str, np.ndarray]:
    layer, x = layer_of(arrays), paddle.to_tensor(arrays["x"], stop_gradient=False)
    y = batch_norm(layer, x, limits)
    y.backward(paddle.to_tensor(arrays["of_y"]))
    tensors = {"y": y, "of x": x.grad, "of weight": layer.weight.grad, "of bias": layer.bias.grad}
    tensors |= {"mean": layer._mean, "variance": layer._variance}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def by_formula(arrays: dict[str, np.ndarray], limits: Limits) -> dict[str, np.ndarray]:
    """The same in float64, written down with the derivative of z by x in full."""
    x, of_y = arrays["x"].astype(float), arrays["of_y"].astype(float)
    weight, bias = (arrays[name].astype(float).reshape(1, -1, 1, 1) for name in ("weight", "bias"))
    axes, count = (0, 2, 3), x.size / x.shape[1]
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    inverse = (variance + EPSILON) ** -0.5
    normalized = (x - mean) * inverse
    z = normalized * weight + bias
    d = np.where((z > limits.low) & (z < limits.high), of_y, 0)
    of_normalized = d * weight
    of_variance = (of_normalized * (x - mean)).sum(axes, keepdims=True) * -0.5 * inverse**3
    of_mean = -(of_normalized * inverse).sum(axes, keepdims=True)
    return {
        "y": np.clip(z, *limits),
        "of x": of_normalized * inverse + of_variance * 2 * (x - mean) / count + of_mean / count,
        "of weight": (d * normalized).sum(axes),
        "of bias": d.sum(axes),
        "mean": KEPT * arrays["mean"] + (1 - KEPT) * mean.ravel(),
        "variance": KEPT * arrays["variance"] + (1 - KEPT) * variance.ravel(),
    }


def bends(arrays: dict[str, np.ndarray], limits: Limits) -> np.ndarray:
    """Whether rounding may decide if a gradient passes."""
    x = arrays["x"].astype(float)
    z = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + EPSILON)
    z = z * arrays["weight"].reshape(1, -1, 1, 1) + arrays["bias"].reshape(1, -1, 1, 1)
    return (np.abs(z - limits.low) < 1e-4) | (np.abs(z - limits.high) < 1e-4)


def assert_equal(arrays: dict[str, np.ndarray], limits: Limits, bound: float = BOUND) -> None:
    arrays["of_y"][bends(arrays, limits)] = 0
    expected = by_formula(arrays, limits)
    for name, array in compiled(arrays, limits).items():
        assert (array.dtype, array.shape) == (np.float32, expected[name].shape), name
        largest = np.abs(expected[name]).max()
        assert np.abs(array - expected[name]).max() <= bound * max(largest, 1), name


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 70), st.integers(1, 12), st.integers(1, 12)),
    st.sampled_from([NO_LIMITS, RELU6, Limits(0, math.inf)]),
)
@example((3, 600, 2, 2), RELU6)  # small maps: more than two vectors of channels, the last not full
@example((2, 3, 31, 1), RELU6)
@example((2, 3, 32, 1), RELU6)
@example((2, 3, 40, 41), RELU6)
def test_results_and_gradients_follow_the_formulas(shape: Shape, limits: Limits) -> None:
    if shape[0] * shape[2] * shape[3] >= 4:  # of two values all are at the same distance from their mean
        assert_equal(arrays_of(shape), limits)


def test_the_examples_are_on_both_sides_of_a_small_map() -> None:
    assert SMALL == 32
    assert 2 * LENGTH < 600 * 2 * 2


@pytest.mark.parametrize("side", [2, 8])
def test_a_mean_far_from_zero_loses_nothing(side: int) -> None:
    """E[x^2] - E[x]^2 in float32 would be off by a hundred times the variance."""
    arrays = arrays_of((64, 5, side, side), center=3000.0, spread=0.5)
    expected = by_formula(arrays, NO_LIMITS)
    array = compiled(arrays, NO_LIMITS)
    assert np.abs(array["variance"] - expected["variance"]).max() <= 1e-5
    assert np.abs(array["y"] - expected["y"]).max() <= 0.01 * np.abs(expected["y"]).max()  # x itself has 2e-4


@pytest.mark.parametrize("side", [2, 8])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_spoils_its_channel_and_no_other(side: int, value: float) -> None:
    arrays = arrays_of((5, 3, side, side))
    arrays["x"][2, 1, 0, 1] = value
    values = compiled(arrays, RELU6)
    for name in ("y", "of x"):
        assert np.isnan(values[name][:, 1]).all(), name
        assert np.isfinite(values[name][:, [0, 2]]).all(), name
    assert np.isnan(values["mean"]).tolist() == [False, True, False] or math.isinf(value)
    assert np.isfinite(values["mean"][[0, 2]]).all()


@pytest.mark.parametrize("side", [2, 8])
def test_statistics_that_are_kept_are_kept_to_the_bit(side: int) -> None:
    arrays = arrays_of((5, 3, side, side))
    layer = layer_of(arrays)
    layer._momentum = 1.0
    batch_norm(layer, paddle.to_tensor(arrays["x"]))
    assert layer._mean.numpy().tobytes() == arrays["mean"].tobytes()
    assert layer._variance.numpy().tobytes() == arrays["variance"].tobytes()


@pytest.mark.parametrize("frozen", ["x", "weight", "both"])
def test_what_is_frozen_has_no_gradient(frozen: str) -> None:
    arrays = arrays_of((5, 3, 4, 4))
    layer, x = layer_of(arrays), paddle.to_tensor(arrays["x"], stop_gradient=frozen in ("x", "both"))
    layer.weight.stop_gradient = layer.bias.stop_gradient = frozen in ("weight", "both")
    y = batch_norm(layer, x, RELU6)
    if frozen == "both":
        assert y.stop_gradient
        return
    y.backward(paddle.to_tensor(arrays["of_y"]))
    expected = compiled(arrays, RELU6)
    for name, tensor in (("of x", x), ("of weight", layer.weight), ("of bias", layer.bias)):
        if tensor.stop_gradient:
            assert tensor.grad is None
        else:
            assert np.array_equal(tensor.grad.numpy(), expected[name])


@pytest.mark.parametrize("shape", [(5, 13, 3, 3), (5, 700, 2, 2), (5, 13, 8, 8)])
def test_threads_do_not_change_a_bit(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = arrays_of(shape)
    monkeypatch.setattr(compiled_loops, "_threads", lambda: None)
    alone = compiled(arrays, RELU6)
    with ThreadPoolExecutor(3) as pool:
        monkeypatch.setattr(compiled_loops, "_threads", lambda: pool)
        shared = compiled(arrays, RELU6)
        assert len(pool._threads) == 3  # they have been used
    for name, array in alone.items():
        assert array.tobytes() == shared[name].tobytes(), name
