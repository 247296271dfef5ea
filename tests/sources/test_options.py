from __future__ import annotations

import pytest

from mobilenext.sources.options import Execution, Selection, Source, split_options, take_options


def test_keywords_go_to_their_records() -> None:
    source, execution = split_options({"model": "mobilenext_x1_0", "threads": 2, "use": None}, "predict")
    assert source == Source(model="mobilenext_x1_0", use=None)
    assert execution == Execution(threads=2)


def test_an_unknown_keyword_is_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match=r"^predict\(\) got an unexpected keyword argument 'modle'$"):
        split_options({"weights": "a", "modle": "b"}, "predict")


def test_taken_options_are_gone() -> None:
    options = {"limit": 3, "threads": 2}
    assert take_options(Selection, options) == {"limit": 3}
    assert options == {"threads": 2}
