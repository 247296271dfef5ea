"""The flags of every verb, in the spellings of all drivers, and those that change nothing here."""

from __future__ import annotations

from collections.abc import Mapping

from mobilenext.tipc.flags import Option, boolean, count, number, points

# PaddleClas' output folder is one above the run, which is named after the network.
_ABOVE_THE_RUN = "global.output_dir"

_DEVICE = (
    Option("device", ("--device", "global.device")),
    Option("use_gpu", ("--use-gpu", "global.use_gpu"), boolean),
)
_MODEL = Option("model", ("--model", "--model-name", "--arch", "arch.name"))
_DATA = Option("data", ("--data", "--data-path", "--data-dir", "--dataset", "dataloader.train.dataset.image_root"))
_PRETRAINED = Option(
    "weights", ("--pretrained", "--pretrained-model", "--weights", "--model-path", "global.pretrained_model")
)
_THREADS = Option("threads", ("--cpu-threads", "--threads", "--cpu-num-threads", "global.cpu_num_threads"), count)
_BATCH_SIZE = (
    "--batch-size", "--batch", "--train-batch-size", "global.batch_size", "dataloader.train.sampler.batch_size",
    "dataloader.eval.sampler.batch_size",
)  # fmt: skip
_WORKERS = Option("workers", ("--workers", "--num-workers", "-j", "dataloader.train.loader.num_workers"), number)

OPTIONS: Mapping[str, tuple[Option, ...]] = {
    "train": (
        _DATA,
        _MODEL,
        Option("output", ("--output-dir", "--output", "--save-dir", "--save-model-dir")),
        Option("above_output", (_ABOVE_THE_RUN,)),
        Option("epochs", ("--epochs", "--epoch", "--epoch-num", "global.epochs"), count),
        Option("batch_size", _BATCH_SIZE, count),
        _PRETRAINED,
        Option("backbone", ("--backbone",)),
        *_DEVICE,
        Option("recipe", ("--recipe",)),
        Option("settings", ("--set",), repeated=True),
        Option("num_classes", ("--num-classes", "--class-num", "arch.class_num"), count),
        Option("seed", ("--seed", "global.seed"), number),
        Option("log_every", ("--log-every", "--print-freq", "--print-batch-step", "global.print_batch_step"), count),
        Option("amp", ("--use-amp", "--amp", "global.use_amp", "amp.use_amp"), boolean),
        Option("to_static", ("--to-static", "global.to_static"), boolean),
        _THREADS,
        _WORKERS,
    ),
    "eval": (
        _DATA,
        _MODEL,
        _PRETRAINED,
        Option("output", ("--output-dir", "--output", "--save-dir", "global.output_dir")),
        Option("batch_size", _BATCH_SIZE, count),
        *_DEVICE,
        _THREADS,
        _WORKERS,
    ),
    "export": (
        _MODEL,
        _PRETRAINED,
        Option(
            "output",
            (
                "--save-inference-dir", "--save-infer-dir", "--save-dir", "--output-dir", "--output",
                "global.save_inference_dir",
            ),
        ),
        Option("format", ("--format",)),
        Option("images", ("--images", "--image-dir"), repeated=True),
        Option("calibration", ("--calibration", "--quantize-with")),
        Option("max_drop", ("--max-drop",), points),
    ),
    "infer": (
        Option("exported", ("--model-dir", "--inference-model-dir", "global.inference_model_dir")),
        Option(
            "images",
            (
                "--image-dir", "--image-path", "--img-path", "--images", "--infer-imgs", "global.infer_imgs",
                "infer.infer_imgs",
            ),
        ),
        *_DEVICE,
        Option("mkldnn", ("--use-mkldnn", "--enable-mkldnn", "--use-onednn", "global.enable_mkldnn"), boolean),
        Option("tensorrt", ("--use-tensorrt", "--use-trt", "global.use_tensorrt"), boolean),
        _THREADS,
        Option("batch_size", _BATCH_SIZE, count),
        Option("precision", ("--precision",)),
        Option("fp16", ("--use-fp16", "global.use_fp16"), boolean),
        Option("topk", ("--topk", "--top-k", "postprocess.topk.topk"), count),
        Option("benchmark", ("--benchmark", "global.benchmark"), boolean),
    ),
    "compare": (
        Option("expected", ("--gt-file", "--expected")),
        Option("actual", ("--log-file", "--found")),
        Option("atol", ("--atol",), points),
    ),
}  # fmt: skip

_SCALING = "mixed precision scales its loss dynamically here"
WITHOUT_EFFECT: Mapping[str, Mapping[str, str]] = {
    "train": {
        "global.print_mem_info": "the last line of the log has the peak of the memory",
        "global.log_ranks": "the first process speaks for all",
        **{f"{section}.{key}": _SCALING for section in ("global", "amp") for key in (
            "scale_loss", "use_dynamic_loss_scaling", "level",
        )},
    },
    "eval": {"global.log_ranks": "the first process speaks for all"},
    "export": {},
    "infer": {"--save-log-path": "the log is standard output and standard error"},
    "compare": {"--rtol": "scores are probabilities, so --atol alone decides"},
}  # fmt: skip
