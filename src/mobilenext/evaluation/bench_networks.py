"""Which networks a bench measures, and what each is shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np

from mobilenext.data import find_images, pixels_of
from mobilenext.data.images import paths_of
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.machine.packages import require_paddle
from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.process_environment import compute_environment
from mobilenext.models import Architecture, find_model, split_tag
from mobilenext.models.build import PARTIAL
from mobilenext.sources.find import Subject, find_subject
from mobilenext.weights.searched import fresh_weights
from mobilenext.weights.write import write_weights

MOST_IMAGES = 16


class Networks(TypedDict, total=False):
    """Which networks are measured."""

    models: Sequence[str]  # names; without `weights` they are freshly initialized, which does not change their speed
    weights: str | os.PathLike[str] | None  # a file or a tag, for one model, or without models for its own
    exported: Sequence[str | os.PathLike[str]]  # folders of ``mobilenext export``
    onnx: Sequence[str | os.PathLike[str]]  # ONNX files
    image_size: int | None  # pixels; of models, the default is 224 or that of the weights
    identity_divisors: Sequence[int]  # of the MobileNeXt models
    images: Sequence[str | os.PathLike[str]]  # files and folders, of which up to 16 images are shown; default: noise


@dataclass(frozen=True)
class BenchNetwork:
    """A network with its name in the table."""

    name: str
    subject: Subject
    identity_divisor: int
    image_size: int
    mult_adds: int | None  # of one image; None where nobody has counted
    fresh: bool = False  # its weights are freshly initialized


def networks_of(work: Path, chosen: Networks) -> Iterator[BenchNetwork]:
    """Yield the networks that were asked for; fresh weights are written into the folder `work`."""
    weights, image_size = chosen.get("weights"), chosen.get("image_size")
    fields = {} if image_size is None else {"image_size": image_size}
    for name in chosen.get("models", ()):
        card = find_model(split_tag(name)[0])
        if card.architecture is not None:
            card = find_model(card.architecture.completed(image_size or card.image_size))
        for divisor in chosen.get("identity_divisors", (1,)) if card.family in PARTIAL else (card.identity_divisor,):
            fresh = weights is None and not split_tag(name)[1]
            if fresh:
                file = work / f"{card.name}.safetensors"
                if not file.is_file():
                    with WorkerPool(1, compute_environment(1)) as single:
                        single.call(write_fresh_weights, card.architecture or card.name, file)
                named = None if card.architecture else card.name
                subject = Subject(file, "weights", named, identity_divisor=divisor, preprocessing=fields)
            else:
                subject = find_subject(model=name, weights=weights, identity_divisor=divisor, preprocessing=fields)
            mult_adds = card.mult_adds if not image_size and not card.architecture else None
            yield BenchNetwork(card.name, subject, divisor, image_size or card.image_size, mult_adds, fresh)
    if weights is not None and not chosen.get("models"):
        for divisor in chosen.get("identity_divisors", (1,)):
            # 1 stands for none that was asked for: that of the weights.
            own = None if divisor == 1 else divisor
            subject = find_subject(weights=weights, identity_divisor=own, preprocessing=fields)
            yield BenchNetwork(subject.path.stem, subject, divisor, 0, None)
    for folder in chosen.get("exported", ()):
        subject = replace(find_subject(exported=folder, preprocessing=fields), timed_only=True)
        yield BenchNetwork(Path(folder).name, subject, 1, 0, None)
    for path in chosen.get("onnx", ()):
        subject = replace(find_subject(onnx=path, preprocessing=fields), timed_only=True)
        yield BenchNetwork(Path(path).stem, subject, 1, 0, None)


def write_fresh_weights(model: str | Architecture, file: Path) -> None:
    """Write the weights of a freshly initialized network; its speed does not depend on them."""
    require_paddle()
    import paddle
    from safetensors.numpy import save_file

    from mobilenext.models import build_network

    paddle.seed(0)
    if isinstance(model, Architecture):
        write_weights(fresh_weights(model, file), file)
        return
    network = build_network(model)
    save_file({name: tensor.numpy() for name, tensor in network.state_dict().items()}, str(file))


def images_for(images: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return up to 16 image files, spread evenly over those that are named.

    Raises:
        DataError: a path that does not exist, or a folder without images.
    """
    paths = find_images(paths_of(images))
    return [paths[place] for place in np.linspace(0, len(paths) - 1, min(MOST_IMAGES, len(paths))).round().astype(int)]


def write_images(images: Sequence[Path], preprocessing: Preprocessing, file: Path) -> None:
    """Write the images as a network takes them, [K, 3, S, S], as a NumPy file.

    Raises:
        ImageError: one cannot be read.
    """
    np.save(file, preprocessing.normalize(np.stack([pixels_of(path, preprocessing) for path in images])))
