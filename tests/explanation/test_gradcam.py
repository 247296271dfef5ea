"""Grad-CAM against answers that are known by other means, and its place on the original image."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn
from PIL import Image

from mobilenext import create_model
from mobilenext.data import Preprocessing
from mobilenext.errors import UsageError
from mobilenext.explanation.gradcam import Explainer, block_position, crop_box, heat_map, on_image
from mobilenext.explanation.overlay import colored, overlay
from mobilenext.models.network import Feature, Network
from mobilenext.models.sandglass import BlockPlan, MobileNeXt
from networks import give_statistics, logits

SMALL = Preprocessing(image_size=64, crop_pct=1.0)


class Channels(Network):
    """Its map is the picture itself at a quarter of its size; class 0 likes red and dislikes green, class 1 nothing."""

    num_classes = 2
    features_info = (Feature(0, 3, 4), Feature(0, 3, 8), Feature(0, 3, 16), Feature(0, 3, 32))
    head_layers = ("linear",)

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2D(4)
        self.linear = nn.Linear(3, 2)
        self.linear.weight.set_value(np.float32([[2, 0], [-1, 0], [0, 0]]))

    def blocks(self) -> list[tuple[str, nn.Layer]]:
        return [("pool", self.pool)]

    def head(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.linear(x.mean(axis=[2, 3]))


def test_a_network_whose_heat_is_known() -> None:
    plain = Preprocessing(image_size=16, crop_pct=1.0, mean=(0, 0, 0), std=(1, 1, 1))
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:4, 4:8, 0] = 255  # red speaks for it
    pixels[8:12, 8:12, 0] = 128  # half as much
    pixels[8:12, 8:12, 1] = 128  # but half of that is taken back by green
    pixels[12:, :, 1] = 255  # speaks against it
    explained = Explainer(Channels(), plain, "pool").explain(pixels, 0)
    expected = np.zeros((4, 4))
    expected[0, 1] = 1
    expected[2, 2] = 128 / 255 / 2
    np.testing.assert_allclose(explained.map, expected, atol=1e-6)
    assert explained.peak == pytest.approx(2 / 16)  # alpha is the weight over the 16 cells
    assert explained.heat.shape == (16, 16)
    assert explained.heat.dtype == np.float32
    # Between the centres of the cells at 1 and 0, a quarter of a cell's side apart.
    np.testing.assert_allclose(explained.heat[0, 4:8], [0.625, 0.875, 0.875, 0.625], atol=1e-6)
    nothing = Explainer(Channels(), plain).explain(pixels, 1)
    assert nothing.peak == 0
    assert not nothing.heat.any()


def test_against_finite_differences() -> None:
    """alpha is the change of the logit with a channel of the map, all of it raised alike, over the number of cells."""
    network = create_model("mobilenext_x0_35.digits")
    network.to(dtype="float64")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    names = [name for name, _ in network.blocks()]
    with paddle.no_grad():
        x = network.stem(paddle.to_tensor(SMALL.normalize(pixels)[None].astype(np.float64)))
        for _, block in network.blocks()[:19]:
            x = block(x)

        def score(values: paddle.Tensor) -> float:
            for _, block in network.blocks()[19:]:
                values = block(values)
            return float(network.head(values)[0, 3])

        _, channels, height, width = x.shape
        step, alpha = 1e-5, np.empty(channels)
        for channel in range(channels):
            raised = paddle.zeros_like(x)
            raised[:, channel] = step
            alpha[channel] = (score(x + raised) - score(x - raised)) / (2 * step) / (height * width)
    weighted = np.maximum(np.tensordot(alpha, x.numpy()[0], axes=1), 0)
    single = create_model("mobilenext_x0_35.digits")
    explained = Explainer(single, SMALL, names[18]).explain(pixels, 3)
    assert explained.peak == pytest.approx(weighted.max(), rel=1e-3)
    np.testing.assert_allclose(explained.map, weighted / weighted.max(), atol=2e-3)


def test_the_last_map_is_explained_by_the_classifier_alone() -> None:
    network = create_model("mobilenext_x0_35.digits")
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    explained = Explainer(network, SMALL, "last").explain(pixels)
    with paddle.no_grad():
        features = network.features(paddle.to_tensor(SMALL.normalize(pixels)[None])).numpy()[0]  # [1280, 2, 2]
    column = network.classifier[1].weight.numpy()[:, explained.class_id]
    expected = np.maximum(np.tensordot(column, features, axes=1), 0)
    np.testing.assert_allclose(explained.map, expected / expected.max(), atol=1e-4)


@pytest.mark.parametrize(
    "model", ["mobilenext_x0_35", "mobilenext_s", "mobilenext_l", "mobilenext_l_ghost", "mobilenetv2_x0_35"]
)
def test_every_family(model: str) -> None:
    paddle.seed(0)
    network = create_model(model, num_classes=7)
    give_statistics(network)
    pixels = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    network.eval()
    expected = logits(network, SMALL.normalize(pixels)[None])[0]
    for block, cells in ((None, 8), ("last", 2)):
        explained = Explainer(network, SMALL, block).explain(pixels)
        assert explained.class_id == explained.classes[0] == int(expected.argmax())
        assert len(explained.classes) == len(explained.scores) == 5
        assert explained.score == explained.scores[0]
        assert explained.map.shape == (cells, cells)
        assert explained.heat.shape == (64, 64)
        assert explained.heat.min() >= 0
        assert explained.heat.max() <= 1
    assert len(Explainer(network, SMALL).explain(pixels, 6, topk=99).classes) == 7


def test_the_block_of_a_network_without_a_pyramid() -> None:
    plan = BlockPlan(8, 4, 16, 2, first_depthwise=True, last_depthwise=True, shortcut=False)
    network = MobileNeXt(plan=(plan,), num_classes=2)
    assert block_position(network, None, 64) == 1


def test_the_block_that_is_taken() -> None:
    network = create_model("mobilenext_x0_35", num_classes=2)
    assert Explainer(network, Preprocessing()).block == "features.20"
    assert Explainer(network, SMALL).block == "features.5"
    assert Explainer(network, SMALL, 12).block == Explainer(network, SMALL, "12").block == "features.12"
    for wrong in (21, -1, "21", "features.21", "classifier"):
        with pytest.raises(UsageError, match=r"expected last, 0 to 20 or one of features\.0, .*features\.20"):
            Explainer(network, SMALL, wrong)
    with pytest.raises(UsageError, match="class 2 was asked for; this network has the classes 0 to 1"):
        Explainer(network, SMALL).explain(np.zeros((64, 64, 3), np.uint8), 2)
    with pytest.raises(UsageError, match="has lost its head"):
        Explainer(create_model("mobilenext_x0_35", features_only=True), SMALL)


@pytest.mark.parametrize("size", [(300, 180), (180, 300), (256, 256), (97, 61)])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_where_the_crop_is(size: tuple[int, int], crop_pct: float) -> None:
    """A picture that says at every pixel where that pixel is: red from left to right, green from top to bottom."""
    preprocessing = Preprocessing(image_size=64, crop_pct=crop_pct, interpolation="bilinear")
    width, height = size
    across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    picture = np.stack([255 * across / width, 255 * down / height, 0 * across], axis=-1)
    crop = preprocessing.pixels(Image.fromarray(picture.astype(np.uint8))).astype(float)
    left, top, right, bottom = crop_box(preprocessing, size)
    assert (right - left) == pytest.approx(bottom - top, rel=0.02)
    centres = (np.arange(64) + 0.5) / 64
    said_across = (crop[32, :, 0] + 0.5) / 255 * width
    said_down = (crop[:, 32, 1] + 0.5) / 255 * height
    inner = slice(4, -4)  # at the edge of the image the resampling has fewer pixels to see
    np.testing.assert_allclose(said_across[inner], (left + centres * (right - left))[inner], atol=1.2)
    np.testing.assert_allclose(said_down[inner], (top + centres * (bottom - top))[inner], atol=1.2)

    small = np.zeros((8, 8), np.float32)
    small[2, 6] = 1
    placed = on_image(small, preprocessing, size)
    assert placed.shape == (height, width)
    y, x = np.unravel_index(placed.argmax(), placed.shape)
    assert y + 0.5 == pytest.approx(top + 2.5 / 8 * (bottom - top), abs=1)
    assert x + 0.5 == pytest.approx(left + 6.5 / 8 * (right - left), abs=1)
    everywhere = on_image(np.ones((2, 2), np.float32), preprocessing, size)
    assert everywhere.sum() == pytest.approx((right - left) * (bottom - top), rel=0.03)
    assert on_image(small, preprocessing, size, zoom=3).shape == (3 * height, 3 * width)


def test_heat_map_of_a_whole_image() -> None:
    network = create_model("mobilenext_x0_35.digits")
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    explained = Explainer(network, SMALL).explain(pixels, 4)
    np.testing.assert_allclose(heat_map(network, SMALL, Image.fromarray(pixels), 4), explained.heat, atol=1e-6)
    wide = Preprocessing(image_size=64, crop_pct=0.875)
    placed = heat_map(network, wide, Image.fromarray(pixels).resize((200, 100)), 4)
    assert placed.shape == (100, 200)
    assert not placed[:, :56].any()
    assert placed[:, 56:144].any()


def test_colours() -> None:
    heat = np.linspace(0, 1, 256, dtype=np.float32)[None]
    colours = colored(heat)[0].astype(float)
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) >= -1).all()
    assert colours[0].tolist() == [0, 0, 4]
    assert colours[-1].tolist() == [252, 253, 191]
    grey = np.full((1, 256, 3), 100, np.uint8)
    assert overlay(grey, heat)[0, 0].tolist() == [100, 100, 100]  # where there is no heat, the picture is as it was
    with pytest.raises(UsageError, match=r"expected \[H, W, 3\] and \[H, W\]"):
        overlay(grey, heat[:, :9])
