"""The published networks of cells by name, with their sizes and errors; models/cell.py says what they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mobilenext.models.architecture_fields import CELL_FORMS

Sizes = tuple[int, int, int]  # parameters, mult-adds of convolutions and linear, the same with batch norm

# The genotype, the form, the sizes without the auxiliary head, and the test error as it is printed in the READMEs of
# quark0/darts (darts_v2) and yuhuixu1993/PC-DARTS (the others).
_NETWORKS: dict[str, tuple[str, str, Sizes, str]] = {
    "darts_v1_cifar": ("darts_v1", "cifar", (3_169_414, 500_987_520, 505_964_160), "3.00 % on CIFAR-10"),
    "darts_v2_cifar": ("darts_v2", "cifar", (3_349_342, 528_359_040, 533_722_752), "2.76 ± 0.09 % on CIFAR-10"),
    "pc_darts_cifar": ("pc_darts_cifar", "cifar", (3_634_678, 556_670_592, 562_034_304), "2.57 % on CIFAR-10"),
    "darts_v2_imagenet": (
        "darts_v2",
        "imagenet",
        (4_718_752, 529_911_552, 534_051_072),
        "26.7 % top-1, 8.7 % top-5 on ImageNet",
    ),
}


def cell_networks() -> Iterator[tuple[str, dict[str, Any], Sizes, str]]:
    """Return the name of each model, how it is built, its sizes and its published error."""
    for name, (genotype, form, sizes, error) in _NETWORKS.items():
        channels, cells = CELL_FORMS[form]
        yield name, {"genotype": genotype, "form": form, "channels": channels, "cells": cells}, sizes, error
