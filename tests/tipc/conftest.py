"""One repository for all tests of TIPC, and an export in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tipc_repository import LONG, MODEL, PROD, Repository


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="session")
def exported(repository: Repository) -> Path:
    """The bundled digits' weights, exported into a folder that has other files too."""
    repository.tipc("prepare", PROD, "whole_infer")
    weights = f"test_tipc/weights/{MODEL}"
    (repository.folder / "exported").mkdir()
    (repository.folder / "exported/best.safetensors").write_text("not an export's")
    repository.tipc("export", f"--pretrained={weights}", "--save-inference-dir=exported/")
    return repository.folder / "exported"


@pytest.fixture(scope="session")
def small(repository: Repository) -> str:
    """A folder of 160 digits to train on and 40 to validate."""
    config = repository.edit(LONG, _16="norm_train:-m mobilenext.tipc train --data=small")
    said = repository.tipc("prepare", config, "lite_train_lite_infer").stderr
    assert "small: 160 training and 40 validation images of scikit-learn's digits" in said
    return "small"
