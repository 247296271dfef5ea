"""The kinds of files and folders that several places name, and what takes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

IMAGE_NAME = re.compile(r"\.(jpe?g|jfif|png|bmp|gif|webp|tiff?|ppm|pgm|avif|jp2)$", re.IGNORECASE)


@dataclass(frozen=True)
class Kind:
    """What something is."""

    name: str
    what: str  # with its article
    advice: str  # what takes it, or what to do with it


OF_WEIGHTS = "Give it to --weights, or to `mobilenext convert`"
OF_ONNX = "Give it to --onnx (of evaluate, predict, bench, quantize and serve)"
OF_EXPORTED = "Give its folder to --exported (of evaluate, predict, bench, quantize and serve)"
OF_IMAGES = "Images are for `mobilenext predict` and `mobilenext explain`; a data set is a folder of them"
OTHER_PROGRAM = "Give the checkpoint that was saved in training, or an ONNX file: models of that program are not read"
DOWNLOAD_THE_FILE = "Download the file itself: the link led to a page about it, or to an error"
UNPACK = "If what is asked for was packed into it, unpack it first"

ONNX = Kind("onnx", "an ONNX model", OF_ONNX)
IMAGE = Kind("image", "an image", OF_IMAGES)
LIST = Kind("list", "a list of images and labels", "Give it to --list (of train: --train-list, --val-list)")
JSON = Kind("json", "a JSON file", "It is none that a network is stored in")
TEXT = Kind("text", "a text file", DOWNLOAD_THE_FILE)
OPENVINO = Kind("openvino", "part of an OpenVINO model", f"{OF_EXPORTED}, if `mobilenext export` wrote it")
NCNN = Kind("ncnn", "part of an ncnn model", f"{OF_EXPORTED}, if `mobilenext export` wrote it")
MNN = Kind("mnn", "an MNN model", f"{OF_EXPORTED}, if `mobilenext export` wrote it")
PADDLE_PROGRAM = Kind("paddle-inference", "a network as Paddle Inference reads it", OF_EXPORTED)
PADDLE_VALUES = Kind(
    "pdiparams",
    "raw tensors without names (Paddle's .pdiparams?) or zeros",
    f"Give the .pdparams file that was saved in training. Of an exported network: {OF_EXPORTED}",
)
RUN = Kind(
    "run",
    "the folder of a training run",
    "Its weights are best.safetensors in it; the folder itself is for `mobilenext report`, compare and train --resume",
)
EVALUATION = Kind("evaluation", "the folder of an evaluation", "Give it to `mobilenext report`")
BENCH = Kind("bench", "the folder of a bench", "Give it to `mobilenext report`")
EXPORTED = Kind("exported", "a folder of `mobilenext export` or quantize", "Give it to --exported")
