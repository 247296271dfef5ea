"""What spoke for a wrong answer: heat maps as data that stands in the page itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilenext.data import Preprocessing, pixels_of
from mobilenext.errors import ImageError, UsageError
from mobilenext.files import sha256_of
from mobilenext.machine.packages import require_paddle
from mobilenext.models import MODELS
from mobilenext.report.thumbnails import as_data_uri, inside
from mobilenext.weights.pretrained import locate
from mobilenext.weights.read import with_suffix

if TYPE_CHECKING:
    from mobilenext.explanation.gradcam import Explainer


class HeatMaps:
    """Heat maps of the networks whose weights are given, on the images of one folder."""

    def __init__(self, folder: Path | None, weights: Sequence[str | os.PathLike[str]]) -> None:
        """Find the weights.

        Args:
            folder: of the images.
            weights: files, or ``model.tag``; each belongs to the evaluations that used it.

        Raises:
            UsageError: weights without a folder. MissingDependency: there is no Paddle. Else as ``locate``.
        """
        if weights and folder is None:
            raise UsageError("--weights is for heat maps of the images; give their folder as well: --data FOLDER")
        if weights:
            require_paddle()
        self._folder = folder
        files = [with_suffix(locate(None, os.fspath(name))) for name in weights]
        self._files = {sha256_of(file): file for file in files}
        self._explainers: dict[tuple[str | None, ...], tuple[Explainer, Preprocessing]] = {}

    @property
    def wanted(self) -> bool:
        """Return whether any weights were given."""
        return bool(self._files)

    def check(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Raise UsageError for weights that none of these evaluations used."""
        used = {result["weights"]["sha256"] for result in results}
        for digest, file in self._files.items():
            if digest not in used:
                raise UsageError(f"--weights {file}: none of the evaluations was made with these weights")

    def of(self, result: Mapping[str, Any], name: str, answer: int) -> str | None:
        """Return a data URI of the crop of an image under the heat of an answer; None without weights or image."""
        if self._folder is None or result["weights"]["sha256"] not in self._files:
            return None
        from mobilenext.explanation.overlay import overlay

        explainer, preprocessing = self._explainer(result)
        try:
            pixels = pixels_of(inside(self._folder, name), preprocessing)  # [S, S, 3], not turned, as it was evaluated
        except (ImageError, OSError, ValueError):
            return None  # the thumbnails count it
        return as_data_uri(overlay(pixels, explainer.explain(pixels, answer).heat))

    def _explainer(self, result: Mapping[str, Any]) -> tuple[Explainer, Preprocessing]:
        from mobilenext.explanation.gradcam import Explainer
        from mobilenext.weights.load import network_of
        from mobilenext.weights.read import read_weights

        digest, kind, section = (result["weights"].get(name) for name in ("sha256", "kind", "section"))
        key = (digest, kind, section)  # a file may hold several weights
        if key not in self._explainers:
            preprocessing = Preprocessing.from_dict(result["preprocessing"])
            weights = read_weights(
                self._files[digest],
                # Only the weights themselves describe a network that a search has found.
                model=result["model"] if result["model"] in MODELS else None,
                use=kind,
                section=section or None,
                identity_divisor=result.get("identity_divisor"),
            )
            self._explainers[key] = Explainer(network_of(weights), preprocessing), preprocessing
        return self._explainers[key]
