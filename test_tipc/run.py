"""Run a train, eval, export and infer chain of a TIPC configuration, and check what each step left.

    python test_tipc/run.py CONFIG MODE          from the root of the repository; or: make tipc CONFIG=... MODE=...

Exit codes: 0 every step has passed, 1 a step has failed, 2 usage, 3 data.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from functools import partial

from chain.driver import failure_of, run_chain
from chain.report import chain_lines
from mobilenext.machine.command import guarded
from mobilenext.machine.home import provide_home
from mobilenext.tipc.config import MODES


def run(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("config", metavar="CONFIG", help="test_tipc/configs/..., in any of the three layouts")
    parser.add_argument("mode", metavar="MODE", help=", ".join(MODES))
    parser.add_argument("--layout", help="specification, prod or paddleclas (default: from the file's name and length)")
    parser.add_argument("-o", "--output", help="folder (default: test_tipc/output/<model>/<mode>)")
    parser.add_argument("--data", help="an archive or folder to prepare the data from (default: digits)")
    parser.add_argument("--no-prepare", action="store_true", help="use the data and weights that are there")
    parser.add_argument("--keep-going", action="store_true", help="after a failure, run the steps that still can run")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="limit for each command (default: none)")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, all else on standard error")
    options = parser.parse_args(arguments)
    provide_home(options.output)
    summary = run_chain(
        options.config, options.mode, layout=options.layout, output=options.output, data=options.data,
        prepare=not options.no_prepare, keep_going=options.keep_going, timeout=options.timeout,
    )  # fmt: skip
    (logging.info if options.json else print)("\n".join(chain_lines(summary)))
    if options.json:
        print(json.dumps(summary, indent=1))
    if failure := failure_of(summary):
        raise failure
    return 0


if __name__ == "__main__":
    sys.exit(guarded(partial(run, None)))
