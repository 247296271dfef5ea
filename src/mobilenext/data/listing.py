"""Which files of a folder are images, which are of image formats that are not read here, and which are no data.

Every file below a folder is one of four:

    image        a suffix of `IMAGE_SUFFIXES`; or another suffix, or none, and the first bytes of such an image
    unreadable   a photo or picture of a format that is not read here (`_UNREADABLE`), by suffix or first bytes. It
                 stays among the images, so that it is named and counted wherever images are read, and never dropped
    leftover     what systems, archives and programs leave beside data: hidden names and those of `_LEFTOVER_NAMES` and
                 `_LEFTOVER_PATTERNS`. A leftover folder is not entered, and is no class
    other        everything else: texts, tables, videos, archives

Files are opened, for their first bytes only, where the suffix does not tell.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mobilenext.errors import DataError

# Compared in lower case; whether a file can be decoded, its content decides. The first row is all JPEG.
_IMAGES = """
    .jpg .jpeg .jpe .jfif .jif .jfi .pjpeg .pjp .mpo
    .jp2 .j2k .j2c .jpc .jpf .jpx .png .apng .gif .bmp .dib .tif .tiff .webp .avif .avifs .ico .pbm .pgm .ppm .pnm
"""
# Never images, so not opened. A .thm is a JPEG, but the thumbnail of a video or a raw photo.
_OTHERS = """
    .txt .csv .tsv .lst .json .jsonl .xml .yaml .yml .toml .md .rst .html .htm .log .ini .cfg .db .sqlite .py .ipynb .sh
    .pdf .doc .docx .xls .xlsx .ppt .pptx .odt .ods .zip .tar .gz .tgz .bz2 .xz .7z .rar .mp4 .mov .avi .mkv .webm .m4v
    .3gp .mpg .mpeg .mp3 .wav .flac .npy .npz .mat .h5 .hdf5 .parquet .pkl .pt .pth .pdparams .onnx .safetensors .aae
    .xmp .thm .lrv .pp3 .dop .lnk .url .torrent .exe .dll
