"""Completion in a shell: a script of commands, options and names, which shtab writes from the parser."""

from __future__ import annotations

import argparse
from typing import Any

SHELLS = ("bash", "zsh", "fish", "tcsh")
FOLDERS, FILES = ("DATA", "DIR", "FOLDER", "RUN"), ("FILE", "IMAGE", "SOURCE", "SUBJECT")  # metavars


class PrintCompletion(argparse.Action):
    """Print the script for a shell, and exit."""

    def __init__(self, option_strings: list[str], dest: str, **keywords: Any) -> None:
        text = "print the script that completes commands, options and names in bash, zsh, fish or tcsh"
        super().__init__(option_strings, argparse.SUPPRESS, choices=SHELLS, metavar="SHELL", help=text, **keywords)

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        print(completion(parser, values))
        parser.exit()


def completion(parser: Any, shell: str) -> str:
    """Return the script of a shell for the parser of all commands, whose options are changed: it is used up."""
    import shtab

    choices = _choices()
    for command in parser.commands.choices.values():
        for action in command._actions:
            name = action.option_strings[-1] if action.option_strings else ""
            if name in choices:
                action.choices = choices[name]
            elif action.metavar in FOLDERS:
                action.complete = shtab.DIRECTORY
            elif action.metavar in FILES:
                action.complete = shtab.FILE
    return shtab.complete(parser, shell)


def _choices() -> dict[str, list[str]]:
    """Return the names that options take."""
    from mobilenext.export.formats import FORMATS
    from mobilenext.models import MODELS
    from mobilenext.runtime import RUNTIMES
    from mobilenext.tasks import find_task, task_names

    tags = [f"{card.name}.{weights.tag}" for card in MODELS.values() for weights in card.weights]
    recipes = [name for task in task_names() for name in find_task(task).training.recipes]
    return {
        "--model": [*MODELS, *tags], "--runtime": ["auto", *RUNTIMES], "--recipe": recipes, "--format": list(FORMATS),
        "--task": list(task_names()),
    }  # fmt: skip
