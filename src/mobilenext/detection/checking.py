"""Check a data set of pictures with boxes before hours are spent on it, and draw what training would see of it."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from PIL import Image

from mobilenext.data.box_list import is_box_list
from mobilenext.data.boxed_dataset import Examined, examine_boxes
from mobilenext.data.boxed_layout import find_boxed_layout
from mobilenext.data.boxes import BoxedDataset, BoxedImage
from mobilenext.data.check import check_workers, decode_all
from mobilenext.data.images import read_image
from mobilenext.detection.coverage import measure_coverage
from mobilenext.detection.data import named_parts
from mobilenext.detection.drawing import draw_boxes
from mobilenext.detection.recipes import FROM_SCRATCH, RECIPES, DetectionRecipe
from mobilenext.errors import DataError, DatasetError, UsageError, nearest
from mobilenext.files import refuse_overwriting, write_atomically
from mobilenext.seeds import ORDER, SAMPLE, generator

if TYPE_CHECKING:
    from typing import Unpack

MOST_DRAWN = 1000
_SHARE = 0.2  # that a data set without a validation part could be divided by


class CheckOptions(TypedDict, total=False):
    """Keywords of the check.

    Keys:
        split: a part, or several by commas; None: all parts.
        workers: processes that decode.
        decode: False leaves the images alone, but for their headers.
        progress: gets the number of decoded images, and of all.
        draw: number of pictures to write into the folder `output`, as training would see them.
        recipe: whose augmentation and priors are looked at, with `settings` as texts ``key=value``.
    """

    split: str | None
    workers: int | None
    decode: bool
    progress: Callable[[int, int], None] | None
    draw: int
    output: str | os.PathLike[str] | None
    recipe: str | None
    settings: Iterable[str]


OPTIONS = frozenset(CheckOptions.__annotations__)


def recognizes(root: Path, list_file: Path | None) -> bool:
    """Return whether a data set is one of pictures with boxes, by its list or by the layout of its folder."""
    try:
        if list_file is not None:
            return list_file.suffix.lower() == ".json" or (list_file.is_file() and is_box_list(list_file))
        find_boxed_layout(root)
    except (DataError, OSError):
        return False
    return True


def check_data(
    data: str | os.PathLike[str],
    *,
    list_file: str | os.PathLike[str] | None = None,
    **options: Unpack[CheckOptions],
) -> dict[str, Any]:
    """Describe a data set of boxes and the problems in it.

    Args:
        data, list_file: as in ``evaluate``.
        options: see `CheckOptions`.

    Returns:
        Counts; ``problems``: a sentence on each that makes a part unusable; ``left_out``, ``overhanging`` and
        ``unreadable``: the same on boxes and pictures; ``coverage``; ``verdict``, as of the check of labeled images.

    Raises:
        DatasetError: no layout that is understood. UsageError: an option that cannot work.
    """
    check_workers(options.get("workers"))
    recipe, settings = _find_recipe(options.get("recipe")), tuple(options.get("settings") or ())
    recipe = recipe.with_settings(settings)
    form = recipe.form_for(None, [setting.partition("=")[0].strip() for setting in settings])
    draw, output = _drawing(options)
    split = options.get("split")
    examined = examine_boxes(data, list_file=list_file, split=split)
    dataset, problems, unreadable = examined.dataset, list(examined.problems), list[str]()
    if decode := options.get("decode", True):
        sizes = _decode(dataset, problems, unreadable, options)
    train, training = _training(Path(data), examined) if list_file is None and split is None else (None, dataset)
    coverage = measure_coverage(training, form)
    remarks, sound = coverage.lines() if coverage else [], not problems and not unreadable
    if output is not None and sound:
        _draw(training, recipe, draw, output)
        remarks.append(f"{min(draw, len(training))} pictures, as {recipe.name} augments them, are in {output}")
    elif output is not None:
        remarks.append("no pictures are drawn: the problems come first")
    count = f"{len(problems):,} problems; {len(unreadable):,} of {len(dataset):,} images cannot be read"
    verdict = {"evaluate": {"usable": sound, "reason": count if not sound else None if decode else "not decoded"}}
    if train is not None:
        verdict["train"] = train if sound else verdict["evaluate"]
    return {
        **_counts(examined),
        **({"decoded": sizes} if decode else {}),
        "coverage": coverage.to_dict() if coverage else None,
        "remarks": remarks,
        "warnings": [*dataset.all_notes(), *_missing(dataset)],
        "problems": problems,
        "left_out": list(dataset.left_out),
        "overhanging": list(dataset.overhanging),
        "unreadable": unreadable,
        "verdict": verdict,
    }


def _drawing(options: CheckOptions) -> tuple[int, Path | None]:
    """Return how many pictures are to be drawn, and where."""
    draw, output = options.get("draw") or 0, options.get("output")
    if not 0 <= draw <= MOST_DRAWN:
        raise UsageError(f"draw is {draw}; expected a number of pictures up to {MOST_DRAWN}")
    if bool(draw) != (output is not None):
        raise UsageError("--draw N and -o DIR belong together: so many pictures are written into that folder")
    return draw, None if output is None else Path(output)


def _decode(dataset: BoxedDataset, problems: list[str], unreadable: list[str], options: CheckOptions) -> int:
    """Decode all pictures, add what is wrong with them, and return the number of those that could be read."""
    outcomes = decode_all(dataset.records, options.get("workers"), options.get("progress"))
    for record, outcome in zip(dataset.records, outcomes, strict=True):
        if isinstance(outcome, str):
            unreadable.append(outcome)
        elif outcome != (record.width, record.height):  # of a format whose header is not read
            stated = f"{record.width} x {record.height}"
            problems.append(f"{record.name}: its annotation says {stated}, it has {outcome[0]} x {outcome[1]} pixels")
    return len(outcomes) - len(unreadable)


def _find_recipe(name: str | None) -> DetectionRecipe:
    name = FROM_SCRATCH if name is None else name
    if name not in RECIPES:
        raise UsageError(
            f"data with boxes are for detection, no recipe of which is called {name!r}{nearest(name, RECIPES)}; "
            f"known: {', '.join(RECIPES)}"
        )
    return RECIPES[name]


def _counts(examined: Examined) -> dict[str, Any]:
    """Return what the data set holds, in numbers."""
    dataset, names = examined.dataset, examined.dataset.class_names or ()
    boxes = [box for record in dataset.records for box in record.boxes]
    per_class = Counter(box.label for box in boxes)
    return {
        "task": "detection",
        "layout": dataset.layout,
        "images": len(dataset),
        "images_without_boxes": sum(not record.boxes for record in dataset.records),
        "images_per_part": {name: len(paths) for name, paths in examined.parts.items()},
        "boxes": len(boxes),
        "difficult": sum(box.difficult for box in boxes),
        "crowds": sum(box.crowd for box in boxes),
        "classes": len(names),
        "boxes_per_class": {name: per_class[label] for label, name in enumerate(names, start=1)},
        "digest": dataset.digest(),
    }


def _missing(dataset: BoxedDataset) -> list[str]:
    present = {box.label for record in dataset.records for box in record.boxes}
    names = [name for label, name in enumerate(dataset.class_names or (), start=1) if label not in present]
    return (
        [f"{len(names)} of {len(dataset.class_names or ())} classes have no box: {', '.join(names)}"] if names else []
    )


def _training(root: Path, examined: Examined) -> tuple[dict[str, Any], BoxedDataset]:
    """Return whether the data are usable for training, and why, and the pictures that would train."""
    dataset = examined.dataset
    try:
        try:
            names = named_parts(root, {})
        except DatasetError:  # no validation part
            names = named_parts(root, {"val_split": _SHARE})
    except DataError as error:
        return {"usable": False, "reason": str(error)}, dataset
    trained = _pictures(examined, names["train_split"])
    part = dataset.with_records([record for record in dataset.records if record.path in trained])
    if names["val_split"] == str(_SHARE):
        return {"usable": True, "reason": f"with --val-split {_SHARE}, which divides the {len(part):,} pictures"}, part
    parts = {"train_split": trained, "val_split": _pictures(examined, names["val_split"])}
    labels = [
        {box.label for record in dataset.records if record.path in paths for box in record.boxes}
        for paths in parts.values()
    ]
    if untrained := sorted(labels[1] - labels[0]):
        shown = ", ".join((dataset.class_names or ())[label - 1] for label in untrained)
        return {"usable": False, "reason": f"only the validation part {names['val_split']} has boxes of {shown}"}, part
    train, val = (f"{len(paths):,} pictures of {names[name]}" for name, paths in parts.items())
    reason = f"{train}, validated by {val}"
    return {"usable": True, "reason": reason}, part


def _pictures(examined: Examined, names: str | None) -> frozenset[Path]:
    """Return the pictures of the parts with these names, by commas; None: all."""
    if names is None:
        return frozenset(record.path for record in examined.dataset.records)
    return frozenset(path for name in names.split(",") for path in examined.parts[name])


def _draw(dataset: BoxedDataset, recipe: DetectionRecipe, count: int, output: Path) -> None:
    """Write pictures as training would see them in its first epoch, with the boxes that are left of theirs."""
    order = generator(0, 0, 0, ORDER).permutation(len(dataset))[:count]
    records: Sequence[BoxedImage] = [dataset.records[index] for index in order]
    paths = [output / f"sample_{number:03}_{record.path.stem}.png" for number, record in enumerate(records, start=1)]
    refuse_overwriting(paths, [record.path for record in dataset.records])
    names, size = dataset.class_names or (), recipe.augmentation.image_size
    for path, record in zip(paths, records, strict=True):
        random = generator(0, 0, record.index, SAMPLE)
        pixels, corners, labels = recipe.augmentation.sample(read_image(record.path), *record.trained_boxes(), random)
        picture = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
        classes = [int(label) for label in labels]
        drawn = draw_boxes(picture, corners * size, [names[label - 1] for label in classes], labels=classes)
        content = io.BytesIO()
        drawn.save(content, "PNG")
        write_atomically(path, content.getvalue())
