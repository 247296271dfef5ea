"""Parts of a network that stay as the first weights have them.

A frozen tensor gets no gradient, does not decay, and is not averaged. A batch norm of a frozen part normalizes by its
running statistics, in training as in evaluation, and does not change them; drop-connect leaves a frozen block whole.
What is computed in front of the first part that is trained needs no gradient at all, which makes a step cheaper.
"""

from __future__ import annotations

import paddle
from paddle import nn

from mobilenext.errors import UsageError
from mobilenext.models.network import Network


def freeze(network: Network, part: str, batch_norm: str) -> None:
    """Let parts of `network` stay as they are in training.

    Args:
        network: with its first weights.
        part: ``none``, ``backbone`` (all but the classifier), or the number of blocks from the image on, with all that
            comes before them.
        batch_norm: also of the parts that are trained, what of their batch norms stays: ``none``, the running
            ``statistics``, or ``all`` (the scale and the shift as well).

    Raises:
        UsageError: more blocks than there are.
    """
    blocks = network.blocks()
    if part != "none":
        frozen = len(blocks) if part == "backbone" else int(part)
        if frozen > len(blocks):
            raise UsageError(f"freeze is {part}, but the network has {len(blocks)} blocks; expected up to that many")
        of_others = (*(f"{name}." for name, _ in blocks[frozen:]), *(f"{name}." for name in network.head_layers))
        for name, parameter in network.named_parameters():
            if not name.startswith(of_others):
                parameter.stop_gradient = True
        for name, layer in network.named_sublayers():
            if isinstance(layer, nn.BatchNorm2D) and not f"{name}.".startswith(of_others):
                layer._use_global_stats = True
        for _, block in blocks[:frozen]:
            block.drop_connect_rate = 0.0
    if batch_norm != "none":
        for layer in network.sublayers():
            if isinstance(layer, nn.BatchNorm2D):
                layer._use_global_stats = True
                for parameter in (layer.weight, layer.bias) if batch_norm == "all" else ():
                    parameter.stop_gradient = True


def frozen_tensors(network: nn.Layer) -> frozenset[str]:
    """Return the names of the tensors of `network` that training leaves as they are."""
    changing = set()
    for prefix, layer in network.named_sublayers(include_self=True):
        names = [name for name, parameter in layer._parameters.items() if _is_trained(parameter)]
        if isinstance(layer, nn.BatchNorm2D) and not layer._use_global_stats:
            names += ["_mean", "_variance"]
        changing |= {f"{prefix}.{name}" if prefix else name for name in names}
    return frozenset(network.state_dict()) - changing


def _is_trained(parameter: paddle.Tensor | None) -> bool:
    return parameter is not None and not parameter.stop_gradient
