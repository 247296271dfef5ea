"""``search``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from mobilenext.cli.options import (
    DATA,
    DEVICE,
    IMAGE_SIZE,
    JSON,
    LABELS,
    MODEL,
    NUM_CLASSES,
    OUTPUT,
    RESUME,
    SETTINGS,
    THREADS,
    WEIGHTS,
    WORKERS,
    add_flags,
    print_report,
)  # fmt: skip
from mobilenext.cli.parsing import Joined
from mobilenext.cli.train import add_run_flags, carry_out
from mobilenext.cli.verb import Verb
from mobilenext.errors import UsageError

FIELDS = {  # of the recipe, that flags set: by the name of the flag
    "space": "space", "operators": "operators", "order": "order", "cost": "cost_measure", "budget": "budget",
    "costs": "costs", "image_size": "image_size",
}  # fmt: skip


def _declare(command: argparse.ArgumentParser) -> None:
    add_flags(
        command,
        DATA(nargs="?", help="data set: imgs/ and train_list.txt, or train/ with class folders"),
        OUTPUT(help="new folder for the run"),
        RESUME(metavar="RUN", help="continue the search in this folder"),
    )
    command.add_argument(
        "--space", metavar="NAME", help="space that is searched: cell or blocks (default: that of the recipe)"
    )
    add_flags(
        command,
        MODEL(help="MobileNeXt whose blocks are searched, without weights: name from `mobilenext list`"),
        WEIGHTS(help="weights to begin with, for the space blocks: file, or name such as mobilenext_x1_0.in1k"),
    )
    command.add_argument(
        "--operators", metavar="NAME,...", action=Joined,
        help="operators of the space cell, such as darts,sandglass_3x3 (default: darts, eight of them)",
    )  # fmt: skip
    command.add_argument(
        "--order", metavar="1|2", help="order of the gradient of the alphas (default: 1, in less than half the time)"
    )
    _declare_costs(command)
    add_flags(command, IMAGE_SIZE(help="side of the images in pixels (default: that of the weights or of the recipe)"))
    command.add_argument(
        "--recipe", metavar="NAME",
        help="name from `mobilenext recipes` (default: short, with --model, --weights or --space blocks blocks)",
    )  # fmt: skip
    example = "such as channels=4 or channels=4,beta=0"
    add_flags(command, SETTINGS(help=f"replace a value of the recipe, {example}; `recipes NAME` lists all fields"))
    command.add_argument(
        "--seed", type=int, metavar="N", help="seed of the halves, initialization, order and augmentation (default: 0)"
    )
    command.add_argument(
        "--train-list", metavar="FILE", help="list file of the images to search on (default: train_list.txt)"
    )
    add_flags(
        command,
        NUM_CLASSES(help="number of classes (default: of the data)"),
        LABELS(help="file of class names: lines, JSON, CSV, ..."),
        DEVICE,
        THREADS(help="threads per process, on a CPU (default: 1)"),
        WORKERS(help="processes that read images (default: for a small data set none)"),
    )
    add_run_flags(command)
    add_flags(command, JSON)


def _declare_costs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cost", metavar="NAME", help="cost of an architecture: parameters, mult_adds or latency (default: parameters)"
    )
    command.add_argument(
        "--budget",
        metavar="X,...",
        action=Joined,
        help="largest cost, in millions or, of latency, in ms (default: none)",
    )
    command.add_argument(
        "--costs", metavar="FILE", help="latencies of blocks, written by --measure-costs; the cost is latency then"
    )
    command.add_argument(
        "--measure-costs", metavar="RUNTIME",
        help="measure the latencies of the blocks of --model by this runtime, such as onnxruntime, write them to the "
        "file --output, and search nothing",
    )  # fmt: skip


def _search(options: argparse.Namespace) -> int:
    from mobilenext.search.run import search_architecture

    if options.measure_costs is not None:
        return _measure(options)

    def run(arguments: dict[str, Any]) -> Any:
        fields = {field: arguments.pop(flag, None) for flag, field in FIELDS.items()}
        arguments["settings"] += [f"{name}={value}" for name, value in fields.items() if value is not None]
        return search_architecture(options.data, **arguments)

    def closing(folder: str) -> None:
        begun = sorted(Path(folder).glob("initial*.safetensors"))  # of a search that began with weights
        beginning = f"--weights {begun[0]}" if begun else f"--model {folder}/architecture.json"
        logging.info("written: %s; train what was found: mobilenext train DATA %s", folder, beginning)

    return carry_out(options, run, closing)


def _measure(options: argparse.Namespace) -> int:
    """Measure the latencies of the blocks of a model, and write them to a file."""
    from mobilenext.search.cost_table import describe_additivity, write_cost_table
    from mobilenext.search.measuring import measure_costs

    if options.data is not None or options.output is None or options.model is None:
        raise UsageError(
            "--measure-costs measures a model and writes a file; expected --model NAME and -o FILE, and no data"
        )
    table = measure_costs(
        options.measure_costs, model=options.model, image_size=options.image_size, threads=options.threads or 1
    )
    write_cost_table(options.output, table)
    published = table.published
    lines = [
        f"{len(table.candidates)} candidates of {table.model} at {table.image_size} pixels, {table.runtime}, "
        f"threads {table.threads}",
        f"the published network: {describe_additivity(published['measured_ms'], published['sum_ms'])}",
        f"written: {options.output}; use it: mobilenext search DATA --weights FILE --costs {options.output}",
    ]
    print_report(lines, options, table.to_dict())
    return 0


SEARCH = Verb(
    "search", "search for an architecture, or continue a search", _declare, _search,
    (
        "search DATA --operators darts,sandglass_3x3 --recipe short -o runs/cells",
        "search DATA --weights mobilenext_x1_0.in1k --cost mult_adds --budget 250,300 -o runs/light",
        "search --resume runs/cells",
    ),
)  # fmt: skip
