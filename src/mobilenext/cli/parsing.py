"""The parser of the command line, and the readers of its values."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

TRIPLES = ("--mean", "--std")  # options of three numbers
NUMBER = re.compile(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
ANOTHER_SETTING = re.compile(r",(?=[a-z][a-z0-9_]*=)")  # the comma between two KEY=VALUE


class Parser(argparse.ArgumentParser):
    """Reads options as they are usually written, and refuses others in few lines.

    ``_`` is taken for ``-`` in the name of an option; the numbers of --mean and --std have spaces or commas between
    them, or come one at a time. An unknown option is refused first of all, with the nearest one that there is.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **{"formatter_class": _Formatter, "allow_abbrev": False, **keywords})

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        words = self.read_words(list(sys.argv[1:] if args is None else args))
        namespace, rest = super().parse_known_args(_split_triples(words), namespace)
        if rest:
            self.refuse(rest)
        return namespace, rest

    def read_words(self, words: list[str]) -> list[str]:
        """Return the words with the names of options as they are declared."""
        return self.read_options(words) if self.prefix_chars == "-" else words

    def read_options(self, words: Sequence[str]) -> list[str]:
        """Return the words with ``-`` for ``_`` in the names of options; refuse those that are not declared."""
        known, result, unknown = self._option_string_actions, list(words), []
        for index, word in enumerate(words):
            if word == "--":
                break
            name, equals, value = word.partition("=")
            if not name.startswith("--") or name in known:
                continue
            if (spelled := name.replace("_", "-")) in known:
                result[index] = spelled + equals + value
            elif " " not in word:  # argparse takes a word with a space for a value
                unknown.append(name)
        if unknown and not {"-h", "--help"} & set(words):
            self.refuse(unknown)
        return result

    def refuse(self, words: Sequence[str]) -> None:
        """Print that these words are not understood, with the nearest options, and exit."""
        known = {name[2:]: action for name, action in self._option_string_actions.items() if name.startswith("--")}
        shown = {name: name for name, action in known.items() if action.help != argparse.SUPPRESS}
        of_values = {known[name].dest: name for name in shown}
        options = (word.partition("=")[0].replace("_", "-").lstrip("-") for word in words if word.startswith("-"))
        # An earlier name of an option leads to the one that is shown.
        near = [
            f"--{shown.get(name, of_values[known[name].dest])}"
            for option in options
            for name in _nearest(option, known)
        ]
        self.error(
            f"unrecognized arguments: {' '.join(words)}" + (f"; did you mean {', '.join(near)}?" if near else "")
        )

    def format_usage(self) -> str:
        """Return one line: what is required, and that there are options."""
        self.usage = self.usage or self._short_usage()
        return super().format_usage()

    def format_help(self) -> str:
        """Return the help, which begins with the usage in one line."""
        self.usage = self.usage or self._short_usage()
        return super().format_help()

    def _short_usage(self) -> str:
        shown = (action for action in self._actions if action.help != argparse.SUPPRESS)
        required = [_shown(action) for action in shown if action.required or not action.option_strings]
        return " ".join(["%(prog)s", *required, "[OPTION ...]"])

    def error(self, message: str) -> Any:
        """Print a usage error and where the options are described, and exit with code 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message}\n`{self.prog} --help` describes all options.\n")


class Commands(Parser):
    """The parser of commands in groups, each with a parser of its own.

    Args:
        groups: titles, and the names of the commands below each.
        **keywords: of ArgumentParser.
    """

    def __init__(self, groups: Mapping[str, Sequence[str]], **keywords: Any) -> None:
        formatter = partial(_Formatter, max_help_position=16)
        super().__init__(usage="%(prog)s COMMAND [OPTION ...]", formatter_class=formatter, **keywords)
        self.groups = groups
        self.summaries: dict[str, str] = {}  # of the commands
        self.commands = self.add_subparsers(prog=self.prog, metavar="COMMAND", required=True, parser_class=Parser)

    def add_command(self, name: str, summary: str, **keywords: Any) -> argparse.ArgumentParser:
        """Return the parser of a new command."""
        self.summaries[name] = summary
        return self.commands.add_parser(name, help=summary, description=summary, **keywords)

    def read_words(self, words: list[str]) -> list[str]:
        """Return the words with the command as it is declared; refuse another one with the nearest."""
        if not words:
            self.print_help(sys.stderr)
            self.exit(2)
        valued = {name for name, action in self._option_string_actions.items() if action.nargs != 0}
        no_options = (
            index
            for index, (word, previous) in enumerate(zip(words, ["", *words], strict=False))
            if not word.startswith("-") and previous not in valued
        )
        place = next(no_options, len(words))
        before, name, after = self.read_options(words[:place]), words[place : place + 1], words[place + 1 :]
        if name == ["help"]:
            return [*before, *after[:1], "--help"]
        known = self.commands.choices
        if not name or name[0] in known:
            return [*before, *name, *after]
        if (spelled := name[0].replace("_", "-").lower()) in known:
            return [*before, spelled, *after]
        near = [f"; did you mean {command}?" for command in _nearest(spelled, self.summaries)]
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: unknown command {name[0]!r}{''.join(near)}\n{self._advice()}\n")
        raise AssertionError("exit has returned")

    def error(self, message: str) -> Any:
        """Print a usage error and where the commands are described, and exit with code 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message}\n{self._advice()}\n")

    def _advice(self) -> str:
        return f"`{self.prog} --help` lists the commands."

    def format_help(self) -> str:
        """Return the help, with the commands in their groups."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for title, names in self.groups.items():
            formatter.start_section(title)
            formatter.add_arguments(
                argparse.Action([], name, metavar=name, help=self.summaries[name]) for name in names
            )
            formatter.end_section()
        formatter.start_section("options")
        formatter.add_arguments(action for action in self._actions if action.option_strings)
        formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()


class Listed(argparse.Action):
    """Collect the values of an option that may be repeated: its `type` reads a list of them from each word."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        lists = values if self.nargs == "+" else [values]
        new = [value for values in lists for value in values]
        setattr(namespace, self.dest, [*_previous(parser, namespace, self), *new])


