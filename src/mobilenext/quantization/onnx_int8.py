"""int8 of an ONNX file by ONNX Runtime's quantizer, with the settings that were measured best (docs/deployment.md).

Weights are signed 8-bit numbers with a scale for each output channel: with one scale for all, depthwise convolutions,
whose channels differ most, lose all accuracy. Activations are unsigned with one scale for each tensor, which is the
combination that ONNX Runtime has fast kernels for. Additions and concatenations are quantized too, so that the tensors
between the convolutions stay 8 bits wide.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

from mobilenext.arrays import Floats
from mobilenext.errors import DataError, UsageError, nearest
from mobilenext.runtime.form import Form
from mobilenext.runtime.onnx_runtime import ERRORS_ONLY, EXACT_SUMS

LARGEST = (1 << 31) - 1  # bytes of a file of Protocol Buffers
SHORT_FLOATS = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
OPSET = 13  # the first with a scale for each channel
# Clip is quantized away: the range of its output says the same.
OPERATORS = (
    *("Conv", "MatMul", "Gemm", "Add", "Mul"),
    *("Clip", "Relu", "Concat", "Slice", "Split", "ReduceMean", "GlobalAveragePool", "MaxPool", "AveragePool"),
)
LAYERS = OPERATORS[:5]  # those that compute; the others hand on what they get
# Of the values of a tensor that its range covers, so that single outliers do not cost everybody else precision.
PERCENTILE = 99.995
OURS = Form()
SETTINGS = {"ActivationSymmetric": False, "WeightSymmetric": True}

Ranges: TypeAlias = Any  # onnxruntime.quantization.calibrate.TensorsData: the range of every tensor, by name


@dataclass(frozen=True)
class LayerLoss:
    """How the outputs change when one layer alone is quantized."""

    layer: str
    signal_to_noise_db: float  # power of the logits over that of their error; the least of several outputs
    changed_top1: int | None  # of the images; None where the outputs are no logits of classes

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that have a value."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def make_ready(onnx_file: Path, target: Path) -> None:
    """Copy an ONNX file in a form that can be quantized: opset 13 or later, and a name of its own for every node.

    Raises:
        DataError: it cannot be brought to opset 13, or is larger than an ONNX file can be.
        UsageError: it is of less than float32 already.
    """
    model = onnx.load(str(onnx_file))
    _check_float32(model, onnx_file)
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size > LARGEST:
        raise DataError(f"{onnx_file} has {size / 2**30:.1f} GiB of weights; up to 2 can be quantized")
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version < OPSET:
        try:
            model = onnx.version_converter.convert_version(model, OPSET)
        except (RuntimeError, ValueError) as error:
            raise DataError(
                f"{onnx_file} is of ONNX opset {version} and cannot be converted to {OPSET}: {error}; export it again "
                f"with opset {OPSET} or later"
            ) from error
    names: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in names:
            node.name = f"{node.op_type.lower()}_{index}"
        names.add(node.name)
    onnx.save(model, str(target))


def _check_float32(model: onnx.ModelProto, path: Path) -> None:
    if any("QuantizeLinear" in node.op_type or node.op_type.startswith("QLinear") for node in model.graph.node):
        raise UsageError(f"{path} is quantized already; quantize the float32 one")
    if any(tensor.data_type in SHORT_FLOATS for tensor in model.graph.initializer):
        raise UsageError(f"{path} holds 16-bit weights, which cannot be quantized here; quantize the float32 one")


class _Batch(CalibrationDataReader):  # type: ignore[misc]
    """One batch in the form that the calibrator needs."""

    def __init__(self, name: str, batch: npt.NDArray[Any]) -> None:
        self._inputs: Iterator[dict[str, npt.NDArray[Any]]] = iter([{name: batch}])

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self._inputs, None)


def _silent(done: int) -> None:
    """Tell nobody how much is done."""


def calibrate(
    onnx_file: Path,
    batches: Iterable[Floats],
    scratch: Path,
    form: Form = OURS,
    progress: Callable[[int], None] = _silent,
) -> Ranges:
    """Return the range of every tensor over normalized images.

    Args:
        onnx_file: made ready.
        batches: of images [N, 3, S, S].
        scratch: a folder for what the calibrator writes.
        form: of the network.
        progress: called with the number of images that are done.
    """
    done = 0
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        calibrator = create_calibrator(
            onnx_file,
            list(OPERATORS),
            augmented_model_path=str(scratch / "calibration.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"percentile": PERCENTILE},
        )
        name = calibrator.infer_session.get_inputs()[0].name
        for batch in batches:  # one by one: all tensors of all images at once would not fit into memory
            for array, _ in form.inputs(batch):
                calibrator.collect_data(_Batch(name, array))
            done += len(batch)
            progress(done)
        return calibrator.compute_data()


def quantize(onnx_file: Path, int8_file: Path, ranges: Ranges, keep_float: Sequence[str] = ()) -> None:
    """Write the int8 network; input and output stay float32 and keep their names.

    Args:
        onnx_file: made ready.
        int8_file: is written.
        ranges: of `calibrate`.
        keep_float: names of `layers` that stay float32.

    Raises:
        UsageError: a name that is not among the layers.
    """
    known = layers(onnx_file)
    for name in keep_float:
        if name not in known:
            raise UsageError(
                f"keep_float names {name!r}, which is no layer of this network{nearest(name, known)}; the layers are "
                f"{known[0]} to {known[-1]}, the report lists those that lose most"
            )
    onnx.save(_quantized(onnx_file, ranges, exclude=keep_float), str(int8_file))


def layers(onnx_file: Path) -> list[str]:
    """Return the names of the nodes that compute, in the order of the network."""
    model = onnx.load(str(onnx_file), load_external_data=False)
    return [node.name for node in model.graph.node if node.op_type in LAYERS]


def layer_losses(
    onnx_file: Path,
    ranges: Ranges,
    images: Floats,
    outputs: Sequence[str] | None = None,
    form: Form = OURS,
    progress: Callable[[int], None] = _silent,
) -> list[LayerLoss]:
    """Quantize every layer alone, and return the one that disturbs the outputs most first.

    Args:
        onnx_file: made ready.
        ranges: of `calibrate`.
        images: normalized, [N, 3, S, S]; some of those that were calibrated with.
        outputs: their names; None: the only one, logits.
        form: of the network.
        progress: called with the number of layers that are done.
    """
    expected = _outputs(onnx.load(str(onnx_file)), images, outputs, form)
    losses = []
    for name in layers(onnx_file):
        changed = _outputs(_quantized(onnx_file, ranges, only=[name]), images, outputs, form)
        decibels = min(_signal_to_noise(*pair) for pair in zip(expected, changed, strict=True))
        top1 = int((changed[0].argmax(1) != expected[0].argmax(1)).sum()) if len(expected) == 1 else None
        losses.append(LayerLoss(name, round(decibels, 2), top1))
        progress(len(losses))
    return sorted(losses, key=lambda loss: loss.signal_to_noise_db)


def _signal_to_noise(expected: Floats, changed: Floats) -> float:
    noise = max(float(((changed - expected) ** 2).sum()), 1e-30)
    return 10 * float(np.log10(max(float((expected**2).sum()), 1e-30) / noise))


def _quantized(
    onnx_file: Path,
    ranges: Ranges,
    *,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> onnx.ModelProto:
    """Return the int8 graph.

    Args:
        onnx_file: made ready.
        ranges: of `calibrate`.
        only: names of the nodes to quantize; none: all.
        exclude: names of nodes that stay float32.
    """
    # The quantizer changes its model, so it is read again each time.
    quantizer = QDQQuantizer(
        load_model_with_shape_infer(onnx_file),
        True,  # a scale for each channel
        False,  # all 8 bits: only processors without VNNI would overflow
        QuantType.QInt8,
        QuantType.QUInt8,
        ranges,
        list(only),
        list(exclude),
        list(OPERATORS),
        dict(SETTINGS),
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    model: onnx.ModelProto = quantizer.model.model
    return model


def _outputs(model: onnx.ModelProto, images: Floats, names: Sequence[str] | None, form: Form) -> list[Floats]:
    """Return the outputs of a graph: logits [N, classes] where there is one, else each as it is, [N, ...]."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry(*EXACT_SUMS)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts: list[list[Floats]] = []
    for start in range(0, len(images), 8):
        for array, count in form.inputs(images[start : start + 8]):
            values = session.run(names, {name: array})
            parts.append([form.comparable(form.logits(values[0], count))] if len(values) == 1 else values)
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
