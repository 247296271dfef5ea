"""What a search computes: a classification, whose weights carry the architecture that was found so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mobilenext.classification.training import ClassificationJob
from mobilenext.search.space import Space

if TYPE_CHECKING:
    from paddle import nn


class SearchJob(ClassificationJob):
    """What one search computes; the weights carry the architecture that was found so far."""

    def __init__(self, space: Space, classification: ClassificationJob) -> None:
        """Make the job of `classification` one of a search of `space`."""
        self.__dict__.update(classification.__dict__)
        self.space = space

    def weights_fields(self, network: nn.Layer) -> Mapping[str, Any]:
        tables = {name: alphas.numpy() for name, alphas in network.alphas.items()}
        architecture = self.space.discretize(tables, self.space.budgets()[0])
        return {**super().weights_fields(network), "architecture": architecture.to_dict()}
