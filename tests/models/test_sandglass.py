"""MobileNeXt from plans of its blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import pytest

from mobilenext.errors import UsageError
from mobilenext.models.sandglass import BlockPlan, MobileNeXt, plan_blocks


def test_a_plan_is_the_network_of_its_width() -> None:
    """Names, shapes and initial values are equal to the bit."""
    tensors = []
    for arguments in ({"width": 0.35}, {"plan": plan_blocks(0.35)}):
        paddle.seed(3)
        tensors.append(MobileNeXt(**arguments, num_classes=5, identity_divisor=2).state_dict())  # type: ignore[arg-type]
    by_width, by_plan = tensors
    assert list(by_width) == list(by_plan)
    assert all(np.array_equal(tensor.numpy(), by_plan[name].numpy()) for name, tensor in by_width.items())


def test_a_plan_of_another_network() -> None:
    """Two blocks with a kernel of 5 and strides up to 4: no pyramid, and a classifier that fits."""
    plan = (
        BlockPlan(8, 4, 16, 2, first_depthwise=True, last_depthwise=True, shortcut=False, kernel_size=5),
        BlockPlan(16, 4, 16, 1, first_depthwise=True, last_depthwise=True, shortcut=True),
    )
    network = MobileNeXt(plan=plan, num_classes=3)
    network.eval()
    with paddle.no_grad():
        logits = network(paddle.zeros([2, 3, 32, 32]))
    kernels = {name: tensor.shape[2:] for name, tensor in network.state_dict().items() if len(tensor.shape) == 4}
    assert logits.shape == [2, 3]
    both = [kernels[f"features.{block}.conv.{layer}.weight"] for block in (1, 2) for layer in (0, 8)]
    assert both == [[5, 5], [5, 5], [3, 3], [3, 3]]
    assert network.features_info == ()
    with pytest.raises(UsageError, match="no maps at the strides 4, 8, 16 and 32"):
        network.keep_features_only()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 2}, "a stride of 2 needs the last depthwise"),
        ({"last_depthwise": True, "stride": 2, "shortcut": True}, "a shortcut needs a stride of 1"),
        ({"shortcut": True}, "as many channels before the block as after it"),
        ({"kernel_size": 4}, "expected an odd kernel_size"),
        ({"kernel_size": -1}, "expected an odd kernel_size from 1 up"),
    ],
)
def test_blocks_that_cannot_be_built(change: dict[str, Any], message: str) -> None:
    block = BlockPlan(8, 4, 16, 1, first_depthwise=True, last_depthwise=False, shortcut=False)
    with pytest.raises(UsageError, match=message):
        replace(block, **change)


def test_plans_that_do_not_fit_together() -> None:
    first, second, *_ = plan_blocks(1.0)
    with pytest.raises(UsageError, match="block 1 of the plan takes 32 channels, but the one before it gives 144"):
        MobileNeXt(plan=(second, first))
    with pytest.raises(UsageError, match="the plan has no block"):
        MobileNeXt(plan=())
