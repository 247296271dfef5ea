"""Write test_tipc/configs: a configuration for each model, layout and chain.

    python scripts/tipc_configs.py [--check]

The drivers read these files by line number, so they are made from tables here, and a test holds the committed files
equal to what this writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mobilenext.models.cards import paper_models

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = Path("test_tipc/configs")
TIPC = "-m mobilenext.tipc"
LAUNCHED = "test_tipc/tipc.py"  # the same, as a file: Paddle's launcher takes no -m
DATA, IMAGES = "test_tipc/data", "test_tipc/data/imgs/val"
DETECTOR = "ssdlite320_mobilenext_x0_35"
RECIPE = "--recipe=tiny --set=crop=random-resized --set=padding=0 --set=flip=0 --set=warmup_epochs=0"
LITE_EPOCHS = 8  # enough for the answers to differ from image to image
SLOW = {"mobilenext_s": 4, "mobilenext_l": 4, "mobilenext_l_ghost": 2}  # so that a lite chain stays short
BATCH_SIZES = "lite_train_lite_infer=16|lite_train_whole_infer=16|whole_train_whole_infer=64"


def long_config(model: str, changes: Mapping[int, str] | None = None) -> list[str]:
    """Return the 51 lines of the specification for a model: one process on a CPU, Paddle Inference in float32.

    Args:
        model: name of the model.
        changes: other lines, by their numbers from 1.
    """
    weights = f"test_tipc/weights/{model}"
    lines = [
        _banner("train_params"),
        f"model_name:{model}",
        "python:python",
        "gpu_list:-1",
        "--use-gpu:False",
        "auto_cast:null",
        f"--epochs:{epochs(model)}",
        "--output-dir:null",
        f"--batch-size:{BATCH_SIZES}",
        "--pretrained:null",
        "train_model_name:best.safetensors",
        f"train_infer_img_dir:{IMAGES}",
        "null:null",
        "##",
        "trainer:norm_train",
        f"norm_train:{train_command(model)}",
        *(f"{name}:null" for name in ("pact_train", "fpgm_train", "distill_train", "null", "null")),
        "##",
        _banner("eval_params"),
        f"eval:{TIPC} eval --data={DATA}",
        "null:null",
        "##",
        _banner("infer_params"),
        "--save-inference-dir:null",
        "--pretrained:null",
        f"norm_export:{TIPC} export",
        *(f"{name}:null" for name in ("quant_export", "fpgm_export", "distill_export", "export1", "export2")),
        "##",
        f"infer_model:{weights}",
        f"infer_export:{TIPC} export",
        "infer_quant:False",
        f"inference:{TIPC} infer",
        "--use-gpu:False",
        "--use-mkldnn:True|False",
        "--cpu-threads:1|2",
        "--batch-size:1|4",
        "--use-tensorrt:False",
        "--precision:fp32",
        "--model-dir:null",
        f"--image-dir:{IMAGES}",
        "--save-log-path:null",
        "--benchmark:True",
        "null:null",
    ]
    for number, line in (changes or {}).items():
        lines[number - 1] = line
    return lines


def exported_by(command: str) -> dict[int, str]:
    """The two lines that export, after a training and for `whole_infer`."""
    return {30: f"norm_export:{command}", 38: f"infer_export:{command}"}


def prod_config(model: str) -> list[str]:
    """The 32 lines of Paddle's reference repository."""
    return [
        _banner("train_params"),
        f"model_name:{model}",
        "python:python",
        "gpu_list:-1",
        "use-gpu:False",
        f"--epochs:{epochs(model)}",
        "--output-dir:null",
        f"--batch-size:{BATCH_SIZES}",
        "--pretrained:null",
        "train_model_name:best.safetensors",
        f"--data:{DATA}",
        "##",
        "trainer:norm_train",
        f"norm_train:{train_command(model)} --device=cpu",
        "##",
        _banner("eval_params"),
        f"eval:{TIPC} eval --data={DATA} --device=cpu",
        "##",
        _banner("infer_params"),
        f"--save-inference-dir:test_tipc/weights/{model}",
        "--pretrained:null",
        f"norm_export:{TIPC} export",
        "##",
        f"train_model:test_tipc/weights/{model}",
        f"infer_export:{TIPC} export",
        "##",
        f"inference:{TIPC} infer",
        "--use-gpu:False",
        "--batch-size:1|4",
        "--model-dir:null",
        f"--image-dir:{IMAGES}",
        "--benchmark:True",
    ]


