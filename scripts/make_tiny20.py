"""Make the data set of 20 classes from the official archive of Tiny-ImageNet.

Source    http://cs231n.stanford.edu/tiny-imagenet-200.zip, 237 MiB, for research use
Expected  10,000 training and 1,000 validation images of 64 pixels, with the checksums below
Cost      half a minute, 48 MiB
Command   python scripts/make_tiny20.py tiny-imagenet-200.zip tiny20

All 500 training images and all 50 validation images of each class, bytes unchanged, go into imgs/; train_list.txt,
val_list.txt and labels.txt name them. The archive is not unpacked: only the entries that are needed are read, each up
to a size, and files get names that are made here.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilenext.errors import DataError, DatasetError, UsageError
from mobilenext.machine.command import guarded
from mobilenext.machine.console import progress_bar
from mobilenext.machine.temporary import temporary_beside, temporary_folder

ROOT = "tiny-imagenet-200"
CLASSES = (
    "n02124075", "n04067472", "n04540053", "n04099969", "n07749582", "n01641577", "n02802426", "n09246464", "n07920052",
    "n03970156", "n03891332", "n02106662", "n03201208", "n02279972", "n02132136", "n04146614", "n07873807", "n02364673",
    "n04507155", "n03854065",
)  # fmt: skip
LARGEST_ARCHIVE, LARGEST_DIRECTORY = 1 << 30, 1 << 26  # bytes; the official ones have 248,100,043 and about 10 million
LARGEST_TEXT, LARGEST_IMAGE = 1 << 22, 1 << 16
ANNOTATIONS = f"{ROOT}/val/val_annotations.txt"
WORDS = f"{ROOT}/words.txt"


@dataclass(frozen=True)
class Expected:
    """What the result has to be: images of each class, and SHA-256 checksums."""

    training: int
    validation: int
    train_list: str  # of the records, as `mobilenext check-data` prints it and results/tiny20_train.json has it
    val_list: str
    labels: str  # of the file labels.txt
    images: str  # of the bytes of all training images, then of all validation images, in the order of the lists


OFFICIAL = Expected(
    training=500,
    validation=50,
    train_list="c84a6c5ea2864beb1ebea71318cbdb5cc0621c112ccfb44ba85afa8cf688c384",
    val_list="5473f22b631b74a88a89409fa0457afaf641a2884c9c55ba1e5421da2d7c51d0",
    labels="b3a059570f8f09371c9d264d483c7d68079fd8e1e01cf23321184643c32b0651",
    images="650d09d3cbb5c07313c6704644fc0041581c5b3100471568b5f278d6bae59407",
)


class Archive:
    """The official archive, of which no entry is read beyond a size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._check_size()
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise self.problem(f"is no ZIP archive that can be read ({error})") from error

    def problem(self, text: str) -> DataError:
        """Return the error that says what is wrong with the archive."""
        return DatasetError(f"{self.path} {text}; expected the official tiny-imagenet-200.zip: fetch it again")

    def _check_size(self) -> None:
        """Raise DataError for an archive that is too large, or whose directory of entries is."""
        try:
            size = self.path.stat().st_size
            with self.path.open("rb") as file:
                file.seek(max(0, size - (1 << 16) - 22))
                tail = file.read()
        except OSError as error:
            raise self.problem(f"cannot be read ({error.strerror or error})") from error
        if size > LARGEST_ARCHIVE:
            raise self.problem(f"has {size:,} bytes, more than {LARGEST_ARCHIVE:,}")
        end = tail.rfind(b"PK\5\6")
        if end < 0 or end + 22 > len(tail):
            raise self.problem("is no whole ZIP archive")
        (directory,) = struct.unpack_from("<I", tail, end + 12)
        longer = tail.rfind(b"PK\6\6", 0, end)  # with more than 65,535 entries, its 64-bit form stands before
        if directory == 0xFFFFFFFF and longer >= 0:
            (directory,) = struct.unpack_from("<Q", tail, longer + 40)
        if directory > LARGEST_DIRECTORY:
            raise self.problem(f"has a directory of more than {LARGEST_DIRECTORY:,} bytes")

    def read(self, name: str, largest: int) -> bytes:
        """Return the bytes of an entry.

        Raises:
            DataError: there is none, it is damaged, or it is larger than `largest` bytes.
        """
        try:
            with self._zip.open(name) as stream:
                content = stream.read(largest + 1)
        except KeyError as error:
            raise self.problem(f"has no entry {name}") from error
        except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            raise self.problem(f"has an entry that cannot be read, {name} ({error})") from error
        if len(content) > largest:
            raise self.problem(f"has an entry of more than {largest:,} bytes, {name}")
        return content

    def rows(self, name: str) -> list[list[str]]:
        """Return the cells of a text, which tabs separate."""
        try:
            text = self.read(name, LARGEST_TEXT).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.problem(f"has an entry that is no text, {name}") from error
        return [line.split("\t") for line in text.splitlines() if line.strip()]


