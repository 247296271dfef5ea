"""Claimed bytes to owned arrays: the only place where numbers in a foreign file become memory.

A file may claim any size, so three things hold for every array made here: its last element lies inside the bytes that
are really there, its shape multiplies to something sane, and all arrays of one file together stay within a `Budget`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mobilenext.weights.foreign.refusal import Refusal, shown

Array: TypeAlias = NDArray[Any]

_SMALLEST_BUDGET = 64 * 2**20
_BUDGET_PER_FILE_BYTE = 4
_MOST_DIMENSIONS = 32  # NumPy 1's own limit
_MOST_ELEMENTS = 2**40


class Budget:
    """Bytes that may still be made out of one file: max(64 MiB, 4 x the file's size) over everything in it.

    An honest file needs at most twice its size (bfloat16 widened to float32, or every weight stored once and viewed
    twice). A stride of 0 or a storage with a thousand views can claim any multiple, and is stopped here.
    """

    def __init__(self, file_size: int) -> None:
        self.limit = max(_SMALLEST_BUDGET, _BUDGET_PER_FILE_BYTE * file_size)
        self.spent = 0

    def spend(self, size: int, what: str) -> None:
        """Count `size` bytes before they are allocated; `what` names them if they are too many."""
        self.spent += size
        if self.spent > self.limit:
            raise Refusal(
                f"{what} would bring the memory used to {self.spent:,} bytes, over the limit of {self.limit:,} bytes "
                f"for a file of this size (four times the file, at least 64 MiB)"
            )


@dataclass(frozen=True)
class Element:
    """One kind of number. `code` is NumPy's name of its bits in the file; bfloat16 has no NumPy type of its own."""

    name: str
    code: str

    @property
    def itemsize(self) -> int:
        """Bytes in the file."""
        return np.dtype(self.code).itemsize

    @property
    def dtype(self) -> np.dtype[Any]:
        """What an array of it has in memory."""
        return np.dtype("float32" if self.name == "bfloat16" else self.name)


_NUMBERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")
ELEMENTS = {name: Element(name, np.dtype(name).str[1:]) for name in _NUMBERS}
ELEMENTS["bool"] = Element("bool", "u1")
ELEMENTS["bfloat16"] = Element("bfloat16", "u2")


def checked_shape(shape: Sequence[object]) -> tuple[int, ...]:
    """Return `shape` as a tuple of ints; Refusal: negative, not whole, too many dimensions or elements."""
    sizes = tuple(size for size in shape if type(size) is int and size >= 0)
    claim = f"({', '.join(shown(size) for size in shape[:_MOST_DIMENSIONS])})"
    if len(sizes) != len(shape) or len(shape) > _MOST_DIMENSIONS:
        raise Refusal(f"a shape is at most {_MOST_DIMENSIONS} whole numbers, none negative; this one is {claim}")
    # An axis of 0 counts as 1: it makes the array empty, and the others may still be too large for NumPy.
    if math.prod(max(size, 1) for size in sizes) > _MOST_ELEMENTS:
        raise Refusal(f"the shape {claim} claims more than 2^40 elements")
    return sizes


def dense_array(
    data: memoryview | bytes,
    element: Element,
    shape: tuple[int, ...],
    budget: Budget,
    *,
    byteorder: str = "<",
    fortran: bool = False,
) -> Array:
    """Return an own array of `shape` from exactly as many bytes as it needs, in C or Fortran order."""
    needed = math.prod(shape) * element.itemsize
    if len(data) != needed:
        raise Refusal(f"{element.name} of shape {shape} takes {needed:,} bytes, {len(data):,} are there")
    axes = range(len(shape)) if fortran else reversed(range(len(shape)))
    strides = [0] * len(shape)
    step = 1
    for axis in axes:
        strides[axis] = step
        step *= shape[axis]
    return strided_array(data, element, shape, budget, strides=strides, byteorder=byteorder)


def strided_array(
    data: memoryview | bytes,
    element: Element,
    shape: tuple[int, ...],
    budget: Budget,
    *,
    strides: Sequence[int],
    offset: int = 0,
    byteorder: str = "<",
) -> Array:
    """Return an own, C-contiguous, native array of `shape` from a strided view of `data`.

    Args:
        shape: from `checked_shape`.
        strides: one for each axis, in elements, none negative.
        offset: of the first element, in elements.
        byteorder: "<" or ">", of the numbers in `data`.

    bfloat16 is widened to float32, which holds each of its values exactly; any other element keeps its type.
    """
    budget.spend(math.prod(shape) * element.dtype.itemsize, f"{element.name} of shape {shape}")
    if math.prod(shape) == 0:
        return np.empty(shape, element.dtype)

    available = len(data) // element.itemsize
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if offset < 0 or min(strides, default=0) < 0 or last >= available:
        raise Refusal(
            f"offset {offset}, shape {shape} and strides {tuple(strides)} leave the storage of {available:,} elements"
        )
    view: Array = np.ndarray(
        shape,
        np.dtype(byteorder + element.code),
        buffer=data,
        offset=offset * element.itemsize,
        # The stride of an axis of size 1 is never used; a file may hold any number there, NumPy takes 64 bits.
        strides=[stride * element.itemsize if size > 1 else 0 for size, stride in zip(shape, strides, strict=True)],
    )
    if element.name == "bool":
        return np.array(view != 0, order="C")  # a byte of 2 would make a bool that is neither True nor False
    if element.name == "bfloat16":
        bits = view.astype(np.uint32, order="C")
        np.left_shift(bits, 16, out=bits)  # bfloat16 is the upper half of a float32
        return bits.view(np.float32)
    return view.astype(element.dtype, order="C", copy=True)
