"""The networks against the original PyTorch networks, recorded in tests/goldens, and against their published sizes.

A recording holds no weights: both sides make them from the name of each tensor by one formula (`formula_weights`). The
files of PyTorch-named weights written here are read back as anybody's checkpoint is, so recognition is tested as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import safetensors.numpy

from golden import GOLDENS, formula_images, formula_weights, recording, uniform
from mobilenext.errors import UsageError
from mobilenext.models import MODELS, build_network, find_model, list_models
from mobilenext.models.cards import paper_models
from mobilenext.models.counting import count
from mobilenext.models.network import drop_connect, make_divisible
from mobilenext.models.sandglass import MobileNeXt, partial_shortcut
from mobilenext.models.variants import VARIANTS
from mobilenext.weights.load import load_weights
from mobilenext.weights.read import read_weights

# Recording: model, identity divisor, image size, bound on the blocks' means and standard deviations, bound on the
# logits; both relative to a standard deviation of the recording.
#
# The random weights of the plain networks amplify rounding: computed in float64, their logits are already 1.4e-4
# (x0.35), 3.3e-4 (x1.0) and 7e-4 (x1.0, divisor 4) away from these float32 recordings, and no float32 library can be
# expected to round as another one does. A network that is wrong is off by more than 0.1, see `test_a_wrong_divisor`.
RECORDED: dict[str, tuple[str, int, int, float, float]] = {
    "mobilenext_x0.35": ("mobilenext_x0_35", 1, 224, 1e-4, 2e-3),
    "mobilenext_x0.75": ("mobilenext_x0_75", 1, 224, 1e-4, 2e-3),
    "mobilenext_x1.0": ("mobilenext_x1_0", 1, 224, 1e-4, 2e-3),
    "mobilenext_x1.0_identity_div2": ("mobilenext_x1_0", 2, 224, 1e-4, 2e-3),
    "mobilenext_x1.0_identity_div4": ("mobilenext_x1_0", 4, 224, 1e-4, 2e-3),
    "mobilenext_x0.35_20classes_64px": ("mobilenext_x0_35", 1, 64, 1e-3, 1e-4),  # few pixels to average over
    "mobilenext_s": ("mobilenext_s", 1, 224, 1e-4, 1e-4),
    "mobilenext_l": ("mobilenext_l", 1, 224, 1e-4, 1e-4),
    "mobilenext_l_ghost": ("mobilenext_l_ghost", 1, 224, 1e-4, 1e-4),
    "mobilenetv2_x0.35": ("mobilenetv2_x0_35", 1, 224, 1e-4, 1e-4),
    "mobilenetv2_x1.0": ("mobilenetv2_x1_0", 1, 224, 1e-4, 1e-4),
}
ONE_OF_EACH_KIND = (
    "mobilenext_x0.35", "mobilenext_x1.0_identity_div2", "mobilenext_x0.35_20classes_64px", "mobilenext_s",
    "mobilenext_l_ghost", "mobilenetv2_x0.35",
)  # fmt: skip
WIDTHS = {0.35: "mobilenext_x0_35", 0.5: "mobilenext_x0_5", 0.75: "mobilenext_x0_75", 1.0: "mobilenext_x1_0",
          1.4: "mobilenext_x1_4"}  # fmt: skip


def loaded(name: str, folder: Path, divisor: int) -> paddle.nn.Layer:
    """The network of a recording with its weights, by way of a PyTorch-named file."""
    model, *_ = RECORDED[name]
    record, logits = recording(name)
    file = folder / "formula.safetensors"
    safetensors.numpy.save_file(formula_weights(record["keys"], model), file)
    weights = read_weights(file, identity_divisor=divisor)
    assert (weights.model, weights.num_classes, weights.dialect) == (model, logits.shape[1], "pytorch")
    network = build_network(model, num_classes=weights.num_classes, identity_divisor=divisor)
    load_weights(network, weights)
    network.eval()
    return network


def run(network: paddle.nn.Layer, size: int, batch: int = 1) -> Any:
    network.eval()
    with paddle.no_grad():
        return network(paddle.ones([batch, 3, size, size]))


# --- Against the recordings -------------------------------------------------------------------------------------------


def test_every_recording_is_compared() -> None:
    assert sorted(path.stem for path in GOLDENS.glob("*.npz")) == sorted(RECORDED)


def test_uniform_gives_the_documented_numbers() -> None:
    # Computed by hand from the formula in exact integers.
    assert uniform("features.0.0.weight", 3).tolist() == [0.8502028016754818, 0.01946759026520606, 0.7909671759767185]
    assert uniform("input-64", 2).tolist() == [0.36728932307466455, 0.4683487423684133]


@pytest.mark.parametrize("name", RECORDED)
def test_names_shapes_and_parameters_are_the_originals(name: str) -> None:
    model, divisor, *_ = RECORDED[name]
    record, logits = recording(name)
    expected = {}
    for key, shape in record["keys"]:
        owner, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        leaf = {"running_mean": "_mean", "running_var": "_variance"}.get(leaf, leaf)
        expected[f"{owner}.{leaf}"] = shape[::-1] if len(shape) == 2 else shape
    network = build_network(model, num_classes=logits.shape[1], identity_divisor=divisor)
    assert {key: list(tensor.shape) for key, tensor in network.state_dict().items()} == expected
    assert sum(int(p.size) for p in network.parameters() if not p.stop_gradient) == record["params"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ONE_OF_EACH_KIND else pytest.mark.long) for name in RECORDED]
)
def test_every_block_and_the_logits_agree(name: str, tmp_path: Path) -> None:
    _, divisor, size, block_bound, logits_bound = RECORDED[name]
    record, logits = recording(name)
    network = loaded(name, tmp_path, divisor)
    seen: list[tuple[str, list[int], float, float]] = []

    def listen(block_name: str, block: paddle.nn.Layer) -> None:
        def note(_layer: object, _inputs: object, output: paddle.Tensor) -> None:
            values = output.numpy().astype(np.float64)
            seen.append((block_name, list(values.shape), values.mean(), values.std()))

        block.register_forward_post_hook(note)

    for block_name, block in network.blocks():
        listen(block_name, block)
    with paddle.no_grad():
        output = network(formula_images(size)).numpy()

    assert [block[:2] for block in seen] == [(name, shape) for name, shape, _, _ in record["blocks"]]
    for (block_name, _, mean, std), (_, _, mean_then, std_then) in zip(seen, record["blocks"], strict=True):
        assert abs(mean - mean_then) <= block_bound * std_then, block_name
        assert abs(std - std_then) <= block_bound * std_then, block_name
    assert output.dtype == np.float32
    assert output.shape == logits.shape
    assert np.abs(output - logits).max() <= logits_bound * logits.std()


@pytest.mark.parametrize(("right", "wrong"), [("mobilenext_x1.0", 2), ("mobilenext_x1.0_identity_div2", 1),
                                              ("mobilenext_x1.0_identity_div2", 4),
                                              ("mobilenext_x1.0_identity_div4", 3)])  # fmt: skip
def test_a_wrong_divisor_is_far_outside_the_bounds(right: str, wrong: int, tmp_path: Path) -> None:
    _, logits = recording(right)
    network = loaded(right, tmp_path, wrong)
    with paddle.no_grad():
        output = network(formula_images(224)).numpy()
    assert np.abs(output - logits).max() > 0.1 * logits.std()


# --- Sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "parameters", "in_batch_norms", "conv_mult_adds", "linear_mult_adds", "millions_with_bn"),
    [
        (0.35, 1_913_976, 22_368, 73_861_032, 1_280_000, 78.201),
        (0.5, 2_152_304, 29_296, 101_976_448, 1_280_000, 107.362),
        (0.75, 2_766_168, 41_256, 206_646_720, 1_280_000, 214.095),
        (1.0, 3_535_416, 53_024, 310_062_592, 1_280_000, 319.406),
        (1.4, 6_126_168, 74_256, 586_527_256, 1_792_000, 599.722),
    ],
)
def test_sizes_of_the_plain_networks(
    width: float,
    parameters: int,
    in_batch_norms: int,
    conv_mult_adds: int,
    linear_mult_adds: int,
    millions_with_bn: float,
) -> None:
    network = build_network(WIDTHS[width])
    size = count(network)
    assert size.parameters == parameters
    assert size.mult_adds == conv_mult_adds + linear_mult_adds
    assert round(size.mult_adds_with_bn / 1e6, 3) == millions_with_bn
    norms = [layer for layer in network.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    convolutions = [layer for layer in network.sublayers() if isinstance(layer, paddle.nn.Conv2D)]
    assert sum(int(p.size) for layer in norms for p in (layer.weight, layer.bias)) == in_batch_norms
    assert (len(convolutions), len(norms)) == (74, 74)
    assert all(layer.bias is None for layer in convolutions)


@pytest.mark.parametrize(
    ("model", "parameters", "millions"),
    [
        ("mobilenext_s", 3_937_011, 330.182),
        ("mobilenext_l", 4_287_498, 415.058),
        ("mobilenext_l_ghost", 5_683_740, 422.885),
    ],
)
def test_sizes_of_the_se_networks(model: str, parameters: int, millions: float) -> None:
    size = count(build_network(model))
    assert (size.parameters, round(size.mult_adds / 1e6, 3)) == (parameters, millions)


def test_a_quarter_of_the_width() -> None:
    size = count(MobileNeXt(width=0.25))
    assert (size.parameters, round(size.mult_adds / 1e6, 3)) == (1_764_336, 48.010)


@pytest.mark.parametrize("model", paper_models())
def test_the_cards_hold_what_is_counted(model: str) -> None:
    card, size = MODELS[model], count(build_network(model))
    assert (card.parameters, card.mult_adds, card.mult_adds_with_bn) == (
        size.parameters,
        size.mult_adds,
        size.mult_adds_with_bn,
    )


def test_counting_leaves_the_network_as_it_was() -> None:
    network = build_network("mobilenext_x0_35")
    before = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    first = count(network, 64)
    assert network.training
    assert count(network, 64) == first  # no hook stays behind
    assert all(np.array_equal(before[key], tensor.numpy()) for key, tensor in network.state_dict().items())
    network.eval()
    count(network, 64)
    assert not network.training


# --- Layout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (0.35, [8, 16, 16, 16, 16, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 32, 64, 56, 56, 208]),
        (0.5, [8, 16, 16, 16, 16, 32, 24, 24, 32, 32, 32, 32, 48, 48, 48, 48, 80, 80, 80, 208]),
        (0.75, [12, 32, 32, 24, 24, 48, 36, 36, 48, 48, 48, 48, 80, 72, 72, 72, 128, 120, 120, 208]),
        (1.0, [16, 32, 32, 32, 32, 48, 48, 48, 64, 64, 64, 64, 96, 96, 96, 96, 160, 160, 160, 208]),
        (1.4, [24, 32, 48, 48, 48, 64, 64, 64, 96, 96, 96, 96, 128, 128, 128, 128, 224, 224, 224, 304]),
    ],
)
def test_hidden_widths(width: float, expected: list[int]) -> None:
    hidden = []
    for _, block in build_network(WIDTHS[width]).blocks()[1:]:
        narrow, _ = (
            layer for layer in block.conv if isinstance(layer, paddle.nn.Conv2D) and layer.weight.shape[3] == 1
        )
        hidden.append(narrow.weight.shape[0])
    assert hidden == expected


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (0.35, [16, 32, 48, 64, 104, 136, 200, 336, 1280]),
        (0.5, [16, 48, 72, 96, 144, 192, 288, 480, 1280]),
        (0.75, [24, 72, 112, 144, 216, 288, 432, 720, 1280]),
        (1.0, [32, 96, 144, 192, 288, 384, 576, 960, 1280]),
        (1.4, [48, 136, 200, 272, 400, 536, 808, 1344, 1792]),
    ],
)
def test_stage_widths_and_spatial_sizes(width: float, expected: list[int]) -> None:
    network = build_network(WIDTHS[width])
    network.eval()
    shapes = []
    with paddle.no_grad():
        x = paddle.zeros([1, 3, 224, 224])
        for _, block in network.blocks():
            x = block(x)
            shapes.append(x.shape[1:])
    repeats = [1, 1, 1, 3, 3, 4, 4, 3, 1]
    assert [channels for channels, _, _ in shapes] == [
        channels for channels, times in zip(expected, repeats, strict=True) for _ in range(times)
    ]
    assert [height for _, height, _ in shapes] == [112, 56, 56, *[28] * 3, *[14] * 7, *[7] * 8]


def test_squeezed_widths_of_the_se_networks() -> None:
    def squeezed(model: str) -> list[int]:
        return [block._se_reduce.weight.shape[0] for _, block in build_network(model).blocks()]

    stages = [12, 6, 8, 12, 16, 24, 40, 53]
    repeats_s, repeats_l = [1, 1, 3, 3, 4, 4, 3, 1], [2, 2, 4, 4, 5, 5, 4, 2]
    assert squeezed("mobilenext_s") == [c for c, times in zip(stages, repeats_s, strict=True) for _ in range(times)]
    assert squeezed("mobilenext_l") == [c for c, times in zip(stages, repeats_l, strict=True) for _ in range(times)]


@pytest.mark.parametrize(("value", "divisor", "expected"), [(11.2, 8, 16), (33.6, 8, 32), (22.4, 8, 24), (3, 8, 8),
                                                            (214, 16, 208), (299, 16, 304)])  # fmt: skip
def test_make_divisible(value: float, divisor: int, expected: int) -> None:
    assert make_divisible(value, divisor) == expected


# --- Shortcuts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "kept"),
    [
        (192, {1: 192, 2: 96, 3: 64, 4: 48, 6: 32}),
        (288, {1: 288, 2: 144, 3: 96, 4: 72, 6: 48}),
        (384, {1: 384, 2: 192, 3: 128, 4: 96, 6: 64}),
        (576, {1: 576, 2: 288, 3: 192, 4: 144, 6: 96}),
        (960, {1: 960, 2: 480, 3: 320, 4: 240, 6: 160}),
    ],
)
def test_partial_shortcut_adds_to_the_first_channels_only(channels: int, kept: dict[int, int]) -> None:
    branch = np.arange(2 * channels * 6, dtype=np.float32).reshape(2, channels, 2, 3)
    identity = np.full_like(branch, 0.5)
    for divisor, first in kept.items():
        expected = branch.copy()
        expected[:, :first] += 0.5
        given = paddle.to_tensor(branch), paddle.to_tensor(identity)
        assert np.array_equal(partial_shortcut(*given, divisor).numpy(), expected)
        assert np.array_equal(given[0].numpy(), branch)  # not in place


def passed_round(model: str, divisor: int = 1) -> dict[int, int]:
    """Index of each block that passes its input on when its own weights are all zero: how many channels it passes."""
    network = build_network(model, num_classes=2, identity_divisor=divisor)
    inputs: dict[str, list[int]] = {}
    for name, block in network.blocks():
        block.register_forward_pre_hook(lambda _, given, name=name: inputs.setdefault(name, given[0].shape) and None)
    run(network, 64)
    passed = {}
    for index, (name, block) in enumerate(network.blocks()):
        for parameter in block.parameters():
            parameter.set_value(paddle.zeros_like(parameter))
        with paddle.no_grad():
            values = block(paddle.full(inputs[name], 3.0)).numpy()[0]
        whole = (values == 3.0).all(axis=(1, 2))
        assert (whole | (values == 0.0).all(axis=(1, 2))).all()
        if whole.any():
            assert whole[: whole.sum()].all()  # the first ones
            passed[index] = int(whole.sum())
    return passed


def test_which_blocks_have_a_shortcut() -> None:
    widths = {4: 192, 5: 192, 7: 288, 8: 288, 10: 384, 11: 384, 12: 384, 14: 576, 15: 576, 16: 576, 18: 960, 19: 960}
    assert passed_round("mobilenext_x1_0") == widths
    assert passed_round("mobilenext_x1_0", 6) == {block: channels // 6 for block, channels in widths.items()}
    assert list(passed_round("mobilenext_x0_35")) == list(widths)
    assert list(passed_round("mobilenext_x1_4")) == list(widths)


def test_which_blocks_of_the_se_networks_have_a_shortcut() -> None:
    # All but the first stage, whatever its length, and the blocks that change the number of channels.
    assert list(passed_round("mobilenext_s")) == [3, 4, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18]
    long = [3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 16, 18, 19, 20, 21, 23, 24, 25, 27]
    assert list(passed_round("mobilenext_l")) == long
    assert list(passed_round("mobilenext_l_ghost")) == long


def test_drop_connect_zeroes_whole_samples_and_scales_the_others() -> None:
    paddle.seed(1)
    x = paddle.ones([4000, 2, 1, 1])
    dropped = drop_connect(x, 0.2, training=True).numpy()[:, :, 0, 0]
    assert np.array_equal(dropped[:, 0], dropped[:, 1])
    assert set(np.unique(dropped).tolist()) == {0.0, 1.25}
    assert abs((dropped[:, 0] == 0).mean() - 0.2) < 0.03  # nearly five standard deviations
    assert drop_connect(x, 0.2, training=False) is x
    assert drop_connect(x, 0.0, training=True) is x


def test_drop_connect_grows_to_a_fifth_of_the_way() -> None:
    rates = [block.plan.drop_connect for _, block in build_network("mobilenext_s").blocks()]
    assert rates == pytest.approx([0.2 * index / 20 for index in range(20)])


def test_initial_weights() -> None:
    paddle.seed(0)
    network = build_network("mobilenext_x1_0")
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    for key, fan_out in (
        ("features.20.conv.0.weight", 3 * 3 * 960),  # depthwise, not divided by its groups
        ("features.20.conv.5.weight", 1280),
        ("features.18.conv.3.weight", 160),
    ):
        assert state[key].std() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)
    assert state["classifier.1.weight"].std() == pytest.approx(0.01, rel=0.01)
    assert not state["classifier.1.bias"].any()
    assert (state["features.0.1.weight"] == 1).all()


def test_batch_norm_constants() -> None:
    for model, constants in (("mobilenext_x0_35", (1e-5, 0.9)), ("mobilenetv2_x0_35", (1e-5, 0.9)),
                             ("mobilenext_s", (1e-3, 0.99))):  # fmt: skip
        norms = [layer for layer in build_network(model).sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
        assert {(layer._epsilon, layer._momentum) for layer in norms} == {constants}


# --- By name ----------------------------------------------------------------------------------------------------------


def test_the_names() -> None:
    assert list_models() == [
        *("mobilenext_x0_35", "mobilenext_x0_5", "mobilenext_x0_75", "mobilenext_x1_0", "mobilenext_x1_4"),
        *("mobilenext_s", "mobilenext_l", "mobilenext_l_ghost"),
        *("mobilenetv2_x0_35", "mobilenetv2_x0_5", "mobilenetv2_x0_75", "mobilenetv2_x1_0", "mobilenetv2_x1_4"),
        *(f"mobilenext_{variant}_{width}" for variant in VARIANTS for width in ("x0_35", "x1_0")),
        *("darts_v1_cifar", "darts_v2_cifar", "pc_darts_cifar", "darts_v2_imagenet"),
        *(f"ssdlite320_{name}" for name in WIDTHS.values()),
        *(f"ssdlite320_{name.replace('mobilenext', 'mobilenetv2')}" for name in WIDTHS.values()),
    ]


def test_names_ignore_case_and_a_miss_names_the_nearest() -> None:
    assert find_model("MobileNeXt_x1_0") is MODELS["mobilenext_x1_0"]
    assert isinstance(build_network("MOBILENEXT_X0_35", num_classes=2), MobileNeXt)
    with pytest.raises(UsageError, match=r"unknown model 'mobilenext_x1'; did you mean 'mobilenext_x1_[04]'\?"):
        build_network("mobilenext_x1")


@pytest.mark.parametrize("model", ["mobilenext_s", "mobilenext_l", "mobilenext_l_ghost", "mobilenetv2_x1_0"])
def test_networks_without_a_partial_shortcut_refuse_a_divisor(model: str) -> None:
    with pytest.raises(UsageError, match=f"{model} has no partial shortcut: identity_divisor is 2, expected 1"):
        build_network(model, identity_divisor=2)


@pytest.mark.parametrize("classes", [0, -1, 10.0, "10", True])
def test_impossible_numbers_of_classes(classes: Any) -> None:
    with pytest.raises(UsageError, match=r"num_classes is .*; expected a whole number from 1 up"):
        build_network("mobilenext_x0_35", num_classes=classes)


@pytest.mark.parametrize("divisor", [0, -2, 2.0, "2", True])
def test_impossible_divisors(divisor: Any) -> None:
    with pytest.raises(UsageError, match=r"identity_divisor is .*; expected 1, 2, 3, 4 or 6"):
        build_network("mobilenext_x0_35", identity_divisor=divisor)


@pytest.mark.parametrize("model", paper_models())
def test_features_and_classes(model: str) -> None:
    network = build_network(model, num_classes=7)
    assert network.training
    assert run(network, 64).shape == [1, 7]
    names = list(network.state_dict())
    network.keep_features_only()
    maps = run(network, 64, batch=2)
    assert [tuple(map_.shape) for map_ in maps] == [
        (2, feature.channels, 64 // feature.stride, 64 // feature.stride) for feature in network.features_info
    ]
    assert [feature.stride for feature in network.features_info] == [4, 8, 16, 32]
    kept = list(network.state_dict())
    assert kept == [name for name in names if not name.startswith(("classifier.", "_fc.", "_bn1."))]
    assert len(kept) < len(names)


def test_channels_of_the_features() -> None:
    expected = {
        "mobilenext_x1_0": [144, 192, 384, 1280],
        "mobilenext_x0_35": [48, 64, 136, 1280],
        "mobilenext_x1_4": [200, 272, 536, 1792],
        "mobilenext_s": [144, 192, 384, 1280],
        "mobilenetv2_x1_0": [24, 32, 96, 1280],
    }
    for model, channels in expected.items():
        network = build_network(model, num_classes=2)
        network.keep_features_only()
        maps = run(network, 224)
        assert [map_.shape for map_ in maps] == [[1, c, s, s] for c, s in zip(channels, (56, 28, 14, 7), strict=True)]


@pytest.mark.parametrize("model", ["mobilenext_x0_35", "mobilenext_s", "mobilenext_l_ghost", "mobilenetv2_x0_35"])
def test_any_input_size(model: str) -> None:
    network = build_network(model, num_classes=3)
    for size in (32, 160, 225):
        assert run(network, size).shape == [1, 3]
    with paddle.no_grad():
        assert network(paddle.ones([1, 3, 96, 160])).shape == [1, 3]
