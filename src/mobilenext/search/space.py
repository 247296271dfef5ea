"""What the engine of a search must know about the space that is searched: nothing but this protocol.

A space gives a super-network, whose ``alphas`` say how much of each candidate it has; the expected cost as a function
of the alphas; the architecture that they stand for; and random architectures of the same space. The engine changes
weights and alphas by gradients, and knows no operator and no block. Nothing here imports Paddle.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mobilenext.arrays import Floats
from mobilenext.machine.packages import require_paddle
from mobilenext.models.architecture import Architecture

if TYPE_CHECKING:
    import paddle

    from mobilenext.models.network import Network
    from mobilenext.search.recipes import SearchRecipe


@dataclass(frozen=True)
class SpaceRequest:
    """What a space is made from: all of it is in ``run.json`` and beside it, so that a resumed run has the same."""

    recipe: SearchRecipe  # with the fields of the space, such as operators, channels, cells, cost_measure, budget
    num_classes: int
    image_size: int  # pixels, of the images of the search
    seed: int
    data_digest: str  # of the images that are searched on
    model: str  # of run.json: the model that is searched over; `SUPER_NETWORK` of a space without one
    identity_divisor: int = 1
    first_weights: Mapping[str, Any] = field(default_factory=dict)  # of run.json; empty where the search has none
    cost_table: Mapping[str, Any] | None = None  # measured latencies, from the file that run.json has the digest of


@dataclass(frozen=True)
class Summary:
    """What is shown of an architecture, each epoch and at the end."""

    parameters: int  # trainable values of the final network, without an auxiliary head
    mult_adds: int  # of the final network, convolutions and the linear layer
    counts: Mapping[str, int] = field(default_factory=dict)  # of candidates, such as skip, pool, sandglass
    cost: float | None = None  # in the unit of the recipe's `cost_measure`, where that is neither of the two above
    warning: str = ""  # such as two skip connections in the normal cell; empty where there is none
    collapsed: int = 0  # skip connections that speak for a collapse; a run may stop at some number of them


class Space(Protocol):
    """The architectures that one search chooses from, and its super-network.

    Everything about alphas goes by name: ``{"alphas_normal": [14, 8], "alphas_reduce": [14, 8]}``, for one. A row
    belongs to one choice, and its softmax says how likely each candidate is.
    """

    unit: str  # of `expected_cost` and of budgets, for people, such as "M parameters", "M mult-adds" or "ms"
    beginning: str  # what the alphas stand for before their first step, for people

    def network(self, weights: Path | None = None) -> Network:
        """Return the super-network in training mode, with first weights.

        It has a property ``alphas``, from names to those of its parameters that are changed by the second optimizer;
        all other parameters are weights. It takes images [N, 3, S, S] and returns logits [N, classes]. A network that
        samples candidates has a method ``draw(random)``, which the engine calls before every pass with a NumPy
        generator that is the same in all processes; what was drawn holds until the next call.

        Args:
            weights: a file that the search begins with; None: freshly initialized.

        Raises:
            WeightsError: weights that do not fit the space.
        """

    def expected_cost(self, alphas: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        """Return the expected cost of the architecture in `unit`: a number, differentiable by the alphas."""

    def discretize(self, alphas: Mapping[str, Floats], budget: float | None = None) -> Architecture:
        """Return the architecture that these alphas stand for; with `budget`, in `unit`, the likeliest up to that cost.

        It carries its operators, the seed, the digests and the numbers of its summary.

        Raises:
            UsageError: no architecture is that cheap.
        """

    def random(self, generator: np.random.Generator, like: Architecture | None = None) -> Architecture:
        """Return a random architecture of the space.

        `like` is the architecture that was found; where costs differ much it has nearly the same cost.
        """

    def summary(self, architecture: Architecture) -> Summary:
        """Return the size of the final network, and what is shown of it. It is called every epoch, so it is quick."""

    def budgets(self) -> Sequence[float | None]:
        """Return the budgets, in `unit`, of the architectures that a run writes; (None,) where there is none."""

    # What a space may have, and otherwise inherits.

    def describe(self) -> str:
        """Return how large the space is, for the log; empty where nobody has to be told."""
        return ""

    def first_weights(self, network: Network) -> Mapping[str, Floats]:
        """Return those first weights of a fresh super-network that found networks begin with, for the checkpoint."""
        del network
        return {}

    def initial_network(
        self, first: Mapping[str, Floats], alphas: Mapping[str, Floats], budget: float | None = None
    ) -> Network | None:
        """Return the network of `discretize` with what `first_weights` have of it; None where there are none."""
        del first, alphas, budget
        return None

    def in_use(self, network: Network, architecture: Architecture) -> contextlib.AbstractContextManager[None] | None:
        """Let the super-network compute one architecture inside, in evaluation mode; None where it cannot."""
        del network, architecture
        return None

    def measured(self, architectures: Sequence[Architecture]) -> Sequence[Mapping[str, float]]:
        """Return what was measured of whole networks, for each, where a cost was measured on their parts."""
        del architectures
        return ()


SUPER_NETWORK = "super_network"  # the model, in run.json, of a search that no model of the cards begins

# By name: "module:class", whose instance is made of a `SpaceRequest`; imported when it is needed.
_SPACES: dict[str, str] = {
    "cell": "mobilenext.search.cell:CellSpace",
    "blocks": "mobilenext.search.blocks:BlocksSpace",
}


def make_space(request: SpaceRequest) -> Space:
    """Return the space of a recipe.

    Raises:
        UsageError: an operator or a model that the space does not have, or a size that no network of it has.
        MissingDependency: Paddle is not installed.
    """
    require_paddle()
    module, _, name = _SPACES[request.recipe.space].partition(":")
    space: Callable[[SpaceRequest], Space] = getattr(importlib.import_module(module), name)
    return space(request)
