"""The compiled depthwise loops against Paddle's own convolution in float64, and whole networks that use them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
import safetensors.numpy
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paddle import nn

from golden import formula_images, formula_weights, recording
from mobilenext.classification.loss import cross_entropy_sum
from mobilenext.models import build_network
from mobilenext.weights.load import load_weights
from mobilenext.weights.read import read_weights

pytest.importorskip("numba", reason="numba is not installed: Paddle's own convolutions are in use")
from mobilenext.training import compiled_loops, depthwise
from mobilenext.training.depthwise import Geometry, accelerate, depthwise_conv2d
from mobilenext.training.depthwise_kernels import SCRATCH

Arrays = tuple[np.ndarray, ...]
Case = tuple[int, int, int, int, int, Geometry]  # images, channels, height, width, kernel size, geometry

BOUND = 1e-5  # relative to the largest value; float32 has 6e-8, and the sums have up to 10,000 terms


def case_arrays(case: Case) -> Arrays:
    """x, weight and a gradient of the result."""
    images, channels, height, width, kernel, geometry = case
    random = np.random.default_rng(images + 10 * channels + 100 * height + 1000 * width)
    shapes = ((images, channels, height, width), (channels, 1, kernel, kernel))
    outputs = (images, channels, *geometry.output(height, width, kernel))
    return tuple(random.standard_normal(shape).astype(np.float32) for shape in (*shapes, outputs))


def native(x: paddle.Tensor, weight: paddle.Tensor, geometry: Geometry) -> paddle.Tensor:
    return F.conv2d(x, weight, None, geometry.stride, list(geometry[1:5]), geometry.dilation, groups=x.shape[1])


def result_and_gradients(convolution: Any, arrays: Arrays, geometry: Geometry, dtype: str = "float32") -> Arrays:
    """y and the gradients of x and the weight."""
    x, weight = (paddle.to_tensor(array.astype(dtype), stop_gradient=False) for array in arrays[:2])
    y = convolution(x, weight, geometry)
    y.backward(paddle.to_tensor(arrays[2].astype(dtype)))
    return y.numpy(), x.grad.numpy(), weight.grad.numpy()


def assert_close(found: Arrays, expected: Arrays, bound: float = BOUND) -> None:
    for name, one, other in zip(("result", "of x", "of weight"), found, expected, strict=True):
        assert (one.dtype, one.shape) == (np.float32, other.shape), name
        assert np.abs(one - other).max() <= bound * max(np.abs(other).max(), 1e-3), name


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel = draw(st.sampled_from((3, 5)))
    dilation = draw(st.integers(1, 3))
    reach = (kernel - 1) * dilation  # pixels from the first tap to the last
    side = st.integers(0, reach)
    same = draw(st.booleans())
    padding = [reach // 2] * 4 if same else [draw(side) for _ in range(4)]
    geometry = Geometry(draw(st.integers(1, 3)), *padding, dilation)
    height = draw(st.integers(max(1, reach + 1 - geometry.top - geometry.bottom), 20))
    width = draw(st.integers(max(1, reach + 1 - geometry.left - geometry.right), 20))
    return draw(st.integers(1, 12)), draw(st.integers(1, 40)), height, width, kernel, geometry


@settings(max_examples=200, deadline=None, derandomize=True)
@given(cases())
@example((300, 2, 2, 2, 3, Geometry(1, 1, 1, 1, 1)))  # more than two blocks of maps, the last not full
@example((300, 2, 2, 2, 3, Geometry(2, 1, 1, 1, 1)))
@example((150, 3, 1, 1, 5, Geometry(1, 2, 2, 2, 2)))
@example((150, 3, 1, 1, 3, Geometry(2, 1, 1, 1, 1)))
@example((2, 2, 61, 60, 3, Geometry(1, 1, 1, 1, 1)))  # a map larger than the scratch memory
@example((2, 2, 61, 60, 5, Geometry(2, 2, 2, 2, 2)))
@example((3, 2, 112, 112, 3, Geometry(2, 0, 1, 0, 1)))
@example((7, 5, 8, 9, 3, Geometry(2, 0, 2, 1, 0)))
@example((7, 5, 9, 8, 5, Geometry(2, 4, 0, 0, 3)))
@example((7, 5, 9, 3, 3, Geometry(1, 0, 0, 0, 0)))
@example((150, 3, 4, 4, 5, Geometry(1, 4, 4, 4, 4, 2)))  # a kernel that reaches beyond the map on all sides
@example((150, 3, 8, 8, 5, Geometry(2, 4, 4, 4, 4, 2)))
@example((40, 3, 16, 16, 3, Geometry(2, 2, 2, 2, 2, 2)))
@example((5, 3, 11, 12, 3, Geometry(3, 1, 1, 1, 1)))
@example((150, 2, 1, 2, 3, Geometry(1, 2, 2, 2, 2)))  # more results than pixels
def test_results_and_gradients_are_paddles(case: Case) -> None:
    arrays, geometry = case_arrays(case), case[-1]
    expected = result_and_gradients(native, arrays, geometry, "float64")
    assert_close(result_and_gradients(depthwise_conv2d, arrays, geometry), expected)


def test_the_examples_exceed_a_block() -> None:
    assert 2 * SCRATCH < 300 * (2 + 2) ** 2
    assert SCRATCH < 61 * 60


MANY = [
    (40, 5, 7, 6, 3, Geometry(1, 1, 1, 1, 1)),
    (9, 40, 8, 8, 3, Geometry(2, 1, 1, 1, 1)),
    (9, 1, 5, 5, 5, Geometry(1, 2, 2, 2, 2)),
    (9, 13, 6, 6, 5, Geometry(2, 2, 1, 1, 2)),
    (9, 13, 8, 8, 5, Geometry(2, 4, 4, 4, 4, 2)),
]


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("case", MANY)
def test_threads_do_not_change_a_bit(case: Case, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, geometry = case_arrays(case), case[-1]
    monkeypatch.setattr(compiled_loops, "_threads", lambda: None)
    alone = result_and_gradients(depthwise_conv2d, arrays, geometry)
    with ThreadPoolExecutor(threads) as pool:
        monkeypatch.setattr(compiled_loops, "_threads", lambda: pool)
        shared = result_and_gradients(depthwise_conv2d, arrays, geometry)
        assert len(pool._threads) == min(threads, case[1])  # they have been used
    for one, other in zip(alone, shared, strict=True):
        assert one.tobytes() == other.tobytes()


def test_as_many_threads_as_paddle_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for given_, expected in (("1", None), ("", None), ("2", 2), ("3", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", given_)
        pool = compiled_loops._threads.__wrapped__()
        assert (pool and pool._max_workers) == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert compiled_loops._threads.__wrapped__() is None


def test_an_exception_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> None:
        if arguments[-1] == 4:
            raise MemoryError("the last channels")

    with ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(compiled_loops, "_threads", lambda: pool)
        with pytest.raises(MemoryError, match="the last channels"):
            compiled_loops.over_channels(fails, case_arrays((1, 4, 3, 3, 3, MANY[0][-1])), MANY[0][-1].placement)


def kinds(values: np.ndarray) -> np.ndarray:
    """0 for a finite number, 1 for NaN, 2 and 3 for the infinities."""
    return np.isnan(values) + 2 * np.isposinf(values) + 3 * np.isneginf(values)


@pytest.mark.parametrize(
    "geometry",
    [Geometry(1, 1, 1, 1, 1), Geometry(2, 1, 1, 1, 1), Geometry(1, 0, 2, 1, 0), Geometry(1, 4, 4, 4, 4, 2)],
)
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("spoiled", [[np.nan], [np.inf], [-np.inf, np.inf], [np.nan, np.inf]])
def test_nan_and_infinity_go_where_paddles_go(geometry: Geometry, kernel: int, spoiled: list[float]) -> None:
    x, weight, of_y = case_arrays((5, 3, 6, 7, kernel, geometry))
    for number, value in enumerate(spoiled):
        x[2, 1, 1 + number, 3] = value
    arrays = (x, weight, of_y)
    found = result_and_gradients(depthwise_conv2d, arrays, geometry)
    expected = result_and_gradients(native, arrays, geometry)
    assert kinds(expected[0]).any()
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert np.array_equal(kinds(one), kinds(other))
        finite = np.isfinite(other)
        assert np.abs(one[finite] - other[finite]).max() <= BOUND * np.abs(other[finite]).max()
    # In the weight's gradient infinity may become NaN, but no channel spoils another.
    spoiled_taps = ~np.isfinite(expected[2])
    assert spoiled_taps.any()
    assert (~np.isfinite(found[2]) >= spoiled_taps).all()
    assert np.isfinite(found[2][[0, 2]]).all()


def test_nan_in_the_gradient_goes_where_paddles_goes() -> None:
    geometry = Geometry(1, 1, 1, 1, 1)
    x, weight, of_y = case_arrays((5, 3, 6, 7, 3, geometry))
    of_y[1, 2, 0, 0] = np.nan
    found = result_and_gradients(depthwise_conv2d, (x, weight, of_y), geometry)
    expected = result_and_gradients(native, (x, weight, of_y), geometry)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(np.isnan(one), np.isnan(other))
    assert np.isnan(found[1]).sum() == 4


def test_what_lies_in_another_order_in_memory() -> None:
    geometry = Geometry(1, 1, 1, 1, 1)
    x, weight, of_y = case_arrays((4, 6, 7, 7, 3, geometry))
    turned = paddle.to_tensor(x.transpose(3, 2, 1, 0).copy())

    def gradients(convolution: Any, read: Callable[[paddle.Tensor], paddle.Tensor]) -> Arrays:
        source = paddle.to_tensor(turned.numpy(), stop_gradient=False)
        kernel = paddle.to_tensor(weight, stop_gradient=False)
        y = convolution(read(source), kernel, geometry)
        (y.transpose([0, 2, 3, 1]) * paddle.to_tensor(of_y.transpose(0, 2, 3, 1).copy())).sum().backward()
        return y.numpy(), source.grad.numpy(), kernel.grad.numpy()

    view = turned.transpose([3, 2, 1, 0])
    assert not view.is_contiguous()

    def read(source: paddle.Tensor) -> paddle.Tensor:
        return source.transpose([3, 2, 1, 0])

    assert_close(gradients(depthwise_conv2d, read), gradients(native, read))


def test_a_gradient_that_is_one_number_everywhere() -> None:
    geometry = Geometry(2, 1, 1, 1, 1)
    arrays = case_arrays((4, 6, 7, 7, 3, geometry))

    def gradients(convolution: Any) -> Arrays:
        x, weight = (paddle.to_tensor(array, stop_gradient=False) for array in arrays[:2])
        y = convolution(x, weight, geometry)
        y.mean().backward()  # its gradient is a single number, expanded
        return y.numpy(), x.grad.numpy(), weight.grad.numpy()

    assert_close(gradients(depthwise_conv2d), gradients(native))


@pytest.mark.parametrize("frozen", ["x", "weight", "both"])
def test_what_is_frozen_has_no_gradient(frozen: str) -> None:
    geometry = Geometry(1, 1, 1, 1, 1)
    arrays = case_arrays((4, 6, 7, 7, 3, geometry))
    expected = result_and_gradients(native, arrays, geometry)
    x = paddle.to_tensor(arrays[0], stop_gradient=frozen in ("x", "both"))
    weight = paddle.to_tensor(arrays[1], stop_gradient=frozen in ("weight", "both"))
    y = depthwise_conv2d(x, weight, geometry)
    if frozen == "both":
        assert y.stop_gradient
        return
    y.backward(paddle.to_tensor(arrays[2]))
    for tensor, gradient in ((x, expected[1]), (weight, expected[2])):
        if tensor.stop_gradient:
            assert tensor.grad is None
        else:
            assert np.abs(tensor.grad.numpy() - gradient).max() <= BOUND * np.abs(gradient).max()


# --- In a network -----------------------------------------------------------------------------------------------------


def forwards(network: nn.Layer) -> list[nn.Layer]:
    """The layers whose forward was replaced."""
    return [layer for layer in network.sublayers() if "forward" in vars(layer)]


def test_the_depthwise_convolutions_of_a_network_and_no_others() -> None:
    network = build_network("mobilenext_x0_35")
    names = list(network.state_dict())
    assert accelerate(network) == 33
    replaced = forwards(network)
    assert len(replaced) == 33
    depthwise_weights = [name for name, tensor in network.state_dict().items()
                         if tensor.ndim == 4 and tensor.shape[1] == 1 and tensor.shape[0] > 1]  # fmt: skip
    assert len(depthwise_weights) == 33
    assert {layer.weight.name for layer in replaced} == {network.state_dict()[name].name for name in depthwise_weights}
    assert list(network.state_dict()) == names


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
    assert not forwards(nn.Sequential(layer))
    with paddle.no_grad():
        assert layer(paddle.ones([1, 4, 4, 4])).shape[0] == 1


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", [1, [1, 2], [1, 2, 0, 1]])
def test_every_way_to_write_a_padding(padding: Any, dilation: int) -> None:
    layer = nn.Conv2D(4, 4, 3, stride=2, padding=padding, dilation=dilation, groups=4, bias_attr=False)
    x = paddle.to_tensor(case_arrays((2, 4, 7, 6, 3, Geometry(1, 1, 1, 1, 1)))[0])
    expected = layer(x).numpy()
    assert accelerate(nn.Sequential(layer)) == 1
    assert np.abs(layer(x).numpy() - expected).max() <= BOUND * np.abs(expected).max()


def test_a_bias_is_added_and_trained() -> None:
    x, results = paddle.to_tensor(case_arrays((2, 4, 7, 6, 3, Geometry(1, 1, 1, 1, 1)))[0]), []
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
    monkeypatch.setattr(depthwise, "depthwise_conv2d", lambda *_: pytest.fail("float64 in loops for float32"))
    layer.to(dtype="float64")
    assert layer(paddle.ones([1, 4, 5, 5], "float64")).dtype == paddle.float64


def loss_and_gradients(network: nn.Layer, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    network.train()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "When training, we now always track")
        logits = network(paddle.to_tensor(images))
    loss = cross_entropy_sum(logits, paddle.to_tensor(labels), 0.1) / len(labels)
    loss.backward()
    found = {name: each.grad.numpy() for name, each in network.named_parameters() if each.grad is not None}
    network.clear_gradients()
    return found | {"loss": loss.numpy()}


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
    expected = loss_and_gradients(network, images, labels)
    accelerate(network)
    found = loss_and_gradients(network, images, labels)
    loss_apart = abs(found.pop("loss") - expected["loss"]) / expected.pop("loss")
    assert sorted(found) == sorted(expected)
    distance = np.sqrt(sum(((found[name] - expected[name]).astype(float) ** 2).sum() for name in expected))
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


@pytest.mark.parametrize("side", [2, 9])
def test_a_frozen_weight(side: int) -> None:
    """It gets no gradient, and the gradient of x is the same to the bit; on 2 x 2 pixels a kernel of 5 is one of 3."""
    x, weight, of_y = case_arrays((5, 3, side, side, 5, Geometry(1, 2, 2, 2, 2)))
    gradients = []
    for frozen in (False, True):
        source, kernel = paddle.to_tensor(x, stop_gradient=False), paddle.to_tensor(weight, stop_gradient=frozen)
        depthwise_conv2d(source, kernel, Geometry(1, 2, 2, 2, 2)).backward(paddle.to_tensor(of_y))
        assert (kernel.grad is None) == frozen
        gradients.append(source.grad.numpy())
    assert np.array_equal(*gradients)
