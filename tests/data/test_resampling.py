"""Images that the compiled loops resize, against Pillow's own to the byte; and what is done without loops."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mobilenext.classification.augmentation import Augmentation
from mobilenext.data import Preprocessing, compiled_resize, machine_code, resampling
from mobilenext.data.compiled_resize import FILTERS, Work
from mobilenext.data.machine_code import Loops, NoMachineCode
from mobilenext.data.preprocessing import INTERPOLATIONS
from mobilenext.data.resampling import COMPILING_PAYS, LOADING_PAYS, begin, expect, resized

Box = tuple[int, int, int, int]


@pytest.fixture(scope="module")
def cache(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the machine code, which pytest keeps where it may: compiling takes seconds."""
    pytest.importorskip("numba", reason="numba is not installed: Pillow resizes images")
    kept = getattr(pytestconfig, "cache", None)
    folder = Path(kept.mkdir("resampling")) if kept else tmp_path_factory.mktemp("resampling")
    command = [sys.executable, "-m", "mobilenext.data.resampling_compiler"]
    subprocess.run(command, check=True, env=os.environ | {"MOBILENEXT_HOME": str(folder)}, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def loops(cache: Path) -> Loops:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MOBILENEXT_HOME", str(cache))
        return machine_code.load(machine_code.code_file())


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A process that has resized nothing yet, with an empty cache folder."""
    monkeypatch.setenv("MOBILENEXT_HOME", str(tmp_path))
    monkeypatch.setattr(resampling, "_process", resampling._Process())
    return resampling._process


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are started, which are not run."""
    commands: list[list[str]] = []

    class Child:
        def __init__(self, command: list[str], **_: Any) -> None:
            commands.append(command)

        def poll(self) -> int:
            return 0

    monkeypatch.setattr(subprocess, "Popen", Child)
    return commands


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Zeros and 255 beside noise: sums that leave 0..255 are cut."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[random.random(pixels.shape) < 0.3] = seed % 2 * 255
    return Image.fromarray(pixels)


def by_pillow(image: Image.Image, size: tuple[int, int], interpolation: str, box: Box, crop: Box) -> np.ndarray:
    return np.asarray(image.resize(size, Image.Resampling[interpolation.upper()], box).crop(crop))


def require_equal(loops: Loops, image: Image.Image, size: tuple[int, int], box: Box, crop: Box) -> None:
    """By every filter, from Pillow's own memory where it can be seen and from copies."""
    for interpolation in FILTERS:
        work = Work.of(image, size, interpolation, box, crop)
        assert work is not None
        expected = by_pillow(image, size, interpolation, box, crop)
        np.testing.assert_array_equal(work.run(loops, image), expected, err_msg=interpolation)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(compiled_resize, "_in_place", lambda *_: None)
            np.testing.assert_array_equal(work.run(loops, image), expected, err_msg=f"{interpolation}, copied")


@st.composite
def boxes(draw: st.DrawFn, size: tuple[int, int]) -> Box:
    left, top = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
    return left, top, draw(st.integers(left + 1, size[0])), draw(st.integers(top + 1, size[1]))


SIDES = st.one_of(st.integers(1, 4), st.integers(1, 130))


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_every_size_box_and_crop_is_pillows_to_the_byte(loops: Loops, data: st.DataObject) -> None:
    source, size = data.draw(st.tuples(SIDES, SIDES)), data.draw(st.tuples(SIDES, SIDES))
    box, crop = data.draw(st.one_of(st.just((0, 0, *source)), boxes(source))), data.draw(boxes(size))
    require_equal(loops, noise(*source, data.draw(st.integers(0, 5))), size, box, crop)


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ((1, 1), (224, 224)),
        ((1, 3000), (16, 16)),
        ((3000, 1), (16, 16)),
        ((60_000, 2), (20, 30)),  # windows of 18,000 pixels
        ((1, 100_000), (40, 25)),
        ((60, 240), (50, 219)),  # Pillow 13 begins with the columns: 21 rows fewer, 10 columns
        ((60, 240), (50, 220)),  # and with the rows: 20 rows
        ((60, 240), (61, 239)),
        ((700, 500), (333, 250)),  # several bands are copied
        ((2100, 2100), (64, 64)),  # more than 16 MiB: Pillow holds it in several blocks
    ],
)
def test_odd_shapes(loops: Loops, source: tuple[int, int], size: tuple[int, int]) -> None:
    require_equal(loops, noise(*source), size, (0, 0, *source), (size[0] // 4, 0, size[0], size[1] - size[1] // 3))


def test_preprocessing_and_augmentation_do_not_depend_on_who_resizes(process: Any, loops: Loops) -> None:
    augmentation, images = (
        Augmentation(image_size=96, scale=(0.2, 1.0)),
        [noise(500, 375), noise(150, 640), noise(90, 99)],
    )
    samples = [Preprocessing(160, 0.875, name) for name in INTERPOLATIONS]
    samples += [Preprocessing(160, 1.0, name, fit="squash") for name in INTERPOLATIONS]

    def pixels() -> list[np.ndarray]:
        whole = [sample.pixels(image) for sample in samples for image in images]
        return whole + [augmentation.pixels(image, np.random.default_rng(n)) for image in images for n in range(8)]

    expected = pixels()
    process.loops, calls = loops._replace(weigh=(calls := Counted(loops.weigh))), calls
    for ours, theirs in zip(pixels(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert calls.count > 2 * 10 * len(images)  # all but "nearest", and random crops


class Counted:
    """A function that counts its calls."""

    def __init__(self, function: Any) -> None:
        self.function, self.count = function, 0

    def __call__(self, *arguments: Any) -> None:
        self.count += 1
        self.function(*arguments)


def test_what_would_take_much_memory_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Work.of(Image.new("RGB", (70_000, 1)), (224, 224), "bicubic", None, None) is None
    image, size = noise(50, 40), (100, 80)
    assert Work.of(image, size, "bicubic", None, None) is not None
    monkeypatch.setattr(compiled_resize, "_LARGEST_BYTES", 40 * 100 * 3 - 1)
    assert Work.of(image, size, "bicubic", None, None) is None


def test_what_pillow_refuses_is_refused(process: Any, loops: Loops) -> None:
    process.loops, image = loops, noise(200, 200)
    with pytest.raises(ValueError, match=r"(?i)box"):
        resized(image, (224, 224), "bicubic", box=(0, 0, 201, 200))
    with pytest.raises(ValueError, match="height and width"):
        resized(image, (0, 224), "bicubic")


# Who resizes


def test_a_process_loads_the_loops_when_it_pays(
    process: Any, loops: Loops, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBILENEXT_HOME", str(cache))
    image = noise(140, 120)
    for _ in range(LOADING_PAYS - 1):
        resized(image, (96, 96), "bilinear")
    resized(noise(20, 20), (20, 20), "bilinear")  # a small one is not counted
    assert process.loops is None
    resized(image, (96, 96), "bilinear")
    assert process.loops is not None


def test_a_process_that_will_resize_many_loads_them_at_once(
    process: Any, loops: Loops, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOBILENEXT_HOME", str(cache))
    for images, interpolation, image_size in (
        (LOADING_PAYS - 1, "bicubic", 224), (LOADING_PAYS, "nearest", 224), (LOADING_PAYS, "bicubic", 32),
    ):  # fmt: skip
        begin(images, interpolation, image_size)
        assert process.loops is None
    begin(LOADING_PAYS, "bicubic", 224)
    assert process.loops is not None


def test_loops_that_do_not_resize_as_pillow_are_not_used(
    process: Any, loops: Loops, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MOBILENEXT_HOME", str(cache))
    monkeypatch.setattr(compiled_resize, "_pillow_begins_with_columns", lambda: "another order")
    original = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda *a: original(*a).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    begin(LOADING_PAYS, "bicubic", 224)
    assert process.loops is None
    assert "do not resize as this Pillow" in caplog.text


def test_the_loops_are_compiled_once_where_that_pays(
    process: Any, started: list[list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    expect(COMPILING_PAYS - 1, "bicubic", 224)
    expect(COMPILING_PAYS, "nearest", 224)
    expect(COMPILING_PAYS, "bicubic", 64)
    assert not started
    assert "by Pillow: compiling faster loops pays from 2,000 images on" in caplog.text
    expect(COMPILING_PAYS, "bicubic", 224)
    assert [command[1:] for command in started] == [["-m", "mobilenext.data.resampling_compiler"]]
    assert "by Pillow until faster loops have been compiled, once, in" in caplog.text


def test_a_server_compiles_them_after_so_many_images_and_a_worker_never(process: Any, started: list[list[str]]) -> None:
    pytest.importorskip("numba")
    process.images = process.next_look = COMPILING_PAYS - 1
    resized(noise(140, 120), (96, 96), "bilinear")
    assert not started
    expect(None, "bicubic", 224)
    process.images = process.next_look = COMPILING_PAYS - 1
    resized(noise(140, 120), (96, 96), "bilinear")
    assert len(started) == 1


def test_the_log_names_a_file_that_cannot_be_used(
    process: Any, started: list[list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("numba")
    caplog.set_level("INFO")
    path = machine_code.code_file()
    path.parent.mkdir()
    path.write_bytes(b"half a file")
    path.chmod(0o644)
    expect(COMPILING_PAYS, "bicubic", 224)
    assert not started
    assert f"by Pillow, with the same result as by faster compiled loops: {path} is damaged; delete it" in caplog.text


def test_where_nothing_can_be_kept_nothing_is_compiled(
    process: Any, started: list[list[str]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("numba")
    caplog.set_level("INFO")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    expect(COMPILING_PAYS, "bicubic", 224)
    assert not started
    assert "cannot be stored in" in caplog.text
    assert "MOBILENEXT_HOME" in caplog.text


@pytest.mark.parametrize(("version", "problem"), [(None, r"pip install 'mobilenext\[train\]'"), ("0.58.1", "too old")])
def test_without_numba_or_with_an_old_one_the_log_says_so(
    process: Any, version: str | None, problem: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(name: str) -> str:
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", answer)
    caplog.set_level("INFO")
    expect(COMPILING_PAYS, "bicubic", 224)
    begin(COMPILING_PAYS, "bicubic", 224)
    assert process.loops is None
    assert "by Pillow, with the same result" in caplog.text
    with pytest.raises(NoMachineCode, match=problem):
        machine_code.code_file()


@pytest.fixture
def copied(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOBILENEXT_HOME", str(cache))
    path = tmp_path / "code.o"
    path.write_bytes(machine_code.code_file().read_bytes())
    path.chmod(0o644)
    return path


def test_a_damaged_file_is_not_loaded(copied: Path) -> None:
    content = bytearray(copied.read_bytes())
    content[-1] ^= 1
    copied.write_bytes(content)
    with pytest.raises(NoMachineCode, match=r"damaged; delete it"):
        machine_code.load(copied)


def test_code_for_another_processor_is_not_loaded(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine_code.load(copied)
    monkeypatch.setattr(machine_code, "processor_seal", lambda: b"another".ljust(32))
    with pytest.raises(NoMachineCode, match=r"for another processor; delete it"):
        machine_code.load(copied)


def test_a_file_that_others_may_have_written_is_not_loaded(copied: Path) -> None:
    copied.chmod(0o664)
    with pytest.raises(NoMachineCode, match=r"other users may have written .*code\.o"):
        machine_code.load(copied)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "code.o")
    with pytest.raises(NoMachineCode, match=r"code\.o"):
        machine_code.load(tmp_path / "code.o")


def test_only_one_process_compiles(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    from mobilenext.data import resampling_compiler

    monkeypatch.setenv("MOBILENEXT_HOME", str(tmp_path))
    monkeypatch.setattr(os, "nice", lambda _: 0)
    paths: list[Path] = []
    monkeypatch.setattr(resampling_compiler, "compile_loops", paths.append)
    path = machine_code.code_file()
    path.parent.mkdir()
    with FileLock(path.with_suffix(".lock")):
        resampling_compiler.main()
    assert not paths
    resampling_compiler.main()
    assert paths == [path]


def test_the_code_depends_on_its_sources_and_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setenv("MOBILENEXT_HOME", str(tmp_path))
    before = machine_code.code_file()
    assert before == machine_code.code_file()
    monkeypatch.setattr(machine_code, "processor", lambda: ("another", []))
    assert before != machine_code.code_file()
