"""The ways to name an image: all of them give what its file gives."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mobilenext
from mobilenext.data import read_image
from mobilenext.errors import DataError, UsageError
from mobilenext.evaluation import prediction as module

Rows = list[dict[str, Any]]


class Network:
    """The mean of each color of each image; no Paddle, no file."""

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray]:
        return (batch.mean((2, 3)),)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rows]:
    """The real one, with a network that is made of arithmetic."""
    from types import SimpleNamespace

    preprocessing = mobilenext.Preprocessing(image_size=32)
    record = SimpleNamespace(preprocessing=preprocessing, labels=("red", "green", "blue"), task=None)
    prepared = SimpleNamespace(record=record, notes=(), spec=None)
    monkeypatch.setattr(module, "find_subject", lambda **_: SimpleNamespace(kind="onnx", path=Path("a.onnx")))
    monkeypatch.setattr(module, "prepare", lambda *_: prepared)
    monkeypatch.setattr(module, "open_runtime", lambda _: Network())
    return mobilenext.predict


def answers(rows: Rows) -> list[tuple[list[int], list[float]]]:
    return [(row["classes"], row["scores"]) for row in rows]


def test_one_path_is_one_image(photo: Path, predict: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = predict([photo])
    assert row["path"] == str(photo)
    assert predict(str(photo)) == predict(photo) == [row]
    monkeypatch.chdir(photo.parent)
    (relative,) = predict("photo.png")  # whose first character is no file
    assert relative == row | {"path": "photo.png"}
    assert answers(predict(photo.parent)) == answers([row])
    with pytest.raises(DataError, match=r"^nowhere\.jpg: no such file or folder"):
        predict("nowhere.jpg")


def test_what_is_in_memory(photo: Path, predict: Callable[..., Rows]) -> None:
    expected = answers(predict(photo))
    with Image.open(photo) as opened:
        pixels = np.asarray(opened)
        images = [opened.copy(), pixels, photo.read_bytes(), opened]
        for image in images:
            (row,) = predict(image)
            assert (answers([row]), row["path"]) == (expected, "image 0")
        batch = np.stack([pixels, pixels[::-1], pixels])
        mixed: list[Any] = [*images, str(photo), photo, batch]
        rows = predict(iter(mixed), batch_size=4)
        assert len(rows) == 9
    assert answers(rows) == [*expected * 7, *answers(predict(pixels[::-1])), *expected]
    names = [f"image {number}" for number in range(9)]
    assert [row["path"] for row in rows] == [*names[:4], str(photo), str(photo), *names[6:]]
    assert predict([]) == predict(batch[:0]) == []


def test_grey_and_other_modes(photo: Path, predict: Callable[..., Rows], tmp_path: Path) -> None:
    with Image.open(photo) as opened:
        grey = opened.convert("L")
        others = [grey, opened.convert("P"), opened.convert("CMYK"), opened.convert("RGBA"), opened.convert("1")]
    for number, image in enumerate(others):
        path = tmp_path / f"{number}.tiff"
        image.save(path)
        assert answers(predict(image)) == answers(predict(path)), image.mode
    assert answers(predict(np.asarray(grey))) == answers(predict(grey))
    deep = tmp_path / "deep.png"
    Image.fromarray((np.asarray(grey).astype(np.uint16) << 8) + 7).save(deep)
    with Image.open(deep) as opened:
        assert answers(predict(opened)) == answers(predict(deep)) == answers(predict(grey))


def test_a_photo_is_upright_in_memory_as_in_its_file(photo: Path, predict: Callable[..., Rows], tmp_path: Path) -> None:
    """Only the top half is red; cropped, a photo on its side has another mean."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32, 0] = 255
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / "phone.png"
    Image.fromarray(pixels).save(path, exif=exif)
    expected = answers(predict(np.rot90(pixels, -1)))
    with Image.open(path) as opened:
        assert answers(predict(opened)) == answers(predict(path)) == answers(predict(path.read_bytes())) == expected


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (3, "int"),
        (None, "NoneType"),
        (np.zeros((8, 8, 3), np.float32), r"an array of float32 \[8, 8, 3\]"),
        (np.zeros((8, 8, 3), np.int64), r"an array of int64 \[8, 8, 3\]"),
        (np.zeros((8, 8, 4), np.uint8), r"an array of uint8 \[8, 8, 4\]"),
        (np.zeros((3, 8, 8), np.uint8), r"an array of uint8 \[3, 8, 8\]"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"an array of uint8 \[2, 3, 8, 8\]"),
        (np.zeros((0, 8, 3), np.uint8), r"an array of uint8 \[0, 8, 3\]"),
        (np.zeros(8, np.uint8), r"an array of uint8 \[8\]"),
        (np.uint8(7), "uint8"),
        (io.BytesIO(b""), "bytes|BytesIO"),
        ([["a.jpg"]], "list"),
        ([b"", 1.5], "float"),
    ],
)
def test_what_is_no_image(value: Any, kind: str, predict: Callable[..., Rows]) -> None:
    if isinstance(value, io.BytesIO):
        value = [value]
    with pytest.raises(UsageError, match=f"^images: ({kind}); expected paths, Pillow images"):
        predict(value)


