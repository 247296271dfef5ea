"""Tables of agreement: with PyTorch, between precisions and preprocessings, and of explanations with the network."""

from __future__ import annotations

import re
from typing import Any

from document_tables.results import load
from mobilenext.drawing.markdown import table
from mobilenext.models import MODELS
from mobilenext.models.cards import paper_models
from mobilenext.models.published import Published


def parity() -> str:
    """Return the agreement of each runtime with PyTorch."""
    rows = [
        [
            row["weights"],
            row["runtime"],
            f"{row['correct_top1']} / {row['correct_top5']}",
            f"{row['pytorch_correct_top1']} / {row['pytorch_correct_top5']}",
            f"{row['equal_predictions']} of {row['images']}",
            f"{row['largest_difference_of_std']:.1e}",
        ]
        for row in load("tiny20_parity.json")["rows"]
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


def reproduced() -> str:
    """Return the table that Paddle's community expects: accuracy to reach and reached, weights and record."""
    published = sorted(
        weights.published.top1_percent
        for card in (MODELS[name] for name in paper_models())
        for weights in card.weights
        if isinstance(weights.published, Published) and weights.published.dataset.startswith("ImageNet")
    )
    target = f"{published[0]:.2f} % to {published[-1]:.2f} %"
    rows = [[f"{len(published)} released weights, ImageNet-1k", target, "not evaluated: no images here", "-", "-"]]
    pytorch = {row["weights"]: row["pytorch_correct_top1"] for row in load("tiny20_parity.json")["rows"]}
    for origin, prefix in (("converted from PyTorch", "tiny20_evaluate"), ("trained here", "tiny20_train_evaluate")):
        for kind in ("raw", "ema"):
            file = f"{prefix}_{kind}.json"
            result = load(file)
            bundled = "`mobilenext_x0_35.tiny20`" if (origin, kind) == ("trained here", "ema") else "-"
            rows.append(
                [
                    f"mobilenext_x0_35, tiny20, {kind}, {origin}",
                    f"{100 * pytorch[kind] / result['images']:.1f} % ({pytorch[kind]})",
                    f"{result['top1_percent']:.1f} % ({result['correct_top1']})",
                    bundled,
                    f"[JSON](results/{file})",
                ]
            )
    return table(["model", "target accuracy", "reproduced accuracy", "weights", "log"], rows)


def sensitivity() -> str:
    """Return what each change of the preprocessing costs."""
    results = load("sensitivity.json")["rows"]
    base = results[0]["top1_percent"]
    rows = [
        [row["change"], f"{row['top1_percent']:.1f} %", f"{row['top1_percent'] - base:+.1f}" if index else "-"]
        for index, row in enumerate(results)
    ]
    return table(["preprocessing", "top-1", "points"], rows)


def goldens() -> str:
    """Return the differences from the recorded logits in float32 and float64."""
    rows = [
        [
            row["recording"],
            f"{row['float32_difference']:.1e}",
            f"{row['float64_difference']:.1e}",
            f"{row['rounding']:.1e}",
        ]
        for row in load("goldens.json")["rows"]
    ]
    heading = [
        "recording",
        "Paddle float32 to PyTorch float32",
        "float64 to PyTorch float32",
        "Paddle float32 to float64",
    ]
    return table(heading, rows)


def reproduction() -> str:
    """Return, of each kind of comparison, the one that comes nearest to what is allowed."""
    result = load("reproduction.json")
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
    """Return the losses of ten steps: PyTorch's in float64, and how far it and we are from them."""
    rows = [row for row in load("reproduction.json")["rows"] if "losses" in row]
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
    """Return a sentence: how far the running variances are apart, which Paddle and PyTorch estimate differently."""
    apart = load("reproduction.json")["running_variances_differ_by"]
    return (
        "Without the factor they are apart by up to "
        + " and ".join(f"{100 * value:.1f} % ({start} weights)" for start, value in apart.items())
        + " after one step."
    )


def precision() -> str:
    """Return accuracy and speed in float32 and in bfloat16."""
    rows = []
    for data in ("tiny20", "nips17"):
        for kind in ("fp32", "bf16"):
            result = load(f"{data}_{kind}.json")
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
    """Return what each setting of the quantization costs."""
    result = load("int8_settings.json")
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


def faithfulness() -> str:
    """Return what hiding the hottest square costs, and by how much more than hiding another one."""
    rows = []
    for name in ("faithfulness.json", "faithfulness_digits.json"):
        for row in load(name)["rows"]:
            differences = [
                f"{difference['mean']:+.1f} ({difference['interval'][0]:+.1f} to {difference['interval'][1]:+.1f})"
                for difference in (row["hottest_minus"][kind] for kind in ("random", "other", "coldest"))
            ]
            where = f"{re.sub(r'[.](safetensors|pth[.]tar|onnx)$', '', row['weights'])}, {row['data']}"
            cells = [where, str(row["images"]), f"{row['block']}, {row['map'][0]} x {row['map'][1]}"]
            share = f"{100 * row['side'] // row['image_size']} %"
            rows.append([*cells, share, f"{row['loses']['hottest']:.1f}", *differences])
    heading = ["weights, images", "images", "block, map", "square's width", "hottest costs", "more than a random one"]
    return table([*heading, "than another image's", "than the coldest"], rows)
