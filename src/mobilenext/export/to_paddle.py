"""Paddle's own inference formats: ``.json`` of Paddle 3, and ``.pdmodel``, which Paddle 2 and many tools read."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import paddle
import paddle.nn.functional as F
from paddle.static import InputSpec

from mobilenext.errors import UsageError
from mobilenext.files import write_atomically


def write_paddle(network: paddle.nn.Layer, model_file: Path, image_size: int) -> None:
    """Save a network (evaluation mode) with a free batch size: `model_file` and ``.pdiparams`` beside it.

    Args:
        network: in evaluation mode.
        model_file: its suffix, ``.json`` or ``.pdmodel``, decides the format.
        image_size: pixels, of the square images.

    Raises:
        UsageError: ``.json`` from Paddle 2, which cannot write it.
    """
    newer = hasattr(paddle, "pir_utils") and hasattr(paddle.pir_utils, "OldIrGuard")
    if model_file.suffix == ".json" and not newer:
        raise UsageError(f"Paddle {paddle.__version__} does not write .json models; use --format paddle-legacy")
    with _without_call_stacks(), contextlib.nullcontext() if model_file.suffix == ".json" else _older_format():
        shape = InputSpec([None, 3, image_size, image_size], "float32", "image")
        static = paddle.jit.to_static(network, input_spec=[shape], full_graph=True)
        paddle.jit.save(static, str(model_file.with_suffix("")))
    if model_file.suffix == ".pdmodel":
        _remove_call_stacks(model_file)


@contextlib.contextmanager
def _without_call_stacks() -> Iterator[None]:
    """Let Paddle record no files and lines for the operators that it creates, which takes half of the time of a save.

    It asks Python's ``traceback`` for the stack of each. A traceback that is printed after this is whole.
    """
    limit = getattr(sys, "tracebacklimit", None)
    sys.tracebacklimit = 0
    try:
        yield
    finally:
        if limit is None:
            del sys.tracebacklimit
        else:
            sys.tracebacklimit = limit


def _remove_call_stacks(model_file: Path) -> None:
    """Take the files and lines that built each operator out of a ``.pdmodel``: they are paths of this machine."""
    paddle.enable_static()  # Paddle 2 reads programs in no other mode
    try:
        program = paddle.static.deserialize_program(model_file.read_bytes())
        for block in program.blocks:
            for operator in block.ops:
                if operator.has_attr("op_callstack"):
                    operator._remove_attr("op_callstack")
        content = program.desc.serialize_to_string()
    finally:
        paddle.disable_static()
    write_atomically(model_file, content)


@contextlib.contextmanager
def _older_format() -> Iterator[None]:
    """Let ``jit.save`` write ``.pdmodel``, as Paddle 2 always does."""
    guard = getattr(getattr(paddle, "pir_utils", None), "OldIrGuard", None)
    if guard is None:
        yield
        return
    # Paddle 3.3 replaces F.sigmoid by one that the older program representation cannot take.
    eager = F.sigmoid
    F.sigmoid = _sigmoid
    try:
        with guard():
            yield
    finally:
        F.sigmoid = eager


def _sigmoid(x: paddle.Tensor, name: str | None = None) -> paddle.Tensor:
    """Compute the operator ``sigmoid`` of the older representation."""
    from paddle.base.layer_helper import LayerHelper

    helper = LayerHelper("sigmoid")
    output = helper.create_variable_for_type_inference(x.dtype)
    helper.append_op(type="sigmoid", inputs={"X": x}, outputs={"Out": output})
    return output
