from __future__ import annotations

import numpy as np
import paddle
import pytest
from tests.networks import give_statistics

from mobilenext.classification.loss import cross_entropy_sum
from mobilenext.classification.recipes import RECIPES
from mobilenext.errors import UsageError
from mobilenext.models import build_network
from mobilenext.models.network import Network
from mobilenext.training.acceleration import accelerate
from mobilenext.training.freezing import freeze, frozen_tensors
from mobilenext.training.optimization import Average, make_optimizer

pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track")  # Paddle's batch norm, of itself
FAMILIES = ("mobilenext_x0_35", "mobilenext_s", "mobilenext_l_ghost", "mobilenetv2_x0_35")


def values(network: Network) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def after_a_step(network: Network, optimizer: str = "sgd") -> tuple[dict[str, np.ndarray], Average]:
    """All tensors after a step with decay and an average, in training mode."""
    recipe = RECIPES["finetune"].with_settings(
        [f"optimizer={optimizer}", "decay_1d=true", "weight_decay=0.01", "nesterov=false"]
    )
    average = Average(network, 0.9, warmup=False, frozen=frozen_tensors(network))
    make = make_optimizer(recipe, network.parameters())
    make.set_lr(0.05)
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32), dtype=np.float32)
    logits = network(paddle.to_tensor(images))
    cross_entropy_sum(logits, paddle.to_tensor([0, 1, 2, 3]), 0.1).backward()
    make.step()
    average.update(0)
    return values(network), average


def network_of(name: str) -> Network:
    paddle.seed(0)
    network = build_network(name, num_classes=5)
    give_statistics(network)
    network.set_drop_connect(0.5)
    network.train()
    accelerate(network)
    return network


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {name for name, value in before.items() if value.tobytes() != after[name].tobytes()}


@pytest.mark.parametrize(("name", "optimizer"), [*((name, "sgd") for name in FAMILIES), (FAMILIES[0], "rmsprop")])
def test_a_frozen_backbone_stays_and_gives_the_features_of_evaluation(name: str, optimizer: str) -> None:
    network = network_of(name)
    freeze(network, "backbone", "none")
    before = values(network)
    image = paddle.to_tensor(np.random.default_rng(1).standard_normal((2, 3, 32, 32), dtype=np.float32))
    network.eval()
    expected = last_map(network, image)
    network.train()
    np.testing.assert_allclose(last_map(network, image), expected, rtol=1e-4, atol=1e-4)
    after, average = after_a_step(network, optimizer)
    classifier = {key for key in before if key.startswith(("classifier.", "_fc."))}
    assert len(classifier) == 2
    assert changed(before, after) == classifier
    assert {name for name in before if before[name].tobytes() != average.tensors[name].numpy().tobytes()} == classifier
    assert frozen_tensors(network) & classifier == set()
    assert changed(before, after) | frozen_tensors(network) >= set(before) - {
        name
        for name in before
        if name.startswith("_bn1.")  # of no use in the network
    }


def last_map(network: Network, image: paddle.Tensor) -> np.ndarray:
    with paddle.no_grad():
        x = network.stem(image)
        for _, block in network.blocks():
            x = block(x)
    return np.asarray(x.numpy())


@pytest.mark.parametrize("name", FAMILIES[:2])
def test_the_first_blocks(name: str) -> None:
    network = network_of(name)
    freeze(network, "3", "none")
    before = values(network)
    after, _ = after_a_step(network)
    names = [block for block, _ in network.blocks()]
    kept = set(before) - changed(before, after)
    first = {key for key in before if not key.startswith(tuple(f"{block}." for block in names[3:]))}
    first -= {key for key in first if key.startswith(tuple(f"{layer}." for layer in network.head_layers))}
    assert first
    assert first <= kept
    assert kept - first <= {key for key in before if key.startswith("_bn1.")}
    assert [block.drop_connect_rate for _, block in network.blocks() if hasattr(block, "drop_connect_rate")][-1] > 0.4


@pytest.mark.parametrize("kind", ["statistics", "all"])
def test_batch_norms(kind: str) -> None:
    network = network_of("mobilenext_x0_35")
    freeze(network, "none", kind)
    before = values(network)
    after, _ = after_a_step(network)
    kept = set(before) - changed(before, after)
    norms = {f"{name}." for name, layer in network.named_sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)}
    tensors = ("_mean", "_variance") + (("weight", "bias") if kind == "all" else ())
    assert kept == {f"{norm}{tensor}" for norm in norms for tensor in tensors} == frozen_tensors(network)


def test_nothing_is_frozen() -> None:
    network = network_of("mobilenext_x0_35")
    freeze(network, "none", "none")
    assert frozen_tensors(network) == frozenset()


def test_more_blocks_than_there_are() -> None:
    network = network_of("mobilenext_x0_35")
    freeze(network, "21", "none")
    with pytest.raises(UsageError, match="freeze is 22, but the network has 21 blocks; expected up to that many"):
        freeze(network, "22", "none")
