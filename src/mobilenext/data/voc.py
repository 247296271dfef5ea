"""Pascal VOC's layout of pictures with boxes.

    ROOT/VOC2007/Annotations/000001.xml          a devkit, with one year or more, or ROOT/VOCdevkit/VOC2007/...
    ROOT/Annotations/000001.xml                  a single folder
        JPEGImages/000001.jpg                    the picture; any format that is read here, also in images/
        ImageSets/Main/train.txt                 the names of a part, a line each; without such lists, no parts
    ROOT/train/1.xml, ROOT/train/1.jpg           annotations beside the pictures, in a folder for each part or in ROOT

Lists of single classes (``cat_train.txt``, with a second column in every line) are no parts. Names of classes count in
lower case. Names in lists lead to nothing outside of the folder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mobilenext.data.annotations import Annotation, Annotations, BoxedLayout, ReadAnnotations
from mobilenext.data.list_finder import Finder, NotFound, leads_out
from mobilenext.data.list_text import read_lines
from mobilenext.data.listing import IMAGE_SUFFIXES, holds_images, is_leftover_name, visible_folders
from mobilenext.data.parts import part_of
from mobilenext.data.voc_xml import XmlProblem, read_voc_file
from mobilenext.errors import DatasetError
from mobilenext.json_files import shown

# In the order of the labels 1, 2, 3, ...
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_ANNOTATION_FOLDERS = ("annotations", "annotation", "annots", "xmls", "xml", "labels")
_IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img")
_YEAR = re.compile(r"VOC(\d{4})", re.IGNORECASE)
_PART_OF_CLASS = re.compile(r".+_(train|val|trainval|test)")  # VOC's own lists of single classes
_FLAGS = ("-1", "0", "1")  # the class is not in the picture, is there and difficult, is there


def find_voc(root: Path, folder: Path) -> BoxedLayout | None:
    """Return the layout of `folder` where it is Pascal VOC's, None for another one; names are relative to `root`."""
    if years := _years_in(folder):
        several = len(years) > 1
        parts: dict[str, ReadAnnotations] = {}
        notes: list[str] = []
        for year, place in years.items():
            lists = _part_lists(root, place)
            prefix = f"{place.name}/" if several else ""
            parts |= {f"{year}-{path.stem}": partial(_read_list, root, place, prefix, path) for path in lists.parts}
            notes += lists.notes
        folders = [(place, f"{place.name}/" if several else "") for place in years.values()]
        whole = partial(_read_all, root, folders)
        return BoxedLayout("voc-devkit", parts, whole, lower_case=True, devkit=True, notes=tuple(notes))
    if _annotation_folder(folder) is not None:
        lists = _part_lists(root, folder)
        parts = {path.stem: partial(_read_list, root, folder, "", path) for path in lists.parts}
        whole = partial(_read_all, root, [(folder, "")])
        return BoxedLayout("voc", parts, whole, lower_case=True, notes=lists.notes)
    names = [name for name in visible_folders(folder) if part_of(name) and _annotation_folder(folder / name)]
    if names:
        parts = {name: partial(_read_all, root, [(folder / name, f"{name}/")]) for name in names}
        whole = partial(_read_all, root, [(folder / name, f"{name}/") for name in names])
        return BoxedLayout("voc-folders", parts, whole, lower_case=True)
    return None


def _years_in(root: Path) -> dict[str, Path]:
    for folder in (root, root / "VOCdevkit"):
        names = {match[1]: folder / name for name in visible_folders(folder) if (match := _YEAR.fullmatch(name))}
        years = {year: path for year, path in names.items() if _annotation_folder(path) is not None}
        if years:
            return years
    return {}


def _annotation_folder(folder: Path) -> Path | None:
    """Return the folder of a VOC folder's XML files: one that is called so, or itself where they lie beside images."""
    named = [folder / name for name in visible_folders(folder) if name.lower() in _ANNOTATION_FOLDERS]
    for place in (*named, *(place / "xmls" for place in named)):
        if place.is_dir() and _xml_names(place, first=True):
            return place
    return folder if _xml_names(folder, first=True) and holds_images(folder) else None


def _xml_names(folder: Path, *, first: bool = False) -> list[str]:
    """Return the ids of the XML files in `folder`, sorted; `first`: of one of them."""
    names = []
    for path in folder.iterdir():
        if path.suffix.lower() == ".xml" and not is_leftover_name(path.name):
            names.append(path.stem)
            if first:
                break
    return sorted(names)


@dataclass(frozen=True)
class _Lists:
    """The lists of a VOC folder."""

    parts: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()  # which others were passed over, where their names do not tell


