from __future__ import annotations

import json
import pickle
from pathlib import Path

from evaluation_folders import write_evaluation
from mobilenext.runs.result import EvaluationResult, read_result


def test_a_result_is_a_dictionary_that_prints_as_the_table(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path, [0, 1, 1], [[0, 1], [1, 0], [0, 1]], [[0.9, 0.1]] * 3, classes=2)
    plain = read_result(folder / "result.json")
    result = EvaluationResult(plain)
    assert isinstance(result, dict)
    assert result == plain
    assert json.loads(json.dumps(result)) == plain
    assert type(pickle.loads(pickle.dumps(result))) is EvaluationResult
    lines = str(result).splitlines()
    assert lines[0].startswith("| environment ")
    assert "66.67 % (2/3" in lines[2]
    assert f"{plain['latency']['median']:.2f} ms (p10 " in lines[2]
    assert repr(result) == str(result)
    del result["latency"]
    assert repr(result).startswith("{'")
