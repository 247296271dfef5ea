"""Write the tables of the documents from results/ and the cards, so that no number in them is typed.

python scripts/update_tables.py            # rewrite
python scripts/update_tables.py --check    # exit 1 when a document is out of date
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gradient_confusion import confusion_table
from mobilenext.classification.recipes import RECIPES
from mobilenext.drawing.markdown import table
from mobilenext.json_files import parse, read_bytes
from mobilenext.models.tables import models_table
from mobilenext.quantization.tables import quantization_table
from mobilenext.report.bench_report import bench_note, bench_table, write_plot
from mobilenext.report.names import network_name, runtime_of
from mobilenext.report.tables import result_table
from mobilenext.report.training_report import group_lines
from mobilenext.tasks import find_task

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from result_tables import evaluation_table, operator_table, plain_table, training_speed_table  # noqa: E402

TIPC_DOCUMENTS = ("README.md", "README_cn.md", "docs/test_train_inference_python.md", "docs/test_further_chains.md")
DOCUMENTS = (
    *(f"test_tipc/{name}" for name in TIPC_DOCUMENTS),
    *("README.md", "README_cn.md"),
    *(
        f"docs/{name}.md"
        for name in ("accuracy", "deployment", "explanations", "paper_and_code", "reproduction", "serving", "training")
    ),
)
PLOT = ROOT / "docs" / "latency.png"


def _load(name: str) -> Any:
    path = ROOT / "results" / name
    return parse(read_bytes(path), str(path))


def parity() -> str:
    rows = [
        [
            row["weights"],
            row["runtime"],
            f"{row['correct_top1']} / {row['correct_top5']}",
            f"{row['pytorch_correct_top1']} / {row['pytorch_correct_top5']}",
            f"{row['equal_predictions']} of {row['images']}",
            f"{row['largest_difference_of_std']:.1e}",
        ]
        for row in _load("tiny20_parity.json")["rows"]
    ]
    heading = [
        "weights",
        "runtime",
        "correct top-1 / top-5",
        "in PyTorch",
        "equal predictions",
        "largest logit difference, of std",
    ]
    return table(heading, rows)


def bench() -> str:
    result = _load("bench_evaluation.json")
    where = result["environment"]
    note = (
        f"Medians of {len(result['rounds'])} rounds on {where['cores']} cores, {where['processor']}, "
        f"Paddle {where['paddlepaddle']}; the single image with one thread."
    )
    return evaluation_table(result) + "\n\n" + note


def sensitivity() -> str:
    results = _load("sensitivity.json")["rows"]
    base = results[0]["top1_percent"]
    rows = [
        [row["change"], f"{row['top1_percent']:.1f} %", f"{row['top1_percent'] - base:+.1f}" if index else "-"]
        for index, row in enumerate(results)
    ]
    return table(["preprocessing", "top-1", "points"], rows)


def goldens() -> str:
    rows = [
        [
            row["recording"],
            f"{row['float32_difference']:.1e}",
            f"{row['float64_difference']:.1e}",
            f"{row['rounding']:.1e}",
        ]
        for row in _load("goldens.json")["rows"]
    ]
    heading = [
        "recording",
        "Paddle float32 to PyTorch float32",
        "float64 to PyTorch float32",
        "Paddle float32 to float64",
    ]
    return table(heading, rows)


def reproduction() -> str:
    """Of each kind of comparison, the one that comes nearest to what is allowed."""
    result = _load("reproduction.json")
    where = result["environment"]
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        kinds.setdefault((row["comparison"], row["what"]), []).append(row)
    cells = []
    for (comparison, what), rows in kinds.items():
        worst = max(rows, key=lambda row: row["largest_relative_difference"] / (row["allowed"] or 1))
        cells.append(
            [
                comparison,
                what,
                f"{sum(row['values'] for row in rows):,}",
                f"{worst['largest_absolute_difference']:.1e}",
                f"{worst['largest_relative_difference']:.1e} of {worst['relative_to']}",
                f"{worst['allowed']:.1e}" if worst["allowed"] else "0",
                "passed" if all(row["passed"] for row in rows) else "FAILED",
            ]
        )
    heading = ["comparison", "what", "values", "largest difference", "relative", "allowed", ""]
    note = (
        f"{len(result['rows'])} comparisons, those of a kind in one line, which shows the one nearest to its bound. "
        f"Paddle {where['paddlepaddle']}, PyTorch {result['pytorch']}, {where['processor']}."
    )
    return table(heading, cells) + "\n\n" + note


def reproduction_losses() -> str:
    """The losses of ten steps: PyTorch's in float64, and how far it and we are from them."""
    rows = [row for row in _load("reproduction.json")["rows"] if "losses" in row]
    cells = []
    for start in ("trained", "formula"):
        of_start = [row for row in rows if row["subject"].startswith(start)]
        double, single, compiled = of_start
        exact = single["pytorch_losses"]
        for name, values in (
            ("PyTorch, float64", [f"{value:.4f}" for value in exact]),
            ("PyTorch, float32, moves by", [f"{value:.0e}" for value in single["pytorch_losses_move_by"]]),
            *(
                (f"ours, {label}, differs by", [f"{abs(a - b):.0e}" for a, b in zip(row["losses"], exact, strict=True)])
                for label, row in (("float64", double), ("float32", single), ("float32, compiled", compiled))
            ),
        ):
            cells.append([f"{start} weights", name, *values])
    return table(["from", "losses", *map(str, range(1, 11))], cells)


