"""What kind of file this is, from its first bytes; and for every other kind, a sentence that says so."""

from __future__ import annotations

from mobilenext.file_kinds import kind_of_head
from mobilenext.weights.foreign.refusal import Refusal
from mobilenext.weights.foreign.safetensors_files import LONGEST_HEADER
from mobilenext.weights.foreign.torch_files import STREAM_MAGIC

HEAD = 512  # bytes that are enough to recognize any kind
EXPECTED = (
    "expected is a checkpoint of PyTorch (torch.save), Paddle (paddle.save: .pdparams, .pdopt) or a safetensors file"
)
_MAGIC_BYTES = STREAM_MAGIC.to_bytes(10, "little")


def recognize(head: bytes) -> str:
    """Return the format of the file that begins with `head` (its first `HEAD` bytes, or all of them).

    Returns:
        "pytorch-zip", "pytorch-stream", "paddle-pickle" or "safetensors".

    Raises:
        Refusal: anything else, with what it seems to be.
    """
    if not head:
        raise Refusal(f"the file is empty; {EXPECTED}")
    if head.startswith(b"PK\x03\x04"):
        return "pytorch-zip"
    # Before pickle: a header of 640 bytes begins like a pickle of protocol 2.
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= LONGEST_HEADER:
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pytorch-stream" if _MAGIC_BYTES in head[:32] else "paddle-pickle"
    if kind := kind_of_head(head):
        raise Refusal(f"the file is {kind.what}; {EXPECTED}", kind.advice)
    if head[8:9] == b"{":
        return "safetensors"  # with a length that its reader refuses
    raise Refusal(f"the file begins with the bytes {head[:8].hex(' ')}, which is no known format; {EXPECTED}")
