"""From an RGB image to the network's input: the only resize, crop and normalization of this package.

The rules are torchvision's (Resize of the short side, CenterCrop, ToTensor, Normalize on PIL images), which the
released checkpoints were evaluated with; Pillow and numpy follow them to the bit:

    resize       short side to `resize_size`, long side to int(resize_size * long / short), by Pillow, of the whole
                 image in one step, so antialiased (but for "nearest")
    crop         `image_size` square; top = round((height - image_size) / 2), a half to the even side; left likewise
    normalize    ((pixel / 255) - mean) / std, in float32 after each step

With ``fit="squash"``, resize and crop are one step: the whole image to `image_size` x `image_size` pixels, whatever its
aspect, as detectors of the SSD kind resize. It may be interpolated by "opencv_linear", which is OpenCV's bilinear
resize to the byte and not antialiased.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobilenext.data.images import MAX_PIXELS, read_image
from mobilenext.data.linear_resize import resize
from mobilenext.data.resampling import resized
from mobilenext.errors import ImageError, UsageError, nearest

Pixels: TypeAlias = npt.NDArray[np.uint8]
Tensor: TypeAlias = npt.NDArray[np.float32]

INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
OPENCV_LINEAR = "opencv_linear"  # another interpolation, for fit "squash" only
FITS = ("crop", "squash")
MAX_IMAGE_SIZE = 4096

# Resizing may add up to 128 MiB, at Pillow's 4 bytes a pixel.
_MORE_PIXELS = 2**25


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a network. It belongs to the weights: other values give another accuracy.

    The defaults are those of all released MobileNeXt checkpoints (their training and evaluation scripts and logs).

    Raises:
        UsageError: a value outside its range.
    """

    image_size: int = 224  # pixels, side of the square crop
    crop_pct: float = 0.875  # side of the crop / short side after resizing, above 0 and up to 1
    interpolation: str = "bicubic"  # one of INTERPOLATIONS, or OPENCV_LINEAR
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of R, G, B on a scale of 0 to 1
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    # Or "squash", which does not use crop_pct. Added in a later version: not stored at its default, nor in a recipe.
    fit: str = field(default="crop", metadata={"later": True})

    def __post_init__(self) -> None:
        if type(self.image_size) is not int or not 1 <= self.image_size <= MAX_IMAGE_SIZE:
            raise UsageError(f"image_size is {self.image_size!r}; expected an integer from 1 to {MAX_IMAGE_SIZE}")
        # The lower bound keeps the quotient below a number; so wide a border, no image has.
        if not _is_number(self.crop_pct) or not 1e-6 <= self.crop_pct <= 1:
            raise UsageError(f"crop_pct is {self.crop_pct!r}; expected a fraction above 0 and up to 1, such as 0.875")
        if self.interpolation not in (known := (*INTERPOLATIONS, OPENCV_LINEAR)):
            raise UsageError(
                f"interpolation is {self.interpolation!r}; expected one of {', '.join(known)}"
                f"{nearest(str(self.interpolation), known)}"
            )
        if self.fit not in FITS:
            raise UsageError(f"fit is {self.fit!r}; expected crop or squash")
        if self.interpolation == OPENCV_LINEAR and self.fit != "squash":
            raise UsageError(
                f"interpolation is {OPENCV_LINEAR!r} with fit {self.fit!r}; expected fit 'squash', or one of "
                f"{', '.join(INTERPOLATIONS)}: only whole images are resized by OpenCV's rule"
            )
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple | list) or len(values) != 3 or not all(map(_is_number, values)):
                raise UsageError(f"{name} is {values!r}; expected three finite numbers, for R, G and B")
            # Lists (from JSON) and integers are welcome, but equal records must be equal, hashable and print alike.
            object.__setattr__(self, name, tuple(map(float, values)))
        object.__setattr__(self, "crop_pct", float(self.crop_pct))
        if min(self.std) <= 0:
            raise UsageError(f"std is {self.std!r}; expected three numbers above 0")

    @property
    def resize_size(self) -> int:
        """Short side after resizing, in pixels: floor(image_size / crop_pct), at least `image_size`."""
        if self.fit == "squash":
            return self.image_size
        # Floating point puts some quotients that are whole just below: 123 / 0.0041 is 29999.999999999996.
        return math.floor(self.image_size / self.crop_pct + 1e-6)

    def pixels(self, image: Image.Image) -> Pixels:
        """Resize and crop an image of mode "RGB" to uint8 [image_size, image_size, 3].

        Raises:
            ImageError: so narrow an image that, resized, it would have more than `MAX_PIXELS` pixels.
            UsageError: the image has another mode.
        """
        if image.mode != "RGB":
            raise UsageError(f"an image of mode {image.mode!r}; expected 'RGB': read files with read_image")
        (width, height), (left, top) = self.placement(*image.size)
        if self.interpolation == OPENCV_LINEAR:
            return resize(image, width, height)
        crop = (left, top, left + self.image_size, top + self.image_size)
        return resized(image, (width, height), self.interpolation, crop=crop)

    def placement(self, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return width and height of a `width` x `height` image after resizing, and left and top of the crop in that.

        Raises:
            ImageError: as `pixels`.
        """
        size = self._resized(width, height)
        # Never negative: the short side is resize_size >= image_size, because crop_pct <= 1.
        return size, (round((size[0] - self.image_size) / 2), round((size[1] - self.image_size) / 2))

    def normalize(self, pixels: Pixels) -> Tensor:
        """Convert uint8 pixels [..., H, W, 3] to float32 [..., 3, H, W], contiguous.

        Raises:
            UsageError: another type or shape.
        """
        if pixels.dtype != np.uint8 or pixels.ndim < 3 or pixels.shape[-1] != 3:
            raise UsageError(f"pixels are {pixels.dtype} {list(pixels.shape)}; expected uint8 [..., H, W, 3]")
        # A pixel has 256 values, so all arithmetic is done once on a table: the same bits, in less time.
        values = np.arange(256, dtype=np.float32) / np.float32(255)  # [256]
        mean = np.array(self.mean, dtype=np.float32)[:, None]  # [3, 1]
        std = np.array(self.std, dtype=np.float32)[:, None]  # [3, 1]
        table = (values - mean) / std  # [3, 256]
        tensor = np.empty((*pixels.shape[:-3], 3, *pixels.shape[-3:-1]), dtype=np.float32)
        for channel in range(3):  # mode="clip" lets numpy write straight into `out`; a uint8 is never out of range
            np.take(table[channel], pixels[..., channel], out=tensor[..., channel, :, :], mode="clip")
        return tensor

    def __call__(self, image: Image.Image) -> Tensor:
        """Convert an image of mode "RGB" to float32 [3, image_size, image_size]. Raises as `pixels` does."""
        return self.normalize(self.pixels(image))

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON can hold it; `from_dict` returns an equal one.

        The default of `fit` is left out: digests and files from before there was a `fit` stay valid.
        """
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}
        if self.fit == "crop":
            del values["fit"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Return the record of exactly the keys that `to_dict` writes.

        Raises:
            UsageError: a key too many or too few, or a value outside its range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise UsageError(
                    f"unknown preprocessing key {key!r}; expected {', '.join(known)}{nearest(str(key), known)}"
                )
        if missing := [key for key in known if key not in values and key != "fit"]:
            raise UsageError(f"preprocessing lacks {', '.join(missing)}; expected {', '.join(known)}")
        return cls(**values)

    def replace(self, **overrides: Any) -> Preprocessing:
        """Return a copy with other values for some keys.

        Raises:
            UsageError: an unknown key, or a value outside its range.
        """
        return self.from_dict(self.to_dict() | overrides)

    def describe(self) -> str:
        """Return one line for people, with every value in it."""
        size = f"short side {self.resize_size} {self.interpolation}, centre crop {self.image_size}"
        if self.fit == "squash":
            size = f"squashed to {self.image_size} x {self.image_size} {self.interpolation}"
        return f"{size}, mean {self.mean}, std {self.std}"

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of a `width` x `height` image after resizing."""
        short, long = sorted((width, height))
        if short < 1:
            raise ImageError(f"an image of {width} x {height} pixels; expected at least 1 x 1")
        if self.fit == "squash":
            return self.image_size, self.image_size
        new_short, new_long = self.resize_size, int(self.resize_size * long / short)
        # Pillow holds RGB at 4 bytes a pixel, and the crop is cut only from the finished whole, so one strip of
        # 1 x 100,000 would ask for 26 GB at the default size.
        if new_short * new_long > min(MAX_PIXELS, width * height + _MORE_PIXELS):
            raise ImageError(
                f"an image of {width} x {height} pixels would be {new_short} x {new_long} = {new_short * new_long:,} "
                f"pixels after resizing its short side to {new_short}; expected up to {MAX_PIXELS:,}, and up to "
                f"{_MORE_PIXELS:,} more than before: too narrow to be classified, take it off the list"
            )
        return (new_short, new_long) if width <= height else (new_long, new_short)


def pixels_of(path: Path, preprocessing: Preprocessing, *, apply_orientation: bool = False) -> Pixels:
    """Read and preprocess one file to uint8 [image_size, image_size, 3]; every ImageError names the file."""
    image = read_image(path, apply_orientation=apply_orientation)
    try:
        return preprocessing.pixels(image)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def cifar_preprocessing() -> Preprocessing:
    """Return what the authors of DARTS do with CIFAR-10: the whole image of 32 pixels, with the mean and deviation of
    its training images."""
    mean, std = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
    return Preprocessing(image_size=32, crop_pct=1.0, mean=mean, std=std)