def reproduction_variances() -> str:
    apart = _load("reproduction.json")["running_variances_differ_by"]
    return (
        "Without the factor they are apart by up to "
        + " and ".join(f"{100 * value:.1f} % ({start} weights)" for start, value in apart.items())
        + " after one step."
    )


def tipc_models() -> str:
    """The basic chain of every model, in the lite mode."""
    result = _load("tipc.json")
    rows = [row for row in result["rows"] if _is_basic(row) and row["mode"] == "lite_train_lite_infer"]
    heading = ["model", "commands", "s", "top-1 after it", "different answers", "infer = predict, evaluate"]
    where = result["environment"]
    note = (
        f"{where['cores']} cores of {where['processor']}, Paddle {where['paddlepaddle']}; a few epochs on 160 digits."
    )
    cells = [
        [
            Path(row["config"]).parent.name,
            f"{row['commands_passed']} of {row['commands']}",
            f"{row['seconds']:.0f}",
            next(step["said"] for step in row["steps"] if step["kind"] == "eval").removeprefix("top-1 "),
            re.findall(r"(\d+) different", next(step["said"] for step in row["steps"] if step["kind"] == "infer"))[0],
            " and ".join(step["status"] for step in row["steps"] if step["kind"] == "compare"),
        ]
        for row in rows
    ]
    return table(heading, cells) + "\n\n" + note


def _is_basic(row: Mapping[str, Any]) -> bool:
    return row["layout"] == "specification" and Path(row["config"]).name == "train_infer_python.txt"


def tipc_modes() -> str:
    """One model in every layout and mode, by our driver and by the official ones."""
    rows = [row for row in _load("tipc.json")["rows"] if row["config"].endswith(_BASIC_ENDS)]
    ours = {(row["layout"], row["mode"]): row for row in rows if "mobilenext_x0_35" in row["config"]}
    cells = []
    for row in _load("tipc_official.json")["rows"]:
        own = ours[row["layout"], row["mode"]]
        cells.append(
            [
                row["layout"],
                row["mode"],
                f"{row['successful']} successful, {len(row['failed'])} failed",
                f"{own['commands_passed']} of {own['commands']}, {'passed' if own['passed'] else 'FAILED'}",
                f"{own['seconds']:.0f}",
            ]
        )
    return table(["layout", "mode", "the official driver, unmodified", "`test_tipc/run.py`", "s"], cells)


def tipc_further() -> str:
    """The chains beside the basic one."""
    rows = [row for row in _load("tipc.json")["rows"] if not Path(row["config"]).name.endswith(_BASIC_ENDS)]
    cells = [
        [
            Path(row["config"]).name.removeprefix("train_").removesuffix("_infer_python.txt"),
            f"{row['commands_passed']} of {row['commands']}",
            f"{row['seconds']:.0f}",
            "; ".join(step["said"] for step in row["steps"] if step["kind"] in ("eval", "export")),
        ]
        for row in rows
    ]
    return table(["chain", "commands", "s", "what was found"], cells)


_BASIC_ENDS = ("train_infer_python.txt", "train_infer_python_prod.txt")


def tipc_steps() -> str:
    """What a chain prints."""
    sys.path.append(str(ROOT / "test_tipc"))
    from chain.report import chain_lines

    row = next(row for row in _load("tipc.json")["rows"] if _is_basic(row) and "mobilenext_x0_35" in row["config"])
    return "```\n" + "\n".join(chain_lines(row)) + "\n```"


def latency_rows(*names: str) -> list[dict[str, Any]]:
    return [row for name in names for row in _load(name)["rows"]]


def by_runtime(rows: list[dict[str, Any]], label: Callable[[dict[str, Any]], str], heading: str) -> str:
    """A row for each `label`, a column for each runtime: milliseconds an image with 1 and with 2 threads."""
    runtimes = list(dict.fromkeys(runtime_of(row) for row in rows))
    labels = list(dict.fromkeys(label(row) for row in rows))
    found = {(label(row), runtime_of(row), row["threads"]): f"{row['ms_per_image']:.2f}" for row in rows}
    cells = [
        [
            name,
            *(
                " / ".join(found[name, runtime, threads] for threads in (1, 2)) if (name, runtime, 1) in found else "-"
                for runtime in runtimes
            ),
        ]
        for name in labels
    ]
    return table([heading, *runtimes], cells) + "\n\nMilliseconds an image with 1 / 2 threads."


