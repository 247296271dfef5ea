"""The images of a page: thumbnails, and heat maps where the weights are given."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from mobilenext.presentation import MOST_PICTURES
from mobilenext.report.heat_maps import HeatMaps
from mobilenext.report.thumbnails import SIDE, Thumbnails


class Images:
    """The images of one folder, as the sections of a task ask for them (`mobilenext.presentation.PageImages`)."""

    def __init__(
        self,
        folder: Path | None,
        weights: Sequence[str | os.PathLike[str]] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Prepare to read the images.

        Args:
            folder: of the images; without it there are no pictures.
            weights: files, or ``model.tag``, for heat maps.
            progress: called with the number of pictures that are asked for, and of those that are expected.

        Raises:
            As `Thumbnails` and `HeatMaps`.
        """
        self._thumbnails, self._heat_maps = Thumbnails(folder), HeatMaps(folder, weights)
        self._progress, self._asked, self._expected = progress, 0, 0
        self.check, self.check_weights = self._thumbnails.check, self._heat_maps.check

    def expect(self, evaluations: int) -> None:
        """Expect the pictures of so many evaluations: each shows up to `MOST_PICTURES` of its worst images."""
        self._expected = MOST_PICTURES * evaluations

    @property
    def folder(self) -> Path | None:
        """Return the folder of the images."""
        return self._thumbnails.folder

    @property
    def missing(self) -> Sequence[str]:
        """Return the names of the images that could not be read."""
        return self._thumbnails.missing

    @property
    def explained(self) -> bool:
        """Return whether weights for heat maps were given."""
        return self._heat_maps.wanted

    def thumbnail(
        self, path: str, draw: Callable[[Image], Image] | None = None, *, side: int | None = None
    ) -> str | None:
        """Return a data URI of an image of at most `side` pixels, with what `draw` adds to it."""
        if self._progress and self.folder is not None and self._asked < self._expected:
            self._progress(self._asked, self._expected)
            self._asked += 1
        return self._thumbnails.of(path, draw, side or SIDE)

    def heat_map(self, result: Mapping[str, Any], path: str, answer: int) -> str | None:
        """Return a data URI of the crop of an image under the heat of an answer."""
        return self._heat_maps.of(result, path, answer)
