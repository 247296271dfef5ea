"""The variants of MobileNeXt's block, against recordings of the authors' code (tests/goldens/ablations)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import safetensors.numpy

from golden import GOLDENS, formula_images, formula_weights
from mobilenext.data import Preprocessing
from mobilenext.errors import UsageError, WeightsError
from mobilenext.explanation.anatomy import anatomy
from mobilenext.explanation.gradcam import Explainer
from mobilenext.models import MODELS, build_network
from mobilenext.models.cards import VARIANT
from mobilenext.models.counting import count
from mobilenext.models.network import Network, Tap
from mobilenext.models.variants import VARIANTS
from mobilenext.weights import naming, own_names
from mobilenext.weights.convert import convert_checkpoint
from mobilenext.weights.load import network_of
from mobilenext.weights.read import read_weights

ABLATIONS = GOLDENS / "ablations"
RECORDED = ("rm_3x3", "more_1x1", "se_hidden", "thin_shortcut", "two_depthwise")
SMALL = [name for name, card in MODELS.items() if card.family == VARIANT and name.endswith("x0_35")]


def recorded(variant: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((ABLATIONS / f"mobilenext_{variant}.json").read_text())
    return record


@cache
def small(model: str) -> Network:
    """One network of each variant for all tests, none of which changes it."""
    return build_network(model, num_classes=7)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file with the names and layouts of the authors' checkpoint of each recorded variant, and weights by formula."""
    folder = tmp_path_factory.mktemp("checkpoints")
    files = {variant: folder / f"{variant}.safetensors" for variant in RECORDED}
    for variant, file in files.items():
        safetensors.numpy.save_file(formula_weights(recorded(variant)["keys"], variant), file)
    return files


@pytest.mark.parametrize("variant", RECORDED)
def test_names_sizes_and_logits_are_those_of_the_authors(variant: str, checkpoints: dict[str, Path]) -> None:
    record = recorded(variant)
    weights = read_weights(checkpoints[variant])
    assert (weights.model, weights.num_classes, weights.dialect) == (f"mobilenext_{variant}_x1_0", 1000, "pytorch")
    names = [(name, tuple(shape)) for name, shape in record["keys"] if not name.endswith(naming.COUNTER)]
    assert [(entry.pytorch_name, entry.shape("pytorch")) for entry in weights.entries] == names
    assert MODELS[weights.model].parameters == record["params"]

    network = network_of(weights).to(dtype="float64")
    with paddle.no_grad():
        logits = network(formula_images(224).astype("float64")).numpy()
    logits_file = ABLATIONS / f"mobilenext_{variant}.npz"
    if logits_file.is_file():
        assert np.abs(logits - np.load(logits_file)["logits"]).max() <= 1e-6
    else:  # how far the two images are apart is recorded, as exactly as the float32 run that it is of
        ratio = (logits[0] - logits[1]).std() / logits.std()
        assert abs(ratio - record["row_difference"]) <= record["float32_vs_float64"] * record["row_difference"]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(name, marks=() if name in SMALL else pytest.mark.long)
        for name, card in MODELS.items()
        if card.family == VARIANT
    ],
)
def test_the_cards_hold_what_is_counted(model: str) -> None:
    card, size = MODELS[model], count(build_network(model))
    assert (card.parameters, card.mult_adds) == (size.parameters, size.mult_adds)
    assert card.mult_adds_with_bn == size.mult_adds_with_bn


def test_no_two_models_have_equal_names_and_shapes() -> None:
    """Equal tensors have equal sizes; of two models of a size, the names differ."""
    sizes: dict[int, list[str]] = {}
    for name, card in MODELS.items():
        sizes.setdefault(card.parameters, []).append(name)
    assert [names for names in sizes.values() if len(names) > 1] == [
        ["mobilenext_x0_35", "mobilenext_thin_shortcut_x0_35"],
        ["mobilenext_x1_0", "mobilenext_thin_shortcut_x1_0"],
    ]
    assert "features.1.conv1.0.weight" in dict(recorded("thin_shortcut")["keys"])
    plain = json.loads((GOLDENS / "mobilenext_x1.0.json").read_text())["keys"]
    assert "features.1.conv1.0.weight" not in dict(plain)


