from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.numpy

from weights_files import pytorch_tensors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """PyTorch-named weights of mobilenext_x0_35 with 20 classes."""
    path = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file(pytorch_tensors(), path)
    return path
