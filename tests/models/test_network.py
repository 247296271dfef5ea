"""Maps of networks, compared with what hooks on the layers themselves see."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from mobilenext.errors import UsageError
from mobilenext.models import build_network
from mobilenext.models.network import Network, Tap, last_map_at_each_stride

# Where the authors' SSDLite takes its first two maps: inside block 13 before the depthwise convolution of stride 2, and
# inside block 20 before the last one; the extra layers go on from the output of block 20. MobileNetV2 gives outputs.
SSDLITE: dict[str, tuple[Tap, ...]] = {
    "mobilenext_x1_0": (Tap(13, 5, 576, 16), Tap(20, 8, 1280, 32), Tap(20, None, 1280, 32)),
    "mobilenext_x0_35": (Tap(13, 5, 200, 16), Tap(20, 8, 1280, 32), Tap(20, None, 1280, 32)),
    "mobilenetv2_x1_0": (Tap(13, None, 96, 16), Tap(18, None, 1280, 32), Tap(14, 1, 576, 16)),
}


def small(model: str) -> Network:
    network = build_network(model, num_classes=2)
    network.eval()
    return network


def output_of(network: Network, image: paddle.Tensor, layer: paddle.nn.Layer) -> Any:
    """The output of one layer in a whole forward pass."""
    outputs = []
    handle = layer.register_forward_post_hook(lambda layer, inputs, output: outputs.append(output.numpy()))
    with paddle.no_grad():
        network(image)
    handle.remove()
    (output,) = outputs
    return output


@pytest.mark.parametrize("model", SSDLITE)
def test_taps_are_what_the_layers_give(model: str) -> None:
    network, taps = small(model), SSDLITE[model]
    image = paddle.to_tensor(np.random.default_rng(0).standard_normal((2, 3, 64, 64), dtype=np.float32))
    with paddle.no_grad():
        maps = network.maps(image, taps)
    for tap, tensor in zip(taps, maps, strict=True):
        block = network.blocks()[tap.block][1]
        layer = block if tap.layers is None else block.conv[tap.layers - 1]
        assert np.array_equal(tensor.numpy(), output_of(network, image, layer))
        assert tensor.shape == [2, tap.channels, 64 // tap.stride, 64 // tap.stride]


def test_the_tap_of_an_ssdlite_is_expanded_and_not_strided() -> None:
    """576 channels at 20 x 20 of an image of 320 pixels; the outputs of the blocks have them at 10 x 10 only."""
    network = small("mobilenext_x1_0")
    with paddle.no_grad():
        inside, whole = network.maps(paddle.zeros([1, 3, 320, 320]), (Tap(13, 5, 576, 16), Tap(13, None, 576, 32)))
    assert (inside.shape, whole.shape) == ([1, 576, 20, 20], [1, 576, 10, 10])
    assert float(inside.max()) <= 6.0, "after the ReLU6"


def test_blocks_after_the_last_tap_are_not_run() -> None:
    network, runs = small("mobilenext_x0_35"), []
    for index, (_, block) in enumerate(network.blocks()):
        block.register_forward_post_hook(lambda layer, inputs, output, index=index: runs.append(index))
    with paddle.no_grad():
        network.maps(paddle.zeros([1, 3, 32, 32]), [Tap(3, None, 64, 8)])
    assert runs == [0, 1, 2, 3]


def test_taps_that_are_not_there() -> None:
    network = small("mobilenext_x0_35")
    with pytest.raises(UsageError, match="a tap after 9 layers; the block has 7"):
        network.maps(paddle.zeros([1, 3, 32, 32]), [Tap(13, 9, 200, 16)])
    with pytest.raises(UsageError, match=r"a tap inside features.0, a Sequential; expected the output of the block"):
        network.maps(paddle.zeros([1, 3, 32, 32]), [Tap(0, 1, 16, 2)])


class Backbone(paddle.nn.Layer):  # type: ignore[misc]
    """What a detector makes of a network."""

    def __init__(self, network: Network, taps: tuple[Tap, ...]) -> None:
        super().__init__()
        self.network, self.taps = network, taps

    def forward(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        return self.network.maps(x, self.taps)


def test_taps_of_a_static_graph() -> None:
    network, taps = small("mobilenext_x0_35"), SSDLITE["mobilenext_x0_35"]
    image = paddle.to_tensor(np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32))
    static = paddle.jit.to_static(Backbone(network, taps), full_graph=True)
    with paddle.no_grad():
        for eager, tensor in zip(network.maps(image, taps), static(image), strict=True):
            np.testing.assert_allclose(tensor.numpy(), eager.numpy(), rtol=1e-5, atol=1e-5)


def test_a_network_without_all_strides_has_no_pyramid() -> None:
    assert last_map_at_each_stride([(8, 1), (8, 2), (16, 4)]) == ()
    assert [feature.block for feature in last_map_at_each_stride([(8, 4), (8, 8), (9, 8), (9, 16), (9, 32)])] == [
        0, 2, 3, 4,
    ]  # fmt: skip