def paddleclas_config(model: str) -> list[str]:
    """The 51 lines as PaddleClas' driver reads them: keys of its own, inference from deploy/, int8 for whole_infer."""
    quantize = (
        f"{TIPC} export --pretrained=test_tipc/weights/{model} --calibration={DATA} --max-drop=5 "
        "--save-inference-dir=test_tipc/quant_post_static_model"
    )
    changes = {
        5: "-o Global.device:cpu",
        6: "-o Global.auto_cast:null",
        7: f"-o Global.epochs:{epochs(model)}",
        8: "-o Global.output_dir:null",
        9: "-o DataLoader.Train.sampler.batch_size:16",
        10: "-o Global.pretrained_model:null",
        12: "train_infer_img_dir:null",
        28: "-o Global.save_inference_dir:null",
        29: "-o Global.pretrained_model:null",
        34: f"kl_quant:{quantize}",
        36: "null:null",
        37: "infer_model:test_tipc",
        38: "infer_export:null",
        41: "-o Global.use_gpu:False",
        42: "-o Global.enable_mkldnn:False",
        43: "-o Global.cpu_num_threads:1|2",
        44: "-o Global.batch_size:1|4",
        45: "-o Global.use_tensorrt:False",
        46: "-o Global.use_fp16:fp32",
        47: "-o Global.inference_model_dir:null",
        48: f"-o Global.infer_imgs:../{IMAGES}",
        50: "-o Global.benchmark:True",
    }
    return long_config(model, changes)


def epochs(model: str) -> str:
    """Of each mode that trains."""
    lite = SLOW.get(model, LITE_EPOCHS)
    return f"lite_train_lite_infer={lite}|lite_train_whole_infer={lite}|whole_train_whole_infer=5"


def train_command(model: str, script: str = TIPC) -> str:
    return f"{script} train --model={model} --data={DATA} {RECIPE}"


def _banner(title: str) -> str:
    return title.join(["=" * 27] * 2)


def configurations() -> dict[Path, list[str]]:
    """All of them, by their place."""
    files = {}
    for model in paper_models():
        here = CONFIGS / model
        files[here / "train_infer_python.txt"] = long_config(model)
        files[here / "train_infer_python_gpu.txt"] = _gpu_config(model)
        files[here / "train_infer_python_prod.txt"] = prod_config(model)
        files[CONFIGS / "paddleclas" / f"{model}_train_infer_python.txt"] = paddleclas_config(model)
    files[CONFIGS / DETECTOR / "train_infer_python.txt"] = detector_config(DETECTOR)
    return files | _further("mobilenext_x0_35")


def detector_config(model: str) -> list[str]:
    """The 51 lines of the specification for a detector, on pictures with boxes."""
    lite = "lite_train_lite_infer=8|lite_train_whole_infer=8|whole_train_whole_infer=8"
    changes = {
        7: "--epochs:lite_train_lite_infer=2|lite_train_whole_infer=2|whole_train_whole_infer=4",
        9: f"--batch-size:{lite}",
        12: f"train_infer_img_dir:{DATA}/val",
        16: f"norm_train:{TIPC} train --model={model} --data={DATA} --backbone=mobilenext_x0_35.tiny20 "
        "--recipe=ssdlite-small --set=warmup_epochs=0",
        24: f"eval:{TIPC} eval --data={DATA}",
        43: "--cpu-threads:1",
        48: f"--image-dir:{DATA}/val",
    }
    return long_config(model, changes)


def _gpu_config(model: str) -> list[str]:
    """Rows for one GPU and for two, with TensorRT; not run where these files were written."""
    changes = {
        4: "gpu_list:0|0,1",
        5: "--use-gpu:True|True",
        6: "auto_cast:null|amp",
        16: f"norm_train:{train_command(model, LAUNCHED)}",
        **exported_by(f"{TIPC} export --format=pdmodel"),
        41: "--use-gpu:True",
        45: "--use-tensorrt:False|True",
        46: "--precision:fp32|fp16",
    }
    return long_config(model, changes)


def _further(model: str) -> dict[Path, list[str]]:
    """One chain for each way beside the basic one."""
    export = f"{TIPC} export"
    launched = f"-m paddle.distributed.launch --nproc_per_node=2 --log_dir=test_tipc/output/launch {LAUNCHED}"
    one_thread = {43: "--cpu-threads:1"}
    no_onednn = {42: "--use-mkldnn:False", **one_thread}
    chains: dict[str, dict[int, str]] = {
        "to_static": {16: f"norm_train:{train_command(model)} --to-static=True", **one_thread},
        "two_processes": {16: f"norm_train:{train_command(model, launched)}", **one_thread},
        "ptq": {**exported_by(f"{export} --calibration={DATA} --max-drop=5"), 46: "--precision:int8", **no_onednn},
        "paddle2onnx": {**exported_by(f"{export} --format=onnx"), **no_onednn},
        "legacy": {**exported_by(f"{export} --format=pdmodel"), **one_thread},
    }
    return {
        CONFIGS / model / f"train_{name}_infer_python.txt": long_config(model, changes)
        for name, changes in chains.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(arguments)
    wanted = {ROOT / path: "\n".join(lines) + "\n" for path, lines in configurations().items()}
    there = set((ROOT / CONFIGS).rglob("*.txt"))
    differing = [path for path, text in wanted.items() if path not in there or path.read_text() != text]
    differing += sorted(there - set(wanted))
    if options.check:
        for path in differing:
            print(f"{path.relative_to(ROOT)} is not what this script writes")
        return bool(differing)
    for path in there - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(f"{len(wanted)} configurations below {CONFIGS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
