"""Costs of a search over blocks: counted on candidates, against counts of whole networks and against arithmetic."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from mobilenext.errors import UsageError
from mobilenext.models import build_network
from mobilenext.models.block_search import BlockSearchNetwork
from mobilenext.models.counting import count
from mobilenext.models.sandglass import MobileNeXt
from mobilenext.search.cost import Costs, count_costs


@pytest.fixture(scope="module")
def network() -> BlockSearchNetwork:
    published = build_network("mobilenext_x0_35", num_classes=20)
    assert isinstance(published, MobileNeXt)
    return BlockSearchNetwork(published)


@pytest.mark.parametrize("kind", ["parameters", "mult_adds"])
@pytest.mark.parametrize("image_size", [40, 64])
def test_parts_sum_up_to_whole_networks(network: BlockSearchNetwork, kind: str, image_size: int) -> None:
    costs = count_costs(network.published_plan, kind, image_size, 20)
    random = np.random.default_rng(image_size)
    for chosen in ([0] * 15, *([int(random.integers(len(row))) for row in costs.choices] for _ in range(2))):
        whole = MobileNeXt(plan=network.plan(chosen), num_classes=20)
        assert costs.total(chosen) == getattr(count(whole, image_size), kind) / 1e6


def test_expected_cost() -> None:
    """Milliseconds: 1 + (0.25 * 2 + 0.75 * 4) + 0.5 * 3, with the gradient of a softmax."""
    costs = Costs("latency", 1.0, (np.array([2.0, 4.0]), np.array([3.0, 0.0])))
    alphas = {"a": paddle.to_tensor([0.0, float(np.log(3))]), "b": paddle.to_tensor([0.7, 0.7])}
    for row in alphas.values():
        row.stop_gradient = False
    expected = costs.expected(alphas)
    expected.backward()
    assert expected.shape == []
    assert float(expected) == pytest.approx(6.0, abs=1e-6)
    # d/da_k = p_k (cost_k - mean)
    np.testing.assert_allclose(alphas["a"].grad.numpy(), [0.25 * (2 - 3.5), 0.75 * (4 - 3.5)], atol=1e-6)
    np.testing.assert_allclose(alphas["b"].grad.numpy(), [0.75, -0.75], atol=1e-6)


def test_a_budget() -> None:
    costs = Costs("parameters", 1e6, (np.array([2e6, 1e6]), np.array([5e5, 0.0])))
    values = [np.array([0.0, -1.0]), np.array([0.0, -0.1])]
    assert [costs.choose(values, budget) for budget in (9, 3.5, 3.49, 2.9, 2)] == [
        (0, 0),
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    assert (costs.smallest, costs.unit, costs.total((0, 1))) == (2.0, "M", 3.0)
    with pytest.raises(UsageError, match=r"budget is 1\.9 M of parameters, but the smallest network .* 2\.000 M"):
        costs.choose(values, 1.9)


def test_an_unknown_cost() -> None:
    with pytest.raises(UsageError, match="expected parameters, mult_adds, latency"):
        Costs("energy", 0, ())
