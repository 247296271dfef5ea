"""The variants of MobileNeXt's block by name, with their sizes; models/variants.py says what they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Sizes = tuple[int, int, int]  # parameters, mult-adds of convolutions and linear, the same with batch norm

_SIZES: dict[str, tuple[Sizes, Sizes]] = {  # of the widths 0.35 and 1.0
    "rm_3x3": ((1_887_752, 71_538_944, 74_198_664), (3_460_440, 300_843_264, 307_740_112)),
    "more_1x1": ((1_981_496, 82_134_312, 85_412_216), (3_722_936, 334_335_744, 342_823_328)),
    "se_hidden": ((2_049_176, 75_273_000, 78_334_568), (3_911_032, 311_711_744, 319_778_416)),
    "thin_shortcut": ((1_913_976, 75_141_032, 78_200_984), (3_535_416, 311_342_592, 319_406_032)),
    "two_depthwise": ((1_862_056, 61_481_792, 63_339_088), (3_399_016, 246_131_040, 250_357_584)),
    "classic_bottleneck": ((1_854_224, 58_701_728, 60_250_128), (3_383_704, 240_690_864, 244_312_944)),
    "thin_depthwise": ((1_659_264, 64_203_840, 66_820_048), (3_456_120, 345_311_744, 351_379_904)),
}


def variants() -> Iterator[tuple[str, dict[str, Any], Sizes]]:
    """Return the name of each model, the arguments of ``build_variant``, and its sizes."""
    for variant, (narrow, full) in _SIZES.items():
        for text, width, sizes in (("x0_35", 0.35, narrow), ("x1_0", 1.0, full)):
            yield f"mobilenext_{variant}_{text}", {"variant": variant, "width": width}, sizes