class Joined(argparse.Action):
    """Write the values of an option that may be repeated into one text, with commas between them."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        previous = _previous(parser, namespace, self)
        setattr(namespace, self.dest, f"{previous},{values}" if previous else values)


def _previous(parser: argparse.ArgumentParser, namespace: argparse.Namespace, action: argparse.Action) -> Any:
    """Return what the option has been given before; nothing where it is the default that stands there."""
    value = getattr(namespace, action.dest, None)
    return () if value is None or value is parser.get_default(action.dest) else value


def numbers(text: str) -> list[int]:
    """Read ``1,2`` as [1, 2]."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}; expected whole numbers with commas between them, such as 1,2")
    return [int(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """Read ``a,b`` as ["a", "b"]; the name of a file that has a comma in it is one name."""
    if "," not in text or os.path.lexists(text):
        return [text]
    if not all(parts := text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}; expected names with commas between them, such as a,b")
    return parts


def settings(text: str) -> list[str]:
    """Read ``epochs=3,seed=1`` as two settings; a value may have commas: ``widths=1,2`` is one."""
    return ANOTHER_SETTING.split(text)


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the known name that is spelled most like `name`, or nothing."""
    import difflib

    return difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)


def _shown(action: argparse.Action) -> str:
    """Return an argument as a usage line has it."""
    name = str(action.metavar or action.dest.upper())
    if action.option_strings:
        return f"{action.option_strings[0]} {name}"
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} ..."}.get(str(action.nargs), name)


class _Formatter(argparse.HelpFormatter):
    """Keeps the lines of a text that has several; wraps one that has not."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(indent + line for line in text.splitlines())
        return super()._fill_text(text, width, indent)


def _split_triples(arguments: Iterable[str]) -> list[str]:
    """Write ``--mean 1,2,3`` as ``--mean 1 2 3``."""
    words: list[str] = []
    current, missing = "", 0  # the option whose numbers are read, and how many are still to come
    for argument in arguments:
        option, has_value, value = argument.partition("=")
        if option in TRIPLES:
            if not (option == current and missing):
                words.append(option)
                current, missing = option, 3
            if not has_value:
                continue
        else:
            value = argument
        parts = [part for part in re.split(r"[,\s]+", value) if part]
        if missing > 0 and parts and all(NUMBER.fullmatch(part) for part in parts):
            words += parts
            missing -= len(parts)
        else:
            words.append(value)
            missing = 0
    return words
