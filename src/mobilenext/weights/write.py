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


def write_weights(weights: Weights, path: str | os.PathLike[str], *, to: str = "paddle") -> dict[str, Array]:
    """Write a safetensors or ``.pdparams`` file, atomically, and return the tensors as they were written.

    Args:
        weights: the tensors and their record.
        path: the suffix decides the format; ``.pdparams`` has no room for the metadata.
        to: names and layouts, ``paddle`` or ``pytorch`` (safetensors only).

    Raises:
        UsageError: another suffix.
        OutputError: it cannot be written.
    """
    path = Path(path)
    check_output(path, to)
    tensors = naming.to_pytorch(weights.tensors, weights.entries) if to == "pytorch" else dict(weights.tensors)
    if path.suffix == ".safetensors":
        content = safetensors_bytes(tensors, weights.metadata())
    else:
        import io

        import paddle

        buffer = io.BytesIO()
        paddle.save(dict(tensors), buffer)
        content = buffer.getvalue()
    write_atomically(path, content)
    return tensors


def check_output(path: Path, to: str) -> None:
    """Raise UsageError for a suffix that `write_weights` does not know."""
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
