"""Open a model file in a process of its own first, in bounded memory and time: a runtime may crash on a hostile one."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from mobilenext.errors import DataError
from mobilenext.runtime.opening import open_runtime
from mobilenext.runtime.self_check import failure
from mobilenext.runtime.table import RuntimeSpec

MEMORY = 2 * 2**30  # bytes that a network may take, beside eight times those of its file
CPU_S = 30
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from mobilenext.runtime.trial import main; main()"
_FIELDS = ("runtime", "engine", "device", "threads", "file", "input", "outputs")


def try_apart(spec: RuntimeSpec, image_size: int) -> None:
    """Open a network and run one image, then two, in another process.

    Raises:
        DataError: it does not come to its end there.
    """
    folders = [os.path.abspath(folder) for folder in sys.path if folder]  # noqa: PTH100
    order = {name: getattr(spec, name) for name in _FIELDS} | {"folder": str(spec.folder), "image_size": image_size}
    command = [sys.executable, "-I", "-c", _START, json.dumps(folders), json.dumps(order)]
    run = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    reason = run.stdout.decode(errors="replace").strip()
    if run.returncode == DataError.exit_code and reason:
        raise DataError(reason)
    if run.returncode != 0:
        ending = f"it ends with {signal.Signals(-run.returncode).name}" if run.returncode < 0 else reason or "it fails"
        raise DataError(
            f"{spec.folder / spec.file}: {spec.runtime} cannot run it: {ending} (in a process of its own, with at most "
            f"{CPU_S} s and {MEMORY // 2**30} GiB); it is damaged, or was made to do so: export it again"
        )


def main() -> None:
    """Do what `try_apart` asks for in its process, and print the reason of a failure."""
    order = json.loads(sys.argv[2])
    size, folder = order.pop("image_size"), Path(order.pop("folder"))
    spec = RuntimeSpec(**order | {"folder": folder, "outputs": tuple(order["outputs"])})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_CPU, CPU_S)
    try:
        _lower(resource.RLIMIT_AS, MEMORY + 8 * (folder / spec.file).stat().st_size)
        runtime = open_runtime(spec)
        for count in (1, 2):
            runtime.predict(np.zeros((count, 3, size, size), np.float32))
    except DataError as error:
        print(error)
        sys.exit(error.exit_code)
    except (RuntimeError, ValueError, MemoryError, OSError) as error:
        print(failure(error))
        sys.exit(1)


def _lower(kind: int, limit: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
