"""Make the network of a training run, and write its weights as files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.data import Preprocessing
from mobilenext.errors import MissingDependency, UsageError
from mobilenext.machine.packages import require
from mobilenext.machine.ranks import Ranks
from mobilenext.training.plan import Plan

if TYPE_CHECKING:
    from mobilenext.models.network import Network

log = logging.getLogger(__name__)


def make_network(plan: Plan, ranks: Ranks, device: str, *, to_static: bool = False) -> tuple[Network, bool]:
    """Return the network in training mode, with its first weights and the recipe's regularization, and whether its
    depthwise convolutions are compiled.

    Its tensors are the same in all processes. The convolutions of a graph (`to_static`) cannot be compiled.
    """
    import paddle
    from paddle import nn

    from mobilenext.training.freezing import freeze
    from mobilenext.training.sync_batch_norm import synchronize

    config, recipe = plan.config, plan.recipe
    paddle.seed(config["seed"])
    network = plan.task.training.build(config, plan.weights)
    if recipe.dropout is not None:
        for layer in network.sublayers():
            if isinstance(layer, nn.Dropout):
                layer.p = recipe.dropout
    if recipe.drop_connect is not None:
        network.set_drop_connect(recipe.drop_connect)
    if recipe.drop_path and not hasattr(network, "set_drop_path"):
        raise UsageError(
            f"drop_path is {recipe.drop_path}, but {config['model']} has no cells whose operators could be dropped; "
            "expected 0: --set drop_path=0"
        )
    if recipe.drop_path and to_static:
        raise UsageError("drop_path with to_static: a graph cannot change it from epoch to epoch; choose one of them")
    if recipe.freeze != "none" or recipe.freeze_bn != "none":
        freeze(network, recipe.freeze, recipe.freeze_bn)
    if recipe.sync_bn and ranks.world > 1:
        synchronize(network)
    network.train()
    ranks.share(network.state_dict().values())
    if to_static:
        return paddle.jit.to_static(network, full_graph=True), False
    return network, device == "cpu" and _accelerate(network)


def _accelerate(network: Network) -> bool:
    try:
        require(["numba"], "train", "fast training on a CPU")
    except MissingDependency as missing:
        log.warning("%s; without it a step takes several times as long", missing)
        return False
    from mobilenext.training.acceleration import accelerate

    return accelerate(network) > 0


def write_weights_of(plan: Plan, network: Network, tensors: Mapping[str, Any], kind: str, path: Path) -> None:
    """Write weights as `mobilenext evaluate` takes them."""
    from mobilenext.weights import naming
    from mobilenext.weights.record import Weights
    from mobilenext.weights.write import write_weights

    config, entries = plan.config, naming.entries_of(network)
    fields: dict[str, Any] = {
        "model": config["model"],
        "identity_divisor": config["identity_divisor"],
        "preprocessing": Preprocessing.from_dict(config["preprocessing"]),
        "task": config.get("task"),
        "architecture": config.get("architecture"),
        "path": path,
        "sha256": "",
        "source_name": f"mobilenext train, recipe {plan.recipe.name}, seed {config['seed']}",
        "source_sha256": plan.digest,
        "card": None,
        "kind": kind,
        "notes": (),
        "tensors": {entry.paddle_name: tensors[entry.paddle_name] for entry in entries},
        "entries": entries,
        "dialect": "paddle",
        "dropped": (),
    }
    weights = Weights(**{**fields, **plan.job.weights_fields(network)})
    write_weights(weights, path)
