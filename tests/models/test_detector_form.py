"""The form of a detector: what it holds, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mobilenext.errors import UsageError
from mobilenext.models import FORMS, Form, find_form


@pytest.mark.parametrize("value", ["huge", 10**400, -(10**400), float("nan"), True, np.True_, "0.5", None, 1j])
@pytest.mark.parametrize("name", ["score_threshold", "iou_threshold", "limit", "image_size"])
def test_values_that_a_form_cannot_have(name: str, value: object) -> None:
    value = 10**5000 if value == "huge" else value  # which Python does not write
    with pytest.raises(UsageError, match=f"{name} of the form is .{{1,230}}; expected"):
        Form(loss="multibox", **{name: value})
    with pytest.raises(UsageError, match="prior_sizes of the form is"):
        Form(loss="multibox", prior_sizes=((1, value),) * 6)


def test_a_form_holds_numbers_of_python() -> None:
    """Those of NumPy are converted, so that JSON can hold them."""
    form = FORMS["voc"].replace(
        image_size=np.int64(224), limit=np.int16(5), score_threshold=np.float32(0.25), iou_threshold=1
    )
    assert form == FORMS["voc"].replace(image_size=224, limit=5, score_threshold=0.25, iou_threshold=1.0)
    assert find_form(json.loads(json.dumps(form.to_dict()))) == form


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ([1], r"unknown form \[1\]; known: voc, coco, a Form, or a mapping of its fields"),
        (None, "unknown form None"),
        ({"vo"}, "unknown form {'vo'}"),
        ({}, "a form has the fields .*; found none"),
        ({"loss": "multibox", 1: 2}, "a form has the fields .*; found 1, loss"),
    ],
)
def test_what_is_no_form(form: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_form(form)
