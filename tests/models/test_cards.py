"""The table of models and published weights, against the numbers that their authors published."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import UsageError
from mobilenext.models.cards import FAMILIES, MODELS, find_weights_card, list_models
from mobilenext.models.lookup import card_as_counted, find_model

# From the authors' result files: folder, model, tag, top-1, top-5, epoch, identity divisor, which weights.
RELEASED = [
    ("74_02_full_id_tensor", "mobilenext_x1_0", "in1k", 74.022, 91.646, 207, 1, "raw"),
    ("74_09_i2rnetv3_half_id", "mobilenext_x1_0", "in1k_half_id", 74.092, 91.812, 197, 2, "raw"),
    ("76_05_3_94_model", "mobilenext_s", "in1k", 76.056, 92.744, 497, 1, "auto"),
    ("4_29M_76_6", "mobilenext_l", "in1k", 76.586, 92.934, 456, 1, "ema"),
    ("5_68M_76_8", "mobilenext_l_ghost", "in1k", 76.788, 93.178, 531, 1, "ema"),
]


def test_the_models_know_their_names() -> None:
    assert len(MODELS) == 41
    assert list_models() == list(MODELS)
    for name, card in MODELS.items():
        assert card.name == name == name.lower()
        assert card.family in FAMILIES
        assert "." not in name  # model.tag


def test_tags_are_unique_and_can_follow_a_dot() -> None:
    for card in MODELS.values():
        tags = [weights.tag for weights in card.weights]
        assert len(tags) == len(set(tags))
        assert all(re.fullmatch("[a-z0-9_]+", tag) for tag in tags)


@pytest.mark.parametrize(("folder", "model", "tag", "top1", "top5", "epoch", "divisor", "use"), RELEASED)
def test_the_authors_checkpoints(
    folder: str, model: str, tag: str, top1: float, top5: float, epoch: int, divisor: int, use: str
) -> None:
    (weights,) = (weights for weights in MODELS[model].weights if weights.tag == tag)
    assert weights.published is not None
    assert (weights.published.top1_percent, weights.published.top5_percent) == (top1, top5)
    assert weights.published.images == 50_000
    assert weights.published.top1_percent * 500 == pytest.approx(round(top1 * 500))  # so many images out of 50,000
    assert (weights.epoch, weights.identity_divisor, weights.use, weights.num_classes) == (epoch, divisor, use, 1000)
    assert weights.preprocessing == Preprocessing(224, 0.875, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert weights.source is not None
    assert weights.source.url.startswith("https://github.com/zhoudaquan/rethinking_bottleneck_design/")
    assert "195ee73" in weights.source.url
    assert weights.source.url.endswith(f"/mobilenext/output/{folder}/model_best.pth.tar")
    assert weights.source.git_blob is not None
    assert re.fullmatch("[0-9a-f]{40}", weights.source.git_blob)
    assert find_weights_card(git_blob=weights.source.git_blob) == (MODELS[model], weights)


def test_those_are_all_that_the_authors_released() -> None:
    theirs = [weights for card in MODELS.values() for weights in card.weights if "zhoudaquan" in weights.origin]
    assert len(theirs) == len(RELEASED)
    sources = [weights.source for card in MODELS.values() for weights in card.weights if weights.source]
    assert len({source.filename for source in sources}) == len(sources)  # they share one cache folder
    blobs = [source.git_blob for source in sources if source.git_blob]
    assert len(set(blobs)) == len(blobs)


def test_the_first_published_weights_of_a_model_are_its_plain_ones() -> None:
    published = {name: [weights.tag for weights in card.weights if weights.source] for name, card in MODELS.items()}
    assert {name: tags[0] for name, tags in published.items() if tags} == {
        "mobilenext_x1_0": "in1k",
        "mobilenext_s": "in1k",
        "mobilenext_l": "in1k",
        "mobilenext_l_ghost": "in1k",
    }


def test_what_the_papers_report() -> None:
    assert {name: card.paper_top1_percent for name, card in MODELS.items() if card.paper_top1_percent} == {
        "mobilenext_x0_35": 64.7,
        "mobilenext_x0_5": 67.7,
        "mobilenext_x0_75": 72.0,
        "mobilenext_x1_0": 74.0,
        "mobilenext_x1_4": 76.1,
        "mobilenext_s": 76.05,
        "mobilenext_l": 76.7,
        "mobilenetv2_x0_75": 69.9,
        "mobilenetv2_x1_0": 72.3,
        "mobilenetv2_x1_4": 74.9,
    }


def test_weights_come_from_an_address_or_with_the_package() -> None:
    for card in MODELS.values():
        for weights in card.weights:
            assert (weights.source is None) == bool(weights.bundled)


def test_an_unknown_file_has_no_card() -> None:
    assert find_weights_card(git_blob="0" * 40, sha256="0" * 64) is None
    assert find_weights_card() is None  # sources without a checksum do not match a missing one


def test_find_model() -> None:
    assert find_model("MobileNeXt_S").name == "mobilenext_s"
    assert find_model("MobileNeXt_rm_3x3").name == "mobilenext_rm_3x3_x1_0"  # a variant without a width
    with pytest.raises(UsageError, match="unknown model 'mobilenext'"):
        find_model("mobilenext")
    with pytest.raises(UsageError, match=r"unknown model 'mobilenext_m'; did you mean 'mobilenext_.'\?\nknown: mobile"):
        find_model("mobilenext_m")
    with pytest.raises(UsageError, match=r"unknown model 'resnet50'\nknown: mobilenext_x0_35, "):
        find_model("resnet50")


def test_the_table_can_be_listed_without_paddle() -> None:
    program = "import sys, mobilenext.models; print(len(mobilenext.models.list_models()), 'paddle' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert result.stdout.split() == ["41", "False"]


def test_a_card_counts_for_its_classes_and_pixels_only() -> None:
    result = {"model": "mobilenext_x1_0", "num_classes": 1000, "preprocessing": {"image_size": 224}}
    assert card_as_counted(result) is MODELS["mobilenext_x1_0"]
    others: list[dict[str, Any]] = [
        {"num_classes": 20}, {"preprocessing": {"image_size": 64}}, {"preprocessing": {}}, {"identity_divisor": 2},
        {"model": "another"},
    ]  # fmt: skip
    assert [card_as_counted({**result, **other}) for other in others] == [None] * len(others)
    del result["num_classes"]
    assert card_as_counted(result) is None
