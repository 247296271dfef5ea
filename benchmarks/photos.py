"""What a photo costs: decoding, and resizing and cropping by Pillow and by the compiled loops (see images.py --photos).

Photo by photo in turns in one process, in milliseconds of a core: the mean over the photos of the median over the
rounds. Every byte is compared. Beside the evaluation's crop, random crops of training, of half to all of each side.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from mobilenext.arrays import Pixels
from mobilenext.data import Preprocessing, find_images, read_image
from mobilenext.data.compiled_resize import Box
from mobilenext.data.resampling import LOADING_PAYS, begin, resized
from mobilenext.machine.environment import environment
from mobilenext.machine.process_environment import prepare_process
from mobilenext.origin import origin

T = TypeVar("T")
SIDE = 224  # of the result
COMPILE = [sys.executable, "-m", "mobilenext.data.resampling_compiler"]


class Crop(NamedTuple):
    """What becomes of an image."""

    interpolation: str
    size: tuple[int, int]
    box: Box
    crop: Box


def measure_photos(folder: Path, rounds: int = 3) -> dict[str, Any]:
    """Return what the photos of a folder cost, measured in this process."""
    compiling_s = _compiling_s()
    prepare_process(1)
    loading_ms, loaded = _timed(lambda: begin(LOADING_PAYS, "bicubic", SIDE))
    if not loaded:
        raise SystemExit("the compiled loops cannot be loaded: is Numba installed?")
    paths, pixels, different = find_images(folder), 0, 0
    milliseconds: dict[str, list[list[float]]] = {}  # of each way: [photo][round]
    for number, path in enumerate(paths):
        image = read_image(path)
        pixels += image.width * image.height
        times: dict[str, list[float]] = {}
        for _ in range(rounds):
            times.setdefault("decoding", []).append(_timed(partial(read_image, path))[0])
            for name, crop in _crops(image, number).items():
                pillow_ms, expected = _timed(partial(_by_pillow, image, crop))
                loops_ms, result = _timed(
                    partial(resized, image, crop.size, crop.interpolation, box=crop.box, crop=crop.crop)
                )
                times.setdefault(f"{name} by Pillow", []).append(pillow_ms)
                times.setdefault(f"{name} by loops", []).append(loops_ms)
                different += int(np.count_nonzero(result != expected))
        for name, of_photo in times.items():
            milliseconds.setdefault(name, []).append(of_photo)
    means = {name: float(np.median(values, axis=1).mean()) for name, values in milliseconds.items()}
    source = origin()
    return {
        **source,
        "command": source["command"].replace(str(folder), folder.name),  # no path of one machine
        "folder": folder.name,
        "images": len(paths),
        "mean_pixels": round(pixels / len(paths)),
        "rounds": rounds,
        "decoding_ms": round(means["decoding"], 3),
        "rows": [_row(name.removesuffix(" by loops"), means) for name in means if name.endswith(" by loops")],
        "different_bytes": different,
        "loading_ms": round(loading_ms, 1),
        "compiling_s": round(compiling_s, 2),
        "load_average_after": [round(load, 2) for load in os.getloadavg()],
        "environment": environment(),
    }


def _row(crop: str, means: dict[str, float]) -> dict[str, Any]:
    pillow_ms, loops_ms = means[f"{crop} by Pillow"], means[f"{crop} by loops"]
    return {
        "crop": crop,
        "pillow_ms": round(pillow_ms, 3),
        "loops_ms": round(loops_ms, 3),
        "share": round(loops_ms / pillow_ms, 3),
    }


def _compiling_s() -> float:
    """Compile the loops in an empty cache folder, and once for this process; return the seconds of a core."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(COMPILE, check=True, env=os.environ | {"MOBILENEXT_HOME": folder})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(COMPILE, check=True)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    """Return the milliseconds of a core that a call took, and its result."""
    began = time.process_time()
    result = call()
    return 1000 * (time.process_time() - began), result


def _crops(image: Image.Image, number: int) -> dict[str, Crop]:
    """Return the crop of the evaluation, and a random one of training with its two filters."""
    size, (left, top) = Preprocessing().placement(*image.size)
    random = np.random.default_rng(number)
    width, height = (max(1, round(side * random.uniform(0.5, 1))) for side in image.size)
    x, y = int(random.integers(image.width - width + 1)), int(random.integers(image.height - height + 1))
    part, whole = (x, y, x + width, y + height), (0, 0, SIDE, SIDE)
    return {
        "evaluation": Crop("bicubic", size, (0, 0, *image.size), (left, top, left + SIDE, top + SIDE)),
        "random crop, bicubic": Crop("bicubic", (SIDE, SIDE), part, whole),
        "random crop, bilinear": Crop("bilinear", (SIDE, SIDE), part, whole),
    }


def _by_pillow(image: Image.Image, crop: Crop) -> Pixels:
    method = Image.Resampling[crop.interpolation.upper()]
    return np.array(image.resize(crop.size, method, crop.box).crop(crop.crop))
