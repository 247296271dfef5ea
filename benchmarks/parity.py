"""Hold a converted checkpoint against the logits that PyTorch recorded for the same images.

    python benchmarks/parity.py CHECKPOINT DATA LOGITS.npz [-o results/tiny20_parity.json] [--image-size 64]
                                [--runtime mnn]   # the rows of the others stay as they are in the file

LOGITS.npz has the arrays `raw` and `ema`, [images, classes], in the order of DATA's val_list.txt. For both sets of
weights and every runtime: the largest difference of a logit, whether all predictions are equal, and the counts. Exit
code 1 when a difference is above 1e-4 of the logits' standard deviation or a prediction differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mobilenext.classification.metrics import ranked
from mobilenext.data import open_dataset, read_image
from mobilenext.machine.environment import environment
from mobilenext.origin import origin
from mobilenext.runtime import RUNTIMES, open_runtime
from mobilenext.sources.choice import Choice
from mobilenext.sources.prepare import prepare_weights
from mobilenext.weights.read import read_weights

ALLOWED = 1e-4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("logits", type=Path)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, default=Path("results/tiny20_parity.json"))
    parser.add_argument("--runtime", choices=list(RUNTIMES), nargs="+", default=list(RUNTIMES))
    options = parser.parse_args()
    recorded = np.load(options.logits)
    dataset = open_dataset(options.data)
    labels = np.array([record.label for record in dataset.records])
    rows: list[dict[str, Any]] = []
    for kind in ("raw", "ema"):
        overrides = {"image_size": options.image_size, "crop_pct": 1.0}
        weights = read_weights(options.checkpoint, use=kind, preprocessing=overrides)
        images = np.stack([weights.preprocessing(read_image(record.path)) for record in dataset.records])
        expected = recorded[kind]
        cards = [RUNTIMES[name] for name in options.runtime]
        for runtime, engine in ((card.name, engine) for card in cards for engine in card.engines):
            with tempfile.TemporaryDirectory() as folder:
                spec = prepare_weights(weights, Path(folder), Choice(runtime, engine or "auto")).spec
                network = open_runtime(spec)
                logits = np.concatenate([network.predict(images[i : i + 50])[0] for i in range(0, len(images), 50)])
            best = ranked(logits)
            rows.append(
                {
                    "weights": kind,
                    "runtime": spec.describe(),
                    "images": len(images),
                    "largest_difference": float(np.abs(logits - expected).max()),
                    "largest_difference_of_std": float(np.abs(logits - expected).max() / expected.std()),
                    "equal_predictions": int((best[:, 0] == ranked(expected)[:, 0]).sum()),
                    "correct_top1": int((best[:, 0] == labels).sum()),
                    "correct_top5": int((best == labels[:, None]).any(axis=1).sum()),
                    "pytorch_correct_top1": int((ranked(expected)[:, 0] == labels).sum()),
                    "pytorch_correct_top5": int((ranked(expected) == labels[:, None]).any(axis=1).sum()),
                }
            )
            print(rows[-1])
    result: dict[str, Any] = {
        "checkpoint": {"name": options.checkpoint.name, "sha256": weights.sha256, "model": weights.model},
        "data": {"folder": options.data.name, "sha256": dataset.digest()},
        "preprocessing": weights.preprocessing.to_dict(),
        "rows": rows,
        **origin(),
        "environment": environment(),
    }
    if len(options.runtime) < len(RUNTIMES):
        result["rows"] = with_rows_of_others(json.loads(options.output.read_text()), result)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    good = all(row["largest_difference_of_std"] <= ALLOWED and row["equal_predictions"] == len(labels) for row in rows)
    return 0 if good else 1


def with_rows_of_others(earlier: dict[str, Any], result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of both results, those of the same weights together; a runtime that was measured again is new."""
    for field in ("checkpoint", "data", "preprocessing"):
        if earlier[field] != result[field]:
            sys.exit(f"the file has another {field}: {earlier[field]}")
    measured = {row["runtime"] for row in result["rows"]}
    rows = [row for row in earlier["rows"] if row["runtime"] not in measured] + result["rows"]
    return sorted(rows, key=lambda row: ("raw", "ema").index(row["weights"]))


if __name__ == "__main__":
    sys.exit(main())
