"""What a data set holds, in numbers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

from mobilenext.data.records import LabelledDataset


@dataclass(frozen=True)
class DatasetSummary:
    """What a data set holds, in numbers; `to_dict` for JSON."""

    layout: str
    images: int
    total: int  # before a limit
    classes: int  # that have images
    min_per_class: int  # over the classes that have images
    max_per_class: int
    ignored: int  # files that are no images, and what systems leave beside data
    digest: str
    warnings: tuple[str, ...]  # what a careful reader should know before trusting a score

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"warnings": list(self.warnings)}


def describe(dataset: LabelledDataset, num_classes: int | None = None) -> DatasetSummary:
    """Count images and classes; with 1000 classes, compare with ImageNet's validation set (50 images of each)."""
    per_class = Counter(record.label for record in dataset.records)
    images, fewest, most = len(dataset), min(per_class.values()), max(per_class.values())
    warnings = []
    if images < dataset.total:
        warnings.append(f"only the first {images:,} of {dataset.total:,} images are used")
    warnings += dataset.all_notes()
    if num_classes is not None and len(per_class) < num_classes:
        warnings.append(f"{num_classes - len(per_class):,} of {num_classes:,} classes have no image")
    if num_classes == 1000 and images != 50_000:
        warnings.append(f"{images:,} images; ImageNet's validation set has 50,000")
    if num_classes == 1000 and (fewest, most) != (50, 50):
        warnings.append(f"{fewest:,} to {most:,} images in a class; ImageNet's validation set has 50 in each")
    return DatasetSummary(
        layout=dataset.layout,
        images=images,
        total=dataset.total,
        classes=len(per_class),
        min_per_class=fewest,
        max_per_class=most,
        ignored=len(dataset.ignored),
        digest=dataset.digest(),
        warnings=tuple(warnings),
    )
