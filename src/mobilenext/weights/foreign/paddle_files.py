"""What `paddle.save` writes (`.pdparams`, `.pdopt`): one pickle of a dict of NumPy arrays.

Layout as in `paddle/framework/io.py` (`_pickle_save`) and `io_utils.py` (`_unpack_saved_dict`).
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np

from mobilenext.weights.foreign.arrays import ELEMENTS, Array, Budget, checked_shape, dense_array
from mobilenext.weights.foreign.pickle_machine import run_pickle
from mobilenext.weights.foreign.pickle_nodes import plain
from mobilenext.weights.foreign.refusal import Refusal, shown

STRUCTURED_NAMES = "StructuredToParameterName@@"  # parameter names inside the framework; bookkeeping, not a tensor
_SLICED = "UnpackBigParamInfor@@"


def read_paddle_pickle(data: bytes, budget: Budget) -> Any:
    """Return the plain tree in a file of `paddle.save`, with its two ways to wrap a tensor undone.

    A tensor outside a plain state dict is stored as (its name, array): the array remains. An array over 1 GiB is cut
    into flat slices by the pickle protocols 2 and 3: they are joined again.

    Raises:
        Refusal: slices that do not fit together; bytes after the end; anything `run_pickle` refuses. A `DenseTensor`
            saved on its own is one of these, because Paddle stores it as a call of `eval`.
    """
    stream = BytesIO(data)
    tree = plain(run_pickle(stream, budget), budget)
    if stream.tell() != len(data):
        raise Refusal(f"{len(data) - stream.tell():,} bytes follow the pickle, where the file should end")
    if isinstance(tree, dict) and _SLICED in tree:
        tree = _joined(tree, budget)
    return _unwrapped(tree, budget)


def _unwrapped(tree: Any, budget: Budget) -> Any:
    """Return the tree without the names of tensors outside a state dict, and with bfloat16 widened to float32."""
    match tree:
        case dict():
            return {key: _unwrapped(value, budget) for key, value in tree.items()}
        case list():
            return [_unwrapped(value, budget) for value in tree]
        case (str(), np.ndarray() as array):
            return _unwrapped(array, budget)
        case tuple():
            return tuple(_unwrapped(value, budget) for value in tree)
        case np.ndarray(dtype=np.uint16):  # how Paddle hands bfloat16 to NumPy; whole numbers of 16 bits it has none
            return dense_array(tree.astype("<u2").tobytes(), ELEMENTS["bfloat16"], tree.shape, budget)
    return tree


def _joined(tree: dict[Any, Any], budget: Budget) -> dict[Any, Any]:
    """Return `tree` with each sliced array whole again; arrays keep their order, the joined ones come last."""
    whole: dict[Any, Array] = {}
    used: set[Any] = {_SLICED}
    described = tree[_SLICED] if isinstance(tree[_SLICED], dict) else {}
    for name, description in described.items():
        match description:
            case {"OriginShape": tuple() as claimed, "slices": [_, *_] as parts}:
                shape = checked_shape(claimed)
            case _:
                raise Refusal(f"the sliced array {shown(name)} is not described by its shape and its slices")
        slices = [_slice(tree, part, used) for part in parts]
        if len({array.dtype for array in slices}) != 1 or sum(array.size for array in slices) != math.prod(shape):
            raise Refusal(f"the slices of {shown(name)} do not make up the shape {shape}")
        budget.spend(sum(array.nbytes for array in slices), f"the sliced array {shown(name)}")
        whole[name] = np.concatenate(slices).reshape(shape)
    rest = {name: value for name, value in tree.items() if name not in used}
    repeated = sorted(shown(name) for name in whole.keys() & rest.keys())
    if repeated:
        raise Refusal(f"the array {repeated[0]} is there both whole and in slices")
    return rest | whole


def _slice(tree: dict[Any, Any], part: object, used: set[Any]) -> Array:
    array = tree.get(part) if isinstance(part, str) else None
    if not isinstance(array, np.ndarray) or array.ndim != 1 or part in used:
        raise Refusal(f"the slice {shown(part)} is missing, used twice, or not a flat array")
    used.add(part)
    return array
