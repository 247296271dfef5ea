"""The safetensors layout: 8 bytes for the length of a JSON header, the header, then one run of bytes for each tensor.

Read here rather than by the safetensors package so that bfloat16 arrives exactly, a refused entry is named, and the
file's metadata comes along. https://huggingface.co/docs/safetensors describes the layout.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from typing import Any

from mobilenext.weights.foreign.arrays import ELEMENTS, Array, Budget, checked_shape, dense_array
from mobilenext.weights.foreign.refusal import SAVE_STATE_DICT, Refusal, shown

LONGEST_HEADER = 10_000_000  # 100,000 tensors; the format allows ten times that, which JSON makes gigabytes of
_METADATA = "__metadata__"
_ELEMENTS = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}


def read_safetensors(data: bytes, budget: Budget) -> tuple[dict[str, Array], dict[str, str]]:
    """Return all tensors in the order of their bytes, and the file's own metadata (empty where it has none).

    Raises:
        Refusal: a header that is cut off or not JSON of the format; a name twice; an unknown kind of number; tensors
            that overlap, leave gaps, or do not end where the file does.
    """
    header, start = _read_header(data)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise Refusal(f"{_METADATA} must map text to text")

    body = memoryview(data)[start:]
    entries = sorted((_described(name, entry) for name, entry in header.items()), key=lambda entry: entry[3:])
    tensors: dict[str, Array] = {}
    position = 0
    for name, element, shape, begin, end in entries:
        # The format has no gaps, so each tensor begins where the one before it ends.
        if begin != position or not begin <= end <= len(body):
            raise Refusal(
                f"tensor {shown(name)} claims bytes {shown(begin)} to {shown(end)} of {len(body)}, "
                f"and the one before it ends at {position}"
            )
        try:
            tensors[name] = dense_array(body[begin:end], ELEMENTS[element], checked_shape(shape), budget)
        except Refusal as refusal:
            raise Refusal(f"tensor {shown(name)}: {refusal.problem}", refusal.advice) from None
        position = end
    if position != len(body):
        raise Refusal(f"{len(body) - position:,} bytes follow the last tensor, where the file should end")
    return tensors, metadata


def _read_header(data: bytes) -> tuple[dict[str, Any], int]:
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(LONGEST_HEADER, len(data) - 8):
        raise Refusal(f"the safetensors header claims {length:,} bytes, {len(data) - 8:,} are there")
    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"the safetensors header is not JSON ({shown(str(error))})") from None
    return header, 8 + length  # an object, as it begins with a brace: that is how the format was recognized


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        ((repeated, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise Refusal(f"the safetensors header has {shown(repeated)} twice")
    return entries


def _described(name: str, entry: object) -> tuple[str, str, list[object], int, int]:
    match entry:
        case {"dtype": str() as kind, "shape": list() as shape, "data_offsets": [int() as begin, int() as end]}:
            if kind not in _ELEMENTS:
                known = ", ".join(_ELEMENTS)
                raise Refusal(f"tensor {shown(name)} is of dtype {shown(kind)}, known are {known}", SAVE_STATE_DICT)
            return name, _ELEMENTS[kind], shape, begin, end
    raise Refusal(f"tensor {shown(name)} is not described by dtype, shape and two data_offsets")
