"""Speed of a training step on a CPU: forward, backward and optimiser, interleaved with a plain Paddle loop and PyTorch.

    python benchmarks/training.py [--peer-python PYTHON] [--rounds 3] [-o results/bench_train.json]
    python benchmarks/training.py --only train "two processes" "two processes, double batch" "two trainings" -o FILE

PYTHON is the interpreter of an environment that has PyTorch; nothing else of the project needs it.

plain         Paddle's eager loop as it stands in most ports: the network, cross-entropy, Momentum; nothing else set
settings      the same with the settings of mobilenext.machine.process_environment (memory kept, MKL's fast path)
depthwise     plain with the compiled depthwise convolutions
train         what `mobilenext train` does in a step: both, and label smoothing, the moving average, the log's sums
to_static     settings with paddle.jit.to_static
bf16          settings in mixed precision (Paddle on a CPU says that it has no effect)
two threads   train with two threads
two processes train with two processes of one thread, each half of the batch, gradients added up
two processes, double batch
              the same with a whole batch each, so twice the images in a step: what most ports' `batch_size` means
two trainings train twice at the same time, apart from each other: what two cores give at best; with --only
PyTorch       its eager step with memory kept, without the moving average (`benchmarks/peer_mobilenext.py`)
channels_last the same with that memory format, which is its fastest here

mobilenext_x0_35 at 64 pixels (batch 128) and mobilenext_x1_0 at 224 pixels (batch 16); images are random and lie in
memory. Each variant runs in a process of its own, on one core unless it says two, in turn, for as many rounds as asked;
medians and the ratios of each round are written, and the operators that take the time in plain and train.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from mobilenext.machine.cores import available_cores
from mobilenext.machine.environment import environment
from mobilenext.machine.process_environment import compute_environment
from mobilenext.origin import origin
from result_tables import training_speed_table, two_processes_table

CASES = {
    "x0_35 at 64": {"model": "mobilenext_x0_35", "width": 0.35, "size": 64, "batch": 128, "classes": 20},
    "x1_0 at 224": {"model": "mobilenext_x1_0", "width": 1.0, "size": 224, "batch": 16, "classes": 1000},
}
PROCESSES = ("two processes", "two processes, double batch")
VARIANTS = ("plain", "settings", "depthwise", "train", "to_static", "bf16", "two threads", *PROCESSES)
APART = "two trainings"
PEERS = {"PyTorch": "contiguous", "channels_last": "channels_last"}  # memory formats
PEER = Path(__file__).with_name("peer_mobilenext.py")
WARM_UP, STEPS = 2, 5


def random_batch(case: dict[str, Any], images: int) -> Any:
    import numpy as np

    from mobilenext.job import Batch

    random = np.random.default_rng(0)
    pixels = random.standard_normal((images, 3, case["size"], case["size"]), np.float32)
    return Batch(pixels, {"labels": random.integers(0, case["classes"], images)})


def plain_step(case: dict[str, Any], variant: str) -> tuple[Any, Any]:
    """The network, and the usual loop's step as a function without arguments."""
    import paddle
    import paddle.nn.functional as F

    from mobilenext.models import build_network

    paddle.seed(0)
    network = build_network(case["model"], num_classes=case["classes"])
    if variant == "depthwise":
        from mobilenext.training.acceleration import accelerate

        accelerate(network)
    network.train()
    forward = paddle.jit.to_static(network, full_graph=True) if variant == "to_static" else network
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, network.parameters(), weight_decay=1e-4, use_nesterov=True)
    batch = random_batch(case, case["batch"])

    def step() -> None:
        images, labels = paddle.to_tensor(batch.inputs), paddle.to_tensor(batch.targets["labels"])
        with paddle.amp.auto_cast(enable=variant == "bf16", dtype="bfloat16"):
            loss = F.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        float(loss)

    return network, step


def images_of(case: dict[str, Any], variant: str) -> int:
    """The images of a step, over all processes that take it together."""
    return int(case["batch"]) * (2 if variant == "two processes, double batch" else 1)


