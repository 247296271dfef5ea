"""Are the heat maps true? Hiding the hottest square of real images against other squares of the same size.

Source    the deletion test; see deletion.py
Expected  the hottest square costs more than the same square of another image's map, a random and the coldest one
Cost      5 minutes on one core for two networks of 64 pixels on 1,000 images and one of 224 on 200
Command   python benchmarks/faithfulness.py TINY20 --weights CHECKPOINT mobilenext_x0_35.tiny20 \
              --photos PHOTOS --onnx MOBILENETV2 -o results/faithfulness.json

The maps are those of the last block at each of the strides 8, 16 and 32, the squares a quarter and a half of the image
wide.

MOBILENETV2 is an ImageNet classifier trained in TensorFlow, whose SAME padding at a stride of 2 is one pixel at the
right and bottom, where ours is one all round. Of even sizes either is what the other does to an image turned by 180
degrees: with its kernels turned, our network computes of the turned image what the file computes of the upright one.
That it does is checked on every image before anything is explained.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import paddle
from onnx import numpy_helper
from paddle import nn

from deletion import faithfulness
from mobilenext.arrays import Floats
from mobilenext.data import Preprocessing, open_dataset, pixels_of
from mobilenext.files import sha256_of
from mobilenext.machine.environment import environment
from mobilenext.models import build_network
from mobilenext.origin import origin
from mobilenext.runtime import Runtime, RuntimeSpec, open_runtime
from mobilenext.runtime.paddle_eager import forward
from mobilenext.sources.choice import Choice
from mobilenext.sources.prepare import prepare_weights
from mobilenext.weights.load import network_of
from mobilenext.weights.pretrained import source_of
from mobilenext.weights.read import read_weights

TENSORFLOW = (128 / 255,) * 3  # mean and std of MOBILENETV2


def logits_of(runtime: Runtime) -> Callable[[Floats], Floats]:
    """Return the function from images [N, 3, S, S] to the logits [N, classes] of a classifier."""
    return lambda batch: runtime.predict(batch)[0]


def measure(
    subject: dict[str, Any],
    network: Any,
    preprocessing: Preprocessing,
    crops: Sequence[Any],
    predict: Callable[[Floats], Floats],
) -> list[dict[str, Any]]:
    """The rows of one network."""
    names = [name for name, _ in network.blocks()]
    size = preprocessing.image_size
    rows = []
    for feature in reversed(network.features_info[1:]):
        block, sides = names[feature.block], (size // 4, size // 2)
        for row in faithfulness(network, preprocessing, crops, block=block, sides=sides, predict=predict):
            rows.append(subject | {"image_size": size, "stride": feature.stride} | row)
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def turned_mobilenetv2(path: Path) -> Any:
    """Our MobileNetV2 x1.0 with the kernels of the file, turned by 180 degrees, and its biases."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    nodes = onnx.load(path).graph.node
    convolutions = [[tensors[name] for name in node.input[1:]] for node in nodes if node.op_type == "Conv"]
    ((weight, bias),) = ([tensors[name] for name in node.input[1:]] for node in nodes if node.op_type == "Gemm")
    network = build_network("mobilenetv2_x1_0")
    layers = network.sublayers()
    pairs = zip(
        [layer for layer in layers if isinstance(layer, nn.Conv2D)],
        [layer for layer in layers if isinstance(layer, nn.BatchNorm2D)],
        convolutions,
        strict=True,
    )
    for convolution, norm, (kernel, shift) in pairs:
        convolution.weight.set_value(np.ascontiguousarray(kernel[:, :, ::-1, ::-1]))
        norm.weight.set_value(np.full(len(shift), np.sqrt(1 + norm._epsilon), np.float32))  # its variance is 1
        norm.bias.set_value(shift)
    (linear,) = (layer for layer in layers if isinstance(layer, nn.Linear))
    linear.weight.set_value(np.ascontiguousarray(weight[1:].T))  # without the class "background"
    linear.bias.set_value(bias[1:])
    network.eval()
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="images of 64 pixels: imgs/ and val_list.txt")
    parser.add_argument("--weights", nargs="+", required=True, help="files, or model.tag, of networks for them")
    parser.add_argument("--photos", type=Path, help="photos: imgs/ and val_list.txt")
    parser.add_argument("--onnx", type=Path, help="the classifier for them")
    parser.add_argument("--limit", type=int, help="only the first N images of each")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/faithfulness.json"))
    options = parser.parse_args()
    paddle.set_device("cpu")
    data = open_dataset(options.data, limit=options.limit)
    sets = {data.root.name: {"images": len(data), "digest": data.digest()}}
    rows: list[dict[str, Any]] = []
    for source in options.weights:
        # The checkpoint does not say so itself; the others say the same.
        weights = read_weights(source_of(source), preprocessing={"image_size": 64, "crop_pct": 1.0})
        crops = [pixels_of(record.path, weights.preprocessing) for record in data.records]
        subject: dict[str, Any] = {"data": data.root.name, "weights": weights.path.name, "sha256": weights.sha256}
        with tempfile.TemporaryDirectory() as folder:
            runtime = open_runtime(prepare_weights(weights, Path(folder), Choice()).spec)
            subject |= {"kind": weights.kind, "model": weights.model}
            rows += measure(subject, network_of(weights), weights.preprocessing, crops, logits_of(runtime))
    if options.onnx and options.photos:
        photos = open_dataset(options.photos, limit=options.limit)
        sets[photos.root.name] = {"images": len(photos), "digest": photos.digest()}
        preprocessing = Preprocessing(mean=TENSORFLOW, std=TENSORFLOW)
        crops = [np.rot90(pixels_of(record.path, preprocessing), 2).copy() for record in photos.records]
        spec = RuntimeSpec("onnxruntime", "", "cpu", 1, options.onnx.parent, options.onnx.name)
        runtime, network = open_runtime(spec), turned_mobilenetv2(options.onnx)

        def predict(batch: Floats) -> Floats:
            return runtime.predict(np.ascontiguousarray(batch[:, :, ::-1, ::-1]))[0]

        apart = 0.0
        for crop in crops:
            image = preprocessing.normalize(crop)[None]
            theirs = predict(image)
            apart = max(apart, float(np.abs(forward(network, image)[0] - theirs).max() / theirs.std()))
        if apart > 1e-3:
            raise SystemExit(f"the turned network is {apart:.1e} of the logits' standard deviation from the file")
        subject = {"data": photos.root.name, "weights": options.onnx.name, "sha256": sha256_of(options.onnx)}
        subject |= {"kind": "raw", "model": "mobilenetv2_x1_0", "largest_difference_of_std": float(f"{apart:.1e}")}
        rows += measure(subject, network, preprocessing, crops, predict)
    result = {"data": sets, "rows": rows, **origin(), "environment": environment()}
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
