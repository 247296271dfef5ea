"""The super-network of a search over blocks, on a MobileNeXt x0.35 whose every tensor matters."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from mobilenext.models import build_network
from mobilenext.models.block_plan import BlockPlan
from mobilenext.models.block_search import BlockSearchNetwork, find_candidates
from mobilenext.models.sandglass import MobileNeXt, plan_blocks
from networks import give_statistics, logits

BATCH = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return logits(_published(), BATCH)


@pytest.fixture(scope="module")
def network() -> BlockSearchNetwork:
    return BlockSearchNetwork(_published())


def _published(identity_divisor: int = 1) -> MobileNeXt:
    paddle.seed(0)
    network = build_network("mobilenext_x0_35", num_classes=5, identity_divisor=identity_divisor)
    assert isinstance(network, MobileNeXt)
    give_statistics(network)
    network.eval()
    return network


def _kind(plan: BlockPlan | None, published: BlockPlan | None) -> str:
    if plan is None or published is None:
        return "left out"
    wider = plan.hidden_channels - published.hidden_channels
    return f"{'wide' if wider > 0 else 'narrow' if wider < 0 else 'published'} {plan.kernel_size}"


def _positions(network: BlockSearchNetwork, wanted: str) -> list[int]:
    """The candidate of that kind in each choice, the published one where there is none."""
    kinds = [[_kind(plan, place.plans[0]) for plan in place.plans] for place in network.candidates]
    return [names.index(wanted) if wanted in names else 0 for names in kinds]


@pytest.mark.parametrize(
    ("width", "hidden", "dropped"),
    # 144 / 6 = 24 hidden channels of x1.0's first such blocks: 0.75 h = 18 -> 16 or 24 by the rule, and so on.
    [(1.0, [[32, 24, 48], [48, 40, 72], [64, 48, 96], [96, 72, 144], [160, 120, 240]], 0),
     (0.35, [[16, 24], [32, 24, 48], [32, 24, 48], [32, 24, 48], [56, 40, 88]], 4)],
)  # fmt: skip
def test_candidates(width: float, hidden: list[list[int]], dropped: int) -> None:
    """12 shortcut blocks and three transitions; equal candidates are dropped, the published one is the first."""
    plan = plan_blocks(width)
    candidates = find_candidates(plan)
    blocks = [place for place in candidates if plan[place.block].shortcut]
    transitions = [place for place in candidates if not plan[place.block].shortcut]
    assert (len(blocks), len(transitions)) == (12, 3)
    assert all(place.plans[0] == plan[place.block] and place.plans[-1] is None for place in blocks)
    assert sum(place.dropped for place in candidates) == dropped
    by_stage = {plan[place.block].in_channels: place for place in blocks}
    assert [list(dict.fromkeys(p.hidden_channels for p in place.plans if p)) for place in by_stage.values()] == hidden
    assert [[p.kernel_size for p in place.plans if p] for place in transitions] == [[3, 5]] * 3


def test_the_published_network_is_in_it(network: BlockSearchNetwork, expected: np.ndarray) -> None:
    published = network.network([0] * 15)
    assert np.array_equal(logits(published, BATCH), expected)
    assert list(published.state_dict()) == list(_published().state_dict())
    network.eval()
    assert np.array_equal(logits(network, BATCH), expected), "in the mode single, of alphas that are equal"


@pytest.mark.parametrize("wanted", ["published 5", "wide 5"])
def test_larger_candidates_compute_the_same(network: BlockSearchNetwork, expected: np.ndarray, wanted: str) -> None:
    """A 5x5 in a ring of zeros, and hidden channels that nothing reads yet."""
    chosen = _positions(network, wanted)
    assert any(chosen)
    np.testing.assert_allclose(logits(network.network(chosen), BATCH), expected, rtol=1e-4, atol=1e-5)
    kernels = [tensor for tensor in network.network(chosen).parameters() if list(tensor.shape[2:]) == [5, 5]]
    rings = [tensor.numpy().copy() for tensor in kernels]
    for ring in rings:
        ring[:, :, 1:-1, 1:-1] = 0
    assert rings
    assert not any(ring.any() for ring in rings)


def test_a_narrower_candidate_keeps_what_moves_the_output_most(network: BlockSearchNetwork) -> None:
    """The channels kept are those of the largest |scale| * norm, and the means of the others stay, in float64."""
    place, chosen = network.candidates[-1], _positions(network, "narrow 3")[-1]
    choice = network.choices[-1]
    published, narrow = choice.block(0), choice.block(chosen)
    assert published is not None
    assert narrow is not None
    first, norm, second, after = (published.conv[layer] for layer in (3, 4, 5, 6))
    readers = second.weight.numpy()[:, :, 0, 0].astype(np.float64)
    strength = np.abs(norm.weight.numpy()) * np.sqrt((readers**2).sum(axis=0))
    hidden = place.plans[chosen].hidden_channels  # type: ignore[union-attr]
    kept = np.sort(np.argsort(-strength)[:hidden])
    assert 0 < hidden < len(strength)
    assert np.array_equal(narrow.conv[3].weight.numpy(), first.weight.numpy()[kept])
    assert np.array_equal(narrow.conv[5].weight.numpy(), second.weight.numpy()[:, kept])
    lost = np.setdiff1d(np.arange(len(strength)), kept)
    mean = after._mean.numpy() - readers[:, lost] @ norm.bias.numpy()[lost]
    np.testing.assert_allclose(narrow.conv[6]._mean.numpy(), mean, rtol=1e-5, atol=1e-5)


def test_blocks_that_are_left_out(network: BlockSearchNetwork) -> None:
    chosen = _positions(network, "left out")
    plan = network.plan(chosen)
    assert len(plan) == 20 - 12
    small = network.network(chosen)
    assert logits(small, BATCH).shape == (2, 5)
    network.eval()
    for choice, index in zip(network.choices, chosen, strict=True):
        choice.alphas.set_value(np.eye(len(choice.names), dtype=np.float32)[index])
    assert np.array_equal(logits(network, BATCH), logits(small, BATCH)), "the largest alphas choose the same network"
    with network.running([0] * len(chosen)):
        inside = logits(network, BATCH)
    assert np.array_equal(inside, logits(network.network([0] * len(chosen)), BATCH))
    assert not np.array_equal(inside, logits(network, BATCH))
    for choice in network.choices:
        choice.alphas.set_value(np.zeros(len(choice.names), np.float32))


def test_partial_shortcuts() -> None:
    network = BlockSearchNetwork(_published(identity_divisor=2))
    assert np.array_equal(logits(network.network([0] * 15), BATCH), logits(_published(identity_divisor=2), BATCH))
    assert network.network(_positions(network, "wide 3")).identity_divisor == 2
