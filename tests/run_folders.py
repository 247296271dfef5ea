"""Folders of training runs that never happened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

EPOCHS, STEPS = 3, 4


def counts(correct: int) -> dict[str, Any]:
    return {"images": 200, "correct_top1": correct, "correct_top5": 200, "top1_percent": correct / 2, "loss": 1.0}


def a_run(folder: Path, correct: int = 100, *, done: int = EPOCHS, ema: int | None = None, **changes: Any) -> Path:
    """A run folder whose final top-1 is `correct` of 200; one image fewer for each epoch before the last."""
    folder.mkdir(parents=True)
    # What tells no setup from another: no two runs have it alike.
    recipe = {"name": "tiny", "lr": 0.1, "expected": f"as in {folder}"} | changes.pop("recipe", {})
    data = {"folder": "flowers", "train_images": 64, "train_sha256": "a" * 64, "val_sha256": "b" * 64}
    config = {
        "model": "mobilenext_x0_35",
        "recipe": recipe,
        "seed": 0,
        "identity_divisor": 1,
        "num_classes": 20,
        "data": data | changes.pop("data", {}),
        "steps_per_epoch": STEPS,
        "epochs": EPOCHS,
        "parameters": 1000,
        "started": f"2026-01-01T00:00:00Z, {folder}",
        "command": f"mobilenext train flowers -o {folder}",
        "environment": {"load_average": [len(str(folder)), id(folder)]},
        **changes,
    }
    (folder / "run.json").write_text(json.dumps(config, indent=1))
    rows: list[dict[str, Any]] = []
    for epoch in range(1, done + 1):
        start = (epoch - 1) * STEPS
        for step in range(start + 1, start + STEPS + 1):
            rows.append({"event": "step", "epoch": epoch, "global_step": step, "loss": 3 - step / 8, "lr": 0.1 / step})
        evaluated = {"raw": counts(correct - EPOCHS + epoch)} | ({"ema": counts(ema)} if ema is not None else {})
        rows.append(
            {"event": "epoch", "epoch": epoch, "global_step": start + STEPS, "lr": 0.1, "train_loss": 3 / epoch}
        )
        rows[-1] |= {"seconds": 900.0, "images_per_second": 50.0, "val": None if epoch == 2 else evaluated}
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if done == EPOCHS:
        final = {"raw": counts(correct), "ema": None if ema is None else counts(ema)}
        result = {"best": {"epoch": 3, "kind": "raw", **counts(correct)}, "final": final}
        result |= {"images_per_second": 55.5, "train_seconds": 5400.0}
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def two_groups(folder: Path) -> list[Path]:
    """Final top-1 of 35, 36, 37 % with divisor 1 and 30, 31, 32 % with divisor 2."""
    return [
        a_run(folder / f"div{divisor}-{seed}", base + 2 * seed, seed=seed, identity_divisor=divisor, ema=90)
        for divisor, base in ((1, 70), (2, 60))
        for seed in range(3)
    ]
