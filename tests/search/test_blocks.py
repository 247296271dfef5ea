"""The space of blocks: what its alphas stand for, and a whole search over a MobileNeXt x0.35 with weights of digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle
import pytest
from PIL import Image
from safetensors.numpy import load_file

from mobilenext.errors import Stopped, UsageError
from mobilenext.models.architecture import read_architecture
from mobilenext.models.block_search import find_candidates
from mobilenext.models.counting import count
from mobilenext.models.sandglass import MobileNeXt, plan_blocks
from mobilenext.runs.training_run import read_run
from mobilenext.search import search_architecture
from mobilenext.search.blocks import BlocksSpace
from mobilenext.search.cost import block_sizes
from mobilenext.search.cost_table import CostTable, write_cost_table
from mobilenext.search.page import sections
from mobilenext.search.recipes import RECIPES
from mobilenext.search.space import SUPER_NETWORK, SpaceRequest
from mobilenext.training.loop import Loop
from mobilenext.weights.load import network_of
from mobilenext.weights.pretrained import create_model
from mobilenext.weights.read import read_weights
from networks import logits


class Whole(NamedTuple):
    """A search that was never stopped."""

    begin: Callable[[Path], dict[str, Any]]  # begins the same one in another folder
    run: Path
    result: dict[str, Any]


MODEL, SIZE = "mobilenext_x0_35", 32
PLAN = plan_blocks(0.35)
pytestmark = pytest.mark.usefixtures("without_curves")
CANDIDATES = find_candidates(PLAN)


def request(table: CostTable | None = None, model: str = MODEL, **fields: Any) -> SpaceRequest:
    return SpaceRequest(
        recipe=RECIPES["blocks"].replace(**fields), num_classes=10, image_size=SIZE, seed=3, data_digest="0" * 64,
        model=model, cost_table=None if table is None else table.to_dict(),
    )  # fmt: skip


def alphas_of(chosen: list[int], height: float = 5.0) -> dict[str, np.ndarray]:
    """Alphas whose largest are those of the chosen candidates."""
    return {
        f"features.{1 + place.block}.alphas": np.eye(len(place.plans), dtype=np.float32)[index] * height
        for place, index in zip(CANDIDATES, chosen, strict=True)
    }


def random_choice(seed: int) -> list[int]:
    random = np.random.default_rng(seed)
    return [int(random.integers(len(place.plans))) for place in CANDIDATES]


@pytest.fixture(scope="module")
def table() -> CostTable:
    """Each candidate takes a microsecond for each hidden channel, and five with the kernel of 5."""
    sides = block_sizes(PLAN, SIZE)
    candidates = {
        (sides[place.block], plan): plan.hidden_channels / 1000 + (0.005 if plan.kernel_size == 5 else 0)
        for place in CANDIDATES
        for plan in place.plans
        if plan is not None
    }
    return CostTable(
        model=MODEL, identity_divisor=1, image_size=SIZE, runtime="onnxruntime", threads=1,
        fixed=((10, 0.30), (1000, 0.70)), candidates=candidates,
        published={"classes": 1000, "measured_ms": 1.5, "sum_ms": 1.4}, environment={"processor": "an abacus"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def space() -> BlocksSpace:
    return BlocksSpace(request(cost_measure="mult_adds"))


def test_the_largest_alphas(space: BlocksSpace) -> None:
    """The blocks of the chosen candidates, and sizes as they are counted on the whole network."""
    chosen = random_choice(1)
    found = space.discretize(alphas_of(chosen))
    plans = {place.block: place.plans[index] for place, index in zip(CANDIDATES, chosen, strict=True)}
    assert list(found.blocks) == [block for block in (plans.get(i, own) for i, own in enumerate(PLAN)) if block]
    whole = count(MobileNeXt(plan=found.blocks, num_classes=10), SIZE)
    summary = space.summary(found)
    assert (summary.parameters, summary.mult_adds) == (whole.parameters, whole.mult_adds)
    assert found.numbers == {"parameters": whole.parameters, "mult_adds": whole.mult_adds}
    assert summary.counts["left_out"] == 20 - len(found.blocks)
    assert summary.counts["kernel_5"] == sum(block.kernel_size == 5 for block in found.blocks)
    assert (found.base, found.seed, found.identity_divisor) == (MODEL, 3, 1)


def test_a_budget_takes_the_likeliest_network_below_it(table: CostTable) -> None:
    """The widest blocks are the likeliest, and cost 0.30 + 0.08 + 0.608 ms; others are all as likely as each other.

    So as few as possible are given up, and for nothing, which is the cheapest: one of 88 channels leaves 0.9 ms; two of
    88 and three of 48 leave 0.668, where two of 88 and two of 48 leave 0.716.
    """
    space = BlocksSpace(request(table, cost_measure="latency", budget=(0.7, 0.9)))
    widths = [[plan.hidden_channels if plan else 0 for plan in place.plans] for place in CANDIDATES]
    widest = [row.index(max(row)) for row in widths]
    alphas = alphas_of(widest)
    costs = [space.summary(space.discretize(alphas, budget)).cost for budget in (None, 0.9, 0.7)]
    assert costs[0] == pytest.approx(0.988)
    assert costs[1:] == pytest.approx([0.9, 0.668])
    assert space.budgets() == (0.7, 0.9)
    assert space.discretize(alphas, 0.9).cost_table_digest == table.digest
    assert space.unit == "ms"


def test_random_ones_have_the_same_cost(space: BlocksSpace) -> None:
    like = space.discretize(alphas_of(random_choice(5)))
    wanted = space.summary(like).mult_adds
    randoms = [space.random(np.random.default_rng(seed), like) for seed in range(5)]
    assert all(abs(space.summary(random).mult_adds / wanted - 1) <= 0.02 for random in randoms)
    assert len({random.name for random in randoms}) == 5
    smallest = space.discretize(alphas_of([len(p.plans) - 1 if None in p.plans else 0 for p in CANDIDATES]))
    assert (
        space.summary(space.random(np.random.default_rng(0), smallest)).mult_adds >= space.summary(smallest).mult_adds
    )


def test_choices_of_a_plan(space: BlocksSpace) -> None:
    """Two networks of the same blocks are one: of two like blocks the later one is left out."""
    for seed in range(20):
        found = space.discretize(alphas_of(random_choice(seed)))
        assert space.discretize(alphas_of(list(space.chosen_of(found.blocks)))).blocks == found.blocks
    with pytest.raises(UsageError, match="19 blocks are no network of a search over mobilenext_x0_35"):
        space.chosen_of(PLAN[:-1])


def test_how_large_it_is(space: BlocksSpace) -> None:
    assert space.describe() == (
        "86 candidates in 15 places (4 equal ones were dropped): 7^10 x 5^2 x 2^3 = 5.6e+10 networks"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": SUPER_NETWORK}, "begins with a MobileNeXt; expected --weights"),
        ({"model": "mobilenetv2_x0_35"}, "mobilenetv2_x0_35 does not fit the space blocks"),
        ({"cost_measure": "latency"}, "expected --costs FILE, which `mobilenext search --measure-costs"),
        ({"budget": (0.1,)}, "the smallest network of this space has 0.4"),
        ({"model": "mobilenext_x1_0", "table": True, "cost_measure": "latency"}, "measured for model mobilenext_x0_35"),
        ({"table": True}, "the cost is parameters; expected --cost latency"),
    ],
)
def test_what_does_not_fit(table: CostTable, fields: dict[str, Any], message: str) -> None:
    values = dict(fields)
    given = table if values.pop("table", False) else None
    with pytest.raises(UsageError, match=message):
        BlocksSpace(request(given, **values))


@pytest.fixture(scope="module")
def whole(table: CostTable, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Two epochs from weights; the alphas wait in the first one."""
    root = tmp_path_factory.mktemp("blocks")
    for label in range(10):
        folder = root / "data" / "train" / str(label)
        folder.mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng([label, number]).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    write_cost_table(root / "costs.json", table)
    settings = [f"image_size={SIZE}", "epochs=2", "batch_size=5", "budget=0.75,0.9", f"costs={root / 'costs.json'}"]

    def begin(run: Path) -> dict[str, Any]:
        return search_architecture(
            root / "data", output=run, weights=f"{MODEL}.digits", settings=settings, workers=0, save_every=0
        )

    return Whole(begin, root / "run", begin(root / "run"))


