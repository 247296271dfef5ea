"""The commands that a driver makes of a configuration, one after the other.

For every layout this is what its official driver does, oddities included: the fixed two epochs of
PaddleClas', and that it infers in the folder ``deploy``; that the 32-line driver tells neither the training where the
data are nor the inference which images to take.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mobilenext.errors import UsageError
from mobilenext.tipc.config import PADDLECLAS, PROD, SPECIFICATION, Config, Line, check_mode
from mobilenext.tipc.flags import NULL

TRAIN, EVAL, EXPORT, INFER = "train", "eval", "export", "infer"
DEPLOY = "deploy"
PADDLECLAS_EPOCHS = "2"
INT8_FOLDER = "quant_post_static_model"
_AMP = "Global.use_amp=True Global.scale_loss=1024.0 Global.use_dynamic_loss_scaling=True"
_PADDLECLAS_FP16 = "-o AMP.scale_loss=128 -o AMP.use_dynamic_loss_scaling=False -o AMP.level=O2"
_MULTI_NODE = 15  # longer addresses of several machines


@dataclass(frozen=True)
class Step:
    """One command of a chain."""

    kind: str  # train | eval | export | infer
    command: str  # as the shell gets it
    log: Path  # of its output
    weights: Path  # that it leaves (train) or works on
    exported: Path | None = None  # the folder of an export, where it makes or reads one
    images: str | None = None  # that an inference is told to read, from its folder
    folder: str = "."  # where it runs, from the root of the repository
    devices: str | None = None  # CUDA_VISIBLE_DEVICES


def steps_of(config: Config, mode: str, output: Path) -> list[Step]:
    """All commands, in their order.

    Args:
        config: of any layout.
        mode: one of MODES.
        output: the folder for what the chain leaves.

    Raises:
        UsageError: an unknown mode, or a configuration that has nothing to run in it.
    """
    check_mode(mode)
    make = {
        (PROD, False): _prod, (PROD, True): _prod_whole_infer, (SPECIFICATION, False): _long,
        (SPECIFICATION, True): _specification_whole_infer, (PADDLECLAS, False): _long,
        (PADDLECLAS, True): _paddleclas_whole_infer,
    }[config.layout.name, mode == "whole_infer"]  # fmt: skip
    steps = list(make(config, mode, output))
    if not steps:
        raise UsageError(f"{config.path}: {mode} has no command to run, and would pass without testing anything")
    return steps


def _flag(key: str, value: str) -> str:
    """``key=value``, or nothing where one of the two is null."""
    return "" if NULL in (key, value) or not value.strip() else f"{key}={value}"


def _join(*words: str) -> str:
    return " ".join(word for word in words if word.strip())


def _device_rows(config: Config) -> Iterator[tuple[str, str, str | None, str]]:
    """For each entry of ``gpu_list``: the devices, addresses of machines, CUDA_VISIBLE_DEVICES, the device's value."""
    devices = config["train_device"].values
    for position, entry in enumerate(config["gpu_list"].values):
        addresses, _, several = entry.rpartition(";")
        gpu = several if len(entry) > _MULTI_NODE else entry
        visible = None if gpu == "-1" else gpu.partition(",")[0]
        yield gpu, addresses, visible, devices[position] if position < len(devices) else ""


def _launcher(config: Config, gpu: str, addresses: str, flag: str) -> str:
    """What stands before the script of a training."""
    if len(gpu) <= 2:
        return config.value("python")
    ips = f"--ips={addresses}" if len(addresses) > _MULTI_NODE else ""
    return _join(config.value("python"), "-m paddle.distributed.launch", ips, f"{flag}={gpu}")


def _trainings(config: Config) -> Iterator[tuple[str, str, str]]:
    """Trainer, its command and the export that belongs to it, of the long layouts."""
    names = ("norm", "pact", "fpgm", "distill")
    by_key = {config[f"{name}_train"].key: (f"{name}_train", f"{name}_export") for name in names}
    others = [("other_train_1", "other_export_1"), ("other_train_2", "other_export_2")]
    for trainer in config["trainers"].values:
        train, export = by_key.get(trainer) or next(pair for pair in others if config[pair[0]].key == trainer)
        command = config.value(train)
        if config.layout.name == PADDLECLAS and train == "other_train_1":  # flags of to_static, for the usual command
            command, export = f"{config.value('norm_train')} {command}", "norm_export"
        if command != NULL:
            yield trainer, command, config.value(export)


