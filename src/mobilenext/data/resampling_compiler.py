"""Compile the loops that resize images, once, for all processes of this machine: see `machine_code`.

python -m mobilenext.data.resampling_compiler       unless that has been done, or another process is at it
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from mobilenext.data.compiled_resize import is_pillows
from mobilenext.data.machine_code import NoMachineCode, code_file, file_content, link, llvm_binding, target_machine
from mobilenext.errors import MobileNeXtError
from mobilenext.files import write_atomically


def compile_loops(path: Path) -> None:
    """Compile the loops and write their machine code, after it was loaded and has resized as Pillow does.

    Raises:
        NoMachineCode: the result is not Pillow's. OutputError: the file cannot be written.
    """
    code = _machine_code()
    if not is_pillows(link(code)):
        raise NoMachineCode("the compiled loops do not resize as this Pillow does")
    write_atomically(path, file_content(code))


def _machine_code() -> bytes:
    from numba import cfunc, void

    from mobilenext.data.resampling_loops import FUNCTIONS, SETTINGS

    llvm = llvm_binding()
    whole = llvm.parse_assembly("")
    for function, arguments in FUNCTIONS.items():
        compiled = cfunc(void(*arguments), **SETTINGS)(function)
        module = llvm.parse_assembly(compiled.inspect_llvm())
        for part in module.functions:
            if part.is_declaration:
                continue
            if part.name == compiled.native_name:
                # Numba's wrapper tells Python of exceptions, which needs Numba. There are none: it is left out.
                part.linkage = "available_externally"
            elif part.linkage == llvm.Linkage.external:  # the function itself; those that it calls have another linkage
                part.name = f"mobilenext_{function.__name__}"
        whole.link_in(module)
    code: bytes = target_machine(llvm).emit_object(whole)
    return code


def main() -> None:
    """Compile the loops, unless they are there or another process is at it."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(10)  # who waits for results has the processor first
    os.umask(0o022)  # nobody else may write to the file
    path = code_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(Timeout), FileLock(path.with_suffix(".lock"), timeout=0):
        if not path.exists():
            compile_loops(path)


if __name__ == "__main__":
    try:
        main()
    except (NoMachineCode, MobileNeXtError, OSError) as error:
        sys.exit(str(error))
