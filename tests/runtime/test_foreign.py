"""Classifiers as other projects' exporters write them: each gives what NumPy computes for the same pixels."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.onnx_models import SIZE, WEIGHT, classifier, save

from mobilenext.classification.metrics import ranked, softmax
from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import DataError, UsageError
from mobilenext.machine.packages import installed
from mobilenext.runtime import open_runtime
from mobilenext.runtime.form import Form
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import find_subject
from mobilenext.sources.prepare import Prepared, prepare

for package in ("onnx", "onnxruntime"):
    if not installed(package):
        pytest.skip(f"{package} is not installed (the extra onnx)", allow_module_level=True)

onnx = import_module("onnx")

NORMALIZED = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
BYTES = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
FREE = Form()


def expected(dtype: str = "float32") -> Any:
    """Logits of BYTES, in float64."""
    pixels = BYTES.astype(np.float64)
    if dtype != "uint8":
        pixels = (pixels / 255 - np.array(NORMALIZED["mean"])) / np.array(NORMALIZED["std"])
    return pixels.mean((1, 2)) @ WEIGHT.astype(np.float64)


def prepared(path: Path, runtime: str = "onnxruntime", **options: Any) -> Prepared:
    fields = options.pop("preprocessing", NORMALIZED)
    return prepare(find_subject(onnx=path, preprocessing=fields, **options), path.parent, Choice(runtime))


FORMS = [
    ({}, FREE, ""),
    ({"batch": None, "size": None}, FREE, ""),
    ({"batch": "unk__123", "size": "unk__124"}, FREE, ""),
    ({"batch": -1}, FREE, ""),
    ({"name": "input:0"}, FREE, ""),
    ({"batch": 1}, Form(batch=1), "its batch is fixed to 1: images go through it one at a time"),
    ({"batch": 4}, Form(batch=4), "its batch is fixed to 4: images go through it 4 at a time; a batch with fewer is"),
    ({"batch": 8}, Form(batch=8), "its batch is fixed to 8"),
    ({"shape": [1, 5]}, Form(batch=1), "its batch is fixed to 1 inside, though its file does not say so"),
    ({"layout": "NHWC"}, Form(layout="NHWC"), r"it takes images as \[N, H, W, C\], with the channels last"),
    ({"layout": "NHWC", "size": None, "batch": None}, Form(layout="NHWC"), "with the channels last"),
    ({"layout": "CHW"}, Form(batch=1, layout="CHW"), r"\[C, H, W\], with the channels first"),
    ({"layout": "HWC"}, Form(batch=1, layout="HWC"), r"\[H, W, C\], with the channels last"),
    ({"dtype": "float16"}, Form(dtype="float16"), "it takes float16 numbers"),
    ({"dtype": "uint8"}, Form(dtype="uint8"), r"it takes pixels of 0 to 255 as they are \(uint8\)"),
    ({"end": "Softmax"}, Form(output="probabilities"), "add up to 1: a softmax is inside"),
    ({"end": "LogSoftmax"}, FREE, "its scores are logarithms of probabilities"),
    ({"end": "Sigmoid"}, FREE, "do not add up to 1, as those of a sigmoid for each class do"),
    ({"shape": [-1, 5, 1, 1]}, FREE, r"its output has the shape \[4, 5, 1, 1\], of which axes of length 1"),
    ({"shape": [-1, 1, 5]}, FREE, "axes of length 1 are left out"),
    ({"shape": [1, -1, 5]}, FREE, "axes of length 1 are left out"),
    ({"shape": [5], "batch": 1}, Form(batch=1), "axes of length 1 are left out"),
    (
        {"batch": 4, "layout": "NHWC", "end": "Softmax", "shape": [4, 1, 5]},
        Form(4, "NHWC", output="probabilities"),
        "fixed to 4",
    ),
    ({"batch": 1, "layout": "NHWC", "dtype": "uint8", "end": "Softmax"}, Form(1, "NHWC", "uint8", "probabilities"), ""),
]  # fmt: skip


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("kind", "form", "note"), FORMS, ids=[str(kind) for kind, _, _ in FORMS])
def test_the_forms_of_exporters(kind: dict[str, Any], form: Form, note: str, runtime: str, tmp_path: Path) -> None:
    if not installed(runtime):
        pytest.skip(f"{runtime} is not installed")
    dtype = kind.get("dtype", "float32")
    fields = {} if dtype == "uint8" else dict(NORMALIZED)
    if kind.get("size", SIZE) != SIZE:
        fields["image_size"] = SIZE
    path = classifier(tmp_path / "other.onnx", **kind)
    ready = prepared(path, runtime, preprocessing=fields)
    assert ready.spec.form == form
    assert ready.record.num_classes == 5
    import re

    assert re.search(note, "\n".join(ready.notes)), ready.notes
    batch = ready.record.preprocessing.normalize(BYTES)  # [5, 3, S, S]: 4 does not divide it
    network = open_runtime(ready.spec)
    logits = np.concatenate([network.predict(part)[0] for part in (batch[:1], batch[1:])])
    allowed = 5e-3 if dtype == "float16" else 1e-5
    wanted = expected(dtype)
    if kind.get("end") == "Sigmoid":
        np.testing.assert_allclose(logits, 1 / (1 + np.exp(-wanted)), atol=allowed)
    elif dtype == "uint8" and kind.get("end") == "Softmax":
        assert (ranked(logits, 1) == ranked(wanted, 1)).all()  # of such logits one probability is 1, others 0
        np.testing.assert_allclose(softmax(logits), softmax(wanted), atol=1e-4)
    else:
        np.testing.assert_allclose(softmax(logits), softmax(wanted), atol=allowed)
        if dtype != "uint8":
            np.testing.assert_allclose(logits - logits[:, :1], wanted - wanted[:, :1], atol=10 * allowed)


def test_what_only_its_user_knows_is_asked_for(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx", size=None)
    with pytest.raises(
        UsageError, match=r"how its images are prepared: give --image-size and --mean and --std, such as"
    ):
        prepared(path, preprocessing={})
    with pytest.raises(UsageError, match=r"give --std, such as --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"):
        prepared(path, preprocessing={"image_size": SIZE, "mean": (0.5,) * 3})
    ready = prepared(path, preprocessing={**NORMALIZED, "image_size": SIZE, "crop_pct": 1.0})
    assert "a.onnx: interpolation bicubic assumed, as it does not say" in ready.notes
    fixed = classifier(tmp_path / "b.onnx")
    assert prepared(fixed).record.preprocessing == Preprocessing(SIZE, 0.875, "bicubic", **NORMALIZED)
    with pytest.raises(UsageError, match=r"image size 16 was asked for, but .*b.onnx takes 8"):
        prepared(fixed, preprocessing={**NORMALIZED, "image_size": 16})


def test_bytes_are_not_normalized_twice(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx", dtype="uint8")
    for name in NORMALIZED:
        with pytest.raises(UsageError, match=r"takes pixels as they are .* leave out --mean and --std"):
            prepared(path, preprocessing={name: NORMALIZED[name]})
    ready = prepared(path, preprocessing={})
    (fed, count), *more = ready.spec.form.inputs(ready.record.preprocessing.normalize(BYTES))  # type: ignore[union-attr]
    assert (fed.dtype, count, more) == (np.uint8, 5, [])
    assert (fed == BYTES.transpose(0, 3, 1, 2)).all(), "all 256 values come through as they are"


def test_floats_of_0_to_255(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx")
    fields = {"mean": (0.0,) * 3, "std": (0.0039215686,) * 3}
    ready = prepared(path, preprocessing=fields)
    batch = ready.record.preprocessing.normalize(BYTES)
    np.testing.assert_allclose(open_runtime(ready.spec).predict(batch)[0], expected("uint8"), rtol=1e-5, atol=1e-4)


def test_probabilities_keep_their_order_to_the_last_bit(tmp_path: Path) -> None:
    """Neighbours in float32 must not become equal, and what was rounded to 0 comes last."""
    one = np.float32(1)
    tiny = np.finfo(np.float32).smallest_subnormal
    scores = np.array(
        [[0, np.nextafter(one, np.float32(0)), one, tiny, 0.0, 0.25, np.nextafter(np.float32(0.25), one)]], np.float32
    )
    logits = Form(output="probabilities").logits(scores, 1)
    assert np.isfinite(logits).all()
    assert ranked(logits, 7).tolist() == [[2, 1, 6, 5, 3, 0, 4]], "equal ones by the class"
    np.testing.assert_allclose(softmax(logits), scores / scores.sum(dtype=np.float64), rtol=1e-12, atol=1e-40)


def test_probabilities_in_8_bits(tmp_path: Path) -> None:
    """As quantized networks give them: rounded to steps of 1/16 here, so that they do not add up to 1."""
    make = onnx.helper
    model = onnx.load(str(classifier(tmp_path / "a.onnx", end="Softmax")))
    for name, value in (("scale", np.float32(1 / 16)), ("zero", np.uint8(0))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    model.graph.node.append(make.make_node("QuantizeLinear", ["ended", "scale", "zero"], ["short"]))
    model.graph.node.append(make.make_node("DequantizeLinear", ["short", "scale", "zero"], ["rounded"]))
    model.graph.output[0].CopyFrom(make.make_tensor_value_info("rounded", onnx.TensorProto.FLOAT, ["n", 5]))
    onnx.save(model, str(tmp_path / "a.onnx"))
    ready = prepared(tmp_path / "a.onnx")
    assert ready.spec.form == Form(output="probabilities")
    assert "a softmax is inside, after which its scores were rounded" in ready.notes[0]
    batch = ready.record.preprocessing.normalize(BYTES)
    rounded = np.rint(softmax(expected()) * 16)
    found = softmax(open_runtime(ready.spec).predict(batch)[0])
    np.testing.assert_allclose(found, rounded / rounded.sum(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            {"size": "h", "layout": "NCHW", "dtype": "int8"},
            r"takes pixels int8 \[\?, 3, \?, \?\]; expected float32, float16",
        ),
        ({"end": "ArgMax"}, r"gives ended int64 \[.*\]: whole numbers, which are class ids \(an argmax inside\)"),
        ({"weight": WEIGHT[:, :1]}, r"expected scores of two or more classes for each, \[N, classes\]"),
        ({"batch": 5000}, "too much for one call"),
    ],
)
def test_what_is_refused_by_name(kind: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        prepared(classifier(tmp_path / "a.onnx", **kind), preprocessing={**NORMALIZED, "image_size": SIZE})


def _copy(path: Path, inputs: list[Any], outputs: list[Any], *nodes: Any) -> Path:
    make, types = onnx.helper, onnx.TensorProto
    values = [make.make_tensor_value_info(name, types.FLOAT, shape) for name, shape in inputs]
    return save(path, list(nodes), values, outputs, {})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([("image", ["n", 3, 8, 8]), ("other", ["n", 3])], r"has the inputs image .*, other .*; expected one input"),
        ([("image", ["n", 1, 8, 8])], r"takes image float32 \[\?, 1, 8, 8\]; expected one input, square RGB images"),
        ([("image", ["n", 3, 8, 9])], "which is not square"),
        ([("image", ["n", 8, 9, 3])], "which is not square"),
        ([("image", ["n", 784])], r"takes image float32 \[\?, 784\]; expected"),
    ],
)
def test_inputs_that_are_no_image(inputs: list[Any], message: str, tmp_path: Path) -> None:
    make = onnx.helper
    node = make.make_node("Identity", ["image"], ["logits"])
    output = make.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)
    with pytest.raises(DataError, match=message):
        prepared(_copy(tmp_path / "a.onnx", inputs, [output], node))


def test_outputs_that_are_no_scores(tmp_path: Path) -> None:
    make, types = onnx.helper, onnx.TensorProto
    node = make.make_node("Identity", ["image"], ["logits"])
    output = make.make_tensor_value_info("logits", types.FLOAT, None)
    with pytest.raises(DataError, match=r"gives logits \[4, 3, 8, 8\] for 4 images; expected scores"):
        prepared(_copy(tmp_path / "map.onnx", [("image", ["n", 3, 8, 8])], [output], node))
    # scikit-learn's exporter: a table of class and probability for each row.
    zip_map = make.make_node("ZipMap", ["image"], ["table"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
    table = make.make_value_info(
        "table",
        make.make_sequence_type_proto(
            make.make_map_type_proto(types.INT64, make.make_tensor_type_proto(types.FLOAT, None))
        ),
    )
    image = make.make_tensor_value_info("image", types.FLOAT, ["n", 3])
    graph = make.make_graph([zip_map], "g", [image], [table])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13), make.make_opsetid("ai.onnx.ml", 2)])
    model.ir_version = 8
    onnx.save(model, str(tmp_path / "zip.onnx"))
    from mobilenext.runtime import RuntimeSpec
    from mobilenext.runtime.foreign import _floating

    network: Any = open_runtime(RuntimeSpec("onnxruntime", "", "cpu", 1, tmp_path, "zip.onnx"))
    with pytest.raises(DataError, match=r"a table for each image, as scikit-learn's exporter writes \(ZipMap\)"):
        _floating(tmp_path, network.declared()[1], None)


def test_several_outputs(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx", features=True)
    with pytest.raises(UsageError, match=r"means \[N, 3\], logits \[N, 5\]; name one: --output-name"):
        prepared(path)
    with pytest.raises(UsageError, match=r"has no output 'logit'; it has means, logits; did you mean 'logits'"):
        prepared(path, output_name="logit")
    for options in ({"output_name": "logits"}, {"labels": ("a", "b", "c", "d", "e")}):
        ready = prepared(path, **options)
        assert ready.spec.outputs == ("logits",)
        assert "a.onnx: of its outputs means, logits, logits is taken for the scores" in ready.notes
    assert prepared(path, output_name="means").record.num_classes == 3
    # A map of features beside the scores can be none.
    make = onnx.helper
    model = onnx.load(str(path))
    model.graph.output[0].CopyFrom(make.make_tensor_value_info("batched", onnx.TensorProto.FLOAT, None))
    onnx.save(model, str(path))
    assert prepared(path).spec.outputs == ("logits",)


def test_initializers_among_the_inputs(tmp_path: Path) -> None:
    """As files of IR 3 have them."""
    path = classifier(tmp_path / "a.onnx")
    model = onnx.load(str(path))
    model.graph.input.append(onnx.helper.make_tensor_value_info("weight", onnx.TensorProto.FLOAT, [3, 5]))
    model.ir_version = 3
    onnx.save(model, str(path))
    ready = prepared(path)
    batch = ready.record.preprocessing.normalize(BYTES)
    np.testing.assert_allclose(open_runtime(ready.spec).predict(batch)[0], expected(), atol=1e-5)


def test_labels(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx")
    (tmp_path / "names.txt").write_text("".join(f"{k} name {k}\n" for k in (4, 2, 0, 1, 3)))
    assert prepared(path).record.labels is None
    assert prepared(path, labels=tmp_path / "names.txt").record.labels == tuple(f"name {k}" for k in range(5))
    assert prepared(path, labels=list("abcde")).record.labels == tuple("abcde")
    with pytest.raises(UsageError, match="2 labels were given for 5 classes"):
        prepared(path, labels=("a", "b"))
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="2 names for 5 classes"):
        prepared(path, labels=str(tmp_path / "names.txt"))


def test_damage(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx")
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"cannot be read as an ONNX model: .*; it may be cut short"):
        prepared(tmp_path / "cut.onnx")


def test_an_image_size_that_only_running_reveals(tmp_path: Path) -> None:
    """The sides are free in the file, but a product inside fits one size only."""
    make = onnx.helper
    weight = make.make_tensor("w", onnx.TensorProto.FLOAT, [12, 2], [0.1 * k for k in range(24)])
    nodes = (
        make.make_node("Constant", [], ["w"], value=weight),
        make.make_node("Flatten", ["image"], ["flat"]),
        make.make_node("MatMul", ["flat", "w"], ["logits"]),
    )
    output = make.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 2])
    path = _copy(tmp_path / "a.onnx", [("image", ["n", 3, "h", "h"])], [output], *nodes)
    with pytest.raises(DataError, match=r"cannot run an image of 8 pixels: .*; another --image-size may be"):
        prepared(path, preprocessing={**NORMALIZED, "image_size": 8})
    assert prepared(path, preprocessing={**NORMALIZED, "image_size": 2})
