"""One table of everything that has a name: the models, their sizes, and the weights that exist for them.

Plain data without Paddle, so that it can be listed at once. Sizes are those of COUNTED_FOR or DETECTORS_COUNTED_FOR;
the tests compare them with the built networks. Published numbers are quoted from where ``origin`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from mobilenext.data.preprocessing import Preprocessing
from mobilenext.models.architecture import LARGEST_CIFAR_IMAGE, Architecture
from mobilenext.models.cell_sizes import cell_networks
from mobilenext.models.detector_form import STANDARD_SIZE, detection_preprocessing
from mobilenext.models.published import Download, Published, PublishedDetection, WeightsCard
from mobilenext.models.variant_sizes import variants


@dataclass(frozen=True)
class ModelCard:
    """A network: how it is built, how large it is, what its paper reports."""

    name: str
    family: str  # one of FAMILIES
    arguments: Mapping[str, Any]  # of the family's class
    parameters: int  # trainable values
    mult_adds: int  # of convolutions and the linear layer
    mult_adds_with_bn: int  # and one for each value that a batch norm scales
    paper_top1_percent: float | None
    weights: tuple[WeightsCard, ...] = ()
    task: str | None = None  # that it is made for, by its name in `mobilenext.tasks`; None: classification
    paper_voc_map_percent: float | None = None  # of a detector: VOC 2007 test, 11 points
    paper_coco_ap_percent: float | None = None  # and COCO val2017
    published_error: str = ""  # of a network of cells, as its authors print it
    architecture: Architecture | None = None  # of a searched network, which is in no table: nobody has counted it

    @property
    def image_size(self) -> int:
        """Return the side in pixels of the images that the network is made for."""
        if self.architecture is not None and self.architecture.form == "cifar":
            return LARGEST_CIFAR_IMAGE
        if self.task == DETECTION:
            return STANDARD_SIZE
        return LARGEST_CIFAR_IMAGE if self.is_for_cifar else Preprocessing().image_size

    @property
    def num_classes(self) -> int:
        """Return the classes of a classifier where nobody says how many."""
        return 10 if self.is_for_cifar else 1000

    @property
    def is_for_cifar(self) -> bool:
        """Return whether the network is a published one for CIFAR-10: ten classes and 32 pixels."""
        return self.arguments.get("form") == "cifar"

    @property
    def stride(self) -> int:
        """Return the pixels between two places of the last map: images are at least as large."""
        return LARGEST_STRIDE if self.architecture is None else self.architecture.stride

    @property
    def identity_divisor(self) -> int:
        """Return the identity divisor where nobody says it."""
        return 1 if self.architecture is None else self.architecture.identity_divisor

    @property
    def counted_for(self) -> str:
        """Return what the parameters and mult-adds are those of."""
        if self.architecture is not None:
            return f"1,000 classes at {self.image_size} × {self.image_size} pixels"
        if self.task == DETECTION:
            return DETECTORS_COUNTED_FOR
        return CIFAR_COUNTED_FOR if self.is_for_cifar else COUNTED_FOR


# Families in the order of charts, with the names that the papers have.
FAMILIES = {
    "mobilenext": "MobileNeXt",
    "mobilenext_se": "MobileNeXt with SE",
    "mobilenetv2": "MobileNetV2",
    "mobilenext_variant": "variants of MobileNeXt's block",
    "cells": "networks of cells",
    "ssdlite_mobilenext": "SSDLite on MobileNeXt",
    "ssdlite_mobilenetv2": "SSDLite on MobileNetV2",
}
PAPERS = ("mobilenext", "mobilenext_se", "mobilenetv2")  # families that the papers present as networks
VARIANT = "mobilenext_variant"  # the family of networks that only show what a part of the block is good for
CELLS = "cells"  # the family of networks of cells, as published
SEARCHED = "searched"  # the family of networks that an architecture describes
DETECTION = "detection"  # the task of detectors
LARGEST_STRIDE = 32  # of the networks in the table
DETECTORS_COUNTED_FOR = "20 classes, the form voc, at 320 × 320 pixels"
CIFAR_COUNTED_FOR = "10 classes at 32 × 32 pixels"
COUNTED_FOR = "1,000 classes at 224 × 224 pixels"  # parameters and mult-adds of the cards
IMAGENET_VAL = "ImageNet-1k validation"
AUTHORS = "github.com/zhoudaquan/rethinking_bottleneck_design at 195ee73"
_AUTHORS_FILES = "https://github.com/zhoudaquan/rethinking_bottleneck_design/raw/195ee73/mobilenext/output"


def _released(
    tag: str, folder: str, git_blob: str, top1: float, top5: float, epoch: int, divisor: int = 1, use: str = "raw"
) -> WeightsCard:
    """Describe one of the authors' five checkpoints; `git_blob` is the file's id in their repository."""
    return WeightsCard(
        tag=tag,
        origin=f"{AUTHORS}, folder {folder}",
        licence="none stated by the authors",
        source=Download(f"{folder}.pth.tar", f"{_AUTHORS_FILES}/{folder}/model_best.pth.tar", git_blob=git_blob),
        published=Published(IMAGENET_VAL, 50_000, top1, top5),
        epoch=epoch,
        identity_divisor=divisor,
        use=use,
    )


_RELEASED = MappingProxyType(
    {
        "mobilenext_x0_35": (
            WeightsCard(
                tag="digits",
                origin="scripts/train_digits.py, for the quickstart",
                licence="Apache-2.0",
                source=None,
                bundled="mobilenext_x0_35.digits.safetensors",
                published=Published("digits, the last 599", 599, 98.664, 99.833),
                num_classes=10,
                preprocessing=Preprocessing(image_size=64, crop_pct=1.0),
                use="ema",
                note="a demonstration: ten handwritten digits",
            ),
            WeightsCard(
                tag="tiny20",
                origin="mobilenext train, recipe tiny (docs/training.md)",
                licence="Apache-2.0",
                source=None,
                bundled="mobilenext_x0_35.tiny20.safetensors",
                published=Published("20 classes of Tiny-ImageNet, validation", 1000, 59.7, 89.6),
                epoch=44,
                num_classes=20,
                preprocessing=Preprocessing(image_size=64, crop_pct=1.0),
                use="ema",
                note="20 classes at 64 pixels; the images are for research",
            ),
        ),
        "mobilenext_x1_0": (
            _released("in1k", "74_02_full_id_tensor", "e0a567e52c86ab4a66863745162c758f3fd27d84", 74.022, 91.646, 207),
            _released(
                "in1k_half_id",
                "74_09_i2rnetv3_half_id",
                "03f9b1b59f67ccd2191f7846ff9ad7e8647c753d",
                74.092,
                91.812,
                197,
                divisor=2,
            ),
            WeightsCard(
                tag="paddleclas",
                origin="PaddleClas, ppcls/arch/backbone/model_zoo/mobilenext.py",
                licence="Apache-2.0",
                source=Download(
                    "MobileNeXt_x1_0_pretrained.pdparams",
                    "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/MobileNeXt_x1_0_pretrained.pdparams",
                ),
                published=None,
                use="raw",
                note="no accuracy and no checksum are published",
            ),
        ),
        "mobilenext_s": (
            # The run's log speaks of EMA, and no log shows the file being loaded: what it holds decides.
            _released(
                "in1k", "76_05_3_94_model", "ca388f33536dba371e82807553042a938e082e4c", 76.056, 92.744, 497, use="auto"
            ),
        ),
        "mobilenext_l": (
            _released("in1k", "4_29M_76_6", "41e94c826600560a08675c9ffa7bf4d1df60fc69", 76.586, 92.934, 456, use="ema"),
        ),
        "ssdlite320_mobilenext_x0_35": (
            WeightsCard(
                tag="bccd",
                origin="mobilenext train, recipe ssdlite-small (docs/detection.md)",
                licence="Apache-2.0",
                source=None,
                bundled="ssdlite320_mobilenext_x0_35.bccd.safetensors",
                sample="blood_cells.jpg",
                published=PublishedDetection("BCCD, test", 72, 72.0, 42.6, 71.2),
                epoch=62,
                num_classes=3,
                preprocessing=detection_preprocessing(),
                note="blood cells at 320 pixels: red, white, platelets; stored as float16",
            ),
        ),
        "mobilenext_l_ghost": (
            _released("in1k", "5_68M_76_8", "2a7772ab796a0b6598068e1755ce3378a0c10f1d", 76.788, 93.178, 531, use="ema"),
        ),
    }
)  # fmt: skip


def _row(
    name: str, family: str, arguments: dict[str, Any], sizes: tuple[int, int, int], top1: float | None
) -> ModelCard:
    return ModelCard(name, family, MappingProxyType(arguments), *sizes, top1, _RELEASED.get(name, ()))


def _detector(
    backbone: str, sizes: tuple[int, int, int], voc_map: float | None = None, coco_ap: float | None = None
) -> ModelCard:
    name, family = f"ssdlite320_{backbone}", f"ssdlite_{backbone.partition('_')[0]}"
    card = _row(name, family, {"backbone": backbone}, sizes, None)
    return replace(card, task=DETECTION, paper_voc_map_percent=voc_map, paper_coco_ap_percent=coco_ap)


# Sizes: parameters, mult-adds of convolutions and linear, the same with batch norm.
# Accuracy: the paper's, top-1 % on ImageNet; none where the paper prints none.
MODELS: Mapping[str, ModelCard] = MappingProxyType(
    {
        card.name: card
        for card in (
            _row("mobilenext_x0_35", "mobilenext", {"width": 0.35}, (1_913_976, 75_141_032, 78_200_984), 64.7),
            _row("mobilenext_x0_5", "mobilenext", {"width": 0.5}, (2_152_304, 103_256_448, 107_362_256), 67.7),
            _row("mobilenext_x0_75", "mobilenext", {"width": 0.75}, (2_766_168, 207_926_720, 214_094_840), 72.0),
            _row("mobilenext_x1_0", "mobilenext", {"width": 1.0}, (3_535_416, 311_342_592, 319_406_032), 74.0),
            _row("mobilenext_x1_4", "mobilenext", {"width": 1.4}, (6_126_168, 588_319_256, 599_721_752), 76.1),
            _row("mobilenext_s", "mobilenext_se", {"depth": 1.0}, (3_937_011, 330_182_144, 340_140_512), 76.05),
            _row(
                "mobilenext_l",
                "mobilenext_se",
                {"depth": 1.1, "groups": 2},
                (4_287_498, 415_057_856, 431_991_766),
                76.7,
            ),
            _row(
                "mobilenext_l_ghost",
                "mobilenext_se",
                {"depth": 1.1, "ghost": True},
                (5_683_740, 422_884_864, 438_170_806),
                None,
            ),
            _row("mobilenetv2_x0_35", "mobilenetv2", {"width": 0.35}, (1_677_128, 59_285_808, 62_148_584), None),
            _row("mobilenetv2_x0_5", "mobilenetv2", {"width": 0.5}, (1_968_680, 97_131_840, 100_771_952), None),
            _row("mobilenetv2_x0_75", "mobilenetv2", {"width": 0.75}, (2_636_424, 209_069_792, 214_925_096), 69.9),
            _row("mobilenetv2_x1_0", "mobilenetv2", {"width": 1.0}, (3_504_872, 300_774_272, 307_452_384), 72.3),
            _row("mobilenetv2_x1_4", "mobilenetv2", {"width": 1.4}, (6_108_776, 582_195_824, 591_769_248), 74.9),
            *(_row(name, VARIANT, arguments, sizes, None) for name, arguments, sizes in variants()),
            *(
                replace(_row(name, CELLS, arguments, sizes, None), published_error=error)
                for name, arguments, sizes, error in cell_networks()
            ),
            # Counted for DETECTORS_COUNTED_FOR. The paper and the authors' SSDLite repository.
            _detector("mobilenext_x0_35", (1_789_444, 201_415_328, 208_170_720)),
            _detector("mobilenext_x0_5", (2_043_084, 264_707_328, 273_667_520)),
            _detector("mobilenext_x0_75", (2_682_004, 487_996_928, 501_281_120)),
            _detector("mobilenext_x1_0", (3_476_308, 708_726_528, 725_993_920), voc_map=72.6, coco_ap=23.3),
            _detector("mobilenext_x1_4", (6_056_432, 1_306_399_328, 1_330_784_470)),
            _detector("mobilenetv2_x0_35", (1_587_108, 185_313_472, 191_528_928)),
            _detector("mobilenetv2_x0_5", (1_881_444, 263_625_472, 271_440_128)),
            _detector("mobilenetv2_x0_75", (2_553_364, 493_683_072, 506_037_728)),
            _detector("mobilenetv2_x1_0", (3_425_988, 682_447_872, 696_500_928), voc_map=71.7, coco_ap=22.3),
            _detector("mobilenetv2_x1_4", (5_981_346, 1_299_736_422, 1_319_845_428)),
        )
    }
)


def known_model(name: str) -> ModelCard | None:
    """Return the card that :func:`find_model` finds, or None."""
    card = MODELS.get(name.lower())
    if card is None:
        full = MODELS.get(f"{name.lower()}_x1_0")
        return full if full is not None and full.family == VARIANT else None
    return card


def paper_models() -> list[str]:
    """Return the classifiers that the papers present, in the order of :func:`list_models`."""
    return [name for name, card in MODELS.items() if card.family in PAPERS]


def list_models(task: str | None = None) -> list[str]:
    """Return the names of all models, smallest of each family first; or those of a task, such as ``detection``."""
    return [name for name, card in MODELS.items() if task in (None, card.task or "classification")]


def find_weights_card(*, git_blob: str = "", sha256: str = "") -> tuple[ModelCard, WeightsCard] | None:
    """Return the cards of the published checkpoint with this id or checksum, if there is one."""
    for card in MODELS.values():
        for weights in card.weights:
            source = weights.source
            if source and ((git_blob and source.git_blob == git_blob) or (sha256 and source.sha256 == sha256)):
                return card, weights
    return None
