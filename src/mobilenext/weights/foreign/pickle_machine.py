"""A pickle interpreter that can build data and nothing else.

Python's own `pickle.Unpickler` is not used, not even with `find_class` closed: its opcodes set attributes on any
object, hash tuples nested a million deep (a crash) and reserve memory for lengths that a file only claims. The standard
library (`pickletools`) still decodes each opcode's argument; the forty or so opcodes that frameworks write are given
their meaning here, and every other one (extension codes, INST, OBJ, text of protocol 0) is refused by its name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from io import BytesIO
from typing import Any

from mobilenext.weights.foreign.arrays import Budget
from mobilenext.weights.foreign.pickle_names import Global, find_global, is_scalar
from mobilenext.weights.foreign.pickle_nodes import Stateful
from mobilenext.weights.foreign.refusal import SAVE_STATE_DICT, Refusal, shown

PersistentLoad = Callable[[object], object]

_NEWEST_PROTOCOL = 5
_MOST_OPCODES = 1_000_000  # a network of a thousand tensors with its optimizer takes about 100,000
_LONGEST_INTEGER_BITS = 256

# fmt: off
_SUPPORTED = frozenset((
    "PROTO", "FRAME", "STOP", "MARK",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS", "FROZENSET",
    "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET",
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID",
))
# fmt: on
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}


def run_pickle(stream: BytesIO, budget: Budget, persistent_load: PersistentLoad | None = None) -> object:
    """Interpret one pickle from where `stream` stands and leave it behind the pickle's end.

    Args:
        persistent_load: what to do with the objects that the pickle keeps outside itself; None refuses them.

    Returns:
        dict, list, tuple, set, scalars and the nodes of `_pickle_nodes`; see `plain` there.

    Raises:
        Refusal: the pickle is damaged, asks for a name or an opcode that is not allowed, or is too large.
    """
    machine = _Machine(stream, budget, persistent_load)
    try:
        return machine.run()
    except (ValueError, IndexError, KeyError) as error:
        # A length beyond the end, an empty stack, an unknown memo: all that damage can do to opcodes.
        raise Refusal(
            f"the pickle breaks off or is damaged near byte {stream.tell():,} ({shown(str(error))})"
        ) from None


class _Machine:
    """`stack` is the innermost one; `outer` holds those that a MARK has set aside."""

    def __init__(self, stream: BytesIO, budget: Budget, persistent_load: PersistentLoad | None) -> None:
        self.stream = stream
        self.budget = budget
        self.persistent_load = persistent_load
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, object] = {}  # a dict: a list would grow to whatever index a file claims

    def run(self) -> object:
        for _ in range(_MOST_OPCODES):
            name, argument = self._next_opcode()
            if name == "STOP":
                return self.stack.pop()
            self._step(name, argument)
        raise Refusal(f"the pickle has more than {_MOST_OPCODES:,} opcodes", SAVE_STATE_DICT)

    def _next_opcode(self) -> tuple[str, Any]:
        code = self.stream.read(1)
        if not code:
            raise ValueError("no end of the pickle")
        opcode = _OPCODES.get(code)
        if opcode is None or opcode.name not in _SUPPORTED:
            name = "unknown" if opcode is None else opcode.name
            raise Refusal(
                f"the pickle uses opcode {code!r} ({name}) at byte {self.stream.tell() - 1:,}, "
                f"which neither PyTorch nor Paddle writes. Nothing was executed"
            )
        if opcode.name == "GLOBAL":
            # pickletools would also interpret backslashes, which a module's name does not have
            return opcode.name, (self._line(), self._line())
        return opcode.name, opcode.arg.reader(self.stream) if opcode.arg is not None else None

    def _line(self) -> str:
        line = self.stream.readline()
        if not line.endswith(b"\n"):
            raise ValueError("no end of the line")
        return line[:-1].decode("utf-8")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO":
                if argument > _NEWEST_PROTOCOL:
                    raise Refusal(f"the pickle claims protocol {argument}, known are 2 to {_NEWEST_PROTOCOL}")
            case "FRAME":
                pass  # a hint for buffering
            # scalars
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "LONG4":
                if argument.bit_length() > _LONGEST_INTEGER_BITS:
                    raise Refusal(f"an integer of {argument.bit_length():,} bits", SAVE_STATE_DICT)
                stack.append(argument)
            case (
                "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "BINSTRING" | "SHORT_BINSTRING"
                | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8"
            ):  # fmt: skip
                stack.append(argument)
            # containers
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_SET":
                stack.append(set())
            case "EMPTY_TUPLE":
                stack.append(())
            case "MARK":
                self.outer.append(stack)
                self.stack = []
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(name[-1])
                if len(stack) < size:
                    raise IndexError("empty stack")
                stack[-size:] = [tuple(stack[-size:])]
            case "TUPLE":
                members = self._since_mark()
                self.stack.append(tuple(members))
            case "FROZENSET":
                members = self._since_mark()
                self.stack.append(set())
                self._add(members)
            case "APPEND":
                self._extend([stack.pop()])
            case "APPENDS":
                self._extend(self._since_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._update([key, value])
            case "SETITEMS":
                self._update(self._since_mark())
            case "ADDITEMS":
                self._add(self._since_mark())
            # memo
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            # objects, all of them ours
            case "GLOBAL":
                stack.append(find_global(*argument))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                if not (isinstance(module, str) and isinstance(attribute, str)):
                    raise Refusal("the pickle names a global by something that is not text. Nothing was executed")
                stack.append(find_global(module, attribute))
            case "REDUCE" | "NEWOBJ":
                arguments, called = stack.pop(), stack.pop()
                if not isinstance(called, Global):
                    raise Refusal(f"the pickle calls {shown(called)}, not a known name. Nothing was executed")
                stack.append(called.called(arguments, self.budget))
            case "BUILD":
                state = stack.pop()
                self._set_state(stack[-1], state)
            case "BINPERSID":
                if self.persistent_load is None:
                    raise Refusal("the pickle refers to data outside itself, which this format does not have")
                stack.append(self.persistent_load(stack.pop()))
            case _:
                raise AssertionError(name)

    def _since_mark(self) -> list[Any]:
        members, self.stack = self.stack, self.outer.pop()
        return members

    def _extend(self, members: list[Any]) -> None:
        self._top(list).extend(members)

    def _update(self, keys_and_values: list[Any]) -> None:
        entries = self._top(dict)
        if len(keys_and_values) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(keys_and_values[::2], keys_and_values[1::2], strict=True):
            entries[_scalar(key)] = value

    def _add(self, members: list[Any]) -> None:
        self._top(set).update(map(_scalar, members))

    def _top(self, kind: type) -> Any:
        top = self.stack[-1]
        if type(top) is not kind:
            raise Refusal(f"the pickle fills {shown(top)} as if it were a {kind.__name__}")
        return top

    def _set_state(self, target: object, state: object) -> None:
        if isinstance(target, Stateful):
            target.set_state(state)
        elif not (type(target) is dict and type(state) is dict):
            raise Refusal(f"the pickle sets attributes on {shown(target)}. Nothing was executed", SAVE_STATE_DICT)
        # else: attributes of an OrderedDict, such as a state dict's `_metadata`; weights have no use for them


def _scalar(key: object) -> object:
    if not is_scalar(key):
        raise Refusal(
            f"{shown(key)} is a dict key or in a set, where only text, bytes and numbers of up to 64 bits may be",
            SAVE_STATE_DICT,
        )
    return key