"""
IMAGE_SUFFIXES = frozenset(_IMAGES.split())
_OTHER_SUFFIXES = frozenset(_OTHERS.split())
_IMAGE_ENDS = tuple(IMAGE_SUFFIXES)

_UNREADABLE = {  # kind: suffixes, what to do
    "HEIC": (".heic .heif .heics .heifs .hif .avci", "convert it to JPEG, by heif-convert for example"),
    "JPEG XL": (".jxl", "convert it to JPEG or PNG, by djxl for example"),
    "JPEG XR": (".jxr .wdp .hdp", "convert it to JPEG or PNG"),
    "camera raw": (
        ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw "
        ".rw2 .rwl .sr2 .srf .srw .x3f",
        "develop it to JPEG or PNG; beside a JPEG of the same photo, take it out of the folder",
    ),
    "vector graphics": (".svg .svgz .eps .ai .wmf .emf", "render it to PNG"),
    "an image editor's document": (".psd .psb .xcf .kra .afphoto", "export it as PNG or JPEG"),
    "DICOM": (".dcm .dicom", "convert it to PNG"),
    "high dynamic range": (".exr .hdr .pfm", "convert it to PNG of 8 bits"),
    "a rare image format": (
        ".tga .dds .ktx .pcx .sgi .ras .pict .pct .icns .cur .xpm .xbm .pam .qoi .bpg .flif .jls .jng .mng",
        "convert it to PNG",
    ),
    "a photo that iCloud has not downloaded": (".icloud", "open it in Photos or Finder, so that it is downloaded"),
}
_KIND_OF_SUFFIX = {suffix: kind for kind, (suffixes, _) in _UNREADABLE.items() for suffix in suffixes.split()}

# Hidden names (.DS_Store, ._photo.jpg, .AppleDouble, .thumbnails, .git, .cache, .dtrash, .@__thumb, .zfs, ...) are
# leftovers all of them and need no row. Names in lower case.
_LEFTOVER_NAMES = frozenset(
    {
        # Windows: thumbnails, folder settings, bins, what a disk check found
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler",
        "system volume information",
        # macOS: resource forks in archives, folder icons, network folders
        "__macosx", "icon\r", "resource.frk", "network trash folder", "temporary items", "thevolumesettingsfolder",
        # Linux and Android: what a disk check found
        "lost+found", "lost.dir",
        # network storage (Synology, QNAP, NetApp, Isilon): thumbnails, bins, snapshots
        "@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "@sharesnap", "@__thumb", "@appstore",
        "#recycle", "#snapshot", "~snapshot",
        # programs: photo managers, version control, Python
        "picasa.ini", "zbthumbnail.info", "cvs", "_svn", "__pycache__",
    }
)  # fmt: skip
_LEFTOVER_PATTERNS = re.compile(
    r"""found\.\d{3}                                     # folders of a Windows disk check
    | .*(?: \.(?:part|partial|crdownload|opdownload|download|filepart|aria2|!ut|tmp|temp|swp)  # unfinished files
          | ~ | \.(?:bak|orig|old)                       # backups of editors
          | \.\w+_original                               # of ExifTool
          | :?zone\.identifier(?::\$data)?               # Windows' note that a file was downloaded
          | @syno(?:eastream|resource)                   # attributes of files on a Synology
          | \.lrdata )                                   # previews of Lightroom
    | thumbs\.db:encryptable
    | ~\$.*                                              # locks of office programs
    | \#.*\#                                             # unsaved files of Emacs
    """,
    re.VERBOSE | re.DOTALL,
)
_FIRST_BYTES = 512


@dataclass
class Listing:
    """What is below a folder, at any depth; in each folder sorted by name."""

    images: list[Path] = field(default_factory=list)  # those in `unreadable` as well
    unreadable: dict[Path, str] = field(default_factory=dict)  # image: a sentence
    others: list[Path] = field(default_factory=list)
    leftovers: list[Path] = field(default_factory=list)  # files, and folders that were not entered

    def notes(self) -> list[str]:
        """Return a sentence about the leftovers and one about the other files, where there are any."""
        return ignored_notes(self.leftovers, self.others)


def list_folder(folder: Path) -> Listing:
    """List the files below `folder`; links are followed.

    Raises:
        DataError: a folder that cannot be listed, instead of leaving out what is in it.
    """
    listing = Listing()
    for path, is_leftover, is_file in _walk(folder):
        if is_leftover:
            listing.leftovers.append(path)
            continue
        kind = _kind_of(path, is_file)
        if kind is None:
            listing.others.append(path)
            continue
        listing.images.append(path)
        if kind:
            listing.unreadable[path] = _refusal(path, kind)
    return listing


def visible_folders(folder: Path) -> list[str]:
    """Return names of the folders in `folder` that may hold data, sorted; none if it does not exist."""
    if not folder.is_dir():
        return []
    return [name for name, is_folder, _ in _entries(folder) if is_folder and not is_leftover_name(name)]


def holds_images(folder: Path, *, deep: bool = True) -> bool:
    """Return whether an image is in `folder` or, with `deep`, in a folder below it."""
    if deep:
        return any(
            not is_leftover and _kind_of(path, is_file) is not None for path, is_leftover, is_file in _walk(folder)
        )
    return any(
        not is_folder and not is_leftover_name(name) and _kind_of(folder / name, is_file) is not None
        for name, is_folder, is_file in _entries(folder)
    )


def is_leftover_name(name: str) -> bool:
    """Return whether a system, an archive or a program leaves files or folders of this name beside data."""
    lower = name.lower()
    if lower.startswith("."):
        return not lower.endswith(".icloud")
    if lower.endswith(_IMAGE_ENDS) and not lower.startswith("~$"):  # the many: patterns are slower
        return False
    return lower in _LEFTOVER_NAMES or _LEFTOVER_PATTERNS.fullmatch(lower) is not None


def ignored_notes(leftovers: Iterable[Path | str], others: Iterable[Path | str]) -> list[str]:
    """Return a sentence about leftovers and one about other files, each with a count and names; none for none."""
    notes = []
    names = Counter("._*" if (name := Path(path).name).startswith("._") else name for path in leftovers)
    if names:
        shown = [
            f"{name!r}"[1:-1] + (f" ({count:,})" if count > 1 else "")
            for name, count in sorted(names.items(), key=lambda item: (-item[1], item[0]))[:5]
        ]
        more = f" and {len(names) - 5:,} other names" if len(names) > 5 else ""
        entries, are = ("entries", "are") if names.total() > 1 else ("entry", "is")
        notes.append(
            f"{names.total():,} {entries} that systems and programs leave beside data {are} ignored: "
            f"{', '.join(shown)}{more}"
        )
    if paths := list(others):
        are = "files are not images and are" if len(paths) > 1 else "file is not an image and is"
        notes.append(f"{len(paths):,} {are} ignored, such as {paths[0]}")
    return notes


def refusals(files: Iterable[str]) -> dict[Path, str]:
    """Return a sentence for each file in an image format that is not read here, by its suffix and content."""
    sentences = {}
    for file in files:
        suffix = file[file.rfind(".") :].lower()  # a path costs ten times as much to make
        if suffix in _KIND_OF_SUFFIX and (kind := _kind_of(path := Path(file), True)):
            sentences[path] = _refusal(path, kind)
    return sentences


def refusal_of(path: Path, first_bytes: bytes) -> str | None:
    """Return the problem of a file in an image format that is not read here, and the way out; None for other files."""
    kind = _kind_of_content(path.suffix.lower(), first_bytes)
    return _refusal(path, kind) if kind else None


def _refusal(path: Path, kind: str) -> str:
    """Return the problem of a file of `kind`, and the way out."""
    return f"{path}: {kind} is not read here; {_UNREADABLE[kind][1]}"


def _walk(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[tuple[Path, bool, bool]]:
    """Yield each file and each leftover folder; whether it is a leftover, and whether it is a regular file."""
    here = folder.resolve()
    if here in above:  # a link that leads back up
        return
    for name, is_folder, is_file in _entries(folder):
        if is_leftover_name(name):
            yield folder / name, True, is_file
        elif is_folder:
            yield from _walk(folder / name, above | {here})
        else:
            yield folder / name, False, is_file


def _entries(folder: Path) -> list[tuple[str, bool, bool]]:
    """Return name, whether it is a folder and whether it is a file, of each entry; sorted by name."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry.name, entry.is_dir(), entry.is_file()) for entry in entries)
    except OSError as error:
        raise DataError(f"{folder}: this folder cannot be listed: {error}") from error