def bench_cpu() -> str:
    """The networks of width 1 at batch 1, for the README."""
    rows = [row for row in latency_rows("bench_batch1.json") if row["network"].endswith("x1_0")]
    found = {(runtime_of(row), row["network"], row["threads"]): row for row in rows}
    cells = []
    for runtime in dict.fromkeys(runtime_of(row) for row in rows):
        next_, v2 = (
            " / ".join(f"{found[runtime, name, threads]['median_ms']:.1f}" for threads in (1, 2))
            for name in ("mobilenext_x1_0", "mobilenetv2_x1_0")
        )
        row = found[runtime, "mobilenext_x1_0", 1]
        memory, floor = f"{row['peak_memory_mib']:.0f} MiB", f"{row['times_compute_floor']:.2f}"
        cells.append([runtime, next_, v2, floor, f"{row['start_up_ms'] / 1000:.2f} s", memory])
    heading = ["runtime", "MobileNeXt x1.0", "MobileNetV2 x1.0", "of the compute floor", "start-up", "memory"]
    return table(heading, cells)


def bench_plain() -> str:
    return plain_table(_load("bench_plain.json"))


def precision() -> str:
    rows = []
    for data in ("tiny20", "nips17"):
        for kind in ("fp32", "bf16"):
            result = _load(f"{data}_{kind}.json")
            rows.append(
                [
                    f"{result['model']}, {result['images']} images of {result['data']['folder']}",
                    f"{result['runtime']}, {kind}",
                    f"{result['top1_percent']:.2f} % ({result['correct_top1']})",
                    f"{result['top5_percent']:.2f} % ({result['correct_top5']})",
                    f"{result['latency_ms']:.2f} ms",
                    f"{result['images_per_second']:.0f}",
                ]
            )
    return table(["network", "", "top-1", "top-5", "one image, 1 thread", "images/s"], rows)


def int8_settings() -> str:
    result = _load("int8_settings.json")
    rows = [
        [
            row["ranges"],
            row["quantised"],
            str(row["correct_top1"]),
            str(row["equal_predictions"]),
            f"{row['signal_to_noise_db']:.1f} dB",
        ]
        for row in result["rows"]
    ]
    heading = ["ranges", "quantised", "correct top-1", "equal predictions", "logits' signal to noise"]
    return table(heading, rows)


def recipes() -> str:
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


def bench_train(*variants: str) -> str:
    """The speed of a step, in all variants that were measured or in these."""
    result = _load("bench_train.json")
    rows = [row for row in result["rows"] if not variants or row["variant"] in variants]
    where = result["environment"]
    note = (
        f"Medians of {len(rows[0]['rounds'])} rounds, {where['processor']}, Paddle {where['paddlepaddle']}; "
        "one thread where it does not say two."
    )
    return training_speed_table({"rows": rows}) + "\n\n" + note


def trained() -> str:
    """The run on 20 classes: what training counted, what `evaluate` counts, and what PyTorch had."""
    run, parity_rows = _load("tiny20_train.json"), _load("tiny20_parity.json")["rows"]
    pytorch = {row["weights"]: row["pytorch_correct_top1"] for row in parity_rows}
    rows = []
    for kind, name in (("raw", "last weights"), ("ema", "their average")):
        counts, evaluated = run["final"][kind], _load(f"tiny20_train_evaluate_{kind}.json")
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
    return "\n".join(group_lines(_load("claim.json")["comparison"], find_task().metric)).replace("\n#", "\n- #")


def claim_int8() -> str:
    rows = [
        [
            row["model"],
            str(row["seed"]),
            f"{row['fp32']['correct_top1']}",
            f"{row['int8']['correct_top1']}",
            f"{row['lost_points']:+.1f}",
            f"{row['equal_predictions']} of {row['images']}",
        ]
        for row in _load("claim.json")["quantised"]
    ]
    heading = ["network", "seed", "correct, fp32", "correct, int8", "points lost", "equal predictions"]
    return table(heading, rows)