def train_step(case: dict[str, Any], variant: str) -> tuple[Any, Any]:
    """The network, and the step of `mobilenext train`."""
    import dataclasses

    import paddle

    from mobilenext.classification.recipes import RECIPES
    from mobilenext.classification.training import ClassificationJob
    from mobilenext.job import Feed, Setup
    from mobilenext.machine.ranks import Ranks
    from mobilenext.models import build_network
    from mobilenext.training.acceleration import accelerate
    from mobilenext.training.freezing import frozen_tensors
    from mobilenext.training.optimization import Average
    from mobilenext.training.stepper import GradientStep

    ranks = Ranks()
    paddle.seed(0)
    network = build_network(case["model"], num_classes=case["classes"])
    accelerate(network)
    network.train()
    recipe = dataclasses.replace(RECIPES["tiny"], batch_size=images_of(case, variant))
    job = ClassificationJob(recipe, recipe.preprocessing, case["classes"])
    stepper = GradientStep(Setup(recipe, job, ranks, Feed(0, recipe.batch_size)), network)
    average = Average(network, recipe.ema_decay, warmup=recipe.ema_warmup, frozen=frozen_tensors(network))
    batch = random_batch(case, recipe.batch_size // ranks.world)
    done = 0

    def step() -> None:
        nonlocal done
        stepper(batch, done, 0.01)
        average.update(done)
        done += 1

    return network, step


def measure(case: dict[str, Any], variant: str) -> dict[str, Any]:
    """Seconds of each step, and in the variants of interest the operators' shares."""
    import paddle

    warnings.filterwarnings("ignore")
    plain = variant in ("plain", "settings", "depthwise", "to_static", "bf16")
    network, step = plain_step(case, variant) if plain else train_step(case, variant)
    for _ in range(WARM_UP):
        step()
    seconds = []
    for _ in range(3 * STEPS if variant == APART else STEPS):  # they begin and end at different times
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    parameters = sum(int(tensor.size) for tensor in network.parameters() if not tensor.stop_gradient)
    result: dict[str, Any] = {"seconds": seconds, "parameters": parameters}
    if variant in ("plain", "train"):
        result["operators"] = operators(step, paddle)
    return result


def operators(step: Any, paddle: Any) -> dict[str, float]:
    """Share of each operator in one step's time; those of at least 1 %.

    What the profiler has no name for is the rest: the compiled convolutions' forward pass, data, bookkeeping.
    """
    from paddle.profiler.profiler_statistic import StatisticData

    profiler = paddle.profiler.Profiler(targets=[paddle.profiler.ProfilerTarget.CPU], on_trace_ready=lambda _: None)
    profiler.start()
    started = time.perf_counter_ns()
    step()
    total = time.perf_counter_ns() - started
    profiler.step()
    profiler.stop()
    result = profiler.profiler_result
    items = StatisticData(result.get_data(), result.get_extra_info()).event_summary.items
    times = {name.removeprefix("Global_").removesuffix(" dygraph"): item.cpu_time for name, item in items.items()}
    times["rest"] = total - sum(times.values())
    shares = {name: round(value / total, 4) for name, value in sorted(times.items(), key=lambda item: -item[1])}
    return {name: share for name, share in shares.items() if share >= 0.01}


def run_peer(python: str, case_name: str, variant: str) -> dict[str, Any]:
    """A variant of PyTorch by its own interpreter, on the first core."""
    case = CASES[case_name]
    words = (case["width"], case["size"], case["batch"], case["classes"], PEERS[variant], STEPS, 0)
    variables = {**os.environ, **compute_environment(1)}
    variables.pop("PYTHONPATH", None)
    process = subprocess.run([python, PEER, *map(str, words)], stdout=subprocess.PIPE, env=variables, check=True)
    result: dict[str, Any] = json.loads(process.stdout.decode().splitlines()[-1])
    result["images_per_second"] = case["batch"] / statistics.median(result.pop("seconds"))
    return result


def run(case_name: str, variant: str) -> dict[str, Any]:
    """A variant in its own process or processes."""
    world = 2 if variant in (*PROCESSES, APART) else 1
    threads = 2 if variant == "two threads" else 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(world):
        setting = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
        if world > 1 and variant != APART:
            setting |= {
                "PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": str(world), "PADDLE_DISTRI_BACKEND": "gloo",
                "PADDLE_CURRENT_ENDPOINT": str(rank), "PADDLE_MASTER": f"127.0.0.1:{port}",
            }  # fmt: skip
        command = [sys.executable, __file__, "--part", case_name, variant, "--cores", str(rank), str(rank + threads)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **setting}))
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{case_name}, {variant}: failed")
    results: list[dict[str, Any]] = [json.loads(output.decode().splitlines()[-1]) for output in outputs]
    counted = results if variant == APART else results[:1]
    images = images_of(CASES[case_name], variant)
    rate = sum(images / statistics.median(result["seconds"]) for result in counted)
    return {**{key: value for key, value in results[0].items() if key != "seconds"}, "images_per_second": rate}