def _kind_of(path: Path, is_file: bool) -> str | None:
    """Return None for no image, "" for an image, else the kind of image that is not read here."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return ""
    if suffix in _OTHER_SUFFIXES or not is_file:
        return None
    try:
        with path.open("rb") as file:
            content = file.read(_FIRST_BYTES)
    except OSError:
        return _KIND_OF_SUFFIX.get(suffix)
    return _kind_of_content(suffix, content)


def _kind_of_content(suffix: str, content: bytes) -> str | None:
    """As `_kind_of`, by suffix and first bytes: a JPEG is a JPEG whatever it is called."""
    by_suffix, by_content = _KIND_OF_SUFFIX.get(suffix), _kind_of_bytes(content)
    # Raw photos of most cameras are TIFF files: Pillow would decode their thumbnail.
    if by_suffix and by_content == "" and content[:4] in (b"II*\0", b"MM\0*"):
        return by_suffix
    return by_suffix if by_content is None else by_content


_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_READABLE_BEGINNINGS = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)  # fmt: skip
_UNREADABLE_BEGINNINGS = (
    (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"II\xbc\x01", "JPEG XR"),
    (b"FUJIFILMCCD-RAW", "camera raw"), (b"IIRO", "camera raw"), (b"IIRS", "camera raw"), (b"MMOR", "camera raw"),
    (b"IIU\0", "camera raw"), (b"FOVb", "camera raw"), (b"\0MRM", "camera raw"),
    (b"II\x1a\0\0\0HEAPCCDR", "camera raw"),
    (b"8BPS", "an image editor's document"), (b"gimp xcf", "an image editor's document"),
    (b"%!PS-Adobe", "vector graphics"), (b"\xc5\xd0\xd3\xc6", "vector graphics"),
    (b"\x76\x2f\x31\x01", "high dynamic range"), (b"#?RADIANCE", "high dynamic range"),
    (b"#?RGBE", "high dynamic range"),
    (b"DDS |", "a rare image format"), (b"qoif", "a rare image format"),
    (b"BPG\xfb", "a rare image format"), (b"FLIF", "a rare image format"),
    (b"icns", "a rare image format"),
)  # fmt: skip


def _kind_of_bytes(content: bytes) -> str | None:
    """As `_kind_of`, by the first bytes."""
    if content[:4] in (b"II*\0", b"MM\0*") and content[8:10] == b"CR":
        return "camera raw"
    if content.startswith(_READABLE_BEGINNINGS) or _is_bmp_or_ico(content):
        return ""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ""
    if re.match(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s", content):  # PBM, PGM, PPM
        return ""
    if content[4:8] == b"ftyp":
        brands = {content[at : at + 4] for at in range(8, min(int.from_bytes(content[:4], "big"), len(content)), 4)}
        if brands & {b"avif", b"avis"}:
            return ""
        if b"crx " in brands:
            return "camera raw"
        return "HEIC" if brands & _HEIF_BRANDS else None
    for beginning, kind in _UNREADABLE_BEGINNINGS:
        if content.startswith(beginning):
            return kind
    if content[128:132] == b"DICM":
        return "DICOM"
    if content.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") and b"<svg" in content:
        return "vector graphics"
    return None


def _is_bmp_or_ico(content: bytes) -> bool:
    """Check more of the header: two and four bytes are too few to recognize these formats by."""
    if content[:2] == b"BM":
        return content[14:18] in {bytes([size, 0, 0, 0]) for size in (12, 40, 52, 56, 64, 108, 124)}
    return content[:4] == b"\0\0\1\0" and 0 < int.from_bytes(content[4:6], "little") <= 64 and content[9:10] == b"\0"
