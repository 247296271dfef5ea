from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mobilenext.evaluation import importing
from mobilenext.evaluation.importing import FEW_CORES, import_in_turn


@pytest.mark.parametrize(("cores", "together"), [(2, False), (FEW_CORES, False), (FEW_CORES + 1, True), (64, True)])
def test_workers_take_turns_on_few_cores(
    cores: int, together: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting, met = threading.Barrier(2), []

    def import_when_both_are_here(runtime: str | None) -> None:
        try:
            meeting.wait(20 if together else 0.3)
            met.append(runtime)
        except threading.BrokenBarrierError:
            pass

    monkeypatch.setattr(importing, "_import", import_when_both_are_here)
    workers = [threading.Thread(target=import_in_turn, args=(tmp_path / "lock", "ncnn", cores)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert met == (["ncnn", "ncnn"] if together else [])


def test_the_module_is_light_and_imports_what_the_work_needs(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (the extra onnx)")
    program = """
import sys
from pathlib import Path
from mobilenext.evaluation.importing import import_in_turn
assert not {"numpy", "PIL", "loky", "paddle"} & set(sys.modules), "light"
import_in_turn(Path(sys.argv[1]), None, 2)
assert "mobilenext.evaluation.pipeline" in sys.modules and "onnxruntime" not in sys.modules
import_in_turn(Path(sys.argv[1]), "onnxruntime", 2)
assert "onnxruntime" in sys.modules and "paddle" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "lock")], check=True)