def _part_lists(root: Path, folder: Path) -> _Lists:
    """Return the lists that are those of parts, and not of single classes."""
    sets = folder / "ImageSets" / "Main"
    if not sets.is_dir():
        return _Lists()
    lists = sorted(path for path in sets.glob("*.txt") if not is_leftover_name(path.name))
    parts = tuple(path for path, of_class in zip(lists, _of_one_class(folder, lists), strict=True) if not of_class)
    known = {path.stem for path in parts}
    others = [
        path.relative_to(root).as_posix()
        for path in lists
        if path not in parts and not ((match := _PART_OF_CLASS.fullmatch(path.stem)) and match[1] in known)
    ]
    if not others:
        return _Lists(parts)
    are = "are lists of single classes and no parts" if len(others) > 1 else "is a list of a single class and no part"
    names = f"{', '.join(others[:5])}{', ...' * (len(others) > 5)}"
    return _Lists(parts, (f"{names} {are}: a second column of -1, 0 or 1 is in every line",))


def _of_one_class(folder: Path, lists: Sequence[Path]) -> Iterator[bool]:
    """Yield whether each list has a second column, which tells whether a class is in the picture.

    Names of pictures may end with a space and a number, too: a line that is such a name has no second column.
    """
    pictures: set[str] | None = None
    for path in lists:
        try:
            lines = [line for line in map(str.strip, read_lines(path)) if line]
        except DatasetError:  # it is said when the part is read
            yield False
            continue
        if not lines or not all(len(words := line.split()) > 1 and words[-1] in _FLAGS for line in lines):
            yield False
            continue
        if pictures is None:
            pictures = {file.stem for place in _image_folders(folder) for file in place.iterdir()}
            pictures.update(_xml_names(_annotation_folder(folder) or folder))
        yield pictures.isdisjoint(lines)


def _read_list(root: Path, folder: Path, prefix: str, list_file: Path) -> Annotations:
    """Read the pictures of a part, in the order of its list."""
    source, annotations = list_file.relative_to(root).as_posix(), Annotations()
    lines = [(number, line.strip()) for number, line in enumerate(read_lines(list_file), start=1) if line.strip()]
    ids = []
    for number, line in lines:
        if leads_out(line):
            problem = f"{shown(line)} leads out of the data set; expected the name of a picture in it"
            annotations.problems.append(f"{source}: line {number}: {problem}")
        else:
            ids.append(_without_suffix(line))
    if not lines:
        annotations.problems.append(f"{source}: the part is empty; expected names")
    if twice := [name for name, count in Counter(ids).items() if count > 1]:
        annotations.problems.append(f"{source}: {twice[0]} stands there twice")
    _read_ids(annotations, root, folder, prefix, dict.fromkeys(ids))
    return annotations


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name


def _read_all(root: Path, folders: Iterable[tuple[Path, str]]) -> Annotations:
    """Read all annotation files of the folders, in the order of their names; count pictures without one."""
    annotations = Annotations()
    for folder, prefix in folders:
        of_files = _annotation_folder(folder) or folder
        ids = _xml_names(of_files)
        _read_ids(annotations, root, folder, prefix, dict.fromkeys(ids))
        annotations.notes += _without_annotation(folder, set(ids))
    return annotations


def _without_annotation(folder: Path, ids: set[str]) -> list[str]:
    """Return a sentence on pictures that have no annotation file, so that nothing is known about them."""
    names = sorted(
        path.name
        for images in _image_folders(folder)
        for path in images.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not is_leftover_name(path.name) and path.stem not in ids
    )
    if not names:
        return []
    are = "pictures have no annotation file and are" if len(names) > 1 else "picture has no annotation file and is"
    return [
        f"{len(names):,} {are} left out: {', '.join(names[:5])}{', ...' * (len(names) > 5)}; an annotation without "
        "objects makes a picture one without objects"
    ]


def _image_folders(folder: Path) -> list[Path]:
    named = [folder / name for name in visible_folders(folder) if name.lower() in _IMAGE_FOLDERS]
    return sorted(named, key=lambda path: _IMAGE_FOLDERS.index(path.name.lower())) or [folder]


def _read_ids(annotations: Annotations, root: Path, folder: Path, prefix: str, ids: Mapping[str, None]) -> None:
    of_files = _annotation_folder(folder) or folder
    finder = Finder(root, of_files / "x", bases=[*_image_folders(folder), of_files], inside=True)
    for name in ids:
        path = of_files / f"{name}.xml"
        source = path.relative_to(root).as_posix()
        try:
            file = read_voc_file(path)
        except XmlProblem as problem:
            annotations.problems.append(f"{source}: {problem}")
            continue
        annotations.problems += [f"{source}: {problem}" for problem in file.problems]
        try:
            picture, relative = _find_picture(finder, name, file.filename)
        except NotFound as problem:
            annotations.problems.append(f"{source}: its picture: {problem}")
            continue
        image_id = f"{prefix}{name}"
        annotations.items.append(Annotation(source, Path(picture), relative, image_id, file.size, tuple(file.objects)))


def _find_picture(finder: Finder, name: str, filename: str) -> tuple[str, str]:
    """Return the picture of an annotation's name or, where there is none, the one that the annotation names."""
    try:
        return finder.find(name)
    except NotFound:
        last = filename.replace("\\", "/").rpartition("/")[2]
        if not last:
            raise
        return finder.find(last)
