"""``list``, ``recipes`` and ``info``: what can be used here."""

from __future__ import annotations

import argparse

from mobilenext.cli.options import JSON, add_flags, print_json
from mobilenext.cli.verb import Verb


def _declare_list(command: argparse.ArgumentParser) -> None:
    add_flags(command, JSON)


def _list(options: argparse.Namespace) -> int:
    if options.json:
        from dataclasses import asdict

        from mobilenext.models import MODELS

        rows = []
        for card in MODELS.values():
            row = {
                name: getattr(card, name) for name in card.__dataclass_fields__ if name not in ("arguments", "weights")
            }
            rows.append({**row, "weights": [asdict(weights) for weights in card.weights]})
        print_json(rows)
        return 0
    from mobilenext.models.cards import DETECTORS_COUNTED_FOR
    from mobilenext.models.tables import cells_table, detectors_table, models_table, variants_table

    print(models_table(), variants_table(), sep="\n\n")
    print("\nparameters and mult-adds (multiply-accumulates, not FLOPs): 1000 classes, 224 x 224 pixels\n")
    print(cells_table(), end="\n\n")
    print(detectors_table())
    print(f"\ndetectors: {DETECTORS_COUNTED_FOR}; mAP at IoU 0.5, 11 points; the paper's numbers are quoted")
    return 0


def _declare_recipes(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "name", nargs="?", metavar="NAME", help="recipe to show with all its fields (default: a summary of all recipes)"
    )
    add_flags(command, JSON)


def _recipes(options: argparse.Namespace) -> int:
    from mobilenext.errors import UsageError, nearest
    from mobilenext.tasks import find_task, task_names

    recipes = [recipe for task in task_names() for recipe in find_task(task).training.recipes.values()]
    if options.name:
        known = [recipe.name for recipe in recipes]
        if options.name not in known:
            near = nearest(options.name, known)
            raise UsageError(f"unknown recipe {options.name!r}{near}; known: {', '.join(known)}")
        recipes = [recipe for recipe in recipes if recipe.name == options.name]
    if options.json:
        print_json([recipe.to_dict() for recipe in recipes])
    else:
        print("\n".join(line for recipe in recipes for line in recipe.lines(fields=bool(options.name))))
    return 0


def _declare_info(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "subject",
        nargs="?",
        metavar="SUBJECT",
        help="model, model.tag, architecture.json or file of weights (default: this computer and its packages)",
    )
    add_flags(command, JSON)


def _info(options: argparse.Namespace) -> int:
    if options.subject:
        from mobilenext.weights.facts import facts_of

        facts = facts_of(options.subject)
    else:
        from mobilenext.machine.environment import environment

        facts = environment()
    if options.json:
        print_json(facts)
    else:
        for name, value in facts.items():
            print(f"{name}: {value}")
    return 0


LIST = Verb(
    "list", "list the models: sizes, published accuracy, weights, license", _declare_list, _list,
    ("list", "list --json"),
)  # fmt: skip
RECIPES = Verb(
    "recipes",
    "list the recipes of `mobilenext train`: source, expected accuracy, cost, fields",
    _declare_recipes,
    _recipes,
    ("recipes", "recipes finetune"),
)
INFO = Verb(
    "info",
    "show versions, processor and other facts that a result depends on; or a model, or what is in a file of weights",
    _declare_info,
    _info,
    ("info", "info ssdlite320_mobilenext_x1_0", "info runs/a/best.safetensors --json"),
)
