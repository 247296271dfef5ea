"""ncnn's format, from the ONNX file, by pnnx, ncnn's own converter."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

from mobilenext.errors import CheckFailed, MissingDependency
from mobilenext.machine.temporary import scratch_folder


def write_ncnn(onnx_file: Path, param_file: Path, image_size: int) -> None:
    """Write `param_file` and ``.bin`` beside it, in float32, with the blobs ``image`` and ``logits``.

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
        made = source.with_suffix(".ncnn.param")
        if run.returncode != 0 or not made.is_file():
            raise CheckFailed(f"pnnx ended with the code {run.returncode}: {(run.stdout + run.stderr)[-500:].strip()}")
        names = {"in0": "image", "out0": "logits"}
        lines = [
            # The first field of a layer is its type, the second its name, then come counts, blobs and numbers.
            " ".join(names.get(field, field) for field in line.split()) if index > 1 else line
            for index, line in enumerate(made.read_text().splitlines())
        ]
        param_file.write_text("\n".join(lines) + "\n")
        shutil.copyfile(made.with_suffix(".bin"), param_file.with_suffix(".bin"))


def find_pnnx() -> str:
    """The program; the package pnnx has it inside, but asks pip for PyTorch, which the program does not need."""
    found = importlib.util.find_spec("pnnx")
    if found and found.origin:
        for name in ("pnnx", "pnnx.exe"):
            inside = Path(found.origin).parent / name
            if inside.is_file():
                return str(inside)
    # `pip install pnnx` also makes a script of that name, which would need the package.
    on_path = shutil.which("pnnx")
    if on_path and not found:
        return on_path
    raise MissingDependency("export to ncnn needs the converter pnnx: pip install --no-deps pnnx")
