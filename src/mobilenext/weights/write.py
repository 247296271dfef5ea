"""Write weights: safetensors with their metadata, or Paddle's own format."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mobilenext.errors import UsageError
from mobilenext.files import write_atomically
from mobilenext.weights import naming
from mobilenext.weights.naming import Array
from mobilenext.weights.record import Weights

STORAGES = ("float32", "float16")


def write_weights(
    weights: Weights, path: str | os.PathLike[str], *, to: str = "paddle", storage: str = "float32"
) -> dict[str, Array]:
    """Write a safetensors or ``.pdparams`` file, atomically, and return the tensors as they were written.

    Args:
        weights: the tensors and their record.
        path: the suffix decides the format; ``.pdparams`` has no room for the metadata.
        to: names and layouts, ``paddle`` or ``pytorch`` (safetensors only).
        storage: float32, or float16 (safetensors only): half of the size, rounded; reading widens them to float32. A
            tensor with a value that is too large for float16 stays float32.

    Raises:
        UsageError: another suffix or storage.
        OutputError: it cannot be written.
    """
    path = Path(path)
    check_output(path, to, storage)
    tensors = naming.to_pytorch(weights.tensors, weights.entries) if to == "pytorch" else dict(weights.tensors)
    if path.suffix == ".safetensors":
        metadata = weights.metadata()
        if storage == "float16":
            tensors = {name: narrowed(tensor) for name, tensor in tensors.items()}
            metadata["storage"] = storage
        content = safetensors_bytes(tensors, metadata)
    else:
        import io

        import paddle

        buffer = io.BytesIO()
        paddle.save(dict(tensors), buffer)
        content = buffer.getvalue()
    write_atomically(path, content)
    return tensors


def narrowed(tensor: Array) -> Array:
    """Return the tensor as float16, or as it is where a value is too large for that."""
    with np.errstate(over="ignore"):
        narrow = tensor.astype(np.float16)
    return narrow if np.isfinite(narrow).all() else tensor


def check_output(path: Path, to: str, storage: str = "float32") -> None:
    """Raise UsageError for a suffix or a storage that `write_weights` does not know."""
    if storage not in STORAGES:
        raise UsageError(f"storage is {storage!r}; expected {' or '.join(STORAGES)}")
    if storage == "float16" and path.suffix != ".safetensors":
        raise UsageError(f"output {path} has the suffix {path.suffix!r}; expected .safetensors, which stores float16")
    if path.suffix == ".safetensors" or (path.suffix == ".pdparams" and to == "paddle"):
        return
    expected = ".safetensors or .pdparams" if to == "paddle" else ".safetensors (PyTorch reads it without pickle)"
    raise UsageError(f"output {path} has the suffix {path.suffix!r}; expected {expected}")


def safetensors_bytes(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a safetensors file: equal for equal content, so that checksums can be compared.

    The safetensors package writes the metadata in an order that changes from one call to the next. Here its header is
    replaced by one with the metadata in alphabetical order.
    """
    from safetensors.numpy import save

    # The package writes memory as it lies: the values of a transposed array would come out in another order.
    content = save({name: np.asarray(array, order="C") for name, array in tensors.items()}, metadata=dict(metadata))
    start = 8 + int.from_bytes(content[:8], "little")  # 8 bytes: the length of the header
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[start:]
