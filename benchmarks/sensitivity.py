"""How much an exchanged link of the preprocessing moves the accuracy of one checkpoint.

python benchmarks/sensitivity.py CHECKPOINT DATA [--image-size 64] [-o results/sensitivity.json]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from mobilenext import evaluate
from mobilenext.machine.environment import environment
from mobilenext.origin import origin

CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("as trained", {}),
    ("crop_pct 0.875 instead of 1", {"crop_pct": 0.875}),
    ("the same, bilinear", {"crop_pct": 0.875, "interpolation": "bilinear"}),
    ("the same, nearest", {"crop_pct": 0.875, "interpolation": "nearest"}),
    ("mean and std of 0.5", {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}),
    ("no normalisation", {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}),
    ("image size 96 instead of 64", {"image_size": 96}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, default=Path("results/sensitivity.json"))
    options = parser.parse_args()
    rows = []
    for name, change in CHANGES:
        preprocessing = {"image_size": options.image_size, "crop_pct": 1.0, **change}
        result = evaluate(options.data, weights=options.checkpoint, preprocessing=preprocessing)
        keys = ("images", "correct_top1", "correct_top5", "top1_percent", "top5_percent", "preprocessing")
        rows.append({"change": name, **{key: result[key] for key in keys}})
        print(rows[-1])
    checkpoint = {"name": options.checkpoint.name, "sha256": result["weights_sha256"]}
    content = {"checkpoint": checkpoint, "rows": rows, **origin(), "environment": environment()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
