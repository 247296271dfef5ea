"""Measure the latency table of a search over blocks on this machine.

Each different candidate becomes a small network and is timed in turns with the same network without it:

    image [1, 3, S, S] -> 1x1 to the candidate's channels -> the candidate, or nothing -> mean of each channel

where S is the side of the map that the candidate takes. The difference is its latency. A candidate that keeps channels
and size stands there COPIES times, since a few microseconds are hard to see. What no choice decides is timed as a whole
network without the blocks that may be left out, less its transitions.

A network's time is the least of its rounds' medians: rounds in which other programs were busy do not count.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilenext.errors import CheckFailed, UsageError
from mobilenext.evaluation.timing import ROUNDS, Timed, time_in_turns
from mobilenext.machine.cores import available_cores
from mobilenext.machine.environment import environment, processor
from mobilenext.machine.packages import installed, require_paddle
from mobilenext.machine.pool import WorkerPool, watched_scratch_folder
from mobilenext.machine.process_environment import compute_environment
from mobilenext.models import ModelCard, find_model
from mobilenext.models.block_plan import BlockPlan
from mobilenext.origin import now, origin
from mobilenext.runtime import RUNTIMES, RuntimeSpec, resolve_runtime
from mobilenext.search.cost_table import CostTable, describe_additivity

if TYPE_CHECKING:
    from mobilenext.models.network import Network

SAMPLES = 200  # calls of each network
COPIES = 4  # of a candidate with a shortcut, one after the other
CLASSES = (10, 1000)  # of the fixed part: the time of a classifier lies on a line through two numbers of classes
LEAST_MS = 1e-4  # what a candidate counts where noise makes it faster than nothing
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A small network that is timed: one candidate, or nothing, on maps of one size."""

    size: int
    plan: BlockPlan | None
    channels: int  # of the map


def measure_costs(
    runtime: str, *, model: str, image_size: int | None = None, threads: int = 1, samples: int = SAMPLES
) -> CostTable:
    """Measure the candidates of all choices of a model, the fixed part, and the whole published network.

    Args:
        runtime: a runtime, such as ``onnxruntime``.
        model: a MobileNeXt of a width, or ``model.tag``, whose identity divisor and image size count.
        image_size: pixels; None: that of the weights, or 224.
        threads: of the runtime.
        samples: calls of each network.

    Raises:
        UsageError: another model, or a runtime that runs no files. MissingDependency: a package is not installed.
    """
    card, divisor, size = _subject(model, image_size)
    if threads < 1 or threads > available_cores():
        raise UsageError(f"threads is {threads}; expected 1 to {available_cores()}, the cores of this process")
    runtime = resolve_runtime(runtime, "auto", "cpu")[0].runtime
    started, machine = now(), environment()
    with watched_scratch_folder() as folder:
        specs = _Files(folder, runtime, threads)
        with WorkerPool(1, compute_environment(1)) as single:
            groups, whole = single.call(_write_all, specs, card.name, divisor, size)
        log.info("%d networks of one candidate each, and 3 whole ones", sum(len(group) - 1 for group in groups))
        candidates: dict[tuple[int, BlockPlan], float] = {}
        for group in groups:
            names = [name for name, _ in group]
            empty, *times = _times(specs, [(name, group[0][1].size) for name in names], samples)
            for (_, part), milliseconds in zip(group[1:], times, strict=True):
                assert part.plan is not None
                of_one = (milliseconds - empty) / (COPIES if part.plan.shortcut else 1)
                candidates[part.size, part.plan] = round(max(LEAST_MS, of_one), 5)
        measured = _times(specs, [(name, size) for name in whole["names"]], samples)
    transitions = sum(candidates[key] for key in whole["smallest"])
    fixed = tuple(
        (classes, round(milliseconds - transitions, 5))
        for classes, milliseconds in zip(CLASSES, measured[:2], strict=True)
    )
    if min(milliseconds for _, milliseconds in fixed) <= 0:
        raise CheckFailed(
            "the parts take longer than the whole network: other programs keep this machine busy; measure again"
        )
    total = fixed[1][1] + sum(candidates[key] for key in whole["published"])
    published = {"classes": CLASSES[1], "measured_ms": round(measured[2], 5), "sum_ms": round(total, 5)}
    log.info("the published network: %s", describe_additivity(published["measured_ms"], published["sum_ms"]))
    return CostTable(
        model=card.name,
        identity_divisor=divisor,
        image_size=size,
        runtime=runtime,
        threads=threads,
        fixed=fixed,
        candidates=candidates,
        published=published,
        environment=machine,
        origin={"samples": samples, **origin(started)},
    )