def _long(config: Config, mode: str, output: Path) -> Iterator[Step]:
    paddleclas = config.layout.name == PADDLECLAS
    python, key = config.value("python"), config["pretrained"].key
    for gpu, addresses, visible, device in _device_rows(config):
        for autocast in config["auto_cast"].values:
            for trainer, train, export in _trainings(config):
                nodes = addresses.count(",") + 1
                name = f"{trainer}_gpus_{gpu}_autocast_{autocast}"
                if paddleclas or nodes > 1:
                    name += f"_nodes_{nodes}"
                run = output / name
                weights = (run / config.value("model_name") if paddleclas else run) / config.value("train_model_name")
                use_device = _flag(config["train_device"].key, config.value("train_device") if paddleclas else device)
                launcher = _launcher(config, gpu, addresses, "--devices" if paddleclas else "--gpus")
                flags = [
                    _flag(config["output"].key, str(run)),
                    _flag(config["epochs"].key, PADDLECLAS_EPOCHS if paddleclas else config.of_mode("epochs", mode)),
                    _flag(key, config.value("pretrained")),
                    _batch_size(config, mode),
                    _flag(config["train_extra"].key, config.value("train_extra")),
                ]
                if paddleclas:
                    flags.insert(3, _PADDLECLAS_FP16 if autocast == "fp16" else "")
                    flags.append("-o Global.print_mem_info=True")
                    flags.append("-o Global.log_ranks=0,1,2,3,4,5,6,7" if len(gpu) > 2 else "")
                else:
                    flags.append(_AMP if autocast == "amp" else "")
                yield Step(
                    TRAIN, _join(launcher, train, use_device, *flags), run.with_name(f"{name}.log"), weights
                )  # fmt: skip
                stem = name if name.endswith(f"_nodes_{nodes}") else f"{name}_nodes_{nodes}"
                if config.value("eval") != NULL:
                    extra = _flag(config["eval_extra"].key, config.value("eval_extra"))
                    command = _join(python, config.value("eval"), _flag(key, str(weights)), use_device, extra)
                    yield Step(EVAL, command, output / f"{stem}_eval.log", weights, devices=visible)
                if export != NULL:
                    command = _export(config, export, weights, run)
                    yield Step(EXPORT, command, output / f"{stem}_export.log", weights, run, devices=visible)
                    images = config.value("images" if paddleclas else "train_images")
                    quantized = trainer == config["pact_train"].key
                    yield from _inferences(config, weights, run, images, output, gpu, visible, quantized)


def _batch_size(config: Config, mode: str) -> str:
    line = config["batch_size"]
    plain = config.layout.name == PADDLECLAS or "=" not in line.value
    return _flag(line.key, line.value if plain else config.of_mode("batch_size", mode))


def _export(config: Config, command: str, weights: Path, folder: Path) -> str:
    return _join(
        config.value("python"), command, _flag(config["export_weights"].key, str(weights)),
        _flag(config["export_output"].key, str(folder)),
    )  # fmt: skip


def _inferences(
    config: Config,
    weights: Path,
    exported: Path,
    images: str,
    output: Path,
    gpu: str,
    visible: str | None,
    quantized: bool,
) -> Iterator[Step]:
    """Every combination of device, engine, threads, batch size and precision, of the long layouts."""
    paddleclas = config.layout.name == PADDLECLAS
    places = Path("..") if paddleclas else Path()  # from the folder that it runs in

    def step(device: str, first: list[str], last: list[str], batch_size: str, name: str) -> Step:
        shown = images if images != NULL else None
        words = [
            config.value("python"), config.value("infer"), f"{config['infer_device'].key}={device}", *first,
            _flag(config["model_dir"].key, _seen_from(places, exported)),
            _flag(config["infer_batch_size"].key, batch_size),
            _flag(config["images"].key, images), _flag(config["benchmark"].key, config.value("benchmark")), *last,
        ]  # fmt: skip
        folder = DEPLOY if paddleclas else "."
        return Step(
            INFER, _join(*words), output / f"python_infer_{name}.log", weights, exported, shown, folder, visible
        )  # fmt: skip

    extra = _flag(config["infer_extra"].key, config.value("infer_extra"))
    for device in config["infer_device"].values:
        if device in ("False", "cpu"):
            for mkldnn, threads, batch_size, precision in itertools.product(
                *(config[name].values for name in ("mkldnn", "threads", "infer_batch_size", "precision"))
            ):
                if not paddleclas and _is_pruned_on_cpu(mkldnn, precision, quantized):
                    continue
                first = [f"{config['mkldnn'].key}={mkldnn}", _flag(config["threads"].key, threads)]
                last = [extra] if paddleclas else [_flag(config["precision"].key, precision), extra]
                yield step(
                    device, first, last, batch_size,
                    f"cpu_gpus_{gpu}_usemkldnn_{mkldnn}_threads_{threads}_precision_{precision}_batchsize_{batch_size}",
                )  # fmt: skip
            continue
        for tensorrt, precision, batch_size in itertools.product(
            *(config[name].values for name in ("tensorrt", "precision", "infer_batch_size"))
        ):
            if _is_pruned_on_gpu(tensorrt, precision, quantized, paddleclas):
                continue
            first = [_flag(config["tensorrt"].key, tensorrt), _flag(config["precision"].key, precision)]
            yield step(
                device, first, [] if paddleclas else [extra], batch_size,
                f"gpu_gpus_{gpu}_usetrt_{tensorrt}_precision_{precision}_batchsize_{batch_size}",
            )  # fmt: skip


