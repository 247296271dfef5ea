"""What a command shows while it works: a log file, a progress bar, tables on standard output."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobilenext.errors import MobileNeXtError, OutputError, UsageError
from mobilenext.statistics import percent_text


@contextlib.contextmanager
def log_file(output: str | None, name: str, begun: str | None = None) -> Iterator[None]:
    """Copy everything that is logged to the file `name` in the output folder, which is made.

    A new log is removed again when it is empty or, with `begun`, when there is no file of that name: then nothing has
    begun. The folders that were made for it go with it.

    Raises:
        OutputError: the folder cannot be written.
    """
    if output is None:
        yield
        return
    log = Path(output) / name
    is_new = not log.exists()
    new_folders = [folder for folder in (log.parent, *log.parent.parents) if not folder.exists()]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(f"cannot write to {output}: {error.strerror or error}; choose another --output") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    except MobileNeXtError as error:
        # A refused option is not logged: nothing was done.
        if not isinstance(error, UsageError) and log.is_file() and log.stat().st_size:
            handler.emit(logging.makeLogRecord({"msg": str(error), "levelno": logging.ERROR, "levelname": "ERROR"}))
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk loses the last line of the log
            handler.close()
        nothing_begun = is_new and begun is not None and not (log.parent / begun).exists()
        if log.is_file() and (nothing_begun or not log.stat().st_size):
            with contextlib.suppress(OSError):
                log.unlink()
                for folder in new_folders:
                    folder.rmdir()


def print_and_log(text: str) -> None:
    """Print a text, and write it to the log file, but not to standard error as well."""
    print(text, flush=True)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.makeLogRecord({"msg": text, "levelno": logging.INFO, "levelname": "INFO"}))


@contextlib.contextmanager
def progress_bar(share: str | None = None, unit: str = " images") -> Iterator[Any]:
    """Show a bar with speed and time left, for what takes two seconds and more, where standard error is a terminal.

    Args:
        share: the name of a running share in percent, such as ``correct``; None shows none.
        unit: of the work.

    Yields:
        A function of the work done, the work in all and what counts for the share.
    """
    bar: Any = None

    def show(done: int, total: int, counted: int | None = 0) -> None:
        nonlocal bar
        if total == 1:
            return  # it has no speed and no time left
        if bar is None or bar.total != total or done < bar.n:  # the first call tells what a resumed run has already
            if bar is not None:
                bar.close()
            from tqdm import tqdm

            bar = tqdm(total=total, initial=done, unit=unit, delay=2, disable=None, dynamic_ncols=True, file=sys.stderr)
        if share and done and counted is not None:
            bar.set_postfix_str(f"{share} {percent_text(100 * counted / done)}", refresh=False)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
