from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilenext.data import read_image
from mobilenext.data.images import FORMATS
from mobilenext.data.listing import IMAGE_SUFFIXES, list_folder, visible_folders
from mobilenext.errors import ImageError


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(paths: list[Path] | dict[Path, str]) -> list[str]:
    return [path.name for path in paths]


LEFTOVER_FOLDERS = [
    "@eaDir", ".AppleDouble", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", ".Trash-1000", ".Trashes",
    ".Spotlight-V100", ".fseventsd", "lost+found", ".thumbnails", ".ipynb_checkpoints", ".git", ".svn", "CVS",
    "#recycle", "#snapshot", "@Recycle", ".@__thumb", "@tmp", ".snapshot", "~snapshot", ".zfs",
    ".picasaoriginals", "__pycache__", ".cache", ".dtrash", ".comments",
    ".dropbox.cache", ".stfolder", ".stversions", ".sync", "FOUND.000", "@EADIR",
    "@Recently-Snapshot", "LOST.DIR", "Network Trash Folder", "previews.lrdata",
]  # fmt: skip
LEFTOVER_FILES = [
    ".DS_Store", "._a.jpg", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.INI", "Picasa.ini", ".nomedia",
    "Icon\r",
    "b.jpg.part", "b.jpg.crdownload", "b.jpg~", "b.tmp", "a.jpg:Zone.Identifier", "a.jpgZone.Identifier",
    "a.jpg@SynoEAStream", "a.jpg_original", "a.jpg.bak", "~$notes.docx", "Thumbs.db:encryptable", "ZbThumbnail.info",
]  # fmt: skip


@pytest.mark.parametrize("name", LEFTOVER_FOLDERS)
def test_a_leftover_folder_is_no_data_and_no_class(tmp_path: Path, name: str) -> None:
    write(tmp_path / "cat" / "a.jpg")
    write(tmp_path / name / "a.jpg" / "SYNOPHOTO_THUMB_M.jpg", encoded("JPEG"))
    listing = list_folder(tmp_path)
    assert names(listing.images) == ["a.jpg"]
    assert listing.leftovers == [tmp_path / name]
    assert visible_folders(tmp_path) == ["cat"]


@pytest.mark.parametrize("name", LEFTOVER_FILES)
def test_a_leftover_file_is_no_data(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a.jpg")
    write(tmp_path / name, encoded("JPEG"))
    listing = list_folder(tmp_path)
    assert names(listing.images) == ["a.jpg"]
    assert listing.leftovers == [tmp_path / name]
    assert listing.others == []


def test_names_that_only_look_like_leftovers_are_data(tmp_path: Path) -> None:
    for name in ("icon/a.jpg", "trash/a.jpg", "cache/a.jpg", "thumbs/a.jpg", "part/x.part.jpg", "tmp/tmp.jpg"):
        write(tmp_path / name)
    assert len(list_folder(tmp_path).images) == 6
    assert len(visible_folders(tmp_path)) == 6


def test_what_is_ignored_is_counted_and_named(tmp_path: Path) -> None:
    for photo in ("a", "b"):
        write(tmp_path / photo / f"{photo}.jpg")
        write(tmp_path / photo / "@eaDir" / "thumb.jpg")
        write(tmp_path / photo / f"._{photo}.jpg")
    write(tmp_path / "notes.txt")
    write(tmp_path / "clip.mp4")
    assert list_folder(tmp_path).notes() == [
        "4 entries that systems and programs leave beside data are ignored: ._* (2), @eaDir (2)",
        f"2 files are not images and are ignored, such as {tmp_path / 'clip.mp4'}",
    ]


@pytest.mark.parametrize(
    "suffix",
    [".jfif", ".jpe", ".jif", ".jfi", ".JPG", ".JPG_large", ".jpeg_orig", ".jpg-large", ".1", ".heic", "", ".mpo"],
)
def test_a_jpeg_is_a_jpeg_whatever_its_suffix(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"photo{suffix}", encoded("JPEG"))
    listing = list_folder(tmp_path)
    assert listing.images == [path]
    assert not listing.unreadable
    assert read_image(path).size == (16, 16)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_images_of_every_format_are_known_without_a_suffix(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "0001", encoded(kind))
    assert list_folder(tmp_path).images == [path]


def test_other_files_are_not_taken_for_images(tmp_path: Path) -> None:
    for name, content in {
        "labels": b"cat\ndog\n", "BM": b"BMW and others, a text", "movie": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        "empty": b"",
        "P6": b"P6 is not what this text is about", "a.txt": encoded("JPEG"), "x.bin": bytes(200),
        "page": b"<!doctype html><html>",
    }.items():  # fmt: skip
        write(tmp_path / name, content)
    listing = list_folder(tmp_path)
    assert listing.images == []
    assert len(listing.others) == 8


def heif(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + bytes(100)


UNREADABLE = {
    "a.heic": heif(b"heic"), "phone": heif(b"heix"), "a.HEIF": heif(b"mif1"),
    "a.CR2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(50),
    "a.nef": b"MM\0*" + bytes(50), "a.ARW": b"II*\0" + bytes(50), "a.dng": b"II*\0" + bytes(50),
    "raw": b"FUJIFILMCCD-RAW 0201" + bytes(50), "a.cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(50),
    "a.svg": b"<?xml version='1.0'?><svg/>", "logo": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a.psd": b"8BPS\0\1",
    "a.xcf": b"gimp xcf v011", "a.eps": b"%!PS-Adobe-3.0 EPSF-3.0", "a.jxl": b"\xff\x0a\0\0",
    "scan": bytes(128) + b"DICM",
    "a.exr": b"\x76\x2f\x31\x01\2\0\0\0", "a.tga": bytes(60), "a.dds": b"DDS |\0\0\0",
    ".IMG_1.HEIC.icloud": b"bplist00",
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_image_of_a_format_that_is_not_read_is_named_and_not_dropped(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, UNREADABLE[name])
    listing = list_folder(tmp_path)
    assert listing.images == [path]
    assert f"{path}: " in listing.unreadable[path]
    assert " is not read here; " in listing.unreadable[path]
    with pytest.raises(ImageError, match="is not read here"):
        read_image(path)


def test_images_are_listed_without_being_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in IMAGE_SUFFIXES | {".txt", ".json"}:
        write(tmp_path / f"a{suffix}")

    def opened(path: Path, *_: object) -> None:
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(Path, "open", opened)
    assert len(list_folder(tmp_path).images) == len(IMAGE_SUFFIXES)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert list_folder(tmp_path).others == [tmp_path / "pipe"]
