"""The measuring of latencies, with times that are computed in place of measured ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from paddle import nn

from in_process import Here
from mobilenext.errors import UsageError
from mobilenext.models.block_search import find_candidates
from mobilenext.models.sandglass import MobileNeXt, Sandglass, plan_blocks
from mobilenext.search import measuring
from mobilenext.search.measuring import measure_costs

PLAN = plan_blocks(0.35)


def milliseconds(network: nn.Layer) -> float:
    """A call takes 0.2 ms, each block its hidden channels in microseconds and 5 more with a kernel of 5, and each class
    of a classifier 0.1 microseconds."""
    blocks = [layer.plan for layer in network.sublayers() if isinstance(layer, Sandglass)]
    classes = sum(layer.weight.shape[1] for layer in network.sublayers() if isinstance(layer, nn.Linear))
    return 0.2 + sum(b.hidden_channels / 1000 + 0.005 * (b.kernel_size == 5) for b in blocks) + classes / 1e4


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The times of the networks by name, which nobody writes or opens."""
    computed: dict[str, float] = {}

    def write(specs: Any, network: nn.Layer, name: str, size: int) -> None:
        computed[name] = milliseconds(network)

    monkeypatch.setattr(measuring, "WorkerPool", Here)
    monkeypatch.setattr(measuring._Files, "write", write)
    monkeypatch.setattr(measuring, "_times", lambda specs, networks, samples: [computed[name] for name, _ in networks])
    return computed


def test_parts_and_the_whole(times: dict[str, float]) -> None:
    """From the table the time of any network of the space follows, for any number of classes."""
    table = measure_costs("onnxruntime", model="mobilenext_x0_35", image_size=64, samples=30)
    assert table.published["sum_ms"] == pytest.approx(milliseconds(MobileNeXt(0.35, 1000)), abs=1e-4)
    assert table.published["measured_ms"] == pytest.approx(times["published"], abs=1e-4)
    costs = table.costs(PLAN, num_classes=20)
    random = np.random.default_rng(0)
    chosen = [int(random.integers(len(place.plans))) for place in find_candidates(PLAN)]
    places = {place.block: place.plans[index] for place, index in zip(find_candidates(PLAN), chosen, strict=True)}
    plan = [block for block in (places.get(index, own) for index, own in enumerate(PLAN)) if block is not None]
    assert costs.total(chosen) == pytest.approx(milliseconds(MobileNeXt(plan=plan, num_classes=20)), abs=1e-3)
    assert (table.model, table.image_size, table.runtime, table.threads) == ("mobilenext_x0_35", 64, "onnxruntime", 1)


def test_weights_tell_the_identity_divisor_and_the_size(times: dict[str, float]) -> None:
    table = measure_costs("onnxruntime", model="mobilenext_x0_35.tiny20", samples=30)
    assert (table.identity_divisor, table.image_size) == (1, 64)


@pytest.mark.parametrize(
    ("runtime", "model", "message"),
    [
        ("onnxruntime", "mobilenetv2_x1_0", "mobilenetv2_x1_0 has no blocks to choose from"),
        ("onnxruntime", "mobilenext_x0_35.in1k", "no weights 'in1k'; known: digits, tiny20"),
        ("onnxrun", "mobilenext_x0_35", "runtime is 'onnxrun'"),
        ("paddle", "mobilenext_x0_35", "runtime paddle opens no files"),
    ],
)
def test_what_cannot_be_measured(runtime: str, model: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measure_costs(runtime, model=model, image_size=32)
