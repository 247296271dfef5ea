"""Small data sets of pictures with boxes, in the layouts that people have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

VocObject = tuple[str, Sequence[object]]  # name of the class; xmin, ymin, xmax, ymax, counted from 1


def save_picture(path: Path, size: tuple[int, int] = (100, 80)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path)
    return path


def voc_xml(
    objects: Iterable[VocObject], size: tuple[object, object] | None = (100, 80), extra: str = "", filename: str = ""
) -> str:
    """Return an annotation file; `extra` stands in each object, such as <difficult>1</difficult>."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    texts = [
        f"<object><name>{name}</name>{extra}<bndbox>"
        + "".join(f"<{corner}>{value}</{corner}>" for corner, value in zip(corners, box, strict=True))
        + "</bndbox></object>"
        for name, box in objects
    ]
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>{filename}</filename>{sides}{''.join(texts)}</annotation>"


def add_voc(
    folder: Path,
    name: str,
    objects: Iterable[VocObject],
    *,
    suffix: str = ".jpg",
    extra: str = "",
    size: tuple[int, int] = (100, 80),
) -> Path:
    """Add a picture and its annotation to a VOC folder; return the annotation file."""
    save_picture(folder / "JPEGImages" / f"{name}{suffix}", size)
    path = folder / "Annotations" / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(voc_xml(objects, size, extra))
    return path


def add_part(folder: Path, part: str, names: Iterable[str]) -> None:
    sets = folder / "ImageSets" / "Main"
    sets.mkdir(parents=True, exist_ok=True)
    (sets / f"{part}.txt").write_text("".join(f"{name}  \n" for name in names))
