from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from in_process import Here
from mobilenext import exporting
from mobilenext.errors import CheckFailed, DataError, MissingDependency, OutputError, UsageError
from mobilenext.export import FORMATS, checked
from mobilenext.export.folder import new_folder
from mobilenext.export.images import FEWEST, parity_images
from mobilenext.export.sidecar import SIDECAR, Output, read_sidecar
from mobilenext.exporting import export_model
from mobilenext.machine.packages import installed
from mobilenext.runtime import open_runtime
from mobilenext.sources import prepare as preparation
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import find_subject
from mobilenext.sources.prepare import prepare
from mobilenext.weights.read import read_weights

if TYPE_CHECKING:
    from tests.conftest import World

SMALL = {"image_size": 32, "crop_pct": 1.0}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "WorkerPool", Here)


def skip_if_not_writable(format: str) -> None:
    for package in FORMATS[format].packages:
        if not installed(package):
            pytest.skip(f"{package} is not installed")
    if format == "ncnn" and not (installed("pnnx") and installed("ncnn")):
        pytest.skip("pnnx or ncnn is not installed (pip install --no-deps pnnx)")
    import paddle

    if format != "paddle-legacy" and not hasattr(paddle.pir_utils, "OldIrGuard"):
        pytest.skip(f"Paddle {paddle.__version__} writes paddle-legacy only")


@pytest.fixture(scope="module")
def folders(
    world: World, few_images: Path, tmp_path_factory: pytest.TempPathFactory, written_once: None
) -> dict[str, Path]:
    """Exported when first asked for; Paddle's formats in a worker process, and the others in this one."""

    class Folders(dict[str, Path]):
        def __missing__(self, format: str) -> Path:
            skip_if_not_writable(format)
            folder = tmp_path_factory.mktemp("exports") / format
            with pytest.MonkeyPatch.context() as patched:
                if not format.startswith("paddle"):
                    patched.setattr(exporting, "WorkerPool", Here)
                export_model(folder, format=format, weights=world.weights, preprocessing=SMALL, images=[few_images])
            self[format] = folder
            return folder

    return Folders()


@pytest.mark.parametrize("format", FORMATS)
def test_every_format(format: str, folders: dict[str, Path], world: World, tmp_path: Path) -> None:
    """A folder that has moved, alone, gives the logits that the world was made with."""
    folder = tmp_path / "moved"
    shutil.copytree(folders[format], folder)
    sidecar = read_sidecar(folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {SIDECAR, *sidecar.files}
    project = str(Path(exporting.__file__).parent).encode()
    assert not [path.name for path in folder.iterdir() if project in path.read_bytes()], "paths of this machine"
    assert (sidecar.format, sidecar.file, sidecar.precision) == (format, FORMATS[format].file, "fp32")
    assert (sidecar.input, sidecar.outputs) == ("image", (Output("logits", (8,)),))
    assert sidecar.record.preprocessing.image_size == 32
    assert sidecar.record.sha256 == read_weights(world.weights).sha256
    assert sidecar.made_by["paddlepaddle"]

    parity = sidecar.parity
    assert parity["images"] == FEWEST
    assert parity["folded_batch_norms"] == 74
    assert parity["folding"]["largest_difference_of_std"] <= 1e-3  # this network amplifies rounding
    for compared in parity["runtimes"].values():
        assert compared["equal_top1"] == FEWEST
        assert compared["largest_difference_of_std"] <= 1e-3

    prepared = prepare(find_subject(exported=folder), tmp_path / "scratch", Choice())
    network = open_runtime(prepared.spec)
    for size in (1, 5):
        found = np.concatenate([network.predict(world.inputs[i : i + size])[0] for i in range(0, 20, size)])
        assert np.abs(found - world.logits[:20]).max() <= 1e-3 * world.logits.std()
    assert {path.name for path in folder.iterdir()} == names, "nothing is written into the folder"


@pytest.mark.parametrize("format", ["paddle", "paddle-legacy"])
def test_a_bare_paddle_predictor(format: str, folders: dict[str, Path], world: World) -> None:
    """What Paddle's documentation tells users to write."""
    from paddle import inference

    folder = folders[format]
    configs = [inference.Config(str(folder / FORMATS[format].file), str(folder / "inference.pdiparams"))]
    if format == "paddle":
        configs.append(inference.Config(str(folder), "inference"))
    for config in configs:
        config.disable_gpu()
        predictor = inference.create_predictor(config)
        assert predictor.get_input_names() == ["image"]
        predictor.get_input_handle("image").copy_from_cpu(np.ascontiguousarray(world.inputs[:2]))
        predictor.run()
        found = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
        assert np.abs(found - world.logits[:2]).max() <= 1e-3 * world.logits.std()


@pytest.mark.parametrize("format", ["paddle", "paddle-legacy"])
def test_a_paddle_folder_of_another_project(
    format: str, folders: dict[str, Path], world: World, tmp_path: Path
) -> None:
    """The same files without what only this project writes."""
    folder = tmp_path / "theirs"
    shutil.copytree(folders[format], folder)
    (folder / SIDECAR).unlink()
    told = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "crop_pct": 1.0}
    with pytest.raises(UsageError, match=r"inference.* does not say how .*: give --mean and --std"):
        prepare(find_subject(exported=folder), tmp_path / "scratch", Choice())
    prepared = prepare(find_subject(exported=folder, preprocessing=told), tmp_path / "scratch", Choice())
    assert (prepared.record.model, prepared.record.num_classes) == ("theirs", 8)
    assert prepared.record.preprocessing.image_size == 32, "the file says so"
    assert set(prepared.files) == {"inference.pdiparams"}
    found = open_runtime(prepared.spec).predict(world.inputs[:3])[0]
    assert np.abs(found - world.logits[:3]).max() <= 1e-3 * world.logits.std()
    for name in ("inference.pdiparams", FORMATS[format].file):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=r"Paddle Inference cannot open it with its parameters"):
            prepare(find_subject(exported=folder, preprocessing=told), tmp_path / "scratch", Choice())
        (folder / name).write_bytes(content)


