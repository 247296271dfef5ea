"""Draw the pictures of docs/ that show what results/ holds.

python scripts/update_pictures.py                # all
python scripts/update_pictures.py claim          # docs/claim.png only
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradient_confusion
from document_tables.results import ROOT, load
from mobilenext.report import bench_report
from mobilenext.runs.curves import write_curves
from mobilenext.runs.training_run import TrainingRun


def claim_runs(result: Mapping[str, Any]) -> list[TrainingRun]:
    """Return the runs of claim.json, which has the epochs of their logs and not the single steps."""
    runs = []
    for summary in result["comparison"]["runs"]:
        name = summary["run"]
        epochs = result["epochs"][name]
        config = {key: summary[key] for key in ("model", "identity_divisor", "seed", "epochs")}
        config |= {"recipe": result["recipe"], "steps_per_epoch": epochs[0]["global_step"]}
        runs.append(TrainingRun(Path(name), name, config, [], epochs, {"final": summary["final"]}))
    return runs


def claim(path: Path) -> None:
    write_curves(claim_runs(load("claim.json")), path)


def confusion(path: Path) -> None:
    gradient_confusion.write_plot(load("gradient_confusion.json"), path)


def latency(path: Path) -> None:
    bench_report.write_plot(load("bench_batch1.json"), path)


PICTURES: dict[str, Callable[[Path], None]] = {"claim": claim, "gradient_confusion": confusion, "latency": latency}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(PICTURES)}; all where none is named")
    options = parser.parse_args()
    if unknown := set(options.names) - set(PICTURES):
        parser.error(f"no picture is called {', '.join(sorted(unknown))}; expected {', '.join(PICTURES)}")
    for name in options.names or PICTURES:
        PICTURES[name](ROOT / "docs" / f"{name}.png")
        print(f"docs/{name}.png")


if __name__ == "__main__":
    main()
