"""The 1x1 convolution as one matrix product, against sums in float64."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

pytest.importorskip("numba", reason="numba is not installed: Paddle's own convolutions are in use")
from mobilenext.training.pointwise import is_pointwise, pays, pointwise_conv2d

BOUND = 1e-5  # relative to the largest value


def arrays_of(images: int, inputs: int, outputs: int, height: int, width: int) -> list[np.ndarray]:
    random = np.random.default_rng([images, inputs, outputs, height, width])
    shapes = ((images, inputs, height, width), (outputs, inputs, 1, 1), (images, outputs, height, width))
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("sizes", [(5, 7, 9, 2, 3), (1, 3, 4, 1, 1), (9, 1, 1, 4, 4), (2, 40, 30, 5, 1)])
@pytest.mark.parametrize("turned", [False, True])
def test_results_and_gradients(sizes: tuple[int, int, int, int, int], turned: bool) -> None:
    maps, kernel, of_y = arrays_of(*sizes)
    x, weight = paddle.to_tensor(maps, stop_gradient=False), paddle.to_tensor(kernel, stop_gradient=False)
    if turned:  # as it lies in memory in another order
        x = paddle.to_tensor(maps.transpose(3, 2, 1, 0).copy(), stop_gradient=False)
    y = pointwise_conv2d(x.transpose([3, 2, 1, 0]) if turned else x, weight)
    y.backward(paddle.to_tensor(of_y))
    matrix = kernel[:, :, 0, 0].astype(float)
    of_x = np.einsum("oc,nohw->nchw", matrix, of_y)
    expected = [
        np.einsum("oc,nchw->nohw", matrix, maps),
        of_x.transpose(3, 2, 1, 0) if turned else of_x,
        np.einsum("nohw,nchw->oc", of_y.astype(float), maps)[:, :, None, None],
    ]
    for tensor, array in zip((y, x.grad, weight.grad), expected, strict=True):
        assert tuple(tensor.shape) == array.shape
        assert np.abs(tensor.numpy() - array).max() <= BOUND * np.abs(array).max()


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_what_is_frozen_has_no_gradient(frozen: str) -> None:
    maps, kernel, of_y = arrays_of(3, 4, 5, 2, 2)
    x = paddle.to_tensor(maps, stop_gradient=frozen == "x")
    weight = paddle.to_tensor(kernel, stop_gradient=frozen == "weight")
    pointwise_conv2d(x, weight).backward(paddle.to_tensor(of_y))
    assert (x.grad is None, weight.grad is None) == (frozen == "x", frozen == "weight")


@pytest.mark.parametrize(("layer", "expected"), [
    (nn.Conv2D(4, 6, 1, bias_attr=False), True),
    (nn.Conv2D(4, 6, (1, 1), padding=[0, 0], bias_attr=False), True),
    (nn.Conv2D(4, 6, 1), False),  # a bias
    (nn.Conv2D(4, 6, 1, stride=2, bias_attr=False), False),
    (nn.Conv2D(4, 6, 1, padding=1, bias_attr=False), False),
    (nn.Conv2D(4, 6, 1, groups=2, bias_attr=False), False),
    (nn.Conv2D(4, 6, 3, padding=1, bias_attr=False), False),
    (nn.Conv2D(4, 6, 1, bias_attr=False, data_format="NHWC"), False),
    (nn.Linear(4, 6), False),
])  # fmt: skip
def test_which_layers_are_pointwise(layer: nn.Layer, expected: bool) -> None:
    assert is_pointwise(layer) is expected


def test_where_it_pays() -> None:
    weight = paddle.zeros([1280, 208, 1, 1])
    assert pays(paddle.zeros([1, 208, 2, 2]), weight)
    assert not pays(paddle.zeros([1, 208, 28, 28]), weight)
