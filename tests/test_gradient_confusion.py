"""Cosines of gradients: by hand, on the network, and through the script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from gradient_confusion import gradient_confusion
from gradient_cosines import ALL, cosine_statistics, gram_matrices, set_statistics
from mobilenext.errors import UsageError
from mobilenext.models import build_network

if TYPE_CHECKING:
    from tests.conftest import World

ROOT = Path(__file__).parents[1]


def test_statistics_by_hand() -> None:
    gradients = np.array([[1.0, 0], [0, 2], [-3, 0], [1, 1], [0, 0]])
    found = cosine_statistics(gradients @ gradients.T, np.array([0, 0, 1, 1, 1]))
    half = np.sqrt(0.5)
    assert found["without_gradient"] == 1
    assert found["all"]["pairs"] == 6
    assert found["all"]["confusion"] == 1
    assert found["same_class"]["mean"] == pytest.approx((0 - half) / 2, abs=1e-4)
    assert found["different_class"]["mean"] == pytest.approx((-1 + half + 0 + half) / 4, abs=1e-4)
    assert found["different_class"]["negative_percent"] == 25
    assert sum(found["histogram"]) == 4


def test_the_gradients_of_a_network() -> None:
    paddle.seed(0)
    network = build_network("mobilenext_x0_35", num_classes=3)
    network.eval()
    batch = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    batch[3] = batch[0]
    labels = np.array([0, 1, 2, 0])
    set_statistics(network, batch)
    assert not network.training
    assert float(network.features[0][1]._mean.abs().max()) > 0
    grams, loss = gram_matrices(network, batch, labels)
    parts = [gram for name, gram in grams.items() if name != ALL]
    np.testing.assert_allclose(sum(parts), grams[ALL], rtol=1e-9)
    assert grams[ALL][0, 3] == pytest.approx(grams[ALL][0, 0], rel=1e-4)
    # The gradient of the mean loss is the mean of the gradients.
    mean = F.cross_entropy(network(paddle.to_tensor(batch)), paddle.to_tensor(labels))
    mean.backward()
    assert float(mean) == pytest.approx(loss, rel=1e-4)
    squared = sum(
        float((each.grad.astype("float64") ** 2).sum()) for each in network.parameters() if each.grad is not None
    )
    assert squared == pytest.approx(grams[ALL].sum() / 16, rel=1e-3)


def test_the_command(world: World, tmp_path: Path) -> None:
    out = tmp_path / "confusion"
    words = (
        *(world.data, "--model", "mobilenetv2_x0_35", "--seeds", "0,1", "--weights", world.weights),
        *("--image-size", 32, "--crop-pct", 1, "--images", 6, "-o", out, "--json"),
    )
    command = [sys.executable, str(ROOT / "scripts/gradient_confusion.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads((out / "gradient_confusion.json").read_text())
    assert [(row["model"], row["state"], row["seed"]) for row in result["rows"]] == [
        ("mobilenetv2_x0_35", "initialised", 0),
        ("mobilenetv2_x0_35", "initialised", 1),
        ("mobilenext_x0_35", "trained", None),
    ]
    assert result["rows"][0]["groups"][ALL]["all"]["pairs"] == 15
    assert (out / "gradient_confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "mobilenetv2_x0_35" in done.stderr


def test_what_is_refused(world: World) -> None:
    with pytest.raises(UsageError, match="no network"):
        gradient_confusion(world.data)
    with pytest.raises(UsageError, match="images is 1"):
        gradient_confusion(world.data, models=["mobilenext_x0_35"], images=1)
