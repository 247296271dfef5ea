"""The compiled loops of `resampling_loops` as a file of machine code, which a process loads in a tenth of a second.

Numba takes a second of every process to be imported and to find what it has stored. So one process compiles the loops,
once (`resampling_compiler`), and stores their machine code in the cache folder; all others read that file by llvmlite,
the part of Numba that knows machine code.

The file's name tells what the code depends on: the loops, the versions of Numba and llvmlite, the kind of processor.
Only a file of the user's own (or root's) that nobody else can write to is loaded, and only if two checksums are right:
of the content, and of what this very processor can do.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.metadata
import os
import platform
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

from mobilenext.errors import OutputError
from mobilenext.machine.environment import processor
from mobilenext.machine.home import cache_folder

NAMES = ("weigh", "along_rows", "along_columns")  # of the functions; all their arguments are arrays
_SUM_BYTES = 32
_OLDEST_NUMBA = (0, 59)  # as in pyproject.toml
_SOURCES = ("resampling_loops", "resampling_compiler", "machine_code")
_LARGEST_BYTES = 1 << 20

Function = Callable[..., None]


class Loops(NamedTuple):
    """The functions of `resampling_loops`, which take arrays, or addresses, in place of pointers."""

    weigh: Function
    along_rows: Function
    along_columns: Function


class NoMachineCode(Exception):
    """Why there are no compiled loops, in a few words."""


def code_file() -> Path:
    """Return where the machine code for this processor is, or would be.

    Raises:
        NoMachineCode: Numba is not installed, or too old; there is no folder.
    """
    try:
        versions = importlib.metadata.version("numba"), importlib.metadata.version("llvmlite")
        folder = cache_folder()
    except importlib.metadata.PackageNotFoundError:
        raise NoMachineCode("Numba is not installed: pip install 'mobilenext[train]'") from None
    except OutputError as error:
        raise NoMachineCode(str(error)) from error
    if tuple(map(int, re.findall(r"\d+", versions[0])[:2])) < _OLDEST_NUMBA:
        raise NoMachineCode(f"Numba {versions[0]} is too old, expected {'.'.join(map(str, _OLDEST_NUMBA))} or newer")
    sources = b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in _SOURCES)
    machine = repr((versions, platform.machine(), sys.platform, processor())).encode()
    return folder / "compiled" / f"resampling-{hashlib.sha256(sources + machine).hexdigest()[:16]}.o"


def read_code(path: Path) -> bytes:
    """Return the content of a file that `resampling_compiler` has written, behind its checksum.

    Raises:
        NoMachineCode: there is none, other users may have written it, or it is damaged.
    """
    try:
        # A pipe would let the process wait for somebody who writes.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())  # of the file that is read, whatever stands under its name by now
            others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in (os.getuid(), 0)
            if others or not stat.S_ISREG(status.st_mode):
                raise NoMachineCode(f"other users may have written {path}; delete it, or set MOBILENEXT_HOME")
            content = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise NoMachineCode("the loops have not been compiled yet") from None
    except OSError as error:
        raise NoMachineCode(f"{path}: {error}") from error
    checksum, sealed = content[:_SUM_BYTES], content[_SUM_BYTES:]
    if hashlib.sha256(sealed).digest() != checksum:
        raise NoMachineCode(f"{path} is damaged; delete it")
    return sealed


def load(path: Path) -> Loops:
    """Load the machine code of a file that `resampling_compiler` has written.

    Raises:
        NoMachineCode: as `read_code`, or it is for another processor.
    """
    sealed = read_code(path)
    try:
        if sealed[:_SUM_BYTES] != processor_seal():
            raise NoMachineCode(f"{path} is for another processor; delete it")
        return link(sealed[_SUM_BYTES:])
    except NoMachineCode:
        raise
    except Exception as error:  # other versions of llvmlite than those that were tested may raise anything
        raise NoMachineCode(f"llvmlite cannot load {path}: {error}") from error


def file_content(code: bytes) -> bytes:
    """Return what is stored of machine code for this processor."""
    sealed = processor_seal() + code
    return hashlib.sha256(sealed).digest() + sealed


def processor_seal() -> bytes:
    """Return a checksum of all that this very processor can do."""
    llvm = llvm_binding()
    abilities = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    return hashlib.sha256(abilities.encode()).digest()


def llvm_binding() -> Any:
    """Return llvmlite's binding, ready for this processor."""
    import llvmlite.binding as llvm

    with contextlib.suppress(RuntimeError):  # newer versions need it no longer, and say so
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def target_machine(llvm: Any) -> Any:
    """Return what makes code for this very processor."""
    features = llvm.get_host_cpu_features().flatten()
    triple = llvm.Target.from_default_triple()
    return triple.create_target_machine(llvm.get_host_cpu_name(), features, 3, "default", "jitdefault", jit=True)


def link(code: bytes) -> Loops:
    """Make machine code ready to run in this process."""
    llvm = llvm_binding()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine(llvm))
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return Loops(*(_function(engine, name) for name in NAMES))


def _function(engine: Any, name: str) -> Function:
    # As Numba compiles them, functions take two addresses in front of their arguments, for the result (here: None, an
    # empty address) and for an exception (here never one). ctypes lets other threads run meanwhile.
    address = engine.get_function_address(f"mobilenext_{name}")
    nothing = ctypes.create_string_buffer(16)
    places = (ctypes.addressof(nothing), ctypes.addressof(nothing) + 8)
    prototypes: dict[int, Any] = {}

    def call(*arrays: npt.NDArray[Any] | int) -> None:
        count = len(arrays)
        if count not in prototypes:
            prototypes[count] = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * (count + 2))(address)
        prototypes[count](*places, *[array if isinstance(array, int) else array.ctypes.data for array in arrays])

    vars(call)["kept"] = (engine, nothing)  # the memory of both stays as long as the function
    return call
