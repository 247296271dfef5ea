"""MNN's format, from the ONNX file, by the converter in MNN's Python package."""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path

from mobilenext.errors import CheckFailed
from mobilenext.files import write_atomically
from mobilenext.machine.captured import captured_output

# A random one in each file, near its beginning: its length, itself, a null.
_IDENTITY = re.compile(rb"\x24\0\0\0([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\0")
_HEAD = 4096


def write_mnn(onnx_file: Path, mnn_file: Path) -> None:
    """Write `mnn_file` in float32, with the names and shapes of the ONNX file and a free batch size.

    The converter is called as a module: the command ``mnnconvert`` around it installs a package by pip and reports
    every conversion to a server of its makers.

    Raises:
        CheckFailed: the converter fails.
        OutputError: the file cannot be written.
    """
    with captured_output() as output:
        import _tools

        files = ["--modelFile", str(onnx_file), "--MNNModel", str(mnn_file)]
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *files, "--bizCode", "mobilenext"])  # returns True in any case
    if not mnn_file.is_file():
        raise CheckFailed(f"MNN's converter fails: {' '.join(output[0].split())[-500:] or 'it says nothing'}")
    write_atomically(mnn_file, _with_identity_of_content(mnn_file.read_bytes()))


def _with_identity_of_content(content: bytes) -> bytes:
    """Return the model with an identity that is made of the rest, so that the same network gives the same file."""
    match = _IDENTITY.search(content, 0, _HEAD)
    if match is None:
        return content
    head, tail = content[: match.start(1)], content[match.end(1) :]
    identity = uuid.UUID(bytes=hashlib.sha256(head + tail).digest()[:16])
    return head + str(identity).encode() + tail
