"""Parameters and mult-adds of a network, counted on the network itself."""

from __future__ import annotations

from dataclasses import dataclass

import paddle
from paddle import nn


@dataclass(frozen=True)
class Size:
    """Mult-adds are multiply-accumulate operations (MACs) for one image, not FLOPs; biases and activations are free."""

    parameters: int  # trainable values
    mult_adds: int  # convolutions and linear layers
    mult_adds_with_bn: int  # and one for each value that a batch norm scales


def count(network: nn.Layer, image_size: int | None = None, *, channels: int = 3) -> Size:
    """Run `network` on one blank image [1, channels, image_size, image_size] and count what its layers do.

    Args:
        network: is left as it was.
        image_size: pixels; None: the only size that the network takes, or 224.
        channels: of the image; of the map that a part of a network takes.
    """
    image_size = image_size or getattr(network, "input_size", None) or 224
    macs = {"conv and linear": 0, "batch norm": 0}

    def record(layer: nn.Layer, inputs: object, output: paddle.Tensor) -> None:
        if isinstance(layer, nn.Conv2D):
            # One output value costs in_channels / groups * k * k, which is the size of one filter.
            macs["conv and linear"] += output.size * (layer.weight.size // layer.weight.shape[0])
        elif isinstance(layer, nn.Linear):
            macs["conv and linear"] += output.size * layer.weight.shape[0]
        elif isinstance(layer, nn.BatchNorm2D):
            macs["batch norm"] += output.size

    handles = [layer.register_forward_post_hook(record) for layer in network.sublayers()]
    training = network.training
    network.eval()
    with paddle.no_grad():
        network(paddle.zeros([1, channels, image_size, image_size]))
    network.train() if training else network.eval()
    for handle in handles:
        handle.remove()
    parameters = sum(int(p.size) for p in network.parameters() if not p.stop_gradient)
    return Size(parameters, int(macs["conv and linear"]), int(sum(macs.values())))
