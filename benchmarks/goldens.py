"""How far the networks are from PyTorch's recorded logits, and how much of that is rounding.

    python benchmarks/goldens.py [-o results/goldens.json]

For every recording in tests/goldens: the largest difference of a logit, as a part of the recorded logits' standard
deviation, of Paddle in float32 and in float64 (exact, for this purpose), and between the two.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from mobilenext.machine.environment import environment
from mobilenext.origin import origin

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from golden import GOLDENS, computed_logits, recording


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("results/goldens.json"))
    options = parser.parse_args()
    rows = []
    for name in sorted(path.stem for path in GOLDENS.glob("*.npz")):
        logits = recording(name)[1]
        single, double = computed_logits(name)
        divisor = int(name.rpartition("_div")[2]) if "_div" in name else 1
        row = {"recording": name, "identity_divisor": divisor}
        for key, left, right in (
            ("float32_difference", single, logits),
            ("float64_difference", double, logits),
            ("rounding", single, double),
        ):
            row[key] = float(np.abs(left - right).max() / logits.std())
        rows.append(row)
        print(row)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"rows": rows, **origin(), "environment": environment()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
