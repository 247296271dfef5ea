"""What a pickle in a checkpoint may hold besides plain containers, and how a finished tree becomes plain data.

A pickle mentions tensors before (in PyTorch's stream format) or far from (in its zip format) their bytes, so unpickling
yields a tree of the nodes below, which only describe. `plain` then walks that tree once and makes the arrays.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TypeAlias

from mobilenext.weights.foreign.arrays import Array, Budget, Element, checked_shape, dense_array, strided_array
from mobilenext.weights.foreign.refusal import SAVE_STATE_DICT, Refusal, shown

_DEEPEST = 64
_MOST_VALUES = 1_000_000


def plain(tree: object, budget: Budget) -> Any:
    """Return `tree` with every node made into an array, a number, a string or a dict.

    The result is a tree in the strict sense: a container that the file mentions twice is built twice, so nothing in
    it is shared or refers to itself. Depth and size are bounded, which also ends self-reference and explosive sharing.
    """
    return _Walk(budget).value(tree)


@dataclass(eq=False)
class Storage:
    """`count` elements somewhere in the file, which tensors look at.

    `data` stays None until the reader knows where the bytes are. A view has a `base` instead and begins `start`
    elements into it.
    """

    key: str
    element: Element
    count: int
    data: memoryview | None = None
    byteorder: str = "<"
    base: Storage | None = None
    start: int = 0

    def contents(self) -> memoryview:
        if self.base is not None:
            size = self.element.itemsize
            return self.base.contents()[self.start * size : (self.start + self.count) * size]
        assert self.data is not None  # both readers refuse a file that lacks a storage before they ask for it
        return self.data

    def plain(self, budget: Budget) -> Array:
        return dense_array(self.contents(), self.element, (self.count,), budget, byteorder=self.byteorder)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A strided view of a storage. `element` is the storage's unless the file says otherwise (untyped storages)."""

    storage: Storage
    offset: int
    shape: tuple[object, ...]
    strides: tuple[object, ...]
    element: Element

    def plain(self, budget: Budget) -> Array:
        shape = checked_shape(self.shape)
        strides = [stride for stride in self.strides if type(stride) is int]
        if not len(shape) == len(self.strides) == len(strides):
            raise Refusal(f"shape {shape} needs {len(shape)} whole numbers as strides, {len(strides)} are there")
        return strided_array(
            self.storage.contents(),
            self.element,
            shape,
            budget,
            strides=strides,
            offset=self.offset,
            byteorder=self.storage.byteorder,
        )


@dataclass(eq=False)
class NumpyDtype:
    """`numpy.dtype`: made from its code, told the byte order afterwards."""

    element: Element
    byteorder: str = "<" if sys.byteorder == "little" else ">"

    def set_state(self, state: object) -> None:
        match state:
            # version, byte order, then sub-array, field names and fields, which a tensor never has
            case (int(), "<" | "|" | ">" as order, None, None, None, *_):
                self.byteorder = ">" if order == ">" else "<"
            case _:
                raise Refusal("a NumPy dtype with fields, sub-arrays or metadata", SAVE_STATE_DICT)

    def plain(self, budget: Budget) -> str:
        return self.element.name


@dataclass(eq=False)
class NumpyArray:
    """`numpy.ndarray`: made empty, then given (version, shape, dtype, is Fortran order, bytes)."""

    state: tuple[tuple[object, ...], NumpyDtype, bool, bytes] | None = None

    def set_state(self, state: object) -> None:
        match state:
            case (int(), tuple() as shape, NumpyDtype() as dtype, (bool() | int()) as fortran, bytes() as data):
                self.state = (shape, dtype, bool(fortran), data)
            case (int(), tuple() as shape, NumpyDtype() as dtype, (bool() | int()) as fortran, str() as text):
                self.state = (shape, dtype, bool(fortran), latin1(text))  # written by Python 2
            case _:
                raise Refusal("a NumPy array whose contents are not plain bytes", SAVE_STATE_DICT)

    def plain(self, budget: Budget) -> Array:
        if self.state is None:
            raise Refusal("a NumPy array without contents")
        shape, dtype, fortran, data = self.state
        return dense_array(
            data, dtype.element, checked_shape(shape), budget, byteorder=dtype.byteorder, fortran=fortran
        )


@dataclass(eq=False)
class Namespace:
    """`argparse.Namespace`: its attributes become a dict."""

    attributes: dict[Any, object]

    def set_state(self, state: object) -> None:
        if type(state) is not dict:
            raise Refusal(f"the attributes of an argparse.Namespace are {shown(state)}, not a dict")
        self.attributes = state


Stateful: TypeAlias = NumpyDtype | NumpyArray | Namespace  # completed by the pickle after they have been made


def latin1(text: str) -> bytes:
    """Return the bytes that older pickle protocols spell as text, one character for each."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise Refusal("bytes spelled as text hold a character above 255") from None


class _Walk:
    """One pass over a tree. `path` names the value at hand in a message."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.path: list[object] = []
        self.values = 0

    def value(self, node: object) -> Any:
        self.values += 1
        if self.values > _MOST_VALUES or len(self.path) > _DEEPEST:
            raise Refusal(
                f"{self._where()}the contents are nested deeper than {_DEEPEST} levels or have more than "
                f"{_MOST_VALUES:,} values, which no checkpoint of weights needs",
                SAVE_STATE_DICT,
            )
        match node:
            case None | bool() | int() | float() | str() | bytes():
                return node
            case dict():
                return {key: self._inside(key, value) for key, value in node.items()}
            case Namespace():
                return {key: self._inside(key, value) for key, value in node.attributes.items()}
            case list():
                return [self._inside(index, value) for index, value in enumerate(node)]
            case tuple():
                return tuple(self._inside(index, value) for index, value in enumerate(node))
            case set() | frozenset():
                self.values += len(node)
                return set(node)  # members are scalars: the machine lets nothing else in
            case Element():
                return f"torch.{node.name}"
            case Storage() | Tensor() | NumpyDtype() | NumpyArray():
                try:
                    return node.plain(self.budget)
                except Refusal as refusal:
                    raise Refusal(self._where() + refusal.problem, refusal.advice) from None
            case _:
                name = getattr(node, "name", type(node).__name__)
                raise Refusal(f"{self._where()}{name} itself is stored as a value", SAVE_STATE_DICT)

    def _inside(self, key: object, value: object) -> Any:
        self.path.append(key)
        result = self.value(value)
        self.path.pop()
        return result

    def _where(self) -> str:
        return f"entry {shown('/'.join(str(key) for key in self.path[:6]))}: " if self.path else ""
