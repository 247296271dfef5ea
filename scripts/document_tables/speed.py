"""Tables of speed: of networks in the runtimes, of evaluation, of training steps and of the demo server."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import Any

from document_tables.results import ROOT, load
from mobilenext.drawing.markdown import table
from mobilenext.models.cards import MODELS, paper_models
from mobilenext.models.published import Published
from mobilenext.report.names import runtime_of

sys.path.insert(0, str(ROOT / "benchmarks"))
from result_tables import (
    evaluation_table,
    operator_table,
    photo_table,
    plain_table,
    scale_table,
    start_up_table,
    training_speed_table,
    two_processes_table,
)

_SERVED = ("requests_per_second", "p50_ms", "p99_ms", "cores_of_clients")


def bench() -> str:
    """Return the speed of evaluation."""
    result = load("bench_evaluation.json")
    where = result["environment"]
    note = (
        f"Medians of {len(result['rounds'])} rounds on {where['cores']} cores, {where['processor']}, "
        f"Paddle {where['paddlepaddle']}; the single image with one thread."
    )
    return evaluation_table(result) + "\n\n" + note


def photos() -> str:
    """Return what resizing a photo costs."""
    result = load("image_costs.json")["photos"]
    where = result["environment"]
    note = (
        f"Means of {result['images']} JPEG photos of {result['mean_pixels']:,} pixels on average, in time of one core, "
        f"{where['processor']}, Pillow {where['pillow']}; {result['different_bytes']} bytes differ. Loading the loops "
        f"takes {result['loading_ms']:.0f} ms of a process, compiling them {result['compiling_s']:.1f} s, once."
    )
    return photo_table(result) + "\n\n" + note


def scale() -> str:
    """Return time and memory of evaluations of ImageNet's size."""
    result = load("bench_scale.json")
    where, whole, resumed = result["environment"], result["whole"], result["resumed"]
    peaks = whole["peak_memory_mib_by_tenth"]
    note = (
        f"{result['model']} at {result['image_size']} pixels, {whole['runtime']}, {where['cores']} cores of "
        f"{where['processor']}, Paddle {where['paddlepaddle']}. Memory of all processes: {peaks[1]:.0f} MiB in the "
        f"second tenth of the run, {peaks[-1]:.0f} MiB in the last. Killed after {resumed['rows_kept']:,} images, "
        f"whose journal has {resumed['journal_mib']:.1f} MiB; a fresh start has its first image after "
        f"{resumed['fresh_first_row_seconds']:.1f} s."
    )
    return scale_table(result) + "\n\n" + note


def start_up() -> str:
    """Return the seconds of commands from the shell to their end."""
    result = load("bench_start_up.json")
    where = result["environment"]
    note = (
        f"Medians of {len(result['rounds'])} interleaved rounds, {where['cores']} cores of {where['processor']}, "
        f"Paddle {where['paddlepaddle']}. Stages are timed one after the other; in the command some overlap, and "
        "processes start."
    )
    return start_up_table(result) + "\n\n" + note


def family() -> str:
    """Return the MobileNeXt of the paper and of the code: size, accuracy, and latency where it was measured."""
    rows = [row for row in load("bench_batch1.json")["rows"] if runtime_of(row) == "onnxruntime"]
    times = {(row["network"], row["threads"]): f"{row['median_ms']:.1f}" for row in rows}
    cells = []
    for card in (MODELS[name] for name in paper_models() if name.startswith("mobilenext")):
        published = {
            weights.tag: f"{weights.published.top1_percent:.2f} % ({weights.tag})"
            for weights in card.weights
            if isinstance(weights.published, Published) and weights.published.dataset.startswith("ImageNet")
        }
        milliseconds = [times[card.name, threads] for threads in (1, 2) if (card.name, threads) in times]
        cells.append(
            [
                card.name,
                f"{card.parameters / 1e6:.2f} M",
                f"{card.mult_adds / 1e6:.1f} M",
                "-" if card.paper_top1_percent is None else f"{card.paper_top1_percent:g} %",
                ", ".join(published.values()) or "none",
                " / ".join(milliseconds) or "-",
            ]
        )
    heading = ["model", "parameters", "mult-adds", "paper top-1", "released weights", "ms an image, 1 / 2 threads"]
    return table(heading, cells)


