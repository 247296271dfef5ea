"""The steps of a search: one of the alphas, then one of the weights on the same training batch.

Beside the feeder of the loop, which feeds the half of the weights, there is one of the other half: each step of the
alphas draws a fresh random batch of it.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import paddle
from paddle import nn

from mobilenext.arrays import Floats
from mobilenext.job import Batch, EpochReport, Parts, Setup, Stepper
from mobilenext.models.architecture import Architecture
from mobilenext.runs.run_folder import ARCHITECTURE
from mobilenext.search.architect import PASSES, Architect, frozen
from mobilenext.search.initial import initial_weights
from mobilenext.search.job import SearchJob
from mobilenext.search.recipes import SearchRecipe
from mobilenext.search.report import architecture_lines, beside_random, fields_of
from mobilenext.seeds import generator
from mobilenext.training.feeding import Feeder
from mobilenext.training.optimization import Arrays
from mobilenext.training.stepper import GradientStep

log = logging.getLogger(__name__)

OTHER_SEED = 1 << 32  # is added to the run's seed for order and augmentation of the other half
DRAW = 16  # purpose of the generators of what a super-network samples, beside those of classification
_DIGITS = 6  # of the alphas in the log


class SearchStep(Stepper):
    """Changes alphas and weights in turn; see `mobilenext.job.Stepper`."""

    def __init__(self, setup: Setup, network: nn.Layer, parts: Parts) -> None:
        """Prepare to search: `network` is the super-network of the job's space."""
        recipe, job = setup.recipe, setup.job
        assert isinstance(recipe, SearchRecipe)
        assert isinstance(job, SearchJob)
        self._setup, self._recipe, self._network = setup, recipe, network
        self._job, self._space = job, job.space
        self._alphas: dict[str, paddle.Tensor] = network.alphas
        own = {id(alphas) for alphas in self._alphas.values()}
        weights = [value for value in network.parameters() if id(value) not in own and not value.stop_gradient]
        self._descent = GradientStep(setup, network, weights)
        self._architect = Architect(setup, network, self._descent, weights, self._alphas, self._regularization)
        feed = dataclasses.replace(setup.feed, seed=setup.feed.seed + OTHER_SEED)
        self._feeder = Feeder(parts.val.records, job, feed, setup.pool)
        self._steps = len(parts.train.records) // recipe.batch_size  # of an epoch
        self._first = min(round(recipe.alpha_warmup * recipe.epochs), recipe.epochs - 1) * self._steps
        self._last = recipe.total_steps(self._steps)
        self._batches: Iterator[Batch] | None = None  # of the other half, from the step that the process began with
        self._alpha_steps = 0
        self.done = False
        self._first_weights = self._space.first_weights(network)
        if size := self._space.describe():
            log.info("the space: %s", size)

    def __call__(self, batch: Batch, global_step: int, rate: float) -> list[paddle.Tensor]:
        if global_step >= self._first:
            if self._batches is None:
                self._batches = self._feeder.draws(global_step, self._last)
            self._draw(global_step, 0)
            self._architect.step(batch, next(self._batches), rate, global_step // self._steps)
            self._alpha_steps += 1
        self._draw(global_step, 1)
        with frozen(list(self._alphas.values())):
            return self._descent(batch, global_step, rate)

    def _draw(self, global_step: int, number: int) -> None:
        """Let a super-network that samples choose its candidates: in all processes the same."""
        seed = self._setup.feed.seed
        # Dropout, too, depends on where the run stands. The passes of the weights have seeds of their own.
        paddle.seed((seed << 40) + (global_step << 8) + 128 + self._setup.ranks.rank)
        if hasattr(self._network, "draw"):
            self._network.draw(generator(seed, global_step, number, DRAW))

    def _regularization(self, alphas: Mapping[str, paddle.Tensor], epoch: int) -> paddle.Tensor | None:
        """Return the terms of the loss that depend on the alphas alone.

        That of beta-DARTS (Ye et al., CVPR 2022) keeps the softmax flat while the weights are young: the mean over all
        rows of log(sum of exp(alpha)). That of the cost is 0 within the budget.
        """
        recipe, terms = self._recipe, []
        if recipe.beta and epoch:
            rows = paddle.concat([paddle.logsumexp(table, axis=-1).reshape([-1]) for table in alphas.values()])
            terms.append(recipe.beta * epoch * rows.mean())
        if recipe.cost_weight:
            excess = self._space.expected_cost(alphas) / recipe.budget[0] - 1
            terms.append(recipe.cost_weight * paddle.clip(excess, min=0.0).astype("float32"))
        return paddle.add_n(terms) if terms else None

    # The checkpoint.

    def parts(self) -> Mapping[str, Arrays]:
        # The number of steps is always there, so that the part is not empty while the alphas wait.
        alphas = {"steps": _as_array(self._alpha_steps), **self._architect.state()}
        first = {"first_weights": self._first_weights} if self._first_weights else {}
        return {**self._descent.parts(), "alphas": alphas, **first}

    def values(self) -> dict[str, Any] | None:
        return {"done": self.done}

    def restore(self, parts: Mapping[str, Arrays], values: Mapping[str, Any] | None) -> None:
        self._descent.restore(parts, None)
        own = dict(parts["alphas"])
        self._alpha_steps = int(own.pop("steps")[0])
        self._architect.restore(own)
        self._first_weights = parts.get("first_weights", {})
        self.done = bool((values or {}).get("done"))

    # What the run says.

    def passes(self, first: int, last: int) -> float:
        searched = max(0, last - max(first, self._first))
        return last - first + searched * PASSES[self._recipe.order]

    def finish_epoch(self, epoch: int) -> EpochReport:
        tables = self._tables()
        architecture = self._space.discretize(tables, self._space.budgets()[0])
        summary = self._space.summary(architecture)
        with paddle.no_grad():
            cost = float(self._space.expected_cost(self._alphas).item())
        if not self._alpha_steps:  # they are random, and say nothing
            summary = dataclasses.replace(summary, warning="", collapsed=0)
        lines = architecture_lines(summary, cost, self._space.unit)
        if not self._alpha_steps:
            lines.append(f"the alphas wait (alpha_warmup): this architecture is that of {self._space.beginning}")
        if self._recipe.stop_at_skips and summary.collapsed >= self._recipe.stop_at_skips:
            self.done = True
            lines.append(f"stopped early: {summary.collapsed} skip connections (stop_at_skips)")
        rounded = {name: table.round(_DIGITS).tolist() for name, table in tables.items()}
        fields = {**fields_of(architecture, summary), "expected_cost": cost, "alphas": rounded}
        return EpochReport({"search": fields}, lines)

    def files(self) -> Mapping[str, bytes]:
        files: dict[str, bytes] = {}
        for budget, architecture in self._architectures().items():
            content = f"{json.dumps(architecture.to_dict(), indent=2, ensure_ascii=False)}\n".encode()
            files.setdefault(ARCHITECTURE, content)
            if budget is not None:
                files[f"architecture_{budget:g}.json"] = content
            network = self._space.initial_network(self._first_weights, self._tables(), budget)
            if network is not None:
                name = "initial.safetensors" if budget is None else f"initial_{budget:g}.safetensors"
                files[name] = initial_weights(
                    network, architecture, num_classes=self._job.num_classes, preprocessing=self._job.preprocessing,
                    labels=self._job.labels,
                )  # fmt: skip
        return files

    def result(self, evaluate: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        def top1_percent(architecture: Architecture) -> float | None:
            alone = self._space.in_use(self._network, architecture)
            if alone is None:
                return None
            with alone:
                return float(evaluate()["top1_percent"])

        architectures = self._architectures()
        # One process measures: several at a time would slow each other down.
        measured = self._space.measured(list(architectures.values())) if self._setup.ranks.first else ()
        fields = beside_random(self._space, architectures, self._setup.feed.seed, top1_percent, measured)
        return {"search": fields}

    def _architectures(self) -> dict[float | None, Architecture]:
        tables = self._tables()
        return {budget: self._space.discretize(tables, budget) for budget in self._space.budgets()}

    def _tables(self) -> dict[str, Floats]:
        return {name: alphas.numpy() for name, alphas in self._alphas.items()}


def _as_array(number: int) -> Floats:
    """Return a number as checkpoints hold it; float32 is exact up to 2**24 steps."""
    import numpy as np

    return np.array([number], np.float32)