def _seen_from(places: Path, folder: Path) -> str:
    return str(folder if folder.is_absolute() else places / folder)


def _is_pruned_on_cpu(mkldnn: str, precision: str, quantized: bool) -> bool:
    return (mkldnn == "False" and precision == "fp16") or (quantized and precision != "int8")


def _is_pruned_on_gpu(tensorrt: str, precision: str, quantized: bool, paddleclas: bool) -> bool:
    if paddleclas:
        return precision == "True" and tensorrt == "False"
    if "int8" in precision:
        return not quantized or tensorrt == "False"
    return "fp16" in precision and tensorrt == "False"


def _specification_whole_infer(config: Config, mode: str, output: Path) -> Iterator[Step]:
    exports, quantized = config["infer_export"].values, config["infer_quantized"].values
    for position, model in enumerate(config["infer_model"].values):
        if model == NULL:
            continue
        weights = Path(model)
        export = exports[position] if position < len(exports) else NULL
        if export != NULL:
            log = output.with_name(f"{output.name}_export_{position}.log")
            yield Step(EXPORT, _export(config, export, weights, weights), log, weights, weights)
        is_quantized = position < len(quantized) and quantized[position] == "True"
        yield from _inferences(config, weights, weights, config.value("images"), output, "0", None, is_quantized)


def _paddleclas_whole_infer(config: Config, mode: str, output: Path) -> Iterator[Step]:
    quantize = config.value("other_export_1")
    if quantize in (NULL, "False", ""):
        return
    folder = Path(config.value("infer_model")) / INT8_FOLDER
    yield Step(EXPORT, _join(config.value("python"), quantize), output / "export.log", folder, folder)
    yield from _inferences(config, folder, folder, config.value("images"), output, "0", None, True)


def _prod(config: Config, mode: str, output: Path) -> Iterator[Step]:
    python = config.value("python")
    for gpu, addresses, visible, _ in _device_rows(config):
        for trainer in config["trainers"].values:
            name = f"{trainer}_gpus_{gpu}"
            run = output / name
            weights = run / config.value("train_model_name")
            command = _join(
                _launcher(config, gpu, addresses, "--gpus"), config.value("norm_train"),
                _flag(config["output"].key, str(run)), _flag(config["epochs"].key, config.of_mode("epochs", mode)),
                _flag(config["pretrained"].key, config.value("pretrained")), _batch_size(config, mode),
            )  # fmt: skip
            yield Step(TRAIN, command, output / f"{name}.log", weights)
            if config.value("eval") != NULL:
                command = _join(python, config.value("eval"), _flag(config["pretrained"].key, str(weights)))
                yield Step(EVAL, command, output / f"{name}_eval.log", weights, devices=visible)
            if config.value("norm_export") != NULL:
                command = _export(config, config.value("norm_export"), weights, run)
                yield Step(EXPORT, command, output / f"{name}_export.log", weights, run, devices=visible)
                yield from _prod_inferences(config, weights, run, "", output, f"{trainer}_", visible)


def _prod_whole_infer(config: Config, mode: str, output: Path) -> Iterator[Step]:
    weights, folder = Path(config.value("infer_model")), Path(config.value("export_output"))
    if config.value("infer_export") != NULL:
        command = _export(config, config.value("infer_export"), weights, folder)
        yield Step(EXPORT, command, output / "export.log", weights, folder)
    yield from _prod_inferences(config, weights, folder, config.value("images"), output, "norm_train_", None)


def _prod_inferences(
    config: Config, weights: Path, exported: Path, images: str, output: Path, prefix: str, visible: str | None
) -> Iterator[Step]:
    for device, batch_size in itertools.product(config["infer_device"].values, config["infer_batch_size"].values):
        command = _join(
            config.value("python"), config.value("infer"), f"{config['infer_device'].key}={device}",
            _flag(config["model_dir"].key, str(exported)), _flag(config["infer_batch_size"].key, batch_size),
            _flag(config["images"].key, images), _flag(config["benchmark"].key, config.value("benchmark")),
        )  # fmt: skip
        kind = "cpu" if device in ("False", "cpu") else "gpu"
        log = output / f"{prefix}python_infer_{kind}_batchsize_{batch_size}.log"
        yield Step(INFER, command, log, weights, exported, images or None, devices=visible)


def gpu_rows(config: Config) -> list[Line]:
    """The lines that need a GPU."""
    wanted = []
    if any(entry != "-1" for entry in config["gpu_list"].values):
        wanted.append(config["gpu_list"])
    if {"True", "gpu"} & set(config["infer_device"].values):
        wanted.append(config["infer_device"])
    return wanted