def part(case_name: str, variant: str, cores: list[int]) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[cores[0] : cores[1]] or allowed)
    if variant not in ("plain", "depthwise"):
        from mobilenext.machine.process_environment import prepare_process

        prepare_process(int(os.environ["OMP_NUM_THREADS"]))
    print(json.dumps(measure(CASES[case_name], variant)))


def measure_case(case_name: str, variants: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each variant of a case, measured in turns."""
    peers = list(PEERS) if options.peer_python else []
    rounds: list[dict[str, Any]] = []
    for number in range(options.rounds):
        results = {variant: run(case_name, variant) for variant in variants}
        results |= {variant: run_peer(options.peer_python, case_name, variant) for variant in peers}
        parameters = {result["parameters"] for result in results.values() if "parameters" in result}
        if len(parameters) > 1:
            raise SystemExit(f"{case_name}: the networks have different numbers of parameters: {parameters}")
        rounds.append(results)
        speeds = {variant: round(result["images_per_second"], 1) for variant, result in results.items()}
        print(f"{case_name}, round {number + 1}: {speeds}", file=sys.stderr, flush=True)
    rates = {variant: [one[variant]["images_per_second"] for one in rounds] for variant in rounds[0]}
    return [
        {
            "case": case_name,
            **CASES[case_name],
            "variant": variant,
            "images_per_second": round(statistics.median(own), 2),
            "rounds": [round(rate, 2) for rate in own],
            "over_plain": median_ratio(own, rates["plain"]) if "plain" in rates else None,
            "over_train": median_ratio(own, rates["train"]),
            "operators": rounds[-1][variant].get("operators"),
            **({"torch": rounds[-1][variant]["torch"]} if variant in PEERS else {}),
        }
        for variant, own in rates.items()
    ]


def median_ratio(rates: list[float], others: list[float]) -> float:
    """Return the median of the ratios of each round."""
    return round(statistics.median(rate / other for rate, other in zip(rates, others, strict=True)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", metavar="PYTHON", help="interpreter of an environment with PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", nargs="+", choices=(*VARIANTS, APART), default=VARIANTS, metavar="VARIANT",
        help="our variants to measure (default: all but two trainings)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=Path("results/bench_train.json"))
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--cores", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        case_name, variant = options.part
        part(case_name, variant, options.cores)
        return
    if "train" not in options.only:
        parser.error("--only needs train, which the others are compared with")
    variants = [name for name in options.only if available_cores() > 1 or not name.startswith("two")]
    rows = [row for name in CASES for row in measure_case(name, variants, options)]
    torch = rows[-1].get("torch")
    command = {**origin(), "command": origin()["command"].replace(options.peer_python or "PYTHON", "PYTHON")}
    result = {
        "rows": rows,
        "warm_up_steps": WARM_UP,
        "timed_steps": STEPS,
        "pytorch": torch,
        **command,
        "environment": environment(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(training_speed_table(result) if "plain" in variants else two_processes_table(result))


if __name__ == "__main__":
    main()
