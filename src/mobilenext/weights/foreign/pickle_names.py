"""The fixed table of names that a checkpoint's pickle may ask for, and what each one makes.

Nothing is ever imported on a file's behalf: a name is looked up in `_KNOWN`, which leads to a function of this file
that checks its arguments and describes a value. Whatever is not in the table is refused by its full name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mobilenext.weights.foreign.arrays import ELEMENTS, Budget, Element, dense_array
from mobilenext.weights.foreign.pickle_nodes import Namespace, NumpyArray, NumpyDtype, Storage, Tensor, latin1
from mobilenext.weights.foreign.refusal import SAVE_STATE_DICT, Refusal, shown

Arguments = tuple[object, ...]
Constructor = Callable[[Arguments, Budget], object]

_ALLOWED = (
    "dict, list, tuple, set, str, bytes, numbers, None, OrderedDict, defaultdict, argparse.Namespace, "
    "NumPy arrays and numbers, and PyTorch tensors, parameters, sizes, devices and dtypes"
)
_BYTES_PER_MEMBER = 64  # roughly what a container spends on one


@dataclass(frozen=True)
class Global:
    """A known name. `make` is None where the name may only be mentioned, like a default factory."""

    name: str
    make: Constructor | None = None

    def called(self, arguments: object, budget: Budget) -> object:
        """Return what a call of this name in the file stands for."""
        if self.make is None or type(arguments) is not tuple:
            raise Refusal(f"the file calls {self.name}, which is not allowed. Nothing was executed", SAVE_STATE_DICT)
        return self.make(arguments, budget)


@dataclass(frozen=True)
class StorageType:
    """The class of a PyTorch storage, such as torch.FloatStorage: the kind of number it holds."""

    name: str
    element: Element


def find_global(module: str, name: str) -> Global | StorageType | Element:
    """Return the entry of the table for `module`.`name`, or a `Refusal` with that name."""
    entry = _KNOWN.get(f"{module}.{name}")
    if entry is None:
        raise Refusal(
            f"the file asks for {shown(f'{module}.{name}')}, which is not in the list of what a checkpoint may hold. "
            f"Nothing was executed. Allowed are {_ALLOWED}",
            SAVE_STATE_DICT,
        )
    return entry


def is_scalar(value: object) -> bool:
    """Return whether `value` may be a dict key or a member of a set.

    Tuples may not: hashing one that is nested deeply, or that shares its parts, ends in a crash or never ends. Nor may
    huge integers, which can be chosen to collide.
    """
    if type(value) is int:
        return value.bit_length() <= 64
    return value is None or type(value) in (str, bytes, float, bool)


# --- Python -----------------------------------------------------------------------------------------------------------


def _bytes_from_text(arguments: Arguments, budget: Budget) -> bytes:
    match arguments:
        case (str() as text, "latin1" | "latin-1"):
            budget.spend(len(text), f"a byte string of {len(text):,} bytes")
            return latin1(text)
    raise _unexpected("_codecs.encode", arguments)


def _empty_bytes(arguments: Arguments, budget: Budget) -> bytes:
    if arguments:
        raise _unexpected("bytes", arguments)
    return b""


def _tuple(arguments: Arguments, budget: Budget) -> tuple[object, ...]:
    match arguments:
        case (tuple() as members,):
            return members
    raise _unexpected("tuple", arguments)


def _set(arguments: Arguments, budget: Budget) -> set[object]:
    match arguments:
        case (list() as members,) if all(map(is_scalar, members)):
            budget.spend(_BYTES_PER_MEMBER * len(members), f"a set of {len(members):,} members")
            return set(members)
    raise _unexpected("set", arguments)


def _ordered_dict(arguments: Arguments, budget: Budget) -> dict[object, object]:
    match arguments:
        case ():
            return {}
        case (list() as pairs,):  # as Python 2 wrote it
            budget.spend(_BYTES_PER_MEMBER * len(pairs), f"a dict of {len(pairs):,} entries")
            entries: dict[object, object] = {}
            for pair in pairs:
                match pair:
                    case [key, value] if is_scalar(key):
                        entries[key] = value
                    case _:
                        raise _unexpected("collections.OrderedDict", arguments)
            return entries
    raise _unexpected("collections.OrderedDict", arguments)


def _default_dict(arguments: Arguments, budget: Budget) -> dict[object, object]:
    match arguments:
        case () | (None,) | (Global(),):
            return {}  # plain data has no use for the factory
    raise _unexpected("collections.defaultdict", arguments)


def _namespace(arguments: Arguments, budget: Budget) -> Namespace:
    if arguments:
        raise _unexpected("argparse.Namespace", arguments)
    return Namespace({})


# --- NumPy ------------------------------------------------------------------------------------------------------------


def _numpy_dtype(arguments: Arguments, budget: Budget) -> NumpyDtype:
    match arguments:
        case (str() as code, bool() | int(), bool() | int()) if code in _NUMPY_ELEMENTS:
            return NumpyDtype(_NUMPY_ELEMENTS[code])
        case (str() as code, *_):
            raise Refusal(f"the NumPy dtype {shown(code)} is not one of {', '.join(_NUMPY_ELEMENTS)}", SAVE_STATE_DICT)
    raise _unexpected("numpy.dtype", arguments)


def _numpy_array(arguments: Arguments, budget: Budget) -> NumpyArray:
    match arguments:
        case (Global(name="numpy.ndarray"), (0,), b"b" | "b"):
            return NumpyArray()
    raise _unexpected("numpy.core.multiarray._reconstruct", arguments)


def _numpy_scalar(arguments: Arguments, budget: Budget) -> object:
    match arguments:
        case (NumpyDtype() as dtype, (bytes() | str()) as data):
            contents = latin1(data) if isinstance(data, str) else data
            number: object = dense_array(contents, dtype.element, (), budget, byteorder=dtype.byteorder).item()
            return number
    raise _unexpected("numpy.core.multiarray.scalar", arguments)


# --- PyTorch ----------------------------------------------------------------------------------------------------------


def _tensor(arguments: Arguments, budget: Budget) -> Tensor:
    match arguments:
        case (Storage() as storage, int() as offset, tuple() as shape, tuple() as strides):
            return Tensor(storage, offset, shape, strides, storage.element)
    raise _unexpected("torch._utils._rebuild_tensor", arguments)


def _tensor_v2(arguments: Arguments, budget: Budget) -> Tensor:
    # storage, offset, shape, strides, requires_grad, backward hooks, and since 1.13 metadata
    if len(arguments) not in (6, 7):
        raise _unexpected("torch._utils._rebuild_tensor_v2", arguments)
    _refuse_lazy_bits(arguments[6:])
    return _tensor(arguments[:4], budget)


def _tensor_v3(arguments: Arguments, budget: Budget) -> Tensor:
    # as v2 over a storage of bare bytes, with the dtype before the metadata
    match arguments:
        case (
            Storage() as storage,
            int() as offset,
            tuple() as shape,
            tuple() as strides,
            _,
            _,
            Element() as element,
            *_,
        ):
            _refuse_lazy_bits(arguments[7:])
            return Tensor(storage, offset, shape, strides, element)
    raise _unexpected("torch._utils._rebuild_tensor_v3", arguments)


def _refuse_lazy_bits(metadata: Arguments) -> None:
    """Refuse a pending negation, which PyTorch may store beside a tensor: to ignore it would flip every sign."""
    if any(metadata):
        raise Refusal("a tensor carries metadata such as a pending conjugation or negation", SAVE_STATE_DICT)


def _parameter(arguments: Arguments, budget: Budget) -> Tensor:
    # tensor, requires_grad, backward hooks, and in the variant with state the attributes
    match arguments:
        case (Tensor() as tensor, _, _) | (Tensor() as tensor, _, _, _):
            return tensor
    raise _unexpected("torch._utils._rebuild_parameter", arguments)


def _device(arguments: Arguments, budget: Budget) -> str:
    match arguments:
        case (str() as kind,):
            return kind
        case (str() as kind, int() as index):
            return f"{kind}:{index}"
    raise _unexpected("torch.device", arguments)


def _unexpected(name: str, arguments: Arguments) -> Refusal:
    listed = ", ".join(shown(argument) for argument in arguments[:8])
    return Refusal(f"the file calls {name}({listed}), which no framework writes. Nothing was executed", SAVE_STATE_DICT)


# --- The table --------------------------------------------------------------------------------------------------------

_NUMPY_ELEMENTS = {element.code: element for name, element in ELEMENTS.items() if name not in ("bool", "bfloat16")}
_NUMPY_ELEMENTS["b1"] = ELEMENTS["bool"]

_FACTORIES = ("dict", "list", "set", "tuple", "int", "float", "str", "bool")

_STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "storage.UntypedStorage": "uint8",
}

# Python 2 called the module of the built-in names __builtin__, and protocols up to 2 still do.
_BUILTINS: dict[str, Constructor | None] = {
    **dict.fromkeys(_FACTORIES),
    "bytes": _empty_bytes,
    "tuple": _tuple,
    "set": _set,
    "frozenset": _set,
}

_MULTIARRAY: dict[str, Constructor] = {"_reconstruct": _numpy_array, "scalar": _numpy_scalar}

_MAKERS: dict[str, Constructor | None] = {
    **{f"{module}.{name}": make for module in ("builtins", "__builtin__") for name, make in _BUILTINS.items()},
    "_codecs.encode": _bytes_from_text,
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "argparse.Namespace": _namespace,
    "numpy.dtype": _numpy_dtype,
    "numpy.ndarray": None,
    # NumPy 2 renamed numpy.core
    **{f"numpy.{core}.multiarray.{name}": make for core in ("core", "_core") for name, make in _MULTIARRAY.items()},
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _tuple,
    "torch.device": _device,
}

_KNOWN: dict[str, Global | StorageType | Element] = {
    **{name: Global(name, make) for name, make in _MAKERS.items()},
    **{f"torch.{name}": StorageType(f"torch.{name}", ELEMENTS[number]) for name, number in _STORAGES.items()},
    **{f"torch.{name}": element for name, element in ELEMENTS.items()},
}
