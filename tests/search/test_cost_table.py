"""The file of measured latencies: its checks, and the costs of networks that come of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from mobilenext.errors import DataError, MissingDependency, UsageError
from mobilenext.models.block_search import find_candidates
from mobilenext.models.sandglass import plan_blocks
from mobilenext.search import measuring
from mobilenext.search.cost import block_sizes
from mobilenext.search.cost_table import CostTable, describe_additivity, read_cost_table, table_of, write_cost_table
from mobilenext.search.measuring import check_runtime, describe_table, not_measurable

PLAN = plan_blocks(0.35)


@pytest.fixture(scope="module")
def table() -> CostTable:
    """Each candidate takes a microsecond for each hidden channel, and five with the kernel of 5."""
    sides = block_sizes(PLAN, 64)
    candidates = {
        (sides[place.block], plan): plan.hidden_channels / 1000 + (0.005 if plan.kernel_size == 5 else 0)
        for place in find_candidates(PLAN)
        for plan in place.plans
        if plan is not None
    }
    return CostTable(
        model="mobilenext_x0_35", identity_divisor=1, image_size=64, runtime="onnxruntime", threads=1,
        fixed=((10, 0.30), (1000, 0.70)), candidates=candidates,
        published={"classes": 1000, "measured_ms": 1.5, "sum_ms": 1.4}, environment={"processor": "an abacus"},
        origin={"samples": 30, "command": "mobilenext search"},
    )  # fmt: skip


def test_a_file_is_read_as_it_was_written(table: CostTable, tmp_path: Path) -> None:
    write_cost_table(tmp_path / "costs.json", table)
    assert read_cost_table(tmp_path / "costs.json") == table
    values = json.loads((tmp_path / "costs.json").read_text())
    assert {"runtime", "image_size", "model", "threads", "environment", "digest", "published"} <= values.keys()


def test_costs_of_networks(table: CostTable) -> None:
    """Hidden widths of the published blocks: three transitions of 16 or 32, then two of 16, ten of 32, ... to 56."""
    costs = table.costs(PLAN, num_classes=505)
    published = sum(PLAN[place.block].hidden_channels for place in find_candidates(PLAN))
    assert costs.total([0] * 15) == pytest.approx(0.5 + published / 1000)  # halfway between 10 and 1,000 classes
    left_out = [len(row) - 1 if row[-1] == 0 else 0 for row in costs.choices]
    transitions = sum(plan.hidden_channels for plan in PLAN if plan.stride == 2 and not plan.first_depthwise)
    assert costs.total(left_out) == pytest.approx(0.5 + transitions / 1000)
    assert (costs.unit, costs.digest) == ("ms", table.digest)


def test_a_table_of_something_else(table: CostTable) -> None:
    expected = {"model": "mobilenext_x0_35", "image_size": 64, "runtime": None}
    table.check(**expected)
    for name, value in (("model", "mobilenext_x1_0"), ("image_size", 224), ("runtime", "openvino"), ("threads", 2)):
        with pytest.raises(UsageError, match=rf"measured for {name} \w+ \(expected {value}\)"):
            table.check(**{**expected, name: value})
    with pytest.raises(UsageError, match="lacks BlockPlan"):
        table.costs(plan_blocks(1.0), num_classes=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runtime": 3}, "runtime is 3"),
        ({"image_size": -1}, "image_size is -1"),
        ({"schema": 2}, "a later version"),
        ({"threads": 2}, "somebody has changed them"),
        ({"fixed": [{"classes": 10, "ms": 1}, {"classes": 10, "ms": 2}]}, "do not grow"),
        ({"candidates": [{"size": 4, "plan": {}, "ms": 1}]}, "in_channels is missing"),
        ({"candidates": [{"size": 4, "plan": None, "ms": 1}]}, "expected a record"),
        ({"candidates": [{}] * 2000}, "is missing|entries"),
    ],
)
def test_a_broken_table(table: CostTable, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        table_of({**table.to_dict(), **change})


def test_a_plan_with_a_field_too_many(table: CostTable) -> None:
    values = json.loads(json.dumps(table.to_dict()))
    values["candidates"][0]["plan"]["dilation"] = 2
    with pytest.raises(DataError, match="has other fields than in_channels"):
        table_of(values)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"costs\.json is missing; expected the file of `mobilenext search"):
        read_cost_table(tmp_path / "costs.json")
    (tmp_path / "costs.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(DataError, match="has more than"):
        read_cost_table(tmp_path / "costs.json")


def test_the_digest_is_that_of_the_numbers(table: CostTable) -> None:
    assert dataclasses.replace(table, environment={"processor": "another"}).digest == table.digest
    assert dataclasses.replace(table, threads=2).digest != table.digest


def test_additivity_in_words() -> None:
    assert describe_additivity(2.0, 1.9) == (
        "measured 2.000 ms as a whole, 1.900 ms as the sum of its parts (-5.0 %)"
    )  # fmt: skip


def test_a_table_of_a_runtime_or_a_machine_that_is_not_here(table: CostTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's numbers can be searched by; this machine's only with what measured them."""
    monkeypatch.setattr(measuring, "processor", lambda: ("an abacus", []))
    monkeypatch.setattr(measuring, "available_cores", lambda: 2)
    check_runtime(table)
    assert not_measurable(table) == ""
    assert "x0_35 at 64 pixels by onnxruntime, threads 1, measured on an abacus" in describe_table(table)
    for runtime in ("onnxruntim", "paddle"):
        with pytest.raises(UsageError, match=f"measured by '{runtime}', which is none of .*onnxruntime"):
            check_runtime(dataclasses.replace(table, runtime=runtime))
    assert "with 3 threads, this process has 2 cores" in not_measurable(dataclasses.replace(table, threads=3))
    monkeypatch.setattr("mobilenext.machine.packages.installed", lambda package: False)
    monkeypatch.setattr(measuring, "installed", lambda package: False)
    with pytest.raises(MissingDependency, match="runtime onnxruntime needs onnxruntime"):
        check_runtime(table)
    assert "by onnxruntime, which is not installed" in not_measurable(table)
    monkeypatch.setattr(measuring, "processor", lambda: ("a slide rule", []))
    check_runtime(table)
    assert "measured on an abacus, this is a slide rule" in not_measurable(table)
