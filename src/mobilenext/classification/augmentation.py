"""What training does to an image before the network sees it: random crops, flips, colors and erasing.

    crop        random-resized: a random part of the image, resized; pad: shifted by some pixels, black outside;
                none: the center crop of the short side
    flip        left to right
    colors     `color_jitter`, or `rand_augment` instead of it
    erasing     a rectangle of the normalized tensor
    cutout      a square of it, in every image

Every draw comes from the generator that is passed in, so an image is augmented alike whatever else was drawn before it
and in whichever process. The rules are those of timm in 2020, the code that trained the released checkpoints.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from mobilenext.data.preprocessing import INTERPOLATIONS, MAX_IMAGE_SIZE, Pixels, Preprocessing, Tensor
from mobilenext.data.resampling import resized
from mobilenext.errors import UsageError, nearest
from mobilenext.recipe_fields import later

CROPS = ("random-resized", "pad", "none")
ERASING_MODES = ("pixel", "const")
OPERATIONS = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel",
)  # fmt: skip
MEAN_COLOR = (124, 116, 104)  # of ImageNet; fills what a turn, shear or shift uncovers

_TRIES = 10  # to place a rectangle
_ERASED_AREA = (0.02, 1 / 3)  # share of the image
_ERASED_RATIO = (0.3, 1 / 0.3)  # height / width
_JITTERED = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
_RANDOM_INTERPOLATIONS = ("bilinear", "bicubic")
_GEOMETRIC_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")  # the others only resize


class RandAugment(NamedTuple):
    """Some of `OPERATIONS` on each image (Cubuk et al. 2019), written as "rand-m9-mstd0.5-n2-p0.5"."""

    m: float  # mean of the magnitude, 0 to 10
    mstd: float = 0.0  # its standard deviation
    n: int = 2  # operations drawn, with replacement
    p: float = 0.5  # probability that a drawn one is applied


@dataclass(frozen=True)
class Augmentation:
    """How an image is varied for training. The defaults are plain ImageNet training.

    Raises:
        UsageError: a value outside its range.
    """

    image_size: int = 224  # pixels, side of the result
    crop: str = "random-resized"  # one of CROPS
    scale: tuple[float, float] = (0.08, 1.0)  # least and largest share of the area, for crop "random-resized"
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # least and largest width / height, for the same
    interpolation: str = "random"  # one of INTERPOLATIONS; "random" is bilinear or bicubic with equal chance
    padding: int = 0  # pixels of black on each side, for crop "pad"
    flip: float = 0.5  # probability
    color_jitter: float = 0.0  # brightness, contrast and saturation change by a factor of up to 1 +- color_jitter
    rand_augment: str = ""  # such as "rand-m9-mstd0.5", see RandAugment; replaces color_jitter
    erasing: float = 0.0  # probability
    erasing_mode: str = "pixel"  # one of ERASING_MODES: a draw from N(0, 1) for each value, or zeros
    cutout: int = later(0)  # pixels, the side of a square of zeros whose center lies anywhere in the image; 0: none

    def __post_init__(self) -> None:
        for name, least in (("image_size", 1), ("padding", 0), ("cutout", 0)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= MAX_IMAGE_SIZE:
                raise UsageError(f"{name} is {value!r}; expected an integer from {least} to {MAX_IMAGE_SIZE}")
        for name, known in (
            ("crop", CROPS),
            ("interpolation", ("random", *INTERPOLATIONS)),
            ("erasing_mode", ERASING_MODES),
        ):
            if (value := getattr(self, name)) not in known:
                raise UsageError(f"{name} is {value!r}; expected one of {', '.join(known)}{nearest(str(value), known)}")
        for name, limit in (("scale", 1.0), ("ratio", math.inf)):
            pair = getattr(self, name)
            if (
                not isinstance(pair, tuple | list)
                or len(pair) != 2
                or not all(map(_is_number, pair))
                or not 0 < pair[0] <= pair[1] <= limit
            ):
                bound = "" if limit == math.inf else f" and up to {limit:g}"
                raise UsageError(f"{name} is {pair!r}; expected the least and the largest number, above 0{bound}")
            # Lists (from JSON) are welcome, but equal records must be equal, hashable and print alike.
            object.__setattr__(self, name, (float(pair[0]), float(pair[1])))
        for name, limit in (("flip", 1.0), ("color_jitter", math.inf), ("erasing", 1.0)):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value <= limit:
                wanted = "a number of at least 0" if limit == math.inf else "a probability from 0 to 1"
                raise UsageError(f"{name} is {value!r}; expected {wanted}")
            object.__setattr__(self, name, float(value))
        if self.padding and self.crop != "pad":
            raise UsageError(f"padding is {self.padding} with crop {self.crop!r}; expected crop 'pad', or padding 0")
        if not isinstance(self.rand_augment, str):
            raise UsageError(f"rand_augment is {self.rand_augment!r}; expected a text, such as 'rand-m9-mstd0.5'")
        if _parsed(self.rand_augment) and self.interpolation not in ("random", *_GEOMETRIC_INTERPOLATIONS):
            raise UsageError(
                f"interpolation is {self.interpolation!r} with rand_augment, which turns and shears images; "
                f"expected one of random, {', '.join(_GEOMETRIC_INTERPOLATIONS)}"
            )

    def pixels(self, image: Image.Image, random: np.random.Generator) -> Pixels:
        """Return an image of mode "RGB" and any size as uint8 [image_size, image_size, 3].

        Raises:
            ImageError: too narrow an image for crop "pad" or "none", as for `Preprocessing`.
            UsageError: the image has another mode.
        """
        if image.mode != "RGB":
            raise UsageError(f"an image of mode {image.mode!r}; expected 'RGB': read files with read_image")
        image = self._cropped(image, random)
        if random.random() < self.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if rand_augment := _parsed(self.rand_augment):
            image = self._rand_augmented(image, rand_augment, random)
        elif self.color_jitter:
            for number in random.permutation(len(_JITTERED)):
                factor = random.uniform(max(0.0, 1 - self.color_jitter), 1 + self.color_jitter)
                image = _JITTERED[number](image).enhance(factor)
        return np.array(image)  # [image_size, image_size, 3]

    def erase(self, batch: Tensor, randoms: Sequence[np.random.Generator]) -> None:
        """Erase, in place, a rectangle of some images of the normalized float32 batch [N, C, H, W].

        Each image has its own generator. One in which no rectangle fits at the tenth try stays whole.

        Raises:
            UsageError: another type or shape, or not one generator for each image.
        """
        _check_batch(batch, randoms)
        for image, random in zip(batch, randoms, strict=True):  # [C, H, W]
            if random.random() >= self.erasing:
                continue
            channels, height, width = image.shape
            for _ in range(_TRIES):
                h, w = _draw_sides(height * width, _ERASED_AREA, _ERASED_RATIO, random)
                if h < height and w < width:
                    top, left = random.integers(height - h + 1), random.integers(width - w + 1)
                    image[:, top : top + h, left : left + w] = (
                        random.standard_normal((channels, h, w), dtype=np.float32)
                        if self.erasing_mode == "pixel"
                        else 0
                    )
                    break

    def cut_out(self, batch: Tensor, randoms: Sequence[np.random.Generator]) -> None:
        """Set, in place, a square of each image of the normalized float32 batch [N, C, H, W] to zero.

        The center is any pixel, so a square at the border is cut (DeVries and Taylor 2017). An odd side is that of the
        even number below it, as in the code of DARTS.

        Raises:
            UsageError: as :meth:`erase`.
        """
        _check_batch(batch, randoms)
        half = self.cutout // 2
        for image, random in zip(batch, randoms, strict=True):  # [C, H, W]
            y, x = (int(random.integers(side)) for side in image.shape[1:])
            image[:, max(0, y - half) : y + half, max(0, x - half) : x + half] = 0

    def _cropped(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        size = self.image_size
        if self.crop == "random-resized":
            interpolation = self._draw_interpolation(random)
            return Image.fromarray(resized(image, (size, size), interpolation, box=self._draw_box(*image.size, random)))
        if image.size != (size, size):
            center = Preprocessing(size, crop_pct=1.0, interpolation=self._draw_interpolation(random))
            image = Image.fromarray(center.pixels(image))
        if self.crop == "pad":
            left, top = (int(shift) for shift in random.integers(-self.padding, self.padding, 2, endpoint=True))
            image = image.crop((left, top, left + size, top + size))  # Pillow's crop is black outside the image
        return image

    def _draw_box(self, width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw left, top, right and bottom of a random part of a `width` x `height` image."""
        for _ in range(_TRIES):
            w, h = _draw_sides(width * height, self.scale, self.ratio, random)
            if 0 < w <= width and 0 < h <= height:
                left, top = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
                return left, top, left + w, top + h
        # The largest part in the middle with a ratio that is allowed.
        least, largest = self.ratio
        w = min(width, max(1, round(height * largest)))
        h = min(height, max(1, round(width / least)))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h

    def _draw_interpolation(self, random: np.random.Generator) -> str:
        if self.interpolation == "random":
            return _RANDOM_INTERPOLATIONS[random.integers(len(_RANDOM_INTERPOLATIONS))]
        return self.interpolation

    def _rand_augmented(
        self, image: Image.Image, rand_augment: RandAugment, random: np.random.Generator
    ) -> Image.Image:
        for number in random.integers(len(OPERATIONS), size=rand_augment.n):
            if random.random() < rand_augment.p:
                magnitude = min(10.0, max(0.0, random.normal(rand_augment.m, rand_augment.mstd)))
                sign = 1 if random.random() < 0.5 else -1
                resample = Image.Resampling[self._draw_interpolation(random).upper()]
                image = operate(OPERATIONS[number], image, magnitude, sign, resample)
        return image