def measure_plans(
    table: CostTable, plans: Sequence[Sequence[BlockPlan]], num_classes: int, samples: int = SAMPLES
) -> list[float]:
    """Measure whole networks as the table's parts were measured: return the milliseconds of each."""
    with watched_scratch_folder() as folder:
        specs = _Files(folder, table.runtime, table.threads)
        names = [f"plan-{number}" for number in range(len(plans))]
        with WorkerPool(1, compute_environment(1)) as single:
            single.call(
                _write_plans, specs, dict(zip(names, plans, strict=True)), num_classes, table.identity_divisor,
                table.image_size,
            )  # fmt: skip
        return _times(specs, [(name, table.image_size) for name in names], samples)


def check_runtime(table: CostTable) -> None:
    """Check, before a search begins, the runtime of its table, by which the networks found are measured at its end.

    Raises:
        UsageError: no runtime that opens files. MissingDependency: it is not installed on the machine of the table.
    """
    card = RUNTIMES.get(table.runtime)
    if card is None or card.formats == ("weights",):
        of_files = ", ".join(name for name, other in RUNTIMES.items() if other.formats != ("weights",))
        raise UsageError(f"the cost table was measured by {table.runtime!r:.60}, which is none of {of_files}")
    if table.environment["processor"] == processor()[0]:
        resolve_runtime(table.runtime, "auto", "cpu")


def not_measurable(table: CostTable) -> str:
    """Return why whole networks cannot be measured here as the table's parts were; empty where they can."""
    here, cores = processor()[0], available_cores()
    if table.environment["processor"] != here:
        return f"the cost table was measured on {table.environment['processor']:.80}, this is {here}"
    if table.threads > cores:
        return f"the cost table was measured with {table.threads} threads, this process has {cores} cores"
    card = RUNTIMES.get(table.runtime)
    if card is None or not installed(card.package):
        return f"the cost table was measured by {table.runtime:.60}, which is not installed"
    return ""


def describe_table(table: CostTable) -> str:
    """Return a sentence on what a table was measured for, and where."""
    return (
        f"costs: latencies of {table.model} at {table.image_size} pixels by {table.runtime}, threads {table.threads}, "
        f"measured on {table.environment['processor']:.80}"
    )


def _subject(model: str, image_size: int | None) -> tuple[ModelCard, int, int]:
    """Return the card of the model, its identity divisor, and the size of its images."""
    name, _, tag = model.partition(".")
    card = find_model(name)
    if card.family != "mobilenext":
        raise UsageError(f"{card.name} has no blocks to choose from; expected a MobileNeXt of a width")
    weights = next((entry for entry in card.weights if entry.tag == tag), None)
    if tag and weights is None:
        raise UsageError(f"{card.name} has no weights {tag!r}; known: {', '.join(w.tag for w in card.weights)}")
    size = weights.preprocessing.image_size if weights else card.image_size
    return card, weights.identity_divisor if weights else 1, image_size or size


@dataclass(frozen=True)
class _Files:
    """Where the networks lie, and how they are run."""

    folder: Path
    runtime: str
    threads: int

    def __post_init__(self) -> None:
        if RUNTIMES.get(self.runtime) and RUNTIMES[self.runtime].formats == ("weights",):
            raise UsageError(
                f"runtime {self.runtime} opens no files of networks; expected another, such as onnxruntime"
            )

    def spec(self, name: str) -> RuntimeSpec:
        """Return how a network is opened; its folder has the name."""
        from mobilenext.export import FORMATS

        candidate = resolve_runtime(self.runtime, "auto", "cpu")[0]
        file = FORMATS[candidate.format].file
        return RuntimeSpec(candidate.runtime, candidate.engine, "cpu", self.threads, self.folder / name, file)

    def write(self, network: Network, name: str, size: int) -> None:
        """Write a network as the runtime opens it."""
        from mobilenext.export.folding import fold_batch_norms
        from mobilenext.export.writing import write_format

        network.eval()
        fold_batch_norms(network)
        target = self.folder / name
        target.mkdir()
        write_format(network, resolve_runtime(self.runtime, "auto", "cpu")[0].format, target, size, kept=False)


