"""What a folder is, by the names in it."""

from __future__ import annotations

import os
from pathlib import Path

from mobilenext.file_kinds.kinds import BENCH, EVALUATION, EXPORTED, IMAGE_NAME, OF_IMAGES, OTHER_PROGRAM, RUN, Kind

_MOST_NAMES = 2000

# The names that tell, the first that fit count: all of them have to be there.
_FOLDERS: tuple[tuple[tuple[str, ...], Kind], ...] = (
    (("mobilenext.json",), EXPORTED),
    (("run.json", "log.jsonl"), RUN),
    (("result.json",), EVALUATION),
    (("predictions.jsonl",), EVALUATION),
    (("journal.jsonl",), EVALUATION),
    (("bench.json",), BENCH),
    (("saved_model.pb",), Kind("saved-model", "a TensorFlow SavedModel", OTHER_PROGRAM)),
    (("Manifest.json", "Data"), Kind("coreml", "a Core ML package", OTHER_PROGRAM)),
    ((".metadata", ".distcp"), Kind("distributed", "a distributed checkpoint of PyTorch",
        "Join it with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth`")),
    ((".pdiparams", ".pdmodel"), Kind("paddle-folder", "a folder of Paddle Inference", "Give it to --exported")),
    ((".pdiparams", ".json"), Kind("paddle-folder", "a folder of Paddle Inference", "Give it to --exported")),
    ((".xml", ".bin"), Kind("openvino-folder", "a folder of OpenVINO", "Only a folder of `mobilenext export` is read")),
    ((".onnx",), Kind("onnx-folder", "a folder with an ONNX model", "Give the .onnx file in it to --onnx")),
    (("config.json", ".safetensors"), Kind("hf-folder", "a folder as Hugging Face lays it out",
        "Give the .safetensors file in it to --weights")),
    (("val_list.txt",), Kind("data", "a data set", "Give it as DATA")),
    (("train",), Kind("data", "a data set", "Give it as DATA")),
    (("val",), Kind("data", "a data set", "Give it as DATA")),
)  # fmt: skip


def kind_of_folder(folder: Path) -> Kind | None:
    with os.scandir(folder) as entries:
        names = [entry.name for entry, _ in zip(entries, range(_MOST_NAMES), strict=False)]
    for wanted, kind in _FOLDERS:
        if all(any(name == end or (end[0] == "." and name.endswith(end)) for name in names) for end in wanted):
            return kind
    if any(IMAGE_NAME.search(name) for name in names):
        return Kind("images", "a folder of images", OF_IMAGES)
    return None
