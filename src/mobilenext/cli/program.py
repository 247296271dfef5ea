"""The command line: ``mobilenext VERB``. A verb parses its flags, makes one call and prints.

Results go to standard output; progress, notes and errors to standard error. Exit codes: 0 done, 1 a check failed,
2 usage, 3 data, 128 and its number after a signal (Ctrl-C: 130).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mobilenext.cli.bench import BENCH
from mobilenext.cli.check_data import CHECK_DATA
from mobilenext.cli.completion import PrintCompletion
from mobilenext.cli.convert import CONVERT
from mobilenext.cli.evaluate import EVALUATE, QUICKSTART
from mobilenext.cli.explain import DIAGRAM, EXPLAIN
from mobilenext.cli.export import EXPORT, QUANTIZE
from mobilenext.cli.information import INFO, LIST, RECIPES
from mobilenext.cli.parsing import Commands
from mobilenext.cli.predict import PREDICT
from mobilenext.cli.report import COMPARE, REPORT
from mobilenext.cli.search import SEARCH
from mobilenext.cli.serve import SERVE
from mobilenext.cli.train import TRAIN
from mobilenext.errors import UsageError
from mobilenext.machine.command import guarded
from mobilenext.version import __version__

GROUPS = {
    "look around": (QUICKSTART, LIST, INFO),
    "data and weights": (CHECK_DATA, CONVERT),
    "train": (TRAIN, SEARCH, RECIPES, COMPARE),
    "measure": (EVALUATE, BENCH, REPORT),
    "images": (PREDICT, EXPLAIN, DIAGRAM),
    "deploy": (EXPORT, QUANTIZE, SERVE),
}
VERBS = {verb.name: verb for verbs in GROUPS.values() for verb in verbs}
MOVED = {  # verbs of earlier versions, and the commands that do it now
    "tipc": "`python test_tipc/run.py CONFIG MODE`, or `make tipc CONFIG=... MODE=...`",
    "gradient-confusion": "`python scripts/gradient_confusion.py DATA --model MODEL -o FOLDER`",
}
EPILOG = """\
`mobilenext COMMAND --help` describes a command, with examples.

environment variables:
  MOBILENEXT_HOME      folder of downloaded weights (default: ~/.cache/mobilenext)
  MOBILENEXT_OFFLINE   1 forbids downloads
  MOBILENEXT_IMAGE_MEMORY_MIB, MOBILENEXT_IMAGE_SECONDS
                       memory and time that decoding one image may take

exit codes:
  0 done   1 a check failed   2 usage   3 data that cannot be read or written
  128 + N stopped by signal N (Ctrl-C: 130)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return guarded(lambda: _run(parser().parse_args(arguments)), own_process=arguments is None)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    top = Commands(
        {title: [verb.name for verb in verbs] for title, verbs in GROUPS.items()},
        prog="mobilenext",
        description="MobileNeXt on PaddlePaddle: from a checkpoint to an accuracy and latency table.",
        epilog=EPILOG,
    )
    top.add_argument("-V", "--version", action="version", version=f"mobilenext {__version__}")
    top.add_argument("--print-completion", action=PrintCompletion)
    for verb in VERBS.values():
        examples = "\n".join(f"  mobilenext {example}" for example in verb.examples)
        command = top.add_command(verb.name, verb.summary, epilog=f"examples:\n{examples}")
        command.set_defaults(verb=verb.name)
        verb.declare(command)
    for name in MOVED:
        # Not listed. No word begins with this prefix: all words behind the verb, --help included, are accepted.
        command = top.commands.add_parser(name, prefix_chars="\0", add_help=False)
        command.add_argument("words", nargs="*")
        command.set_defaults(verb=name)
    return top


def _run(options: argparse.Namespace) -> int:
    """Run the verb that was parsed; return its exit code, or raise what it raises."""
    from mobilenext.machine.home import provide_home

    if options.verb in MOVED:
        raise UsageError(f"`mobilenext {options.verb}` is now {MOVED[options.verb]}, run in the root of the repository")
    provide_home(getattr(options, "output", None))
    return VERBS[options.verb].run(options)


if __name__ == "__main__":
    sys.exit(main())