@pytest.mark.usefixtures("here")
def test_an_export_that_computes_something_else(
    world: World, few_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        def __init__(self, spec: Any) -> None: ...

        def predict(self, batch: np.ndarray) -> tuple[np.ndarray]:
            return (np.tile(np.arange(8, dtype=np.float32), (len(batch), 1)),)

    monkeypatch.setattr(checked, "open_runtime", Wrong)
    output = tmp_path / "new" / "out"
    with pytest.raises(CheckFailed, match=r"does not compute what Paddle does, by paddle-inference .*: logits differ"):
        export_model(output, format="paddle-legacy", weights=world.weights, preprocessing=SMALL, images=[few_images])
    assert [path.name for path in tmp_path.rglob("*")] in ([], ["new"]), "nothing that looks finished"


@pytest.mark.usefixtures("here")
def test_an_export_that_fails_half_way(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(network: Any, name: str, folder: Path, size: int, graph: Path) -> str:
        (folder / "inference.pdmodel").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checked, "write_format", half)
    with pytest.raises(OutputError, match="No space left on device; choose another --output"):
        export_model(
            tmp_path / "out", format="paddle-legacy", weights=world.weights, preprocessing=SMALL, images=[world.data]
        )
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_there(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with new_folder(output) as folder:  # an empty one may be taken
        (folder / SIDECAR).write_text("first")
    with new_folder(output) as folder:  # an earlier export is replaced
        (folder / SIDECAR).write_text("second")
    assert (output / SIDECAR).read_text() == "second"
    with pytest.raises(KeyboardInterrupt), new_folder(output):
        raise KeyboardInterrupt
    assert (output / SIDECAR).read_text() == "second", "the earlier one stays until the new one is whole"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (output / SIDECAR).rename(output / "thesis.txt")
    for taken in (output, output / "thesis.txt"):
        with pytest.raises(UsageError, match="is there and is no earlier export"), new_folder(taken):
            pass


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="choose another --output"), new_folder(blocked / "out"):
        pass
    if os.geteuid() == 0:
        pytest.skip("this user may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"), new_folder(tmp_path / "out"):
        pass


def damaged(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    return copy


def test_folders_that_are_not_as_they_were_written(folders: dict[str, Path], tmp_path: Path) -> None:
    original = folders["paddle-legacy"]
    copy = damaged(original, tmp_path)
    (copy / SIDECAR).unlink()
    with pytest.raises(DataError, match=r"has no mobilenext.json: expected a folder made by `mobilenext export`"):
        read_sidecar(copy)
    copy = damaged(original, tmp_path)
    (copy / "inference.pdiparams").write_bytes((copy / "inference.pdiparams").read_bytes()[:1000])
    with pytest.raises(DataError, match=r"inference.pdiparams is not the file that mobilenext.json was written for"):
        read_sidecar(copy)
    (copy / "inference.pdiparams").unlink()
    with pytest.raises(DataError, match=r"inference.pdiparams cannot be read: No such file"):
        read_sidecar(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "mobilenext export 9"}, "version is 'mobilenext export 9'"),
        ({"format": "caffe"}, "format is 'caffe'; expected "),
        ({"file": "other.onnx"}, "'other.onnx' is not among its files"),
        ({"files": {"inference.pdmodel": "0" * 64, "../secret": "0" * 64}}, "a file outside its folder"),
        ({"files": {"inference.pdmodel": "0"}}, "files.inference.pdmodel is '0'; expected a sha256"),
        ({"files": ["inference.pdmodel"]}, "files is .*; expected a record"),
        ({"self_check": [10**400] * 8}, r"self_check\[0\] is an integer of 1329 bits"),
        ({"file": "a\0b"}, "file is .*; expected text without null characters"),
        ({"self_check": [1.0]}, "self_check has 1 values; expected 8, those of its outputs"),
        ({"record": {}}, "record.preprocessing is missing"),
        ({"input": None, "parity": ...}, "input is None; expected text"),
    ],
)
def test_sidecars_that_cannot_be_used(
    change: dict[str, Any], message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    copy = damaged(folders["paddle-legacy"], tmp_path)
    values = json.loads((copy / SIDECAR).read_text()) | change
    values = {name: value for name, value in values.items() if value is not ...}
    (copy / SIDECAR).write_text(json.dumps(values))
    with pytest.raises(DataError, match=message):
        read_sidecar(copy)
    for text in ("{", "[" * 100_000, "[]", "null"):
        (copy / SIDECAR).write_text(text)
        with pytest.raises(DataError, match="export again"):
            read_sidecar(copy)


def test_a_sidecar_of_another_model(folders: dict[str, Path], tmp_path: Path) -> None:
    """Checksums may be forged or the model replaced with its own: the logits tell."""
    copy = damaged(folders["paddle-legacy"], tmp_path)
    values = json.loads((copy / SIDECAR).read_text())
    values["self_check"] = values["self_check"][::-1]
    (copy / SIDECAR).write_text(json.dumps(values))
    with pytest.raises(CheckFailed, match="its logits are off by"):
        prepare(find_subject(exported=copy), tmp_path, Choice())


def test_what_an_exported_folder_allows(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "processor", lambda: ("one that computes int8", ["avx_vnni"]))
    folder = folders["paddle-legacy"]
    prepared = prepare(find_subject(exported=folder, preprocessing={"crop_pct": 0.5}), tmp_path, Choice())
    assert prepared.record.preprocessing.crop_pct == 0.5
    with pytest.raises(
        UsageError, match=r"image size 64 was asked for, but .* takes 32; export again with --image-size"
    ):
        prepare(find_subject(exported=folder, preprocessing={"image_size": 64}), tmp_path, Choice())
    with pytest.raises(UsageError, match="is not quantized; `mobilenext quantize` makes an int8 folder"):
        prepare(find_subject(exported=folder), tmp_path, Choice(precision="int8"))


def test_images_to_compare_on(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mobilenext.data import Preprocessing
    from mobilenext.export import images

    preprocessing = Preprocessing(**SMALL)
    pixels, names = parity_images([world.data / "imgs"], preprocessing)
    assert (pixels.shape, pixels.dtype, len(set(names))) == ((24, 32, 32, 3), np.uint8, 24)
    with pytest.raises(UsageError, match=r"1 images in .*; expected at least 8"):
        parity_images([next((world.data / "imgs").iterdir())], preprocessing)
    if installed("sklearn"):
        pixels, names = parity_images(None, preprocessing)
        assert (pixels.shape, len(set(names))) == ((64, 32, 32, 3), 64)
        assert pixels.std() > 20, "photos"
    monkeypatch.setattr(images, "installed", lambda package: False)
    with pytest.raises(MissingDependency, match=r"--images FOLDER.*pip install 'mobilenext\[quickstart\]'"):
        parity_images(None, preprocessing)


def test_unknown_formats(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"format is 'onx'; expected paddle, .*; did you mean 'onnx'"):
        export_model(tmp_path / "out", format="onx")
