"""The operators of cells by themselves: sizes, and the sandglass beside its recordings (tests/goldens/search)."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from cell_recordings import formula_maps, recorded, set_formula_weights
from mobilenext.errors import UsageError
from mobilenext.models.cell_operators import DARTS, OPERATORS, FactorizedReduce, Identity, build_operator

pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track")  # Paddle's batch norm, of itself

PROPOSAL = recorded("sandglass_proposal")[0]

# Parameters while searching and in the final network, at stride 1.
SIZES = {
    16: {"sep_conv_3x3": (800, 864), "sep_conv_5x5": (1312, 1376), "dil_conv_3x3": (400, 432),
         "dil_conv_5x5": (656, 688), "sandglass_3x3": (416, 520), "sandglass_5x5": (928, 1032),
         "inverted_residual_3x3": (3936, 4352)},
    36: {"sep_conv_3x3": (3240, 3384), "sep_conv_5x5": (4392, 4536), "dil_conv_3x3": (1620, 1692),
         "dil_conv_5x5": (2196, 2268), "sandglass_3x3": (1080, 1308), "sandglass_5x5": (2232, 2460),
         "inverted_residual_3x3": (17496, 18432)},
    144: {"sandglass_3x3": (9504, 10416), "sandglass_5x5": (14112, 15024), "sandglass_3x3_plain": (9504, 10416),
          "none": (0, 0), "skip_connect": (0, 0), "max_pool_3x3": (0, 0), "avg_pool_3x3": (0, 0)},
}  # fmt: skip


def parameters(layer: paddle.nn.Layer) -> int:
    return sum(int(tensor.size) for tensor in layer.parameters() if not tensor.stop_gradient)


@pytest.mark.parametrize("channels", SIZES)
def test_sizes(channels: int) -> None:
    for name, expected in SIZES[channels].items():
        sizes = tuple(parameters(build_operator(name, channels, 1, affine)) for affine in (False, True))
        assert sizes == expected, name


@pytest.mark.parametrize("record", PROPOSAL["ops"], ids=lambda record: record["name"])
def test_the_sandglass_is_that_of_the_recordings(record: dict[str, Any]) -> None:
    channels, stride, affine = (record[name] for name in ("channels", "stride", "affine"))
    name = f"sandglass_{record['kernel']}x{record['kernel']}{'' if record['shortcut'] else '_plain'}"
    operator = build_operator(name, channels, stride, affine)
    assert parameters(operator) == record["params"]
    assert operator.op[3].weight.shape[0] == record["hidden"]
    set_formula_weights(operator)
    operator.to(dtype="float64")
    key, _, shape = record["input"].partition(", shape ")
    images = paddle.to_tensor(formula_maps(key, *map(int, shape.split("x"))).astype("float64"))
    for mode in ("eval", "train"):
        getattr(operator, mode)()
        with paddle.no_grad():
            values = operator(images).numpy()
        # Five values of the first map; in training, of the last one.
        first = values[(0, 0) if mode == "eval" else (-1, -1)].ravel()[:5]
        assert np.abs(first - record[f"{mode}_first"]).max() < 1e-6
        mean, deviation = record[f"{mode}_mean_std"]
        assert values.mean() == pytest.approx(mean, rel=1e-6, abs=1e-9)
        assert min(abs(values.std(ddof=ddof) - deviation) for ddof in (0, 1)) < 1e-6


@pytest.mark.parametrize("name", OPERATORS)
def test_strides_and_batches_of_one(name: str) -> None:
    for stride in (1, 2):
        for affine in (False, True):
            operator = build_operator(name, 6, stride, affine)
            assert operator(paddle.ones([1, 6, 8, 12])).shape == [1, 6, 8 // stride, 12 // stride]
    if name != "skip_connect":  # all but it take odd sizes
        assert operator(paddle.ones([1, 6, 7, 5])).shape == [1, 6, 4, 3]


def test_norms_without_weights_are_neither_counted_nor_stored() -> None:
    operator = build_operator("sep_conv_3x3", 4, 1, affine=False)
    assert [name for name in operator.state_dict() if name.startswith("op.3.")] == ["op.3._mean", "op.3._variance"]
    trained = [name for name, tensor in operator.named_parameters() if not tensor.stop_gradient]
    assert trained == ["op.1.weight", "op.2.weight", "op.5.weight", "op.6.weight"]


def test_padding_of_the_average_is_not_counted() -> None:
    pooled = build_operator("avg_pool_3x3", 1, 1, affine=False)(paddle.ones([1, 1, 3, 3])).numpy()
    assert np.array_equal(pooled, np.ones((1, 1, 3, 3), np.float32))


def test_the_shifted_half_of_a_factorized_reduce() -> None:
    reduce = FactorizedReduce(1, 2, affine=True)
    for layer in (reduce.conv_1, reduce.conv_2):
        layer.weight.set_value(paddle.ones_like(layer.weight))
    reduce.eval()
    image = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    halves = reduce(paddle.to_tensor(image)).numpy()[0] * np.sqrt(1 + 1e-5)
    assert np.allclose(halves[0], image[0, 0, ::2, ::2])
    assert np.allclose(halves[1], image[0, 0, 1::2, 1::2])


@pytest.mark.parametrize("shape", [(9, 8), (8, 9), (1, 1)])
def test_odd_sides_cannot_be_halved(shape: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=f"a map of {shape[0]} x {shape[1]} cannot be halved"):
        build_operator("skip_connect", 2, 2, affine=True)(paddle.ones([1, 2, *shape]))


def test_the_table() -> None:
    assert tuple(OPERATORS)[:8] == DARTS
    assert isinstance(build_operator("skip_connect", 4, 1, affine=False), Identity)
    with pytest.raises(UsageError, match="unknown operator 'sandglas_3x3'; did you mean 'sandglass_3x3'"):
        build_operator("sandglas_3x3", 4, 1, affine=False)
