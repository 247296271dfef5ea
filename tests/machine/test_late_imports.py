"""Modules that are imported when they are used."""

import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobilenext.machine.late_imports import import_late

PACKAGE = "import sys\nsys.runs = getattr(sys, 'runs', 0) + 1\nimport time; time.sleep(0.05)\nfrom .part import VALUE\n"


@pytest.fixture
def late_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that is imported late, with a submodule."""
    folder = tmp_path / "late_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "part.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if type(finder).__name__ != "_Finder"])
    monkeypatch.setattr(sys, "runs", 0, raising=False)
    import_late(["late_package"])
    yield folder
    for name in ("late_package", "late_package.part"):
        sys.modules.pop(name, None)


def test_a_name_that_is_used_runs_the_module_once(late_package: Path) -> None:
    module = importlib.import_module("late_package")

    assert sys.runs == 0
    values = []
    threads = [threading.Thread(target=lambda: values.append(module.VALUE)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [3] * 8
    assert sys.runs == 1
    with pytest.raises(AttributeError, match="late_package"):
        module.MISSING  # noqa: B018
    assert sys.runs == 1


def test_a_submodule_is_imported_before_its_parent_runs(late_package: Path) -> None:
    part = importlib.import_module("late_package.part")

    assert part.VALUE == 3
    assert sys.runs == 0


def test_names_can_be_imported_from_it(late_package: Path) -> None:
    names: dict[str, int] = {}
    exec("from late_package import VALUE", names)
    assert names["VALUE"] == 3


def test_an_error_in_the_module_is_raised_at_every_use(late_package: Path) -> None:
    (late_package / "__init__.py").write_text("raise OSError('no such library')\n")
    module = importlib.import_module("late_package")

    for _ in range(2):
        with pytest.raises(OSError, match="no such library"):
            module.VALUE  # noqa: B018


def test_paddle_is_imported_without_what_is_rarely_used() -> None:
    """And what it put off still works: names of the builder of extensions, and of the HTTP client."""
    code = (
        "import sys; from mobilenext.machine.late_imports import import_late; import_late(); import_late(); "
        "import paddle; builder = 'paddle.utils.cpp_extension.cpp_extension' in sys.modules; "
        "print(builder, 'httpx._client' in sys.modules); "
        "from paddle.utils.cpp_extension import CppExtension; import httpx; "
        "print(CppExtension.__name__, httpx.URL('http://localhost/a').path, 'httpx._client' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["False", "False", "CppExtension", "/a", "True"]
