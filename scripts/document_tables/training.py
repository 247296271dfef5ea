"""Tables of recipes and of trained networks."""

from __future__ import annotations

from document_tables.results import load
from mobilenext.classification.recipes import RECIPES
from mobilenext.drawing.markdown import table
from mobilenext.report.training_report import group_lines
from mobilenext.tasks import find_task


def recipes() -> str:
    """Return what the recipes set."""
    rows = [
        [
            recipe.name,
            recipe.optimizer,
            f"{recipe.lr:g} at {recipe.lr_batch_size}",
            recipe.schedule,
            f"{recipe.weight_decay:g}",
            str(recipe.epochs + recipe.cooldown_epochs),
            f"{recipe.ema_decay:g}" if recipe.ema_decay else "-",
            recipe.expected,
        ]
        for recipe in RECIPES.values()
    ]
    heading = ["recipe", "optimiser", "learning rate", "schedule", "decay", "epochs", "average", "expected top-1"]
    return table(heading, rows)


def trained() -> str:
    """Return the run on 20 classes: what training counted, what `evaluate` counts, and what PyTorch had."""
    run, parity_rows = load("tiny20_train.json"), load("tiny20_parity.json")["rows"]
    pytorch = {row["weights"]: row["pytorch_correct_top1"] for row in parity_rows}
    rows = []
    for kind, name in (("raw", "last weights"), ("ema", "their average")):
        counts, evaluated = run["final"][kind], load(f"tiny20_train_evaluate_{kind}.json")
        rows.append(
            [
                name,
                f"{evaluated['top1_percent']:.1f} % ({evaluated['correct_top1']})",
                f"{evaluated['top5_percent']:.1f} %",
                f"{counts['correct_top1']}",
                f"{pytorch[kind] / 10:.1f} % ({pytorch[kind]})",
            ]
        )
    heading = ["weights", "top-1 by `evaluate`", "top-5", "while training", "PyTorch's run, top-1"]
    where = run["environment"]
    note = (
        f"1,000 validation images, one seed each: the 95 % interval is 3 points wide on either side. "
        f"{run['images_per_second']:.0f} images/s on one core of {where['processor']}, {run['train_seconds'] / 60:.0f} "
        f"minutes of training, peak memory {run['peak_memory_mib']:.0f} MiB."
    )
    return table(heading, rows) + "\n\n" + note


def claim() -> str:
    """Return the groups of the paper's claim in small and the differences of their means."""
    return "\n".join(group_lines(load("claim.json")["comparison"], find_task().metric)).replace("\n#", "\n- #")


def claim_int8() -> str:
    """Return what int8 costs each run of the paper's claim in small."""
    rows = [
        [
            row["model"],
            str(row["seed"]),
            f"{row['fp32']['correct_top1']}",
            f"{row['int8']['correct_top1']}",
            f"{row['lost_points']:+.1f}",
            f"{row['equal_predictions']} of {row['images']}",
        ]
        for row in load("claim.json")["quantised"]
    ]
    heading = ["network", "seed", "correct, fp32", "correct, int8", "points lost", "equal predictions"]
    return table(heading, rows)
