"""Pillow's antialiased resize and a crop of it, at half of Pillow's time or less, and equal to the byte.

Two ways lead to the same pixels: Pillow resizes the whole image and cuts the crop out of it, or the compiled loops of
`resampling_loops` compute the rows and columns of the crop only. Loading the loops takes as long as Pillow needs for
some dozens of images, and compiling them, once on a machine, as for some thousand:

    a process loads them      after `LOADING_PAYS` images, or at once where `begin` says that so many will come
    they are compiled         in the background, where `expect` says that `COMPILING_PAYS` images will come, or after
                              so many; never by a worker process

Where Numba is missing or too old, where the cache folder cannot be written to, for the filter "nearest", for small
images and for those of extreme shapes, Pillow does it.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from mobilenext.arrays import Pixels
from mobilenext.data.compiled_resize import FILTERS, Box, Work, is_pillows
from mobilenext.data.machine_code import Loops, NoMachineCode, code_file, load, read_code

log = logging.getLogger(__name__)

LOADING_PAYS = 50  # images of a process
COMPILING_PAYS = 2000  # images in all
_SAME = "Pillow, with the same result as by faster compiled loops"
_NEXT_LOOK = 500  # images: whether the loops have been compiled meanwhile
_SMALL = 12_000  # pixels of the source and of the result; of fewer Pillow is the faster


def resized(
    image: Image.Image, size: tuple[int, int], interpolation: str, *, box: Box | None = None, crop: Box | None = None
) -> Pixels:
    """Return the `crop` of an image of mode "RGB" that is resized to `size` by Pillow's rules: uint8 [h, w, 3].

    Args:
        image: the source.
        size: width and height after resizing.
        interpolation: one of `mobilenext.data.preprocessing.INTERPOLATIONS`.
        box: the part of the source that is resized; None: all.
        crop: the part of the result that is returned; None: all.
    """
    if interpolation in FILTERS and _area(box or (0, 0, *image.size)) + _area(crop or (0, 0, *size)) >= _SMALL:
        work = Work.of(image, size, interpolation, box, crop)
        if work and (loops := _process.loops_for_next()):
            return work.run(loops, image)
    result = image.resize(size, Image.Resampling[interpolation.upper()], box)
    return np.array(result if crop is None else result.crop(crop))


def begin(images: int, interpolation: str, image_size: int) -> bool:
    """Load the compiled loops now, if this process will resize so many images that it pays; see :func:`expect`.

    Returns:
        whether they are loaded.
    """
    if images >= LOADING_PAYS and interpolation in FILTERS and 2 * image_size**2 >= _SMALL:
        _process.look()
    return _process.loops is not None


def expect(images: int | None, interpolation: str, image_size: int) -> None:
    """Log the way that images will be resized, and let the loops be compiled in the background where that pays.

    Args:
        images: of this process and its workers; None: nobody knows, and they are counted.
        interpolation, image_size: of their preprocessing; networks for small images are trained with small files.
    """
    if interpolation in FILTERS and 2 * image_size**2 >= _SMALL:
        log.info("images are resized by %s", _way(images))


def _way(images: int | None) -> str:
    try:
        path = code_file()
        if path.exists():
            read_code(path)
            return f"compiled loops, from {LOADING_PAYS} images on in each process"
        _process.may_compile = True
        if images is None or images < COMPILING_PAYS:
            return f"Pillow: compiling faster loops pays from {COMPILING_PAYS:,} images on"
        return _process.compile()
    except NoMachineCode as error:
        return f"{_SAME}: {error}"


def _area(box: Box) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


@dataclass
class _Process:
    """What this process knows of the compiled loops."""

    loops: Loops | None = None
    images: int = 0  # that Pillow has resized
    next_look: int = LOADING_PAYS
    may_compile: bool = False
    child: subprocess.Popen[bytes] | None = None
    lock: Any = field(default_factory=threading.Lock)

    def loops_for_next(self) -> Loops | None:
        """Return the loops for one more image, or None for Pillow."""
        if self.loops is None:
            self.images += 1  # threads may lose one
            if self.images >= self.next_look:
                self.look()
        return self.loops

    def look(self) -> None:
        """Load the loops if there are any; else look again later: another process may have compiled them."""
        with self.lock:
            if self.loops is not None:
                return
            self.next_look = self.images + _NEXT_LOOK
            try:
                loops = load(code_file())
                if is_pillows(loops):
                    self.loops = loops
                else:
                    self.next_look = sys.maxsize
                    log.warning("the compiled loops do not resize as this Pillow does, which goes on doing it")
            except NoMachineCode as error:
                log.debug("images are resized by Pillow: %s", error)
                if self.may_compile and self.images >= COMPILING_PAYS:
                    self.compile_once()

    def compile_once(self) -> None:
        """Start compiling, in a process that was not told how many images will come."""
        try:
            if not code_file().exists():
                log.info("images are resized by %s", self.compile())
        except NoMachineCode as error:
            log.info("images are resized by %s: %s", _SAME, error)

    def compile(self) -> str:
        """Start a process that compiles the loops, and return a sentence on it.

        Raises:
            NoMachineCode: they could not be kept.
        """
        self.may_compile = False
        path = code_file()
        folder = next(folder for folder in path.parents if folder.exists())
        if not os.access(folder, os.W_OK | os.X_OK):
            raise NoMachineCode(f"they cannot be stored in {path.parent}; MOBILENEXT_HOME names another folder")
        command = [sys.executable, "-m", "mobilenext.data.resampling_compiler"]
        nothing = subprocess.DEVNULL
        try:
            self.child = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
        except OSError as error:
            raise NoMachineCode(f"no process can be started that compiles them ({error.strerror})") from error
        atexit.register(self.end)
        return f"Pillow until faster loops have been compiled, once, in {path.parent}"

    def end(self) -> None:
        """End the process that compiles, if it is not at the end; what it has written is whole or not there."""
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()
            self.child.wait()


_process = _Process()
