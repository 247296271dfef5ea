"""Make the data and weights that a configuration's commands name, without a network connection.

    DATA/imgs/train/*, DATA/imgs/val/*     so that the folder of the validation images can be inferred as it is
    DATA/train_list.txt, DATA/val_list.txt, DATA/labels.txt
    DATA/prepared.json                     its source: only a folder with this file is ever replaced
    WEIGHTS.safetensors                    for whole_infer

The images are scikit-learn's handwritten digits, or those of an archive or folder. The lite modes take some of every
class. A detector gets pictures with several digits and their boxes (`prepare_boxes`):

    DATA/train/*, DATA/val/*               pictures, and Pascal VOC's annotations beside them
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mobilenext.classification.data import open_parts
from mobilenext.data import LabelledImage
from mobilenext.data.digits import write_digits
from mobilenext.data.layouts import TRAIN_LIST
from mobilenext.errors import DataError, OutputError, UsageError
from mobilenext.files import write_atomically
from mobilenext.json_files import read_json, text
from mobilenext.machine.temporary import scratch_folder, temporary_beside, temporary_folder
from mobilenext.models.cards import DETECTION
from mobilenext.runs.run_folder import write_json
from mobilenext.tipc import prepare_boxes, verbs
from mobilenext.tipc.config import Config, check_mode, read_config
from mobilenext.tipc.flags import NULL, parse
from mobilenext.tipc.options import OPTIONS, WITHOUT_EFFECT

log = logging.getLogger(__name__)
MARK = "prepared.json"
DIGITS = "scikit-learn's digits"
LITE_TRAIN, LITE_VAL = 16, 4  # images per class
WEIGHTS_EPOCHS = 3
_LITE_PARTS = {"lite_train_lite_infer": ("train", "val"), "lite_train_whole_infer": ("train",)}


def prepare(config_file: Path, mode: str, source: Path | None = None) -> None:
    """Make the data, and for `whole_infer` the weights, that the configuration's commands read in `mode`.

    Args:
        config_file: a configuration of any layout.
        mode: one of the drivers' modes.
        source: a tar archive, or a folder, with ``train_list.txt``, ``val_list.txt`` and images; None: the digits.

    Raises:
        UsageError: an unknown mode; commands that name no data; a data folder that this function has not made.
        DataError: the source cannot be read. OutputError: nothing can be written there.
    """
    check_mode(mode)
    config = read_config(config_file)
    values = words_of(config, "norm_train", "train")
    if "data" not in values:
        raise UsageError(
            f"{config_file}, line {config['norm_train'].number}: no --data=FOLDER, so none can be prepared"
        )
    data = Path(values["data"])
    try:
        detects = _task_of(values) == DETECTION
        drawn = prepare_boxes.DRAWN if detects else DIGITS
        with _source(source, detects=detects) as folder:
            _write_data(folder, data, mode, str(source) if source else drawn, detects=detects)
        if mode == "whole_infer":
            _write_weights(config, values, data)
    except (OSError, shutil.Error) as error:
        raise OutputError(f"cannot prepare {data}: {getattr(error, 'strerror', None) or error}") from error


def words_of(config: Config, field: str, verb: str) -> dict[str, Any]:
    """Read the values that a line of a configuration hands to a verb of this adapter.

    Raises:
        UsageError: the line runs something else, or has flags that are not understood.
    """
    line = config[field]
    words = shlex.split(line.value)
    if verb not in words:
        raise UsageError(
            f"{config.path}, line {line.number}: {line.value!r} does not run `python -m mobilenext.tipc {verb}`"
        )
    try:
        return parse(words[words.index(verb) + 1 :], OPTIONS[verb], WITHOUT_EFFECT[verb])
    except UsageError as error:
        raise UsageError(f"{config.path}, line {line.number}: {error}") from error


@contextlib.contextmanager
def _source(source: Path | None, *, detects: bool) -> Iterator[Path]:
    """Yield a folder with both lists, or with both parts of pictures with boxes."""
    if source is not None and source.is_dir():
        yield source
        return
    with scratch_folder() as folder:
        if source is None and detects:
            prepare_boxes.draw(folder)
            yield folder
            return
        if source is None:
            yield write_digits(write_digits(folder, "train"), "val")
            return
        try:
            with tarfile.open(source) as archive:
                archive.extractall(folder, filter="data")
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"{source} cannot be unpacked: {error}; expected a tar archive or a folder") from error
        if detects:
            yield folder
            return
        lists = sorted(folder.rglob(TRAIN_LIST), key=lambda path: len(path.parts))
        if not lists:
            raise DataError(f"{source} has no {TRAIN_LIST}; expected that, val_list.txt and images")
        yield lists[0].parent


def _write_data(source: Path, data: Path, mode: str, described: str, *, detects: bool) -> None:
    if data.exists() and not (data / MARK).is_file():
        raise UsageError(f"{data} is there and has no {MARK}, so it was not made here; move it, or change --data")
    with temporary_folder(temporary_beside(data)) as fresh:
        lite_parts = _LITE_PARTS.get(mode, ())
        images = (prepare_boxes.fill if detects else _fill)(fresh, source, lite_parts)
        write_json(fresh / MARK, {"mode": mode, "source": described, **images})
        if data.exists():
            shutil.rmtree(data)
        fresh.replace(data)
    log.info("%s: %d training and %d validation images of %s", data, *images.values(), described)


def _fill(fresh: Path, source: Path, lite_parts: tuple[str, ...]) -> dict[str, int]:
    """Copy the images, some of the lite parts, and write their lists; return the number of images in both parts."""
    images = {}
    for name, dataset in zip(("train", "val"), open_parts(source, None, None), strict=True):
        records: Sequence[LabelledImage] = dataset.records
        if name in lite_parts:
            records = _some_of_each(records, LITE_TRAIN if name == "train" else LITE_VAL)
        images[f"{name}_images"] = len(records)
        (fresh / "imgs" / name).mkdir(parents=True)
        lines = []
        for record in records:
            file = f"{name}/{record.name.removeprefix('imgs/').replace('/', '_')}"
            shutil.copyfile(record.path, fresh / "imgs" / file)
            lines.append(f"{file} {record.label}\n")
        write_atomically(fresh / f"{name}_list.txt", "".join(lines).encode())
    if (source / "labels.txt").is_file():
        shutil.copyfile(source / "labels.txt", fresh / "labels.txt")
    return images


def _some_of_each(records: Sequence[LabelledImage], number: int) -> list[LabelledImage]:
    seen: Counter[int] = Counter()
    chosen = []
    for record in records:
        if seen[record.label] < number:
            chosen.append(record)
            seen[record.label] += 1
    return chosen


def _write_weights(config: Config, values: dict[str, Any], data: Path) -> None:
    """Write the weights that are inferred without a training: the bundled ones, or some that are trained briefly."""
    from mobilenext.models import find_model
    from mobilenext.runs.run_folder import BEST
    from mobilenext.weights.pretrained import BUNDLED

    for weights in _weights_of(config):
        file = weights.with_name(f"{weights.name}.safetensors")
        if file.is_file():
            log.info("%s exists already, and is kept", file)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        model = find_model(values["model"]).name
        bundled = BUNDLED / f"{model}.digits.safetensors"
        if bundled.is_file() and _is_digits(data):
            shutil.copyfile(bundled, file)
            log.info("%s: the bundled weights of %s", file, model)
            continue
        with scratch_folder(file.parent) as scratch:
            verbs.train({**values, "output": scratch / "run", "epochs": WEIGHTS_EPOCHS})
            shutil.copyfile(scratch / "run" / BEST, file)
        log.info("%s: trained for %d epochs, for lack of others", file, WEIGHTS_EPOCHS)


def _task_of(values: Mapping[str, Any]) -> str | None:
    """Return the task of the network that a training names; None of one that is not known."""
    from mobilenext.models import MODELS

    card = MODELS.get(values.get("model", ""))
    return card.task if card else None


def _is_digits(data: Path) -> bool:
    return str(read_json(data / MARK, {"source": text()})["source"]).endswith("digits")


def _weights_of(config: Config) -> list[Path]:
    """Return the weights that whole_infer exports, without a suffix: one driver exports into a folder of that name."""
    if config.layout.name == "paddleclas":
        if config.value("other_export_1") in (NULL, "False", ""):
            return []
        return [Path(words_of(config, "other_export_1", "export")["weights"])]
    return [Path(name) for name in config["infer_model"].values if name != NULL]
