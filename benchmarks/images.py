"""What decoding an image costs in each format that is read: bytes a pixel, seconds, and the worst of hostile files.

python benchmarks/images.py                      # results/image_costs.json
python benchmarks/images.py --side 2000 -o FILE
python benchmarks/images.py --photos FOLDER      # of an existing result, the part on photos only

Each format's image is noise of SIDE x SIDE pixels, the dearest content; it is decoded in a fresh process, by Pillow
alone and by `read_image`. Peaks are VmHWM as the kernel counts it, over the process before; of the process that decodes
elsewhere, from its start. Seconds are those of a core. Hostile files are those of the tests.

What resizing photos costs, by Pillow and by the compiled loops, is the work of photos.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, features

from mobilenext.data.images import MAX_PIXELS, ImageLimits
from mobilenext.machine.environment import environment
from mobilenext.origin import origin
from photos import measure_photos
from result_tables import photo_table

TESTS = Path(__file__).parents[1] / "tests"

MEASURE = """
import json, os, resource, sys, time
from PIL import Image
Image.MAX_IMAGE_PIXELS = None
Image.init()
from mobilenext.data import image_guard, read_image
from mobilenext.errors import ImageError
peak = lambda: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
before, began, problem = peak(), sum(os.times()[:4]), None
if sys.argv[2] == "pillow":
    with Image.open(sys.argv[1]) as image:
        image.convert("RGB")
else:
    try:
        read_image(sys.argv[1])
    except ImageError as error:
        problem = str(error).replace(sys.argv[1], "image")
grown = peak() - before
image_guard._end_all()
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps([grown, children, sum(os.times()[:4]) - began, problem]))
"""


def measured(path: Path, how: str) -> list[Any]:
    command = [sys.executable, "-c", MEASURE, str(path), how]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    row: list[Any] = json.loads(done.stdout)
    return row


def pictures(side: int) -> dict[str, tuple[Image.Image, dict[str, Any]]]:
    """Name: the image and how it is saved; the name's first word is the format."""
    grey = Image.effect_noise((side, side), 60)
    rgb = Image.merge("RGB", [grey, grey.rotate(90), grey.rotate(180)])
    rgba = rgb.copy()
    rgba.putalpha(grey)
    rows: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "JPEG": (rgb, {}),
        "JPEG progressive 4:4:4": (rgb, {"progressive": True, "subsampling": 0}),
        "JPEG progressive CMYK": (rgb.convert("CMYK"), {"progressive": True}),
        "PNG RGBA": (rgba, {"compress_level": 1}),
        "GIF": (grey, {}),
        "BMP": (rgb, {}),
        "PPM": (rgb, {}),
        "ICO": (rgba.resize((256, 256)), {}),
        "TIFF LZW": (rgba, {"compression": "tiff_lzw"}),
        "WEBP": (rgb, {"method": 0}),
        "WEBP lossless, alpha": (rgba, {"lossless": True, "method": 0}),
        "JPEG2000 RGBA": (rgba, {"quality_mode": "rates", "quality_layers": [20]}),
        "JPEG2000 tiles of 256": (rgba, {"quality_layers": [20], "tile_size": (256, 256)}),
    }
    if features.check("avif"):
        rows["AVIF alpha"] = (rgba, {"speed": 10})
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-o", "--output", default="results/image_costs.json")
    options.add_argument("--side", type=int, default=3000)
    options.add_argument("--photos", type=Path, metavar="FOLDER", help="measure the photos of a folder only")
    arguments = options.parse_args()
    if arguments.photos:
        output = Path(arguments.output)
        result = json.loads(output.read_text()) if output.exists() else {}
        result["photos"] = measure_photos(arguments.photos)
        output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        print(photo_table(result["photos"]))
        return
    sys.path.insert(0, str(TESTS))
    from hostile_images import HOSTILE as hostile

    costs: dict[str, dict[str, Any]] = {}
    worst: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        for name, (image, how) in pictures(arguments.side).items():
            image.save(path, name.split()[0], **how)
            pixels = image.size[0] * image.size[1]
            pillow, _, pillow_s, _ = measured(path, "pillow")
            grown, children, seconds, problem = measured(path, "read_image")
            costs[name] = {
                "pixels": pixels,
                "file_bytes": path.stat().st_size,
                "pillow_bytes_a_pixel": round(pillow / pixels, 1),
                "pillow_seconds": round(pillow_s, 2),
                "bytes_a_pixel": round(grown / pixels, 1),
                "other_process_mib": round(children / 2**20, 1),
                "seconds": round(seconds, 2),
                "refused": problem,
            }
            print(name, costs[name], flush=True)
        for name, make in hostile.items():
            path.write_bytes(make())
            grown, children, seconds, problem = measured(path, "read_image")
            worst[name] = {
                "file_bytes": path.stat().st_size,
                "mib": round(max(grown, children) / 2**20, 1),
                "seconds": round(seconds, 2),
                "refused": problem,
            }
            print(name, worst[name], flush=True)
    limits = ImageLimits()
    earlier = json.loads(Path(arguments.output).read_text()) if Path(arguments.output).exists() else {}
    result = {
        **origin(),
        "side": arguments.side,
        "limits": {"pixels": MAX_PIXELS, "memory_mib": limits.memory_mib, "seconds": limits.seconds},
        "formats": costs,
        "hostile": worst,
        "load_average_after": [round(load, 2) for load in os.getloadavg()],
        "environment": environment(),
        **{name: earlier[name] for name in ("photos",) if name in earlier},
    }
    Path(arguments.output).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
