"""A choice between blocks: what it computes, and its gradients, beside arithmetic by hand."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from mobilenext.models.block_plan import BlockPlan
from mobilenext.models.choice import Choice
from mobilenext.models.sandglass import Sandglass
from networks import give_statistics

NAMES = ("narrow", "wide", "left_out")
NOISE = np.array([0.3, -0.2, 0.1], np.float32)


@pytest.fixture
def choice() -> Choice:
    paddle.seed(1)
    plans = [BlockPlan(8, hidden, 8, 1, True, True, shortcut=True) for hidden in (4, 8)]
    choice = Choice({"narrow": Sandglass(plans[0]), "wide": Sandglass(plans[1]), "left_out": None})
    give_statistics(choice)
    choice.alphas.set_value(np.array([0.1, 0.5, -0.2], np.float32))
    return choice


@pytest.fixture
def x() -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 8, 5, 5)).astype(np.float32))


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return np.asarray(powers / powers.sum())


def test_single_runs_what_was_drawn(choice: Choice, x: paddle.Tensor) -> None:
    """0.1 + 0.3, 0.5 - 0.2 and -0.2 + 0.1: the first is the largest, though the second has the largest alpha."""
    choice.train()
    choice.draw(NOISE)
    assert NAMES[choice.drawn] == "narrow"
    for _, block in choice.blocks():
        block.eval()  # the same statistics in both passes
    assert np.array_equal(choice(x).numpy(), choice.block(0)(x).numpy())  # type: ignore[misc]
    choice.eval()
    assert np.array_equal(choice(x).numpy(), choice.block(1)(x).numpy())  # type: ignore[misc]


@pytest.mark.filterwarnings("ignore:When training, we now always track")  # Paddle's batch norm, of itself
@pytest.mark.parametrize("training", [False, True])  # of the batch norms
def test_gradients_of_a_single_path(choice: Choice, x: paddle.Tensor, training: bool) -> None:
    """Those of the alphas are of softmax(log p + noise)[drawn], times the branch and the gradient of the output."""
    choice.train()
    choice.draw(NOISE)
    for _, block in choice.blocks():
        block.train() if training else block.eval()
    upstream = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    (choice(x) * paddle.to_tensor(upstream)).sum().backward()
    with_gradient = {name.partition(".")[0] for name, weight in choice.named_parameters() if weight.grad is not None}
    assert with_gradient == {"narrow", "alphas"}

    branch = choice.block(0)(x).numpy() - x.numpy()  # type: ignore[misc]
    y = _softmax(np.array([0.1, 0.5, -0.2]) + NOISE)
    of_y = float((branch.astype(np.float64) * upstream).sum())
    expected = of_y * y[0] * (np.eye(3)[0] - y)
    np.testing.assert_allclose(choice.alphas.grad.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_without_a_shortcut_the_candidates_are_compared(x: paddle.Tensor) -> None:
    """The output is that of the drawn one; the gradient of alphas has what every candidate would have changed."""
    paddle.seed(2)
    plans = [BlockPlan(8, 4, 16, 2, True, True, shortcut=False, kernel_size=kernel) for kernel in (3, 5)]
    choice = Choice({"3": Sandglass(plans[0]), "5": Sandglass(plans[1])})
    give_statistics(choice)
    alphas, noise = np.array([0.4, -0.1], np.float32), np.array([-0.2, 0.6], np.float32)
    choice.alphas.set_value(alphas)
    choice.draw(noise)
    choice.train()
    for _, block in choice.blocks():
        block.eval()
    outputs = [block(x).numpy() for _, block in choice.blocks()]
    output = choice(x)
    assert choice.drawn == 1
    assert np.array_equal(output.numpy(), outputs[1])
    upstream = np.random.default_rng(1).normal(size=output.shape).astype(np.float32)
    (output * paddle.to_tensor(upstream)).sum().backward()
    y = _softmax(alphas + noise)
    of_y = np.array([float((one.astype(np.float64) * upstream).sum()) for one in outputs])
    expected = y * (of_y - (of_y * y).sum())
    np.testing.assert_allclose(choice.alphas.grad.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_frozen_alphas_leave_the_gradients_of_weights(choice: Choice, x: paddle.Tensor) -> None:
    choice.alphas.stop_gradient = True
    choice.train()
    choice.draw(NOISE)
    for _, block in choice.blocks():
        block.eval()
    choice(x).sum().backward()
    assert choice.alphas.grad is None
    assert all(weight.grad is not None for weight in choice.block(0).parameters() if not weight.stop_gradient)  # type: ignore[union-attr]
    assert all(weight.grad is None for weight in choice.block(1).parameters())  # type: ignore[union-attr]


def test_a_draw_follows_the_probabilities(choice: Choice) -> None:
    random = np.random.default_rng(0)
    counts = np.zeros(3)
    for _ in range(4000):
        choice.draw(random.gumbel(size=3).astype(np.float32))
        counts[choice.drawn] += 1
    # 4,000 draws: a standard deviation of up to 0.008.
    np.testing.assert_allclose(counts / 4000, _softmax(np.array([0.1, 0.5, -0.2])), atol=0.03)