def serving() -> str:
    """Requests a second of the demo server, of what the same cores do without it."""
    result = _load("bench_serving.json")
    limits = result["limits_images_per_second"]
    whole, network = (statistics.median(each[stages] for each in limits) for stages in ("all", "network"))
    cells = []
    for batch, clients in dict.fromkeys((row["max_batch"], row["clients"]) for row in result["rows"]):
        rows = [row for row in result["rows"] if (row["max_batch"], row["clients"]) == (batch, clients)]
        rate, p50, p99 = (statistics.median(row[name] for row in rows) for name in _SERVED)
        failed = sum(row["requests"] - row["statuses"].get("200", 0) for row in rows)
        counts = [f"{rate:.1f}", f"{100 * rate / whole:.0f} %", f"{p50:.0f}", f"{p99:.0f}", str(failed)]
        cells.append([str(batch), str(clients), *counts])
    heading = ["`--max-batch`", "clients", "requests/s", "of the limit", "p50, ms", "p99, ms", "refused"]
    where, memory = result["environment"], result["memory_mib_every_500_requests"]
    note = (
        f"Without a server the same cores decode, preprocess and predict {whole:.1f} images/s, and predict "
        f"{network:.1f} that are ready: the limits. Medians of {len(limits)} interleaved rounds of "
        f"{result['seconds']:g} s, {where['cores']} cores of {where['processor']}, "
        f"ONNX Runtime {where['onnxruntime']}; the clients share the cores. Other work was running: the load average "
        f"was {where['load_average'][0]} before the rounds.\n\n"
        f"Memory after every 500 of 2,000 requests: {', '.join(f'{each:.0f}' for each in memory)} MiB."
    )
    return table(heading, cells) + "\n\n" + note


_SERVED = ("requests_per_second", "p50_ms", "p99_ms")


def faithfulness() -> str:
    """What hiding the hottest square costs, and by how much more than hiding another one."""
    rows = []
    for name in ("faithfulness.json", "faithfulness_digits.json"):
        for row in _load(name)["rows"]:
            differences = [
                f"{each['mean']:+.1f} ({each['interval'][0]:+.1f} to {each['interval'][1]:+.1f})"
                for each in (row["hottest_minus"][kind] for kind in ("random", "other", "coldest"))
            ]
            where = f"{re.sub(r'[.](safetensors|pth[.]tar|onnx)$', '', row['weights'])}, {row['data']}"
            cells = [where, str(row["images"]), f"{row['block']}, {row['map'][0]} x {row['map'][1]}"]
            share = f"{100 * row['side'] // row['image_size']} %"
            rows.append([*cells, share, f"{row['loses']['hottest']:.1f}", *differences])
    heading = ["weights, images", "images", "block, map", "square's width", "hottest costs", "more than a random one"]
    return table([*heading, "than another image's", "than the coldest"], rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "models": models_table,
    "parity": parity,
    "bench": bench,
    "sensitivity": sensitivity,
    "goldens": goldens,
    "tipc_models": tipc_models,
    "tipc_modes": tipc_modes,
    "tipc_further": tipc_further,
    "tipc_steps": tipc_steps,
    "reproduction": reproduction,
    "reproduction_losses": reproduction_losses,
    "reproduction_variances": reproduction_variances,
    "bench_cpu": bench_cpu,
    "bench_note": lambda: bench_note(_load("bench_batch1.json")),
    "bench_batch1": lambda: by_runtime(latency_rows("bench_batch1.json"), network_name, "batch 1"),
    "bench_batch32": lambda: by_runtime(latency_rows("bench_batch32.json"), network_name, "batch 32"),
    "bench_divisors": lambda: by_runtime(
        latency_rows("bench_divisors.json"), lambda row: f"1/{row['identity_divisor']}", "shortcut of"
    ),
    "bench_plain": bench_plain,
    "bench_int8": lambda: bench_table(_load("bench_int8.json")),
    "quantization": lambda: quantization_table([_load("tiny20_int8.json"), _load("nips17_int8.json")]),
    "precision": precision,
    "int8_settings": int8_settings,
    "recipes": recipes,
    "bench_train": bench_train,
    "bench_train_short": lambda: bench_train("plain", "train", "two processes"),
    "operators": lambda: operator_table(_load("bench_train.json")),
    "serving": serving,
    "trained": trained,
    "claim": claim,
    "claim_int8": claim_int8,
    "faithfulness": faithfulness,
    "gradient_confusion": lambda: confusion_table(_load("gradient_confusion.json")),
    "quickstart": lambda: result_table(_load("quickstart.json")),
}


def rewritten(text: str) -> str:
    """`text` with every block between its begin and end marks made anew."""
    return re.sub(
        r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)",
        lambda found: f"{found[1]}{BLOCKS[found[2]]()}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def main() -> int:
    stale = []
    for name in DOCUMENTS:
        before = (ROOT / name).read_text(encoding="utf-8")
        after = rewritten(before)
        if before != after:
            stale.append(name)
            if "--check" not in sys.argv:
                (ROOT / name).write_text(after, encoding="utf-8")
    if "--check" not in sys.argv:
        write_plot(_load("bench_batch1.json"), PLOT)
    print("\n".join(stale) or "all tables are up to date")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