def test_conversion_by_the_name_without_a_width(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    certificate = convert_checkpoint(checkpoints["se_hidden"], out, model="mobilenext_se_hidden")
    assert certificate["model"] == "mobilenext_se_hidden_x1_0"
    assert read_weights(out).model == "mobilenext_se_hidden_x1_0"
    with pytest.raises(WeightsError, match=r"holds mobilenext_thin_shortcut_x1_0 .* asked for mobilenext_x1_0"):
        convert_checkpoint(checkpoints["thin_shortcut"], tmp_path / "other.safetensors", model="mobilenext_x1_0")


def test_a_damaged_checkpoint_is_compared_with_the_nearest_variant(checkpoints: dict[str, Path]) -> None:
    tensors = safetensors.numpy.load_file(checkpoints["se_hidden"])
    shapes = {name: tensor.shape for name, tensor in tensors.items() if name != "features.4.conv.5.fc.4.weight"}
    with pytest.raises(WeightsError, match="nearest is mobilenext_se_hidden_x1_0, with 1 differences"):
        naming.recognize(shapes)


@pytest.mark.parametrize("model", SMALL)
def test_features_words_and_anatomy(model: str) -> None:
    network = small(model)
    for entry in naming.entries_of(network):
        _, *middle, leaf = entry.pytorch_name.split(".")
        assert leaf in naming.LEAVES
        assert all(word.isdecimal() or word in own_names.WORDS for word in middle)
    seen = anatomy(network, 64)
    assert seen.mult_adds == sum(part.mult_adds for part in seen.parts) == count(network, 64).mult_adds
    taps = [Tap(feature.block, None, feature.channels, feature.stride) for feature in network.features_info]
    network.eval()
    with paddle.no_grad():
        maps = network.maps(paddle.ones([2, 3, 64, 64]), taps)
    assert [tuple(map_.shape) for map_ in maps] == [
        (2, feature.channels, 64 // feature.stride, 64 // feature.stride) for feature in network.features_info
    ]
    assert [feature.stride for feature in network.features_info] == [4, 8, 16, 32]


def test_a_block_of_every_variant() -> None:
    labels = {}
    for variant in VARIANTS:
        block = "features.2" if variant == "thin_depthwise" else "features.8"
        part = next(
            part for part in anatomy(build_network(f"mobilenext_{variant}_x0_35"), 64).parts if part.name == block
        )
        labels[variant] = (part.shortcut, [step.label for step in part.steps])
    dw, narrow, wide, last = (
        "3x3 depthwise, BN, ReLU6", "1x1 conv, BN, linear", "1x1 conv, BN, ReLU6", "3x3 depthwise, BN, linear",
    )  # fmt: skip
    channels = 104  # of the stage of features.8 at x0.35
    assert labels == {
        "rm_3x3": (channels, [narrow, wide, last]),
        "more_1x1": (channels, [dw, narrow, narrow, wide, last]),
        "se_hidden": (channels, [dw, narrow, "mean, 1x1, BN, ReLU", "1x1, BN, hard sigmoid", wide, last]),
        "thin_shortcut": (0, [dw, narrow, wide, last]),
        "two_depthwise": (channels, [narrow, last, dw, wide]),
        "classic_bottleneck": (channels, [narrow, dw, wide]),
        "thin_depthwise": (0, [last, wide, narrow, "3x3 depthwise / 2, BN, linear"]),
    }


def test_the_thin_shortcut_passes_by_and_is_explained() -> None:
    """Hidden tensors are handed on by the blocks that have a shortcut in MobileNeXt, and reach the logits."""
    network = small("mobilenext_thin_shortcut_x0_35")
    network.eval()
    handed_on = {}
    x = paddle.ones([1, 3, 64, 64])
    with paddle.no_grad():
        for index, (_, block) in enumerate(network.blocks()):
            x = block(x)
            if isinstance(x, tuple):
                handed_on[index] = x[1].shape[1]
    assert handed_on == {4: 16, 5: 16, **dict.fromkeys((7, 8, 10, 11, 12, 14, 15, 16), 32), 18: 56, 19: 56}
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for block in ("features.8", "features.9", "last"):  # one that hands on two tensors, and two that do not
        explanation = Explainer(network, Preprocessing(image_size=64), block).explain(pixels)
        assert explanation.heat.shape == (64, 64)


def test_variants_have_no_partial_shortcut() -> None:
    with pytest.raises(UsageError, match="mobilenext_rm_3x3_x1_0 has no partial shortcut"):
        build_network("mobilenext_rm_3x3", identity_divisor=2)
