"""What kind of file this is, from its first bytes; and for every other kind, a sentence that says so."""

from __future__ import annotations

from collections.abc import Callable

from mobilenext.weights._refusal import Refusal
from mobilenext.weights._safetensors_files import LONGEST_HEADER
from mobilenext.weights._torch_files import STREAM_MAGIC

HEAD = 512  # bytes that are enough to recognise any kind
_EXPECTED = (
    "expected is a checkpoint of PyTorch (torch.save), Paddle (paddle.save: .pdparams, .pdopt) or a safetensors file"
)
_MAGIC_BYTES = STREAM_MAGIC.to_bytes(10, "little")
_TAR_MEMBERS_OF_TORCH = (b"sys_info\0", b"pickle\0", b"storages\0", b"tensors\0")

_DOWNLOAD_THE_FILE = "Download the file itself: the link led to a page about it, or to an error"
_FETCH_LFS = "Fetch the content with `git lfs pull`, or download the file from the web page of the repository"
_UNPACK = "If a checkpoint was packed into it, unpack it first"
_CHOOSE = "Give the checkpoint that was saved in training"


def recognise(head: bytes) -> str:
    """The format of the file that begins with `head` (its first `HEAD` bytes, or all of them).

    Returns:
        "pytorch-zip", "pytorch-stream", "paddle-pickle" or "safetensors".

    Raises:
        Refusal: anything else, with what it seems to be.
    """
    if not head:
        raise Refusal(f"the file is empty; {_EXPECTED}")
    if head.startswith(b"PK\x03\x04"):
        return "pytorch-zip"
    # Before pickle: a header of 640 bytes begins like a pickle of protocol 2.
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= LONGEST_HEADER:
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pytorch-stream" if _MAGIC_BYTES in head[:32] else "paddle-pickle"
    for is_it, kind, advice in _OTHER_KINDS:
        if is_it(head):
            raise Refusal(f"the file is {kind}; {_EXPECTED}", advice)
    if head[8:9] == b"{":
        return "safetensors"  # with a length that its reader refuses
    raise Refusal(f"the file begins with the bytes {head[:8].hex(' ')}, which is no known format; {_EXPECTED}")


def _is_text(head: bytes) -> bool:
    return head.isascii() and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


_OTHER_KINDS: tuple[tuple[Callable[[bytes], bool], str, str], ...] = (
    (
        lambda head: _is_tar(head) and head.startswith(_TAR_MEMBERS_OF_TORCH),
        "a checkpoint of PyTorch 0.1, a tar archive of pickles, which is not read here",
        "Load it with a PyTorch from 0.2 on and save its state dict again with `torch.save`",
    ),
    (_is_tar, "a tar archive", _UNPACK),
    (lambda head: head.startswith(b"\x1f\x8b"), "a gzip archive", _UNPACK),
    (lambda head: head.startswith((b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")), "a compressed archive", _UNPACK),
    (lambda head: head.startswith(b"PK\x05\x06"), "an empty ZIP archive", _UNPACK),
    (lambda head: head.startswith(b"\x89HDF\r\n"), "an HDF5 file (Keras?)", _CHOOSE),
    (
        lambda head: head.startswith(b"version https://git-lfs"),
        "a Git LFS pointer, not the file it stands for",
        _FETCH_LFS,
    ),
    (
        lambda head: head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")),
        "an HTML or XML page, not a checkpoint",
        _DOWNLOAD_THE_FILE,
    ),
    (_is_text, "a text file", _DOWNLOAD_THE_FILE),
    (
        lambda head: head.startswith(b"\0\0\0\0\0\0\0\0"),
        "raw tensors without names (Paddle's .pdiparams?) or zeros",
        "Give the .pdparams file that was saved in training",
    ),
)
