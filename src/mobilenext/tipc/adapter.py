"""``python -m mobilenext.tipc VERB``: the drivers' flags in, the public functions of ``mobilenext`` behind them.

train           ``mobilenext.train``
eval            ``mobilenext.evaluate``
export          ``mobilenext.export_model`` (or int8 quantization), written into the folder of the run
infer           ``mobilenext.predict`` on an exported folder: ``<name>TAB[[ids],[scores]]`` for each image;
                a detector: ``<name>TAB[[labels],[scores],[boxes]]``
prepare         the data and weights of a configuration and mode
compare         an inference's output with a reference file
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mobilenext.errors import UsageError, nearest
from mobilenext.machine.command import guarded
from mobilenext.machine.home import provide_home
from mobilenext.tipc import verbs
from mobilenext.tipc.flags import parse
from mobilenext.tipc.options import OPTIONS, WITHOUT_EFFECT
from mobilenext.tipc.prepare import prepare

PREPARE = "prepare"
VERBS: Mapping[str, Callable[[dict[str, Any]], int]] = {
    "train": verbs.train, "eval": verbs.evaluate, "export": verbs.export, "infer": verbs.infer,
    "compare": verbs.compare,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code, as ``mobilenext`` does."""
    if arguments is None:
        arguments = sys.argv[1:]
    return guarded(partial(run, arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one verb; return its exit code, or raise what it raises."""
    verb, *rest = arguments or ["--help"]
    if verb in ("-h", "--help") or rest in (["-h"], ["--help"]):
        print(_help([verb] if verb in OPTIONS else list(OPTIONS)))
        return 0
    if verb == PREPARE:
        if not 2 <= len(rest) <= 3:
            raise UsageError("expected: prepare CONFIG MODE [ARCHIVE or FOLDER of images with their lists]")
        provide_home()
        prepare(Path(rest[0]), rest[1], Path(rest[2]) if len(rest) == 3 else None)
        return 0
    if verb not in VERBS:
        known = (*VERBS, PREPARE)
        raise UsageError(f"unknown verb {verb!r}{nearest(verb, known)}; expected {', '.join(known)}")
    values = parse(rest, OPTIONS[verb], WITHOUT_EFFECT[verb])
    provide_home(values.get("output"))
    return VERBS[verb](values)


def _help(names: Sequence[str]) -> str:
    lines = ["usage: python -m mobilenext.tipc VERB --key=value ...", __doc__ or ""]
    for verb in names:
        lines.append(f"{verb}:")
        lines += [f"    {option.keys[0]:<24}also {', '.join(option.keys[1:])}" for option in OPTIONS[verb]]
    return "\n".join(lines)