def bench_plain() -> str:
    """Return our runtimes beside plain ones."""
    return plain_table(load("bench_plain.json"))


def by_runtime(rows: list[dict[str, Any]], label: Callable[[dict[str, Any]], str], heading: str) -> str:
    """Return milliseconds an image with 1 and with 2 threads: a row for each `label`, a column for each runtime."""
    runtimes = list(dict.fromkeys(runtime_of(row) for row in rows))
    labels = list(dict.fromkeys(label(row) for row in rows))
    times = {(label(row), runtime_of(row), row["threads"]): f"{row['ms_per_image']:.2f}" for row in rows}
    cells = [
        [
            name,
            *(
                " / ".join(times[name, runtime, threads] for threads in (1, 2)) if (name, runtime, 1) in times else "-"
                for runtime in runtimes
            ),
        ]
        for name in labels
    ]
    return table([heading, *runtimes], cells) + "\n\nMilliseconds an image with 1 / 2 threads."


def bench_train() -> str:
    """Return the speed of a training step in all variants that were measured."""
    result = load("bench_train.json")
    rows = result["rows"]
    where = result["environment"]
    note = (
        f"Medians of {len(rows[0]['rounds'])} rounds, {where['processor']}, Paddle {where['paddlepaddle']}; "
        "one thread where it does not say two."
    )
    return training_speed_table({"rows": rows}) + "\n\n" + note


def two_processes() -> str:
    """Return what two processes gain, beside two trainings apart."""
    return two_processes_table(load("bench_train_two.json"))


def operators() -> str:
    """Return the operators that take most of a training step."""
    return operator_table(load("bench_train.json"))


def serving() -> str:
    """Return requests a second of the demo server, and their share of what the same cores do without it."""
    result = load("bench_serving.json")
    where = result["environment"]
    limits = [row["limits_images_per_second"] for row in result["rows"]]
    processes, threads = (statistics.median(limit[kind] for limit in limits) for kind in ("processes", "threads"))
    cells = []
    for batch, clients in dict.fromkeys((row["max_batch"], row["clients"]) for row in result["rows"]):
        rows = [row for row in result["rows"] if (row["max_batch"], row["clients"]) == (batch, clients)]
        rate, p50, p99, cores = (statistics.median(row[name] for row in rows) for name in _SERVED)
        failed = sum(row["requests"] - row["statuses"].get("200", 0) for row in rows)
        of_limits = [
            statistics.median(
                row["requests_per_second"]
                / row["limits_images_per_second"][kind]
                / (1 - row["cores_of_clients"] / where["cores"])
                for row in rows
            )
            for kind in ("processes", "threads")
        ]
        shares = [f"{100 * share:.0f} %" for share in of_limits]
        counts = [f"{rate:.1f}", f"{cores:.2f}", *shares, f"{p50:.0f}", f"{p99:.0f}", str(failed)]
        cells.append([str(batch), str(clients), *counts])
    heading = ["`--max-batch`", "clients", "requests/s", "cores of the clients", "of processes", "of threads"]
    heading += ["p50, ms", "p99, ms", "refused"]
    memory = result["memory_mib_every_500_requests"]
    note = (
        f"Without a server two limits hold: one process for each core parses, decodes, preprocesses and predicts "
        f"{processes:.1f} images/s in all, and threads of one process, which share Python's lock, {threads:.1f}; of "
        f"images that are ready the processes predict {result['network_images_per_second']:.1f}. The limits are "
        "measured before and after each measurement of the server. The clients share the cores: what they take of "
        f"them is taken off. Medians of {len(rows)} interleaved rounds of {result['seconds']:g} s, {where['cores']} "
        "cores of "
        f"{where['processor']}, ONNX Runtime {where['onnxruntime']}; load average before the rounds "
        f"{where['load_average'][0]}.\n\n"
        f"Memory after every 500 of 2,000 requests: {', '.join(f'{mib:.0f}' for mib in memory)} MiB."
    )
    return table(heading, cells) + "\n\n" + note