def operate(operation: str, image: Image.Image, magnitude: float, sign: int, resample: Image.Resampling) -> Image.Image:
    """Apply one of `OPERATIONS` to an image of mode "RGB", at a magnitude of 0 to 10; `sign` is the way it goes.

    A larger magnitude is not always a stronger change: at 0, Posterize gives black and Solarize inverts all; at 5.0,
    Color, Contrast, Brightness and Sharpness change nothing. So it was in the reference.
    """
    share = magnitude / 10
    matrix: tuple[float, ...]  # a, b, c, d, e, f: pixel (x, y) comes from (a x + b y + c, d x + e y + f)
    match operation:
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case "Invert":
            return ImageOps.invert(image)
        case "Rotate":
            return image.rotate(sign * 30 * share, resample, fillcolor=MEAN_COLOR)
        case "Posterize":
            lost = 8 - int(share * 4)  # bits; all 8 below 2.5, which ImageOps.posterize refuses
            return image.point([value >> lost << lost for value in range(256)] * 3)
        case "Solarize":
            return ImageOps.solarize(image, int(share * 256))
        case "SolarizeAdd":
            added = int(share * 110)
            return image.point([min(255, value + added) if value < 128 else value for value in range(256)] * 3)
        case "Color" | "Contrast" | "Brightness" | "Sharpness":
            enhance: ImageEnhance._Enhance = getattr(ImageEnhance, operation)(image)
            return enhance.enhance(0.1 + 1.8 * share)
        case "ShearX":
            matrix = (1, sign * 0.3 * share, 0, 0, 1, 0)
        case "ShearY":
            matrix = (1, 0, 0, sign * 0.3 * share, 1, 0)
        case "TranslateXRel":
            matrix = (1, 0, sign * 0.45 * share * image.width, 0, 1, 0)
        case "TranslateYRel":
            matrix = (1, 0, 0, 0, 1, sign * 0.45 * share * image.height)
        case _:
            raise UsageError(f"unknown operation {operation!r}; expected one of {', '.join(OPERATIONS)}")
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=MEAN_COLOR)


