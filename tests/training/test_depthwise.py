"""The compiled depthwise loops, for large and small maps, against Paddle's own convolution in float64."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="numba is not installed: Paddle's own convolutions are in use")
import numba
from numba.core import caching

from mobilenext.training import compiled_loops, depthwise_kernels
from mobilenext.training.depthwise import Geometry, depthwise_conv2d
from mobilenext.training.depthwise_kernels import SCRATCH
from mobilenext.training.depthwise_small_maps import LENGTH, PRODUCTS, fits

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
@example((3, 300, 2, 2, 3, Geometry(1, 1, 1, 1, 1)))  # small maps: more than two vectors of channels, the last not full
@example((4, 300, 2, 2, 3, Geometry(2, 1, 1, 1, 1)))
@example((1, 7, 16, 16, 3, Geometry(2, 1, 1, 1, 1)))
@example((2, 5, 6, 7, 7, Geometry(1, 3, 3, 3, 3)))
@example((3, 5, 8, 8, 5, Geometry(1, 2, 2, 2, 2)))
@example((2, 5, 16, 17, 3, Geometry(1, 1, 1, 1, 1)))  # one column more than is small
@example((2, 5, 4, 5, 1, Geometry(2, 0, 0, 0, 0)))
@example((2, 5, 4, 5, 2, Geometry(1, 1, 0, 1, 0)))
@example((3, 5, 1, 2, 4, Geometry(1, 2, 2, 2, 2)))  # an even kernel has no rings around a middle
@example((3, 5, 2, 3, 6, Geometry(2, 3, 3, 3, 3)))
@example((3, 5, 2, 3, 7, Geometry(2, 6, 6, 6, 6, 2)))
def test_results_and_gradients_are_paddles(case: Case) -> None:
    arrays, geometry = case_arrays(case), case[-1]
    expected = result_and_gradients(native, arrays, geometry, "float64")
    assert_close(result_and_gradients(depthwise_conv2d, arrays, geometry), expected)


def test_the_examples_exceed_a_block() -> None:
    assert 2 * SCRATCH < 300 * (2 + 2) ** 2
    assert SCRATCH < 61 * 60
    assert 2 * LENGTH < 300 * 2 * 2
    assert PRODUCTS == 9 * 16 * 16


@pytest.mark.parametrize(("size", "results", "kernel", "stride", "expected"), [
    ((16, 16), (16, 16), 3, 1, True), ((17, 16), (17, 16), 3, 1, False), ((16, 16), (8, 8), 3, 2, True),
    ((9, 10), (9, 10), 5, 1, True), ((10, 10), (10, 10), 5, 1, False), ((7, 7), (4, 4), 3, 2, True),
    ((6, 6), (4, 4), 3, 2, False), ((1, 2), (3, 4), 3, 1, False), ((2, 1), (1, 1), 3, 9, True),
])  # fmt: skip
def test_which_maps_are_small(
    size: tuple[int, int], results: tuple[int, int], kernel: int, stride: int, expected: bool
) -> None:
    """A result i stands at the pixel i * stride, which must be in the map."""
    assert fits(size, results, kernel, stride) is expected


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


def test_nan_stays_in_its_channel_where_the_last_vector_is_not_full() -> None:
    geometry, full = Geometry(1, 1, 1, 1, 1), LENGTH // 4  # channels of a vector
    x, weight, of_y = case_arrays((2, full + 2, 2, 2, 3, geometry))
    x[1, 2, 0, 0] = of_y[1, 2, 0, 0] = np.nan  # where the vector of the last two channels ends
    for array in result_and_gradients(depthwise_conv2d, (x, weight, of_y), geometry):
        assert np.unique(np.argwhere(np.isnan(array))[:, 1 if array.shape[0] == 2 else 0]).tolist() == [2]


@pytest.fixture
def announcement(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log of a process that has compiled nothing."""
    caplog.set_level("INFO", "mobilenext")
    monkeypatch.setattr(depthwise_kernels._announcement, "done", False)
    monkeypatch.setattr(depthwise_kernels._announcement, "often", "once on this computer")
    return caplog


def double(number):  # type: ignore[no-untyped-def]
    return 2 * number


def test_where_no_folder_may_be_written_to_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch, announcement: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    monkeypatch.setattr(double, "__module__", depthwise_kernels.__name__)
    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(double)
    assert depthwise_kernels.compiled(double)(21) == 42
    lines = ["compiling the loops of training, in each run, as no cache can be written: about a minute"]
    assert announcement.messages == lines


def test_compiling_is_announced_once_and_only_that_of_training(
    monkeypatch: pytest.MonkeyPatch, announcement: pytest.LogCaptureFixture
) -> None:
    numba.njit(double)(21)
    assert announcement.messages == []
    monkeypatch.setattr(double, "__module__", depthwise_kernels.__name__)
    function = numba.njit(double)
    assert (function(21), function(2.5)) == (42, 5.0)
    assert announcement.messages == ["compiling the loops of training, once on this computer: about a minute"]


def test_an_array_keeps_the_memory_of_its_tensor() -> None:
    """A thread may still write to it when an exception in another one has let go of the tensor."""
    array = compiled_loops.array_of(paddle.full([999], 7.0))
    others = [paddle.zeros([999]) for _ in range(50)]
    assert (array == 7).all(), len(others)


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