def _times(specs: _Files, networks: Sequence[tuple[str, int]], samples: int) -> list[float]:
    """Return the milliseconds of networks that are timed in turns."""
    timed = [Timed(specs.spec(name), 1, size) for name, size in networks]
    rounds = [np.reshape(timing.seconds, (ROUNDS, -1)) for timing in time_in_turns(timed, samples)]  # [rounds, calls]
    return [1000 * float(np.median(seconds, axis=1).min()) for seconds in rounds]


# In a process with Paddle.


def _write_all(
    specs: _Files, model: str, identity_divisor: int, image_size: int
) -> tuple[list[list[tuple[str, Part]]], Mapping[str, Any]]:
    """Write all networks; return the parts that are timed together, an empty one first, and of the whole ones the names
    and the candidates in them."""
    require_paddle()
    from mobilenext.models.block_search import find_candidates
    from mobilenext.models.sandglass import plan_blocks
    from mobilenext.search.cost import block_sizes

    published = plan_blocks(find_model(model).arguments["width"])
    candidates, sides = find_candidates(published), block_sizes(published, image_size)
    parts: dict[tuple[int, int, int], dict[BlockPlan, None]] = {}
    for place in candidates:
        block = published[place.block]
        group = parts.setdefault((sides[place.block], block.in_channels, block.stride), {})
        group.update(dict.fromkeys(plan for plan in place.plans if plan is not None))
    groups = []
    for number, ((size, channels, _), plans) in enumerate(parts.items()):
        rows = [Part(size, plan, channels) for plan in (None, *plans)]
        groups.append([(f"part-{number}-{place}", row) for place, row in enumerate(rows)])
        for name, row in groups[-1]:
            specs.write(_part_network(row, identity_divisor), name, size)
    left_out = {place.block for place in candidates if None in place.plans}
    smallest = [block for index, block in enumerate(published) if index not in left_out]
    for classes in CLASSES:
        _write_plans(specs, {f"smallest-{classes}": smallest}, classes, identity_divisor, image_size)
    _write_plans(specs, {"published": published}, CLASSES[1], identity_divisor, image_size)
    of_published = [(sides[place.block], published[place.block]) for place in candidates]
    of_smallest = [key for key, place in zip(of_published, candidates, strict=True) if place.block not in left_out]
    names = [*(f"smallest-{classes}" for classes in CLASSES), "published"]
    return groups, {"names": names, "smallest": of_smallest, "published": of_published}


def _write_plans(
    specs: _Files, plans: Mapping[str, Sequence[BlockPlan]], num_classes: int, identity_divisor: int, image_size: int
) -> None:
    from mobilenext.models.sandglass import MobileNeXt

    for name, plan in plans.items():
        network = MobileNeXt(plan=plan, num_classes=num_classes, identity_divisor=identity_divisor)
        specs.write(network, name, image_size)


def _part_network(part: Part, identity_divisor: int) -> Network:
    """Build the small network of a part."""
    import paddle
    from paddle import nn

    from mobilenext.models.network import Network
    from mobilenext.models.sandglass import Sandglass

    class PartNetwork(Network):
        def __init__(self) -> None:
            super().__init__()
            self.entry = nn.Conv2D(3, part.channels, 1)
            plans = [] if part.plan is None else [part.plan] * (COPIES if part.plan.shortcut else 1)
            self.copies = nn.Sequential(*(Sandglass(plan, identity_divisor) for plan in plans))

        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            return self.copies(self.entry(x)).mean(axis=[2, 3])

    return PartNetwork()