def test_an_image_that_cannot_be_used_is_named_and_the_others_go_on(
    photo: Path, predict: Callable[..., Rows], tmp_path: Path
) -> None:
    closed = Image.open(photo)
    closed.close()
    cut = tmp_path / "cut.png"
    cut.write_bytes(photo.read_bytes()[:200])
    damaged = [photo.read_bytes()[:200], b"", b"no image", Image.new("I", (8, 8)), Image.new("F", (8, 8)), closed]
    with Image.open(cut) as opened:
        rows = predict([*damaged, opened, photo])
    assert ["error" in row for row in rows] == [True] * 7 + [False]
    for number, row in enumerate(rows[:-1]):
        assert row["error"].startswith(f"image {number}: "), row


def test_paths_of_other_functions() -> None:
    from mobilenext.data import find_images
    from mobilenext.data.images import paths_of

    assert paths_of("a.jpg") == paths_of(Path("a.jpg")) == paths_of(["a.jpg"]) == [Path("a.jpg")]

    def several() -> Iterator[str]:
        yield from ("a", "b")

    assert paths_of(several()) == [Path("a"), Path("b")]
    for value in (3, None, [3], b"a.jpg"):
        with pytest.raises(UsageError, match="where paths are expected"):
            paths_of(value)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"^ab: no such file"):
        find_images("ab")


def test_an_export_is_compared_on_one_folder(photo: Path) -> None:
    from mobilenext.export.images import parity_images

    with pytest.raises(UsageError, match=rf"^1 images in {photo.parent}; expected at least 8"):
        parity_images(str(photo.parent), mobilenext.Preprocessing())


@pytest.fixture
def drawing(predict: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rows]:
    """The same with a task that paints a picture's left half in the color it answers."""
    from mobilenext.tasks import find_task

    def draw(image: Image.Image, answer: Mapping[str, Any]) -> Image.Image:
        drawn = image.copy()
        drawn.paste(answer["labels"][0], (0, 0, image.width // 2, image.height))
        return drawn

    task = find_task()
    presentation = replace(task.presentation, draw=draw)
    task = replace(task, load_presentation=lambda: presentation)
    monkeypatch.setattr(module, "task_of_file", lambda *_: task)
    return predict


def test_pictures_keep_the_names_of_their_images(drawing: Callable[..., Rows], tmp_path: Path) -> None:
    """In any folders and of any kind; one that cannot be read has none."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 30), (200, 0, 0)).save(tmp_path / folder / "a.png")
    Image.new("RGB", (40, 30), (0, 0, 200)).save(tmp_path / "two" / "b.gif")
    (tmp_path / "two" / "c.jpg").write_bytes(b"no image")
    images = [tmp_path / "one", tmp_path / "two", (tmp_path / "one" / "a.png").read_bytes()]
    rows = drawing(images, output=tmp_path / "out")
    names = ["a.png", "a_2.png", "b.gif.png", None, "image 4.png"]
    assert [row.get("output") for row in rows] == [name and str(tmp_path / "out" / name) for name in names]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(filter(None, names))
    colors = [np.asarray(read_image(tmp_path / "out" / name))[10, [5, 35]].tolist() for name in names[:3]]
    assert colors == [[[255, 0, 0], [200, 0, 0]]] * 2 + [[[0, 0, 255], [0, 0, 200]]]
    assert "error" in rows[3]


def test_a_single_picture_may_have_any_name(drawing: Callable[..., Rows], photo: Path, tmp_path: Path) -> None:
    (row,) = drawing(photo, output=tmp_path / "drawn.jpg")
    assert row["output"] == str(tmp_path / "drawn.jpg")
    assert (tmp_path / "drawn.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    with pytest.raises(UsageError, match="2 images and one picture"):
        drawing([photo, photo], output=tmp_path / "drawn.jpg")


def test_a_picture_is_upright(drawing: Callable[..., Rows], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 20), (9, 90, 9)).save(tmp_path / "a.png", exif=exif)
    drawing(tmp_path / "a.png", output=tmp_path / "out")
    assert read_image(tmp_path / "out" / "a.png").size == (20, 40)


def test_no_image_is_written_over(drawing: Callable[..., Rows], photo: Path, tmp_path: Path) -> None:
    before = photo.read_bytes()
    (tmp_path / "linked").symlink_to(photo.parent)
    for output in (photo.parent, photo, tmp_path / "linked", photo.parent / ".." / photo.parent.name):
        with pytest.raises(UsageError, match="would be written over the image"):
            drawing(photo, output=output)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a folder"):
        drawing(photo, output=tmp_path / "file")
    assert photo.read_bytes() == before


def test_a_task_without_drawings_says_so(predict: Callable[..., Rows], photo: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the answers of a network for classification are not drawn"):
        predict(photo, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
