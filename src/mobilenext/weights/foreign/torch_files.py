"""PyTorch's two checkpoint layouts: the ZIP archive (since 1.6) and the stream of pickles and raw data before it.

Layouts as in `torch/serialization.py`: `_save` and `_load` for the archive, `_legacy_save` and `_legacy_load` for the
stream. In both, a pickle describes the tensors and mentions each storage by a key, and the storages lie outside it.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any

from mobilenext.file_kinds import kind_of_zip
from mobilenext.weights.foreign.arrays import Budget
from mobilenext.weights.foreign.pickle_machine import run_pickle
from mobilenext.weights.foreign.pickle_names import StorageType
from mobilenext.weights.foreign.pickle_nodes import Storage, plain
from mobilenext.weights.foreign.refusal import SAVE_STATE_DICT, Refusal, shown

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_PROTOCOL = 1001
_MOST_ENTRIES = 100_000


# --- ZIP archive ------------------------------------------------------------------------------------------------------


def read_torch_zip(data: bytes, budget: Budget) -> Any:
    """Return the plain tree in PyTorch's archive: `<any>/data.pkl` and one `<any>/data/<key>` for each storage.

    Raises:
        Refusal: a damaged archive; compressed, overlapping or repeated entries; a storage whose size is not what the
            pickle says; a wrong checksum; anything `run_pickle` refuses.
    """
    archive = _Archive(data)
    storages: dict[str, Storage] = {}

    def persistent_load(reference: object) -> Storage:
        match reference:
            case ("storage", StorageType() as kind, str() as key, str(), int() as count):
                storage = Storage(key, kind.element, count, byteorder=archive.byteorder)
            case _:
                raise Refusal("the pickle refers to something other than a storage", SAVE_STATE_DICT)
        known = storages.setdefault(key, storage)
        _check_same(known, storage)
        if known.data is None:
            known.data = archive.contents(f"data/{key}")
            _check_size(known, len(known.data))
        return known

    return plain(run_pickle(BytesIO(archive.contents("data.pkl")), budget, persistent_load), budget)


@dataclass(frozen=True)
class _Entry:
    header: int  # offset of the local header
    start: int  # of the contents
    end: int
    checksum: int


class _Archive:
    """The entries of a ZIP archive: stored, not compressed; each really inside the file and apart from the others."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        if data.count(b"PK\x01\x02") > _MOST_ENTRIES:  # each is an entry of the directory, and grows tenfold when read
            raise Refusal(f"the ZIP archive has more than {_MOST_ENTRIES:,} entries", SAVE_STATE_DICT)
        try:
            with zipfile.ZipFile(BytesIO(data)) as archive:
                listed = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, struct.error) as error:
            raise Refusal(f"the ZIP archive's directory is missing or damaged ({shown(str(error))})") from None
        self._prefix = self._find_prefix([info.filename for info in listed])
        self._entries: dict[str, _Entry] = {}
        for info in listed:
            if info.filename in self._entries:
                raise Refusal(f"the ZIP entry {shown(info.filename)} is there twice", SAVE_STATE_DICT)
            self._entries[info.filename] = self._located(info)
        self._refuse_overlaps()
        self.byteorder = self._read_byteorder()

    def contents(self, name: str) -> memoryview:
        """Return the bytes of `<prefix>/name`, checked against their CRC."""
        entry = self._entries.get(self._prefix + name)
        if entry is None:
            raise Refusal(f"the ZIP archive has no entry {shown(self._prefix + name)}")
        contents = self._data[entry.start : entry.end]
        if zlib.crc32(contents) != entry.checksum:
            raise Refusal(f"the checksum of ZIP entry {shown(self._prefix + name)} does not fit its contents")
        return contents

    @staticmethod
    def _find_prefix(names: list[str]) -> str:
        prefixes = [
            name.removesuffix("data.pkl") for name in names if name.count("/") == 1 and name.endswith("/data.pkl")
        ]
        if len(prefixes) != 1:
            listed = ", ".join(shown(name) for name in names[:4]) or "nothing"
            kind = kind_of_zip(names)
            raise Refusal(
                f"the file is {kind.what} with {len(prefixes)} entries named <folder>/data.pkl, a PyTorch checkpoint "
                f"has one; it holds {listed}",
                kind.advice,
            )
        if prefixes[0] + "constants.pkl" in names:
            raise Refusal(
                "a TorchScript archive: it holds a program, not only weights",
                "Load it with `torch.jit.load` and save its `state_dict()` with `torch.save`",
            )
        return prefixes[0]

    def _located(self, info: zipfile.ZipInfo) -> _Entry:
        name = shown(info.filename)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
            raise Refusal(f"the ZIP entry {name} is compressed or encrypted, which PyTorch never does", SAVE_STATE_DICT)
        header = info.header_offset
        # Local header: 30 bytes, the first 4 its mark, the last 4 the lengths of the two fields that follow it.
        if header < 0 or bytes(self._data[header : header + 4]) != b"PK\x03\x04" or header + 30 > len(self._data):
            raise Refusal(f"the ZIP entry {name} claims to begin at byte {header:,}, where no entry is")
        start = header + 30 + sum(struct.unpack_from("<HH", self._data, header + 26))
        if start + info.file_size > len(self._data):
            raise Refusal(
                f"the ZIP entry {name} claims {info.file_size:,} bytes, {max(len(self._data) - start, 0):,} are there"
            )
        return _Entry(header, start, start + info.file_size, info.CRC)

    def _refuse_overlaps(self) -> None:
        ordered = sorted(self._entries.items(), key=lambda item: item[1].header)
        for (name, entry), (next_name, following) in pairwise(ordered):
            if following.header < entry.end:
                raise Refusal(f"the ZIP entries {shown(name)} and {shown(next_name)} overlap", SAVE_STATE_DICT)

    def _read_byteorder(self) -> str:
        if self._prefix + "byteorder" not in self._entries:
            return "<"  # written before 2.1, and PyTorch's own assumption
        match bytes(self.contents("byteorder")):
            case b"little":
                return "<"
            case b"big":
                return ">"
            case other:
                raise Refusal(f"the byte order is {shown(other)}, neither little nor big")


