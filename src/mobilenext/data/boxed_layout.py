"""Which layout a data set of pictures with boxes has, which parts, and what their annotations say.

Layouts, tried in this order: a list or a file of COCO's that the caller names, Pascal VOC's (`mobilenext.data.voc`),
COCO's (`mobilenext.data.coco`), lists that are called as parts (`mobilenext.data.box_list`). A download may wrap a
single folder, or several in each other, around the layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mobilenext.data.annotations import Annotations, BoxedLayout
from mobilenext.data.box_list import find_box_lists, read_box_list
from mobilenext.data.coco import find_coco, read_coco
from mobilenext.data.listing import visible_folders
from mobilenext.data.parts import part_of
from mobilenext.data.voc import find_voc
from mobilenext.errors import DatasetError, nearest
from mobilenext.file_kinds import other_kind

_DEEPEST = 4  # single folders that a download may be wrapped in
_FINDERS: tuple[Callable[[Path, Path], BoxedLayout | None], ...] = (find_voc, find_coco, find_box_lists)


def find_boxed_layout(root: Path) -> BoxedLayout:
    """Return the layout of the data set; its names are relative to `root`, in which a download may have wrapped it.

    Raises:
        DatasetError: no folder, or no layout that is understood.
    """
    _require_folder(root)
    folder = root
    for _ in range(_DEEPEST):
        for find in _FINDERS:
            if layout := find(root, folder):
                return layout
        inner = visible_folders(folder)
        if len(inner) != 1:
            break
        folder /= inner[0]
    raise DatasetError(
        f"{root}: no annotations of boxes; expected Annotations/*.xml beside JPEGImages/ (Pascal VOC, or a devkit with "
        "VOC2007/), annotations/instances_*.json (COCO), or a list of boxes that is named explicitly"
    )


def parts_named(root: Path, layout: BoxedLayout, split: str) -> list[str]:
    """Return the parts that the names in `split`, by commas, stand for.

    Raises:
        DatasetError: no such part, or a word that several parts go by.
    """
    names = [name.strip() for name in split.split(",")]
    return list(dict.fromkeys(_part_named(root, layout, name) for name in names))


def _part_named(root: Path, layout: BoxedLayout, name: str) -> str:
    there = ", ".join(layout.parts) or "no parts"
    if name in layout.parts:
        return name
    part = None if any(map(str.isdigit, name)) else part_of(name)  # 2008-test is not 2007-test
    candidates = [known for known in layout.parts if known.lower() == name.lower()]
    candidates = candidates or [known for known in layout.parts if part and part_of(known) == part]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise DatasetError(f"{root}: {name} may be each of {', '.join(candidates)}; name one, or several by commas")
    raise DatasetError(
        "; ".join([f"{root}: no part {name!r}{nearest(name, layout.parts)}", f"found {there}", *layout.notes])
    )


def read_parts(root: Path, layout: BoxedLayout, split: str | None) -> tuple[Annotations, list[str]]:
    """Return the annotations of the parts that `split` names, or of those that are evaluated without it, and notes."""
    if split is not None:
        names = parts_named(root, layout, split)
        return _joined([layout.parts[name]() for name in names], names), []
    for part in ("test", "val"):
        if any(part_of(name) == part for name in layout.parts):
            name = _part_named(root, layout, part)
            return layout.parts[name](), [f"the part {name} is taken"]
    if layout.whole is not None:
        reason = "there is no test or validation part" if layout.parts else "the data set has no parts"
        return layout.whole(), [f"all pictures are taken: {reason}"]
    names = list(layout.parts)
    return _joined([read() for read in layout.parts.values()], names), [f"the parts {', '.join(names)} are taken"]


def _joined(parts: Sequence[Annotations], names: Sequence[str]) -> Annotations:
    """Return the annotations of several parts as one; a picture must not be in two of them."""
    whole = Annotations(categories=parts[0].categories)
    part_of_picture: dict[Path, str] = {}
    for name, part in zip(names, parts, strict=True):
        whole.items += part.items
        whole.problems += part.problems
        whole.notes += part.notes
        if part.categories != whole.categories:
            whole.problems.append(f"{name}: its categories are not those of {names[0]}")
        both = [item for item in part.items if part_of_picture.setdefault(item.path, name) != name]
        if both:
            whole.problems.append(
                f"{len(both):,} pictures of {name} are in {part_of_picture[both[0].path]}, too, such as {both[0].name}"
            )
    return whole


def listed_layout(root: Path, list_file: Path) -> BoxedLayout:
    """Return the layout of a list of boxes, or of a JSON file of COCO's annotations.

    Raises:
        DatasetError: no folder.
    """
    _require_folder(root)
    if list_file.suffix.lower() == ".json":
        part = list_file.stem.rpartition("_")[2]  # as in instances_val2017, whose pictures lie in val2017
        return BoxedLayout("coco", {}, partial(read_coco, root, root, list_file, part))
    return BoxedLayout("box-list", {}, partial(read_box_list, root, list_file))


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        problem = other_kind(root) or ("this is a file" if root.exists() else "no such folder")
        raise DatasetError(f"{root}: {problem}; expected a folder")
