"""The paper's claim in small: sandglass blocks against inverted residuals, and half a shortcut against a whole one.

Source    Zhou et al. 2020: MobileNeXt is more accurate than MobileNetV2 of the same size, half the identity costs
          nothing, and MobileNeXt loses less when it is quantized
Expected  nothing: whether it shows at this size is the question
Cost      nine runs of about 5 minutes on one core, and six quantisations of half a minute
Command   python scripts/paper_claim.py TINY20 --runs runs/claim -o results/claim.json

Three networks of width 0.35 (MobileNeXt, MobileNeXt with identity divisor 2, MobileNetV2) are trained from three seeds
each on the first ten classes of a data set of small images, with the recipe `tiny` for 20 epochs. The averaged weights
of MobileNeXt and MobileNetV2 are then quantized to int8, with training images for calibration. Finished runs are not
repeated, and an interrupted one goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mobilenext.json_files import parse
from mobilenext.machine.environment import environment
from mobilenext.origin import origin
from mobilenext.runs.comparison import comparison
from mobilenext.runs.training_run import read_run

CLASSES, EPOCHS, SEEDS = 10, 20, (0, 1, 2)
NETWORKS = {
    "mobilenext": ["--model", "mobilenext_x0_35"],
    "mobilenext_div2": ["--model", "mobilenext_x0_35", "--identity-divisor", "2"],
    "mobilenetv2": ["--model", "mobilenetv2_x0_35"],
}
QUANTIZED = ("mobilenext", "mobilenetv2")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mobilenext", *map(str, arguments)]


def write_lists(data: Path, folder: Path) -> dict[str, Path]:
    """The lists of the first classes."""
    folder.mkdir(parents=True, exist_ok=True)
    lists = {}
    for part in ("train", "val"):
        lines = (data / f"{part}_list.txt").read_text().splitlines(keepends=True)
        lists[part] = folder / f"{part}_list.txt"
        lists[part].write_text("".join(line for line in lines if int(line.split()[-1]) < CLASSES))
    return lists


def train(data: Path, lists: dict[str, Path], folder: Path, network: list[str], seed: int) -> None:
    if (folder / "result.json").is_file():
        return
    if (folder / "checkpoint.safetensors").is_file():
        subprocess.run(command("train", "--resume", folder), check=True)
        return
    options = ["--recipe", "tiny", "--set", f"epochs={EPOCHS}", "--seed", seed, "-o", folder]
    options += ["--train-list", lists["train"], "--val-list", lists["val"]]
    subprocess.run(command("train", data, *network, *options), check=True)


def quantize(data: Path, lists: dict[str, Path], run: Path) -> dict[str, Any]:
    """int8 of the averaged weights: what it costs."""
    options = ["--weights", run / "last_ema.safetensors", "--calibration", data, "--calibration-list", lists["train"]]
    options += ["--data", data, "--list", lists["val"], "-o", run / "int8", "--max-drop", 100, "--json"]
    output = subprocess.run(command("quantize", *options), check=True, stdout=subprocess.PIPE).stdout
    report: dict[str, Any] = parse(output, "the comparison")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="imgs/, train_list.txt and val_list.txt")
    parser.add_argument("--runs", type=Path, default=Path("runs/claim"), help="folder of the runs")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/claim.json"))
    options = parser.parse_args()
    lists = write_lists(options.data, options.runs / "lists")
    folders = {}
    for seed in SEEDS:  # a seed of each network first, so that an early end is of use
        for name, network in NETWORKS.items():
            folders[name, seed] = options.runs / f"{name}_{seed}"
            train(options.data, lists, folders[name, seed], network, seed)
    runs = [read_run(folders[name, seed]) for name in NETWORKS for seed in SEEDS]
    quantized = []
    for name in QUANTIZED:
        for seed in SEEDS:
            report = quantize(options.data, lists, folders[name, seed])
            wanted = ("model", "images", "fp32", "int8", "lost_points", "equal_predictions")
            row = {"run": f"{name}_{seed}", "seed": seed} | {key: report[key] for key in wanted}
            quantized.append(row | {"calibration_images": report["calibration"]["images"]})
    result = {
        "data": runs[0].config["data"],
        "recipe": runs[0].config["recipe"],
        "seeds": SEEDS,
        "comparison": comparison(runs),
        "epochs": {run.name: run.epochs for run in runs},
        "quantised": quantized,
        **origin(),
        "environment": environment(),
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {options.output}; `python scripts/update_pictures.py claim` draws its curves", file=sys.stderr)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