def search_step() -> str:
    """Return how long the steps of a search take, of cells beside PyTorch, over blocks beside a training step."""
    result = load("bench_search_step.json")
    cells, seconds = result["cells"], result["cells"]["median_seconds"]
    sizes = f"{cells['channels']} channels, {cells['cells']} cells, {cells['image_size']} px, {cells['batch']} images"
    own = seconds["order 1"]
    form = cells["pytorch_format"]
    rows = [
        [f"cells ({sizes}), order 1", f"{own:.2f} s", "1"],
        ["the same, order 2", f"{seconds['order 2']:.2f} s", f"{cells['ratios']['order_2_over_order_1']:.2f}"],
        [f"order 1 in PyTorch {cells['pytorch']}, {form}", f"{seconds[form]:.2f} s", f"{seconds[form] / own:.2f}"],
    ]
    for network in result["blocks"]:
        means, errors = network["mean_seconds"], network["standard_errors"]
        name = f"{network['model'].removeprefix('mobilenext_').replace('_', '.')}, {network['image_size']} px"
        rows.append([f"training step of {name}, {network['batch']} images", f"{means['training step']:.2f} s", "1"])
        for step, ratio in network["ratios"].items():
            rows.append([f"{step} of its blocks", f"{means[step]:.2f} s", f"{ratio:.2f} +- {errors[step]:.2f}"])
    ratios = [row[form] / row["order 1"] for row in cells["rounds"]]
    shares = ", ".join(f"`{name}` {100 * share:.0f} %" for name, share in cells["shares_of_operators"].items())
    note = (
        f"Seconds of the process on a core of {result['environment']['processor']}, one thread; the computer had other "
        f"work. Of cells the median of {len(ratios)} interleaved rounds; PyTorch's time over ours is "
        f"{cells['ratios']['pytorch_over_ours']:.2f} ({min(ratios):.2f} to {max(ratios):.2f}). Of blocks the mean of "
        f"{result['blocks'][0]['steps']} steps, with its standard error: each draws another path.\n\n"
        f"Memory of the cells' search: the rehearsal before the first step says {cells['estimated_memory_mib']:,} MiB "
        f"or more; the steps reach {cells['peak_memory_mib']['order 1']:,} MiB with order 1 and "
        f"{cells['peak_memory_mib']['order 2']:,} MiB with order 2.\n\n"
        f"Operators of a step of order 1: {shares}."
    )
    return table(["step", "time", "ratio"], rows) + "\n\n" + note


def int8_processors() -> str:
    """Return what int8 gains with and without instructions for it, first without."""
    rows = []
    detector = load("bccd_int8.json")
    rows.append(
        [
            f"{detector['model']}, ONNX Runtime",
            *(f"{side['map_percent']:.2f} % mAP" for side in (detector["fp32"], detector["int8"])),
            *(f"{side['bytes'] / 1e6:.2f} MB" for side in (detector["fp32"], detector["int8"])),
            "-",
            "-",
        ]
    )
    fp32, int8 = load("mnn_int8.json")["rows"]
    images = load("mnn_int8.json")["images"]
    rows.append(
        [
            "mobilenext_x0_35, 64 px, MNN",
            *(f"{100 * row['correct_top1'] / images:.2f} %" for row in (fp32, int8)),
            *(f"{row['bytes'] / 1e6:.2f} MB" for row in (fp32, int8)),
            *(f"{row['processor_ms']:.2f} ms" for row in (fp32, int8)),
        ]
    )
    for file in ("tiny20_int8.json", "nips17_int8.json"):
        report = load(file)
        sides = (report["fp32"], report["int8"])
        rows.append(
            [
                f"{report['model']}, {report['preprocessing']['image_size']} px, ONNX Runtime",
                *(f"{side['top1_percent']:.2f} %" for side in sides),
                *(f"{side['bytes'] / 1e6:.2f} MB" for side in sides),
                *(f"{side['latency_ms']['median']:.2f} ms" for side in sides),
            ]
        )
    bench = {
        row["network"]: row["median_ms"]
        for row in load("bench_int8.json")["rows"]
        if (row["threads"], row["runtime"]) == (1, "onnxruntime")
    }
    times = [f"{bench[name]:.2f} ms" for name in ("x1_0_fp32", "x1_0_int8")]
    rows.append(["mobilenext_x1_0, 224 px, ONNX Runtime", "-", "-", "-", "-", *times])
    heading = ["network", "score, fp32", "score, int8", "size, fp32", "size, int8", "time, fp32", "time, int8"]
    return table(heading, rows)
