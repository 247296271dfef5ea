"""The experiments on architecture search, on the sandglass block and on its variants: one list of runs.

python scripts/search_experiments.py --tiny20 TINY20 --cifar10 CIFAR10 --runs runs/experiments

Start the command once for each core. Each process takes the first run of the list that is neither finished nor taken;
a run that was interrupted goes on. The results are written after each run; one whose row is there is not made again.
The order of the list:

1. MobileNeXt and MobileNetV2, five seeds each (`experiments.pairs`)
2. sandglasses in the published cells of DARTS (`experiments.swap`)
3. searches for cells, four of each list of operators (`experiments.cells`)
4. a search over the blocks of a MobileNeXt by latency (`experiments.blocks`)
5. the variants of the block (`experiments.pairs`)
6. four more searches of each list, and 7. the training of the cells found (`experiments.cells`)
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from experiments.blocks import Blocks
from experiments.cells import Cells
from experiments.pairs import Pairs
from experiments.runs import carry_out
from experiments.swap import Swap
from mobilenext.errors import MobileNeXtError

EXPERIMENTS = {  # by name: the class, the data, and the file of results
    "pairs": (Pairs, "tiny20", "tiny20_pairs.json"),
    "swap": (Swap, "cifar10", "search_swap.json"),
    "cells": (Cells, "cifar10", "search_cells.json"),
    "blocks": (Blocks, "tiny20", "search_blocks.json"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny20", type=Path, help="20 classes of Tiny-ImageNet: imgs/ and two lists")
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 as JPEG: imgs/ and two lists")
    parser.add_argument("--runs", type=Path, default=Path("runs/experiments"), help="folder of the runs")
    parser.add_argument("--only", metavar="NAME,...", default="", help=f"of {', '.join(EXPERIMENTS)} (default: all)")
    parser.add_argument("--output", type=Path, default=Path("results"), help="folder of the results (default: results)")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name] or list(EXPERIMENTS)
    if unknown := [name for name in names if name not in EXPERIMENTS]:
        parser.error(f"there is no experiment {unknown[0]}; expected {', '.join(EXPERIMENTS)}")
    if missing := {f"--{EXPERIMENTS[name][1]}" for name in names if getattr(options, EXPERIMENTS[name][1]) is None}:
        parser.error(f"expected {' and '.join(sorted(missing))} for {', '.join(names)}")
    experiments = [
        experiment(getattr(options, data), options.runs / name, options.output / file)
        for name, (experiment, data, file) in EXPERIMENTS.items()
        if name in names
    ]
    try:
        failed = carry_out(experiments)
    except MobileNeXtError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for experiment in experiments:
        print(f"{len(experiment.rows())} of {len(experiment.runs)} runs are finished: {experiment.output}")
    if failed:
        print("\n".join(["failed:", *failed]), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
