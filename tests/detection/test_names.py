from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import mobilenext
from mobilenext import detection

LIGHT = """
import sys
import mobilenext
mobilenext.detection
print(sorted({"numpy", "paddle", "PIL"} & sys.modules.keys()))
mobilenext.detection.decode, mobilenext.detection.prior_boxes, mobilenext.detection.preprocess
print(sorted({"paddle"} & sys.modules.keys()))
"""


def test_the_package_is_light_until_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


@pytest.mark.parametrize("name", detection.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(detection, name) is not None
    assert name in dir(detection)


def test_the_package_is_an_attribute() -> None:
    assert mobilenext.detection is importlib.import_module("mobilenext.detection")
    with pytest.raises(AttributeError, match="no attribute 'decod'"):
        detection.decod  # noqa: B018
