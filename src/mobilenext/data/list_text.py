"""The text of a list file: its encoding, its lines, and what is no list at all."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from mobilenext.errors import DatasetError
from mobilenext.file_kinds import other_kind

# The marks of UTF-32 begin with those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_LARGEST = 1 << 30  # bytes; the list of ImageNet's 1.3 million training images has 60 million
_NO_LISTS = (
    (re.compile(r'\{\s*"|\[\s*[{"\[]|\[\s*\Z'), "JSON, such as COCO's annotations"),
    (re.compile(r"<[?!a-zA-Z]"), "XML or a web page"),
    (re.compile(r"version https://git-lfs"), "a pointer of Git LFS (git lfs pull fetches the file)"),
)


def read_lines(list_file: Path) -> list[str]:
    """Return the lines of a list file, without what ends them.

    UTF-8, or UTF-16 and UTF-32 with a byte-order mark, as spreadsheets save "Unicode text".

    Raises:
        DatasetError: a file that cannot be read or is too large, is no text or of another encoding, or is JSON or XML.
    """
    try:
        with list_file.open("rb") as file:
            data = file.read(4096)
            mark, encoding = next((item for item in _MARKS if data.startswith(item[0])), (b"", "utf-8"))
            if b"\0" in data and encoding == "utf-8":  # before the rest is read: it might be an archive of all images
                what = other_kind(list_file) or "a binary file"
                raise DatasetError(f"{list_file}: {what}; expected a text of names and labels")
            data = (data + file.read(_LARGEST))[len(mark) :]
    except OSError as error:
        raise DatasetError(f"{list_file}: this list cannot be read: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise DatasetError(f"{list_file}: more than {_LARGEST:,} bytes; expected a text of names and labels")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count("\n".encode(encoding), 0, error.start) + 1
        raise DatasetError(
            f"{list_file}: line {line} is not {encoding.upper()[:6].rstrip('-')} (byte {data[error.start]:#04x}); save "
            "the list as UTF-8"
        ) from error
    for beginning, kind in _NO_LISTS:
        if beginning.match(text.lstrip()[:200]):
            raise DatasetError(f"{list_file}: this is {kind}; expected a name and a label on each line, or a CSV table")
    text = text.replace("\r\n", "\n")
    return text.split("\n" if "\n" in text else "\r")  # a lone carriage return: programs of old Macs
