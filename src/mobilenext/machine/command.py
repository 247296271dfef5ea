"""A command's process: exceptions become a sentence and an exit code, streams and signals are set up.

Exit codes: 0 done, 1 a check failed, 2 usage, 3 data, 128 and its number after a signal (Ctrl-C: 130).
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable

from mobilenext.errors import MobileNeXtError
from mobilenext.machine.late_imports import import_late
from mobilenext.machine.stopping import Stop, handle_signals, leave
from mobilenext.machine.streams import lost_results, open_streams, replace_missing


def guarded(call: Callable[[], int], *, own_process: bool = True) -> int:
    """Run a command and return its exit code; an exception becomes a sentence on standard error.

    In a process of its own it does not return: the process ends with that code.

    Args:
        call: the command, which returns its exit code.
        own_process: whether this process runs only the command, so that its streams and signals may be set.
    """
    if own_process:
        open_streams()
        handle_signals()
        import_late()
    replace_missing()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold bytes that are no text
    logging.raiseExceptions = False  # a log that cannot be written is no reason for a traceback
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in ("httpx", "httpcore", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.environ.setdefault("GLOG_minloglevel", "2")  # read when Paddle is imported: its C++ greets every predictor
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime would look for its maker's server
    warnings.filterwarnings("ignore", message="No ccache found")  # Paddle's remark on building extensions
    code = _exit_code(call)
    if error := lost_results():
        print(f"mobilenext: standard output cannot be written: {error.strerror or error}", file=sys.stderr)
        code = code or 3
    if own_process:
        leave(code)
    return code


def _exit_code(call: Callable[[], int]) -> int:
    """Run a command; its exit code, after a sentence about the exception that it may raise."""
    try:
        code = call()
        sys.stdout.flush()
        return code
    except Stop as stop:
        print(f"mobilenext: {stop}", file=sys.stderr)
        return 128 + stop.number
    except SystemExit as end:  # argparse has printed its message
        return int(end.code or 0)
    except MobileNeXtError as error:
        print(f"mobilenext: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output has gone, `| head` for one
        return 0
    except OSError as error:  # a folder that may not be entered, a disk that fails
        print(f"mobilenext: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("mobilenext: interrupted", file=sys.stderr)
        return 130
