"""The layouts that are understood, and the refusal of a folder that has none of them."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from mobilenext.data.listing import list_folder, visible_folders
from mobilenext.data.parts import IMAGES_FOLDER
from mobilenext.errors import DatasetError
from mobilenext.file_kinds import other_kind

LIST_NAME, TRAIN_LIST = "val_list.txt", "train_list.txt"

LAYOUTS = f"""Layouts that are understood:
    ROOT/{LIST_NAME}               each line an image's name and its label, as in: val_1.JPEG 65
    ROOT/{IMAGES_FOLDER}/val_1.JPEG            names are looked up in ROOT/{IMAGES_FOLDER}, then in ROOT
or
    ROOT/val/n01440764/val_1.JPEG   a folder for each class; sorted by name they are classes 0, 1, 2, ...
or
    ROOT/n01440764/val_1.JPEG       the same without val
or any folder of images together with a list file that is named explicitly."""


def refuse_layout(root: Path, problem: str | None = None) -> NoReturn:
    """Raise a DatasetError with the problem, or with what the folder holds, and the layouts."""
    raise DatasetError(f"{root}: {problem or _contents(root)}\n{LAYOUTS}")


def _contents(root: Path) -> str:
    """Say what the folder holds instead of a layout, and which folder may be meant."""
    if problem := other_kind(root, "data", "images"):
        return f"{problem}."
    subfolders = visible_folders(root)
    if nested_lists := [root / name / LIST_NAME for name in subfolders if (root / name / LIST_NAME).exists()]:
        return f"{nested_lists[0]} exists: did you mean {nested_lists[0].parent}?"
    parent = root.resolve().parent
    if (parent / LIST_NAME).is_file():
        return f"{parent / LIST_NAME} exists: did you mean {parent}?"
    if (root / IMAGES_FOLDER).is_dir():
        return f"there is a folder {IMAGES_FOLDER} but no list; expected {root / LIST_NAME}."
    listing = list_folder(root)
    if not listing.images:
        return "no images in this folder." if listing.others or subfolders else "this folder is empty."
    folders = {image.parent for image in listing.images}
    if len(folders) == 1:
        return f"{folders.pop()} holds all images ({len(listing.images):,}), and nothing gives them labels."
    return f"no {LIST_NAME}, and no class folders in val; found the folders {', '.join(subfolders)}."