def test_a_search_that_is_killed_goes_on_alike(whole: Whole, tmp_path: Path) -> None:
    """Before its first step, which the passes that measure it must not change, and between steps of the alphas, where
    some choices have drawn no block."""
    run, stops, step = tmp_path / "run", [0, 3], Loop.step

    def stopping(loop: Loop, *arguments: Any) -> None:
        if stops and loop.position.global_step == stops[0]:
            stops.pop(0)
            raise Stopped("here", 9)
        step(loop, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "step", stopping)
        with pytest.raises(Stopped):
            whole.begin(run)
        with pytest.raises(Stopped):
            search_architecture(resume=run, workers=0, save_every=0)
        search_architecture(resume=run, workers=0, save_every=0)
    tensors, expected = (load_file(folder / "checkpoint.safetensors") for folder in (run, whole.run))
    assert tensors.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not np.array_equal(tensors[name], tensor)] == []
    for file in sorted(whole.run.glob("architecture*.json")) + sorted(whole.run.glob("*_0.9.safetensors")):
        assert (run / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_whole_search(whole: Whole, table: CostTable) -> None:
    """A network for each budget, with the weights of the published blocks that it has."""
    run, result = whole.run, whole.result
    names = {file.name for file in run.iterdir()}
    assert {"architecture.json", "architecture_0.75.json", "architecture_0.9.json"} <= names
    first = read_architecture(run / "architecture_0.75.json")
    assert first == read_architecture(run / "architecture.json")
    assert first.numbers["latency_ms"] <= 0.75
    assert first.cost_table_digest == table.digest
    assert json.loads((run / "run.json").read_text())["cost_table"]["digest"] == table.digest
    for row in result["search"]["found"]:
        assert abs(row["random"]["cost"] / row["cost"] - 1) <= 0.02
        assert 0 <= row["top1_percent"] <= 100
        # Of ten images each of five networks has a whole number right.
        assert row["random"]["top1_percent"] / 2 == pytest.approx(round(row["random"]["top1_percent"] / 2))
    _, sizes, charts, blocks = sections([read_run(run)])[0].parts[0].parts
    page_rows = [[cell.text for cell in row] for row in sizes.rows]
    assert len({value["run"] for value in charts.charts[0].spec["data"]["values"]}) == len(CANDIDATES)
    assert len(blocks.rows) == len(first.blocks)
    names_of_rows = ["found, budget 0.75", "mean of 5 random ones", "found, budget 0.9", "mean of 5 random ones"]
    assert [row[0] for row in page_rows] == names_of_rows
    assert page_rows[0][3] == f"{result['search']['found'][0]['cost']:.3f} ms"

    weights = read_weights(run / "initial_0.9.safetensors")
    network = network_of(weights)
    assert isinstance(network, MobileNeXt)
    assert (
        tuple(block.plan for block in network.features[1:]) == read_architecture(run / "architecture_0.9.json").blocks
    )
    published = create_model(f"{MODEL}.digits", pretrained=True)
    assert np.array_equal(network.features[0][0].weight.numpy(), published.features[0][0].weight.numpy())
    assert np.array_equal(network.classifier[1].weight.numpy(), published.classifier[1].weight.numpy())
    assert logits(network, np.zeros((1, 3, SIZE, SIZE), np.float32)).shape == (1, 10)


def test_initial_weights_of_the_published_network(space: BlocksSpace) -> None:
    """A search that ends where it began gives the network that it began with, to the bit."""
    paddle.seed(0)
    published = create_model(f"{MODEL}.digits", pretrained=True)
    first = {name: tensor.numpy() for name, tensor in published.state_dict().items()}
    network = space.initial_network(first, alphas_of([0] * 15))
    assert network is not None
    batch = np.random.default_rng(0).normal(size=(1, 3, SIZE, SIZE)).astype(np.float32)
    assert np.array_equal(logits(network, batch), logits(published, batch))
    assert space.initial_network({}, alphas_of([0] * 15)) is None
