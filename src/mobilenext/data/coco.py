"""COCO's layout of pictures with boxes: JSON files of images, annotations and categories.

    ROOT/annotations/instances_val2017.json    the part val2017; also in ROOT itself
    ROOT/val2017/000000000139.jpg              pictures of the part; also images/val2017/, images/, beside the file
    ROOT/valid/_annotations.coco.json          a file for each part beside its pictures
    ROOT/labels.json, ROOT/train.json          other files that hold boxes

Categories count as the classes 1, 2, 3, ... in the order of their ids, which may have gaps. Boxes are x, y, width and
height in pixels from 0. Segmentations are not read. A picture without annotations is one without objects.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mobilenext.data.annotations import Annotation, Annotations, BoxedLayout, NamedBox, ReadAnnotations
from mobilenext.data.list_finder import Finder, NotFound
from mobilenext.data.listing import is_leftover_name, visible_folders
from mobilenext.data.parts import part_of
from mobilenext.errors import DatasetError
from mobilenext.json_files import parse, read_bytes, shown

LARGEST = 512 << 20  # bytes; COCO's instances_train2017.json has 470 million, instances_val2017.json 20 million
_REMEDY = "name a file of COCO's annotations"
_LEAVE_OUT = frozenset({"segmentation", "keypoints", "counts"})  # most of a file, and never used
_PREFIX = "instances_"
_WHOLE = ("instances", "annotations", "annotation", "_annotations.coco", "labels", "coco")  # stems of files of no part
_ROBOFLOW = "_annotations.coco.json"
_FIRST_BYTES = 1 << 20
_TOP = ("images", "annotations", "categories")


def find_coco(root: Path, folder: Path) -> BoxedLayout | None:
    """Return the layout of `folder` where it is COCO's, None for another one; names are relative to `root`."""
    files: dict[str, Path] = {}
    names = [name for name in visible_folders(folder) if name.lower() in ("annotations", "annotation")]
    for place in (folder, *(folder / name for name in names)):
        for path in sorted(place.glob("*.json")):
            if (part := _part_of_file(path)) is not None:
                files.setdefault(part, path)
    for name in visible_folders(folder):
        if part_of(name) and (folder / name / _ROBOFLOW).is_file():
            files.setdefault(name, folder / name / _ROBOFLOW)
    if not files:
        return None
    if len(files) == 1 and part_of(next(iter(files))) is None:
        return BoxedLayout("coco", {}, partial(read_coco, root, folder, next(iter(files.values()))))
    parts: dict[str, ReadAnnotations] = {
        part: partial(read_coco, root, folder, path, part) for part, path in files.items()
    }
    return BoxedLayout("coco", parts)


def _part_of_file(path: Path) -> str | None:
    """Return the name of the part that a file holds, "" for a whole; None for a file that is no such."""
    if is_leftover_name(path.name) or not path.is_file():
        return None
    if path.stem.startswith(_PREFIX):
        return path.stem.removeprefix(_PREFIX)
    if path.stem.lower() not in _WHOLE and not part_of(path.stem):
        return None
    with path.open("rb") as file:
        start = file.read(_FIRST_BYTES)
    if not (b'"bbox"' in start or (b'"images"' in start and b'"file_name"' in start)):
        return None  # a list of class names, for one
    return "" if path.stem.lower() in _WHOLE else path.stem


def read_coco(root: Path, folder: Path, path: Path, part: str = "") -> Annotations:
    """Read a file of annotations.

    Args:
        root: of the data set, which names are relative to.
        folder: in which the folders of pictures are.
        path: the file.
        part: whose pictures may lie in a folder of that name.

    Raises:
        DatasetError: no annotations, such as a file of results. DataError: no JSON, or a file that is too large.
    """
    content = parse(
        read_bytes(path, LARGEST, remedy=_REMEDY), str(path), remedy=_REMEDY, numbers=False, leave_out=_LEAVE_OUT
    )
    _require_annotations(path, content)
    reader = _Reader(path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path))
    names = reader.categories(content["categories"])
    pictures = reader.pictures(content["images"])
    objects = reader.objects(content["annotations"], names, pictures)
    finder = Finder(root, path, bases=_image_folders(folder, path, part), inside=True)
    for image_id, (name, size) in pictures.items():
        try:
            picture, relative = finder.find(name)
        except NotFound as problem:
            reader.problems.append(f"{reader.source}: {name}: {problem}")
        else:
            source = f"{reader.source}: {name}"
            reader.items.append(Annotation(source, Path(picture), relative, image_id, size, tuple(objects[image_id])))
    return Annotations(reader.items, reader.problems, finder.notes(), {n: number for number, n in names.items()})


def _require_annotations(path: Path, content: Any) -> None:
    """Refuse what is no file of annotations.

    Raises:
        DatasetError: with what it is instead.
    """
    boxes = content if isinstance(content, list) else content.get("annotations") if isinstance(content, dict) else None
    if isinstance(boxes, list) and boxes and all(_field(box, "score") is not None for box in boxes):
        raise DatasetError(
            f"{path}: these are detections, with scores (COCO's form of results); expected the annotations that they "
            "are compared with"
        )
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in _TOP):
        missing = [n for n in _TOP if not isinstance(content, dict) or not isinstance(content.get(n), list)]
        raise DatasetError(
            f"{path}: no list of {' and '.join(missing)}; expected COCO's annotations of boxes, a record with "
            f"{', '.join(_TOP)}"
        )


