"""MobileNeXt against MobileNetV2 with enough seeds to tell, then the variants of the block: training runs on tiny20.

Source    Zhou et al. 2020: MobileNeXt is more accurate than MobileNetV2 of the same size, and the sandglass block than
          its variants
Expected  MobileNeXt above MobileNetV2; of five pairs the interval reaches 1.2 standard deviations to either side
Cost      17 runs of about 24 minutes on one core; start the command once for each core
Command   python scripts/tiny20_pairs.py TINY20 --runs runs/pairs -o results/tiny20_pairs.json

The list, in this order: both networks at width 0.35 from seed 0, from seed 1, ... on all classes with the recipe
`tiny`, 44 epochs; then each variant from seed 0. Every process takes the first run that is neither finished nor
taken: a run is taken by a lock on a file beside it, which ends with the process. A run that was interrupted goes on
where it stopped. The results are written anew after each run, with those that are finished: every table says how many.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenext.errors import MobileNeXtError, UsageError
from mobilenext.files import write_atomically
from mobilenext.machine.environment import environment
from mobilenext.models import MODELS
from mobilenext.models.cards import VARIANT
from mobilenext.origin import origin
from mobilenext.runs.training_run import KINDS, TrainingRun, read_run
from mobilenext.statistics import paired, wilson_percent

FIRST, SECOND = "mobilenext_x0_35", "mobilenetv2_x0_35"
VARIANTS = [name for name, card in MODELS.items() if card.family == VARIANT and name.endswith("_x0_35")]


@dataclass(frozen=True)
class Planned:
    """One line of the list."""

    model: str
    seed: int
    folder: Path
    epochs: int

    def command(self, data: Path) -> list[str]:
        """Return the command that begins the run or goes on with it."""
        begin = [sys.executable, "-m", "mobilenext", "train"]
        if (self.folder / "run.json").is_file():
            return [*begin, "--resume", str(self.folder)]
        options = ["--model", self.model, "--recipe", "tiny", "--set", f"epochs={self.epochs}"]
        return [*begin, str(data), *options, "--seed", str(self.seed), "-o", str(self.folder)]

    def finished(self) -> TrainingRun | None:
        """Return the run, or None where it is not finished.

        Raises:
            UsageError: the folder holds a run of something else.
        """
        if not (self.folder / "result.json").is_file():
            return None
        run = read_run(self.folder)
        planned = (self.model, self.seed, "tiny", self.epochs)
        here = (run.config["model"], run.config["seed"], run.config["recipe"]["name"], run.config["recipe"]["epochs"])
        if here != planned:
            raise UsageError(
                f"{self.folder} holds a run of {here}, expected {planned}; name another folder with --runs"
            )
        return run


def planned_runs(folder: Path, epochs: int, seeds: int, variant_seeds: int) -> list[Planned]:
    """Return the list in its order: a seed of both networks first, so that an early end is of use."""
    pairs = [(model, seed) for seed in range(seeds) for model in (FIRST, SECOND)]
    variants = [(model, seed) for seed in range(variant_seeds) for model in VARIANTS]
    return [Planned(model, seed, folder / f"{model}_{seed}", epochs) for model, seed in (*pairs, *variants)]


@contextmanager
def taken(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a file; the value is False where another process holds it."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def run_all(data: Path, runs: Sequence[Planned], output: Path) -> list[str]:
    """Train what is neither finished nor taken; return the names of runs that failed."""
    failed = []
    for run in runs:
        with taken(run.folder.with_suffix(".lock")) as mine:
            if not mine or run.finished():
                continue
            print(f"{run.folder.name}: {run.epochs} epochs", file=sys.stderr, flush=True)
            with run.folder.with_suffix(".log").open("a") as log:
                code = subprocess.run(run.command(data), stdout=log, stderr=log).returncode
        if code:
            failed.append(f"{run.folder.name}: exit code {code}; {run.folder.with_suffix('.log')} says why")
            print(failed[-1], file=sys.stderr, flush=True)
        else:
            write_results(runs, output)
    return failed


def write_results(runs: Sequence[Planned], output: Path) -> None:
    """Write the results of all runs that are finished."""
    with taken(runs[0].folder.parent / "results.lock", wait=True):
        finished = {(run.model, run.seed): result for run in runs if (result := run.finished())}
        if finished:
            content = json.dumps(results(finished, len(runs)), indent=1) + "\n"
            output.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(output, content.encode())


def results(finished: dict[tuple[str, int], TrainingRun], planned: int) -> dict[str, Any]:
    """Return what is written: a row for each run, and the pairs of networks over their common seeds."""
    first, *others = finished.values()
    for other in others:
        if any(other.config["data"][part] != first.config["data"][part] for part in ("train_sha256", "val_sha256")):
            raise UsageError(
                f"{other.folder} and {first.folder} are of different data; name another folder with --runs"
            )
    return {
        "data": first.config["data"],
        "recipe": first.config["recipe"],
        "runs_planned": planned,
        "runs": [_row(*key, run) for key, run in finished.items()],
        "pairs": [_pair(finished, other, kind) for other in (SECOND, *VARIANTS) for kind in KINDS],
        **origin(),
        "environment": environment(),
    }


def _row(model: str, seed: int, run: TrainingRun) -> dict[str, Any]:
    assert run.result is not None  # it is finished
    counts = {kind: run.result["final"][kind] for kind in KINDS}
    return {
        "model": model,
        "seed": seed,
        "parameters": MODELS[model].parameters,
        **{kind: {**counts[kind], "interval": _interval(counts[kind])} for kind in KINDS},
        "train_seconds": run.result["train_seconds"],
        "images_per_second": run.result["images_per_second"],
    }


def _interval(counts: dict[str, Any]) -> list[float]:
    return wilson_percent(counts["correct_top1"], counts["images"])


def _pair(finished: dict[tuple[str, int], TrainingRun], other: str, kind: str) -> dict[str, Any]:
    """Compare FIRST and another network over the seeds that both have: top-1 of one minus that of the other."""
    seeds = [seed for model, seed in finished if model == FIRST and (other, seed) in finished]
    values = {model: [_top1(finished[model, seed], kind) for seed in seeds] for model in (FIRST, other)}
    pair: dict[str, Any] = {"first": FIRST, "second": other, "weights": kind, "n": len(seeds), "seeds": seeds}
    if seeds:
        mean, interval = paired(values[FIRST], values[other])
        pair |= {"points": [a - b for a, b in zip(values[FIRST], values[other], strict=True)]}
        pair |= {"mean_points": mean, "interval": interval}
    return pair


def _top1(run: TrainingRun, kind: str) -> float:
    assert run.result is not None  # it is finished
    counts = run.result["final"][kind]
    return 100.0 * float(counts["correct_top1"]) / float(counts["images"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="imgs/, train_list.txt and val_list.txt")
    parser.add_argument("--runs", type=Path, default=Path("runs/pairs"), help="folder of the runs")
    parser.add_argument("--epochs", type=int, default=44, help="epochs of each run (default: 44)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of both networks (default: 5)")
    parser.add_argument("--variant-seeds", type=int, default=1, help="seeds of each variant (default: 1)")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/tiny20_pairs.json"))
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    runs = planned_runs(options.runs, options.epochs, options.seeds, options.variant_seeds)
    try:
        failed = run_all(options.data, runs, options.output)
        write_results(runs, options.output)
    except MobileNeXtError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    finished = sum(run.finished() is not None for run in runs)
    print(f"{finished} of {len(runs)} runs are finished: {options.output}", file=sys.stderr)
    if failed:
        print("\n".join(["failed:", *failed]), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
