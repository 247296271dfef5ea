"""The sizes of the files that apps on phones read.

    python benchmarks/phone_files.py    # results/phone_files.json

They do not depend on the values of the weights: freshly initialized ones are written.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from mobilenext.export import FORMATS
from mobilenext.export.folding import fold_batch_norms
from mobilenext.export.to_onnx import write_onnx
from mobilenext.export.to_paddle import write_paddle
from mobilenext.export.writing import convert_onnx
from mobilenext.machine.environment import environment
from mobilenext.models import build_network
from mobilenext.origin import origin

NETWORKS = {"mobilenext_x0_35": 224, "mobilenext_x1_0": 224, "ssdlite320_mobilenext_x0_35": 320}  # pixels
CONVERTED = ("onnx", "tflite", "ncnn", "mnn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("results/phone_files.json"))
    options = parser.parse_args()
    rows = []
    for name, size in NETWORKS.items():
        network = build_network(name)
        network.eval()
        fold_batch_norms(network)
        with tempfile.TemporaryDirectory() as work:
            graph = Path(work, "network.onnx")
            write_onnx(network, graph, size)
            for format in (*CONVERTED, "paddle-legacy"):
                folder = Path(work, format)
                folder.mkdir()
                target = folder / FORMATS[format].file
                if format in CONVERTED:
                    convert_onnx(format, graph, target, size, network.outputs)
                else:
                    write_paddle(network, target, size)
                sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
                rows.append({"network": name, "format": format, "bytes": sum(sizes.values()), "files": sizes})
                print(rows[-1], flush=True)
    result = {**origin(), "image_sizes": NETWORKS, "rows": rows, "environment": environment()}
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