def _image_folders(folder: Path, path: Path, part: str) -> list[Path]:
    """Return the folders in which the pictures of a part may lie; never those of another part."""
    names = visible_folders(folder)
    of_part = [name for name in names if part and part_of(part) and part_of(name) == part_of(part)]
    general = [name for name in names if name.lower() in ("images", "image", "imgs", "img", "data", "jpegimages")]
    inside = [folder / name / part for name in general if part]
    return [
        *([folder / part] if part else []),
        *inside,
        *(folder / name for name in of_part),
        *(folder / name / inner for name in general for inner in visible_folders(folder / name)
          if part_of(part) and part_of(inner) == part_of(part)),
        path.parent,
        *(folder / name for name in general),
        folder,
    ]  # fmt: skip


class _Reader:
    """Checks the records of a file, and collects what is wrong."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.items: list[Annotation] = []
        self.problems: list[str] = []

    def _problem(self, place: str, what: str) -> None:
        self.problems.append(f"{self.source}: {place}: {what}")

    def categories(self, records: list[Any]) -> dict[int, str]:
        """Return the names of the categories by their ids, in the order of the ids."""
        names: dict[int, str] = {}
        for place, record in enumerate(records):
            number, name = _field(record, "id"), _field(record, "name")
            if type(number) is not int or not isinstance(name, str) or not name.strip():
                self._problem(f"categories[{place}]", f"{shown(record)}; expected a whole number id and a name")
            elif number in names or name in names.values():
                self._problem(f"categories[{place}]", f"the id {number} or the name {name!r} stands there twice")
            else:
                names[number] = name
        if not names and not records:
            self._problem("categories", "there are none; expected the classes")
        return dict(sorted(names.items()))

    def pictures(self, records: list[Any]) -> dict[int | str, tuple[str, tuple[int, int] | None]]:
        """Return name and size of each picture by its id."""
        pictures: dict[int | str, tuple[str, tuple[int, int] | None]] = {}
        for place, record in enumerate(records):
            number, name = _field(record, "id"), _field(record, "file_name")
            sides = [_field(record, side) for side in ("width", "height")]
            if type(number) not in (int, str) or not isinstance(name, str) or not name:
                self._problem(f"images[{place}]", f"{shown(record)}; expected an id and a file_name")
            elif number in pictures:
                self._problem(f"images[{place}]", f"the id {number} stands there twice")
            elif not all(side is None or (type(side) is int and side >= 0) for side in sides):
                self._problem(f"images[{place}]", f"{shown(sides)}; expected width and height in pixels")
            else:
                pictures[number] = name, (sides[0], sides[1]) if all(sides) else None
        if not records:
            self._problem("images", "there are none; expected pictures")
        return pictures

    def objects(
        self, records: list[Any], names: Mapping[int, str], pictures: Mapping[int | str, Any]
    ) -> dict[int | str, list[NamedBox]]:
        """Return the objects by the ids of their pictures."""
        objects: dict[int | str, list[NamedBox]] = defaultdict(list)
        for place, record in enumerate(records):
            if not isinstance(record, dict):
                self._problem(f"annotations[{place}]", f"{shown(record)}; expected a record")
                continue
            where = f"annotation {record.get('id', f'number {place}')!s:.20}"
            image_id: Any = record.get("image_id")
            category: Any = record.get("category_id")
            box: Any = record.get("bbox")
            marks = [record.get("iscrowd") or 0, record.get("difficult") or 0]
            area: Any = record.get("area")
            if type(image_id) not in (int, str) or image_id not in pictures:
                self._problem(where, f"its image_id is {shown(image_id)}, which no picture has")
            elif type(category) is not int or category not in names:
                self._problem(where, f"its category_id is {shown(category)}, which no category has")
            elif not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
                self._problem(where, f"its bbox is {shown(box)}; expected x, y, width and height")
            elif area is not None and not _is_number(area):
                self._problem(where, f"its area is {shown(area)}; expected a number of square pixels, or none")
            elif not all(mark in (0, 1) for mark in marks):
                self._problem(where, f"iscrowd and difficult are {shown(marks)}; expected 0 or 1")
            else:
                x, y, width, height = box
                objects[image_id].append(
                    NamedBox(
                        names[category], (x, y, x + width, y + height), difficult=bool(marks[1]), crowd=bool(marks[0]),
                        area=None if area is None else float(area),
                    )
                )  # fmt: skip
        return objects


def _field(record: Any, name: str) -> Any:
    return record.get(name) if isinstance(record, dict) else None


def _is_number(value: Any) -> bool:
    """Return whether this is a number that a float can be, NaN and infinity among them."""
    return type(value) is float or (type(value) is int and abs(value) < 1 << 53)