@cache
def _parsed(text: str) -> RandAugment | None:
    """None for an empty text.

    Raises:
        UsageError: a text that does not follow the pattern, or a value outside its range.
    """
    if text == "":
        return None
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"rand-m{number}(?:-mstd{number})?(?:-n(\d\d?))?(?:-p{number})?", text, re.ASCII)
    if match:
        m, mstd, n, p = match.groups()
        parsed = RandAugment(float(m), float(mstd or 0), int(n or 2), float(p or 0.5))
        if max(parsed.m, parsed.mstd) <= 10 and 1 <= parsed.n <= len(OPERATIONS) and parsed.p <= 1:
            return parsed
    raise UsageError(
        f"rand_augment is {text!r}; expected '' or 'rand-m9-mstd0.5-n2-p0.5': magnitude m of 0 to 10 and, if wanted "
        "and in this order, its standard deviation mstd of 0 to 10, the number n of operations, 1 to "
        f"{len(OPERATIONS)}, and the probability p of each"
    )


def _check_batch(batch: Tensor, randoms: Sequence[np.random.Generator]) -> None:
    if batch.dtype != np.float32 or batch.ndim != 4:
        raise UsageError(f"a batch is {batch.dtype} {list(batch.shape)}; expected float32 [N, C, H, W]")
    if len(batch) != len(randoms):
        raise UsageError(f"{len(randoms)} generators for {len(batch)} images; expected one for each")


def _draw_sides(
    area: int, shares: tuple[float, float], ratios: tuple[float, float], random: np.random.Generator
) -> tuple[int, int]:
    """Draw two sides of a rectangle: its share of `area` is uniform, the first side / the second log-uniform."""
    drawn = random.uniform(*shares) * area
    ratio = math.exp(random.uniform(math.log(ratios[0]), math.log(ratios[1])))
    return round(math.sqrt(drawn * ratio)), round(math.sqrt(drawn / ratio))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
