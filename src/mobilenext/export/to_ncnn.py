"""ncnn's format, from the ONNX file, by pnnx, ncnn's own converter."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mobilenext.errors import CheckFailed, MissingDependency
from mobilenext.machine.temporary import scratch_folder


def write_ncnn(onnx_file: Path, param_file: Path, image_size: int, outputs: Sequence[str]) -> None:
    """Write `param_file` and ``.bin`` beside it, in float32, with the blobs ``image`` and those of the `outputs`.

    Raises:
        MissingDependency: pnnx is not there. CheckFailed: it fails.
    """
    program = find_pnnx()
    with scratch_folder() as folder:
        source = folder / "network.onnx"
        shutil.copyfile(onnx_file, source)
        shape = f"inputshape=[1,3,{image_size},{image_size}]"
        run = subprocess.run(
            [program, source.name, shape, "fp16=0"], cwd=folder, capture_output=True, text=True, check=False
        )
        converted = source.with_suffix(".ncnn.param")
        if run.returncode != 0 or not converted.is_file():
            raise CheckFailed(f"pnnx ended with the code {run.returncode}: {(run.stdout + run.stderr)[-500:].strip()}")
        names = {"in0": "image", **{f"out{index}": name for index, name in enumerate(outputs)}}
        lines = [
            # The first field of a layer is its type, the second its name, then come counts, blobs and numbers.
            " ".join(names.get(field, field) for field in line.split()) if index > 1 else line
            for index, line in enumerate(converted.read_text().splitlines())
        ]
        param_file.write_text("\n".join(lines) + "\n")
        shutil.copyfile(converted.with_suffix(".bin"), param_file.with_suffix(".bin"))


def find_pnnx() -> str:
    """Return the path of the program.

    The package pnnx has it inside, but asks pip for PyTorch, which the program does not need.
    """
    package = importlib.util.find_spec("pnnx")
    if package and package.origin:
        for name in ("pnnx", "pnnx.exe"):
            inside = Path(package.origin).parent / name
            if inside.is_file():
                return str(inside)
    # `pip install pnnx` also makes a script of that name, which would need the package.
    on_path = shutil.which("pnnx")
    if on_path and not package:
        return on_path
    raise MissingDependency("export to ncnn needs the converter pnnx: pip install --no-deps pnnx")