def make_tiny20(path: Path, output: Path, expected: Expected = OFFICIAL) -> None:
    """Write the data set into a new folder, which appears when all checksums are right.

    Args:
        path: the archive.
        output: the folder.
        expected: what has to come of it.

    Raises:
        UsageError: `output` is there. DataError: the archive is another one, or damaged.
    """
    if output.exists() or output.is_symlink():
        raise UsageError(f"{output} is there already; expected a new folder: choose another one, or remove it")
    archive = Archive(path)
    labels = _labels(archive)
    training = {
        f"{name}_{number}.JPEG": (f"{ROOT}/train/{name}/images/{name}_{number}.JPEG", label)
        for label, name in enumerate(CLASSES)
        for number in range(expected.training)
    }
    training = dict(sorted(training.items()))
    validation = _validation(archive, expected)
    lists = {"train": (training, expected.train_list), "val": (validation, expected.val_list)}
    for part, (images, checksum) in lists.items():
        _compare(archive, f"{part}_list.txt", _records_checksum(images), checksum)
    _compare(archive, "labels.txt", hashlib.sha256(labels.encode()).hexdigest(), expected.labels)
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(temporary_beside(output.absolute())) as folder:
        _write_images(archive, training | validation, folder / "imgs", expected)
        for part, (images, _) in lists.items():
            lines = "".join(f"{name} {label}\n" for name, (_, label) in images.items())
            (folder / f"{part}_list.txt").write_text(lines)
        (folder / "labels.txt").write_text(labels)
        folder.rename(output)


def _labels(archive: Archive) -> str:
    """Return the lines of labels.txt: number, WordNet id and words of each class."""
    words = {row[0]: row[1] for row in archive.rows(WORDS) if len(row) == 2}
    if missing := [name for name in CLASSES if name not in words]:
        raise archive.problem(f"does not name {', '.join(missing[:3])} in words.txt")
    return "".join(f"{label} {name} {words[name]}\n" for label, name in enumerate(CLASSES))


def _validation(archive: Archive, expected: Expected) -> dict[str, tuple[str, int]]:
    """Return entry and label of the validation images of our classes, by name, in the order of their numbers."""
    labels = {name: label for label, name in enumerate(CLASSES)}
    numbers: dict[int, int] = {}
    for row in archive.rows(ANNOTATIONS):
        number = row[0].removeprefix("val_").removesuffix(".JPEG")
        if not (number.isascii() and number.isdigit() and len(number) < 6 and row[0] == f"val_{int(number)}.JPEG"):
            raise archive.problem(f"names a validation image {row[0][:40]!r}; expected val_0.JPEG, val_1.JPEG, ...")
        if len(row) > 1 and row[1] in labels:
            numbers[int(number)] = labels[row[1]]
    if len(numbers) != expected.validation * len(CLASSES):
        raise archive.problem(
            f"has {len(numbers)} validation images of the 20 classes, not {expected.validation * len(CLASSES)}"
        )
    return {
        f"val_{number}.JPEG": (f"{ROOT}/val/images/val_{number}.JPEG", label)
        for number, label in sorted(numbers.items())
    }


def _records_checksum(images: Mapping[str, tuple[str, int]]) -> str:
    """Return the checksum that `mobilenext check-data` prints of a list of these images."""
    return hashlib.sha256(
        "".join(f"imgs/{name}\0{label}\n" for name, (_, label) in images.items()).encode()
    ).hexdigest()


def _write_images(archive: Archive, images: Mapping[str, tuple[str, int]], folder: Path, expected: Expected) -> None:
    """Copy the images, and compare the checksum of all their bytes with the expected one."""
    folder.mkdir()
    checksum = hashlib.sha256()
    with progress_bar() as progress:
        for done, (name, (entry, _)) in enumerate(images.items(), start=1):
            content = archive.read(entry, LARGEST_IMAGE)
            checksum.update(content)
            (folder / name).write_bytes(content)
            progress(done, len(images))
    _compare(archive, "bytes of the images", checksum.hexdigest(), expected.images)


def _compare(archive: Archive, what: str, found: str, expected: str) -> None:
    if found != expected:
        raise archive.problem(f"gives another {what}: checksum {found[:16]}..., not {expected[:16]}...")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="tiny-imagenet-200.zip")
    parser.add_argument("output", type=Path, nargs="?", default=Path("tiny20"), help="new folder (default: tiny20)")
    options = parser.parse_args()
    make_tiny20(options.archive, options.output)
    print(f"written: {options.output}; look at it: mobilenext check-data {options.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