# --- Stream -----------------------------------------------------------------------------------------------------------


def read_torch_stream(data: bytes, budget: Budget) -> Any:
    """Read PyTorch's stream to a plain tree: magic, protocol, system, contents, storage keys, then the storages' data.

    Each storage is its number of elements (8 bytes) and the elements, always little-endian.

    Raises:
        Refusal: another protocol; a storage that is missing, repeated, cut off, or of another size than the contents
            say; bytes after the end; anything `run_pickle` refuses.
    """
    stream = BytesIO(data)
    magic = run_pickle(stream, budget)
    protocol = run_pickle(stream, budget)
    if magic != STREAM_MAGIC or protocol != _STREAM_PROTOCOL:
        raise Refusal(
            f"PyTorch's stream format of protocol {shown(protocol)}, known is {_STREAM_PROTOCOL}", SAVE_STATE_DICT
        )
    run_pickle(stream, budget)  # what the writing machine was; the data does not depend on it

    storages: dict[str, Storage] = {}

    def persistent_load(reference: object) -> Storage:
        match reference:
            case ("storage", StorageType() as kind, str() as key, str(), int() as count, view):
                storage = Storage(key, kind.element, count)
            case _:
                raise Refusal("the pickle refers to something other than a storage", SAVE_STATE_DICT)
        known = storages.setdefault(key, storage)
        _check_same(known, storage)
        return known if view is None else _view(known, view)

    tree = run_pickle(stream, budget, persistent_load)
    keys = run_pickle(stream, budget)
    _attach(memoryview(data), stream.tell(), keys, storages)
    return plain(tree, budget)


def _view(base: Storage, description: object) -> Storage:
    """Return a part of a storage as a storage of its own, as early releases wrote: (key, start, count) in elements."""
    match description:
        case (str() as key, int() as start, int() as count) if 0 <= start <= start + count <= base.count:
            return Storage(key, base.element, count, base=base, start=start)
    raise Refusal(f"a view of storage {shown(base.key)} does not lie inside its {base.count:,} elements")


def _attach(data: memoryview, position: int, keys: object, storages: dict[str, Storage]) -> None:
    """Give each storage its bytes; `keys` is the order in which they follow from `position` on."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Refusal("the list of storages is damaged")
    for key in keys:
        storage = storages.get(key)
        if storage is None or storage.data is not None:
            raise Refusal(f"storage {shown(key)} is listed {'twice' if storage else 'and no tensor uses it'}")
        counted = data[position : position + 8]
        if len(counted) < 8:
            raise Refusal(f"the file ends before storage {shown(key)}")
        (count,) = struct.unpack("<q", counted)
        if count != storage.count:
            raise Refusal(f"storage {shown(key)} has {count:,} elements, its tensors expect {storage.count:,}")
        position += 8
        storage.data = data[position : position + count * storage.element.itemsize]
        _check_size(storage, len(storage.data))
        position += len(storage.data)
    missing = [key for key, storage in storages.items() if storage.data is None]
    if missing:
        raise Refusal(f"the data of {len(missing)} storages is not in the file, the first is {shown(missing[0])}")
    if position != len(data):
        raise Refusal(f"{len(data) - position:,} bytes follow the last storage, where the file should end")


# --- Both -------------------------------------------------------------------------------------------------------------


def _check_same(known: Storage, mentioned: Storage) -> None:
    if (known.element, known.count) != (mentioned.element, mentioned.count):
        raise Refusal(
            f"storage {shown(known.key)} is {known.count:,} x {known.element.name} in one place "
            f"and {mentioned.count:,} x {mentioned.element.name} in another",
            SAVE_STATE_DICT,
        )


def _check_size(storage: Storage, size: int) -> None:
    claimed = storage.count * storage.element.itemsize
    if size != claimed:
        raise Refusal(f"storage {shown(storage.key)} claims {claimed:,} bytes, {size:,} are there")
