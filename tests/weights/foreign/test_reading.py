"""Checkpoint files of PyTorch, Paddle and safetensors: read exactly, and never executed.

The files under fixtures/ were written by the frameworks (fixtures/make_fixtures.py), with what they hold beside them as
JSON. Hostile and damaged files are built here, byte by byte.
"""

from __future__ import annotations

import builtins
import contextlib
import copyreg
import gzip
import hashlib
import io
import json
import math
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mobilenext.errors import UsageError, WeightsError
from mobilenext.files import git_blob_id
from mobilenext.weights.foreign import ForeignFile, read_foreign, select_state_dict

FIXTURES = Path(__file__).parent / "fixtures"
WRITTEN = sorted(path.name.removesuffix(".json") for path in FIXTURES.glob("*.json"))

FORMATS = {".zip.pth": "pytorch-zip", ".stream.pth": "pytorch-stream", ".stream.pth.tar": "pytorch-stream"}


def encoded(value: Any) -> Any:
    """The encoding of fixtures/make_fixtures.py, for plain data only."""
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        assert value.flags.writeable
        assert value.dtype.isnative
        little = value.astype(value.dtype.newbyteorder("<"))
        return {"array": value.dtype.name, "shape": list(value.shape), "hex": little.tobytes().hex()}
    if type(value) is dict:
        return {"dict": [[encoded(key), encoded(entry)] for key, entry in value.items()]}
    if type(value) is list:
        return {"list": [encoded(entry) for entry in value]}
    if type(value) is tuple:
        return {"tuple": [encoded(entry) for entry in value]}
    if type(value) is set:
        return {"set": sorted(value)}
    if type(value) is bytes:
        return {"bytes": value.hex()}
    if type(value) is float:
        return {"float": value.hex()}
    assert value is None or type(value) in (bool, int, str), type(value)
    return value


def refusal(path: Path) -> str:
    """The message `read_foreign` refuses `path` with; it begins with the path and ends with what to do."""
    with pytest.raises(WeightsError) as caught:
        read_foreign(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(".")
    return message


# --- What the frameworks write ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_reads_as_the_framework_says(name: str) -> None:
    expected = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    file = read_foreign(FIXTURES / name)
    assert encoded(file.content) == expected
    assert file.format == next((kind for end, kind in FORMATS.items() if name.endswith(end)), "paddle-pickle")
    assert file.metadata == {}
    assert file.size == (FIXTURES / name).stat().st_size
    assert file.sha256 == hashlib.sha256((FIXTURES / name).read_bytes()).hexdigest()


def test_reading_needs_no_framework() -> None:
    program = (
        "import sys; from mobilenext.weights.foreign.reading import read_foreign; read_foreign(sys.argv[1]); "
        "print(sorted({'torch', 'paddle'} & set(sys.modules)))"
    )
    path = str(FIXTURES / "state_dict.zip.pth")
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_arrays_share_nothing() -> None:
    content = read_foreign(FIXTURES / "values.zip.pth").content
    arrays = [value for value in content.values() if isinstance(value, np.ndarray)]
    for index, array in enumerate(arrays):
        assert not any(np.shares_memory(array, other) for other in arrays[index + 1 :])
    content["whole storage"][:] = -1
    assert content["same storage"][0, 1] == 1


def test_a_path_may_be_text() -> None:
    file = read_foreign(str(FIXTURES / "state_dict.zip.pth"))
    assert file.path == FIXTURES / "state_dict.zip.pth"
    assert "array(" not in repr(file)


def test_git_blob_id(tmp_path: Path) -> None:
    path = tmp_path / "greeting"
    path.write_bytes(b"hello\n")
    assert git_blob_id(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    with pytest.raises(WeightsError, match="cannot be read"):
        git_blob_id(tmp_path / "missing")


# --- Choosing the weights ---------------------------------------------------------------------------------------------


def file_with(content: Any) -> ForeignFile:
    return ForeignFile(Path("weights.pth"), "pytorch-zip", content, {}, "0" * 64, 1)


def tensors(*names: str) -> dict[str, np.ndarray]:
    return {name: np.full(2, index, np.float32) for index, name in enumerate(names)}


def test_averaged_weights_are_preferred_and_noted() -> None:
    file = read_foreign(FIXTURES / "checkpoint.zip.pth")
    state = select_state_dict(file)
    assert (state.section, state.kind) == ("state_dict_ema", "ema")
    assert list(state.tensors)[:2] == ["0.weight", "0.bias"]
    assert "1.num_batches_tracked" in state.tensors
    assert any("averaged" in note for note in state.notes)
    assert select_state_dict(file, "ema").section == "state_dict_ema"


def test_raw_weights_lose_the_prefix_of_data_parallel() -> None:
    file = read_foreign(FIXTURES / "checkpoint.stream.pth.tar")
    state = select_state_dict(file, "raw")
    assert (state.section, state.kind) == ("state_dict", "raw")
    np.testing.assert_array_equal(state.tensors["0.bias"], file.content["state_dict"]["module.0.bias"])
    assert any("'module.'" in note for note in state.notes)


@pytest.mark.parametrize("name", ["state_dict.zip.pth", "state_dict.3.3.1.pdparams"])
def test_the_whole_file_may_be_the_state_dict(name: str) -> None:
    state = select_state_dict(read_foreign(FIXTURES / name))
    assert (state.section, state.kind) == ("", "raw")
    assert list(state.tensors)[:3] == ["0.weight", "0.bias", "1.weight"]
    assert any("StructuredToParameterName@@" in note for note in state.notes) == name.endswith("pdparams")


def test_weights_may_lie_under_model() -> None:
    assert select_state_dict(read_foreign(FIXTURES / "nested.2.6.2.pdparams")).section == "model"
    state = select_state_dict(file_with({"model": "resnet", "state_dict": tensors("w")}))
    assert state.section == "state_dict"


@pytest.mark.parametrize(
    ("content", "use", "said"),
    [
        (tensors("w"), "ema", "no state_dict_ema"),
        ({"state_dict": tensors("w")}, "ema", "sections with weights: state_dict"),
        ({"state_dict_ema": tensors("w")}, "raw", "there is only state_dict_ema"),
        ({}, "auto", "no tensors"),
        ({"state_dict": {}}, "auto", "state_dict has no tensors"),
        ({"model": {"w": [1.0]}}, "auto", "'w' is a list, not a tensor"),
        ({"epoch": 3, "net": {}}, "auto", "'epoch' is 3, not a tensor"),
        ({1: np.zeros(2)}, "auto", "entry 1"),
        (tensors("module.a", "b"), "auto", "1 of 2 names begin with 'module.'"),
        (tensors("module.a", "a"), "auto", "1 of 2 names begin with 'module.'"),
        ([np.zeros(2)], "auto", "holds a list, not a state dict"),
    ],
)
def test_no_usable_state_dict(content: Any, use: str, said: str) -> None:
    with pytest.raises(WeightsError, match=r"^weights\.pth: ") as caught:
        select_state_dict(file_with(content), use)
    assert said in str(caught.value)


def test_an_unknown_use() -> None:
    with pytest.raises(UsageError, match="did you mean 'ema'"):
        select_state_dict(file_with(tensors("w")), "emma")


# --- safetensors ------------------------------------------------------------------------------------------------------


def write_safetensors(path: Path, header: Any, body: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def tensor(shape: Any, begin: Any, end: Any, kind: Any = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}


def test_safetensors_reads_as_its_own_package_writes(tmp_path: Path) -> None:
    kinds = ("float16", "float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
    arrays = {kind: np.array([[1, 2, 3], [100, 5, 6]], kind) for kind in kinds}
    arrays |= {"bool": np.array([True, False]), "scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 3))}
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata={"licence": "MIT"})
    file = read_foreign(path)
    assert file.format == "safetensors"
    assert file.metadata == {"licence": "MIT"}
    assert {name: encoded(value) for name, value in file.content.items()} == {
        name: encoded(value) for name, value in arrays.items()
    }
    assert set(select_state_dict(file).tensors) == set(arrays)


def test_safetensors_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    values = np.array([[1.0, -2.5], [3.0e38, 1.0e-40]], np.float32)
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    path = write_safetensors(tmp_path / "w", {"w": tensor([2, 2], 0, 8, "BF16")}, upper.astype("<u2").tobytes())
    read = read_foreign(path).content["w"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read.view(np.uint32), upper.astype(np.uint32) << 16)


def test_a_safetensors_header_that_begins_like_a_pickle(tmp_path: Path) -> None:
    text = json.dumps({"w": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}).encode().ljust(0x0280)
    assert struct.pack("<Q", len(text)).startswith(b"\x80\x02")
    file = read_foreign(write_safetensors(tmp_path / "w", text, b"\1\2"))
    assert file.content["w"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"w": tensor([2**40], 0, 8)}, "'w'"),
        ({"w": tensor([3], 0, 8)}, "'w': float32 of shape (3,) takes 12 bytes, 8 are there"),
        ({"w": tensor([2], 0, 2**62)}, "'w' claims bytes 0 to 4611686018427387904 of 8"),
        ({"w": tensor([2], -8, 0)}, "'w' claims bytes -8 to 0"),
        ({"w": tensor([1], 4, 8)}, "ends at 0"),
        ({"w": tensor([1], 0, 4)}, "4 bytes follow the last tensor"),
        ({"v": tensor([2], 0, 8), "w": tensor([2], 0, 8)}, "'w' claims bytes 0 to 8"),
        ({"w": tensor([-2], 0, 8)}, "none negative"),
        ({"w": tensor([2.0], 0, 8)}, "whole numbers"),
        ({"w": tensor([0] * 33, 0, 0)}, "at most 32"),
        ({"w": tensor([0, 2**62, 2**62], 0, 0)}, "more than 2^40 elements"),
        ({"w": tensor([2], 0, 8, "F8_E4M3")}, "'F8_E4M3'"),
        ({"w": {"dtype": "F32"}}, "'w' is not described"),
        ({"w": 3}, "'w' is not described"),
        ({"__metadata__": {"a": 1}}, "__metadata__"),
        ({"__metadata__": []}, "__metadata__"),
        (b'{"w": 1, "w": 2}', "'w' twice"),
        (b"{" + b"[" * 200_000, "not JSON"),
        (b'{"\xff": 1}', "not JSON"),
        (b'{"w": ' + b"9" * 5000 + b"}", "'w'" if sys.version_info < (3, 10, 7) else "not JSON"),
    ],
)
def test_a_safetensors_header_that_lies(tmp_path: Path, header: Any, said: str) -> None:
    assert said in refusal(write_safetensors(tmp_path / "w.safetensors", header, bytes(8)))


@pytest.mark.parametrize("length", [1000, 2**40, 2**64 - 1])
def test_a_safetensors_header_length_that_lies(tmp_path: Path, length: int) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b'{"w": 1}')
    assert f"claims {length:,} bytes, 8 are there" in refusal(path)


# --- Hostile pickles --------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def as_paddle(path: Path, body: bytes, protocol: int = 4) -> Path:
    path.write_bytes(b"\x80" + bytes([protocol]) + body + b".")
    return path


def as_torch_zip(path: Path, body: bytes, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
        for key, content in entries.items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def as_torch_stream(path: Path, body: bytes, keys: list[str] | None = None, data: bytes = b"") -> Path:
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    path.write_bytes(b"".join(head) + b"\x80\x02" + body + b"." + pickle.dumps(keys or [], 2) + data)
    return path


CONTAINERS = [as_paddle, as_torch_zip, as_torch_stream]


@pytest.mark.parametrize("write", CONTAINERS)
@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("__builtin__", "eval"),
        ("builtins", "__import__"),
        ("builtins", "open"),
        ("operator", "attrgetter"),
        ("operator", "methodcaller"),
        ("functools", "partial"),
        ("importlib", "import_module"),
        ("runpy", "run_path"),
        ("webbrowser", "open"),
        ("copyreg", "_reconstructor"),
        ("pickle", "loads"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._utils", "_rebuild_qtensor"),
        ("torch.nn.modules.conv", "Conv2d"),
        ("torch.serialization", "os.system"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy.testing._private.utils", "runstring"),
        ("collections", "OrderedDict.__init__"),
        ("collections", "namedtuple"),
        ("pathlib", "PosixPath"),
        ("mobilenext.weights.foreign.reading", "os"),
        ("", "os"),
    ],
)
def test_any_other_name_is_refused_by_that_name(tmp_path: Path, write: Any, module: str, attribute: str) -> None:
    marker = tmp_path / "executed"
    command = text(f"touch {marker}")
    for reference in (name(module, attribute), text(module) + text(attribute) + b"\x93"):
        message = refusal(write(tmp_path / "weights", call(reference, command)))
        assert f"'{module}.{attribute}'" in message
        assert "Nothing was executed" in message
        assert "torch.save(model.state_dict()" in message
    assert not marker.exists()


class Touch:
    """Pickles as a call, the way real exploits are made."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_real_exploit_has_no_effect(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "executed"
    path = tmp_path / "weights.pdparams"
    module = "builtins" if protocol > 2 else "__builtin__"
    for exploit, called in (
        (Touch(os.system, f"touch {marker}"), f"{os.system.__module__}.system"),
        (Touch(builtins.eval, f"open({str(marker)!r}, 'w')"), f"{module}.eval"),
        (Touch(builtins.exec, f"open({str(marker)!r}, 'w')"), f"{module}.exec"),
    ):
        path.write_bytes(pickle.dumps({"x": exploit, "w": np.zeros(2)}, protocol))
        assert f"'{called}', which is not in the list" in refusal(path)
    assert not marker.exists()


def test_a_nested_payload_is_not_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    inner = pickle.dumps(Touch(os.system, f"touch {marker}"), 4)
    path = as_paddle(
        tmp_path / "w", call(name("torch.storage", "_load_from_bytes"), b"B" + struct.pack("<I", len(inner)) + inner)
    )
    assert "torch.storage._load_from_bytes" in refusal(path)
    path = tmp_path / "bytes"
    path.write_bytes(pickle.dumps({"w": inner}, 4))
    assert read_foreign(path).content == {"w": inner}
    assert not marker.exists()


EMPTY = call(name("collections", "OrderedDict"))
DTYPE = call(name("numpy", "dtype"), text("f4"), b"\x89", b"\x88")
RECONSTRUCT = name("numpy.core.multiarray", "_reconstruct")
ARRAY = call(RECONSTRUCT, name("numpy", "ndarray"), b"K\x00\x85", b"C\x01b")
ENCODE = name("_codecs", "encode")


def numpy_state(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    return ARRAY + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        # calling what is not a name, or only one
        (text("os.system") + b")R", "calls 'os.system'"),
        (b"})R", "calls a dict"),
        (call(name("numpy", "ndarray")), "calls numpy.ndarray"),
        (name("torch", "FloatStorage") + b")R", "calls a StorageType"),
        (name("builtins", "dict") + b")R", "calls builtins.dict"),
        (name("collections", "OrderedDict") + b"]R", "calls collections.OrderedDict"),
        (name("collections", "OrderedDict"), "collections.OrderedDict itself is stored"),
        # known names, odd arguments
        (call(ENCODE, text("x"), text("rot13")), "_codecs.encode('x', 'rot13')"),
        (call(ENCODE, text("x"), text("hex")), "_codecs.encode('x', 'hex')"),
        (call(ENCODE, text("\u20ac"), text("latin1")), "above 255"),
        (call(name("builtins", "bytes"), b"J\xff\xff\xff\x7f"), "bytes(2147483647)"),
        (call(name("builtins", "set"), b"](]e"), "set(a list)"),
        (call(name("builtins", "set"), b"]]a"), "set(a list)"),
        (call(name("builtins", "tuple"), text("abc")), "tuple('abc')"),
        (call(name("argparse", "Namespace"), b"K\x01"), "argparse.Namespace(1)"),
        (call(name("collections", "OrderedDict"), b"]K\x01a"), "OrderedDict(a list)"),
        (call(name("collections", "OrderedDict"), b"K\x01"), "OrderedDict(1)"),
        (call(name("collections", "defaultdict"), text("x")), "defaultdict('x')"),
        (call(name("torch", "device"), b"]"), "torch.device(a list)"),
        (call(name("torch._utils", "_rebuild_tensor_v2"), b"NNNNNN"), "_rebuild_tensor(None, None, None, None)"),
        (call(name("torch._utils", "_rebuild_tensor_v2")), "_rebuild_tensor_v2()"),
        (call(name("torch._utils", "_rebuild_parameter"), b"NNN"), "_rebuild_parameter(None"),
        (call(name("torch._utils", "_rebuild_tensor_v3"), b"N" * 7), "_rebuild_tensor_v3(None"),
        # attributes
        (b"]}" + text("__class__") + b"Nsb", "sets attributes on a list"),
        (text("x") + b"}b", "sets attributes on 'x'"),
        (name("numpy", "dtype") + b"}b", "sets attributes on a Global"),
        (name("torch", "float32") + b"}b", "sets attributes on a Element"),
        (EMPTY + b"Nb", "sets attributes on a dict"),
        (name("argparse", "Namespace") + b")\x81]b", "are a list"),
        # NumPy
        (call(name("numpy", "dtype"), text("O8"), b"\x89", b"\x88"), "'O8'"),
        (call(name("numpy", "dtype"), text("V16"), b"\x89", b"\x88"), "'V16'"),
        (call(name("numpy", "dtype"), text("f4,O"), b"\x89", b"\x88"), "'f4,O'"),
        (DTYPE + b"(K\x03" + text("<") + b"N(" + text("f0") + b"t}K\xffK\xffK\x00tb", "dtype with fields"),
        (call(RECONSTRUCT, name("collections", "OrderedDict"), b"K\x00\x85", b"C\x01b"), "_reconstruct(a Global"),
        (call(RECONSTRUCT, name("numpy", "ndarray"), b"J\xff\xff\xff\x7f\x85", b"C\x01b"), "(a Global, a tuple"),
        (call(name("numpy", "dtype"), b"N"), "numpy.dtype(None)"),
        (call(name("numpy.core.multiarray", "scalar"), DTYPE, b"N"), "scalar(a NumpyDtype, None)"),
        (ARRAY, "without contents"),
        (ARRAY + b"Nb", "not plain bytes"),
        (numpy_state(b"K\x01\x85", DTYPE, b"]"), "not plain bytes"),
        (numpy_state(b"K\x02\x85", DTYPE, b"C\x04abcd"), "takes 8 bytes, 4 are there"),
        (numpy_state(b"\x8a\x08" + struct.pack("<q", 2**62) + b"\x85", DTYPE, b"C\x04abcd"), "more than 2^40"),
        (numpy_state(b"J\xff\xff\xff\xff\x85", DTYPE, b"C\x04abcd"), "none negative"),
        (call(name("numpy.core.multiarray", "scalar"), DTYPE, b"C\x02ab"), "takes 4 bytes, 2 are there"),
        # opcodes
        (b"\x82\x01", "EXT1"),
        (b"\x83\x01\x00", "EXT2"),
        (b"\x84\x01\x00\x00\x00", "EXT4"),
        (b"(ios\nsystem\n", "INST"),
        (b"(" + EMPTY + b"o", "OBJ"),
        (b"P1\n", "PERSID"),
        (EMPTY + b")}\x92", "NEWOBJ_EX"),
        (b"S'\\y'\n", "STRING"),
        (b"I1\n", "INT"),
        (b"\x97", "NEXT_BUFFER"),
        (b"\xf0", "unknown"),
        (b"K\x01Q", "refers to"),
        (b"NN\x93", "by something that is not text"),
        (b"c\\y\nx\n)R", r"\\y.x"),
        # lengths and numbers
        (b"B\xff\xff\xff\xffab", "damaged"),
        (b"\x8e" + b"\xff" * 7 + b"\x7f", "damaged"),
        (b"\x8d" + b"\xff" * 8, "damaged"),
        (b"X\xff\xff\xff\xffab", "damaged"),
        (b"\x8b\xff\xff\xff\x7fab", "damaged"),
        (b"\x8b\xff\xff\xff\xffab", "damaged"),
        (b"\x8b\x00\x02\x00\x00" + bytes(511) + b"\x01", "an integer of 4,089 bits"),
        (b"X\x02\x00\x00\x00\xff\xff", "damaged"),
        (b"Nr\xff\xff\xff\xffj\xfe\xff\xff\xff", "damaged"),
        (b"\x80\x09N", "protocol 9"),
        # the stack
        (b"", "damaged"),
        (b"R", "damaged"),
        (b"t", "damaged"),
        (b"N\x86", "damaged"),
        (b"b", "damaged"),
        (b"q\x00", "damaged"),
        (b"h\x07", "damaged"),
        (b"}(Nu", "damaged"),
        (b"K\x01K\x02a", "fills 1 as if it were a list"),
        (b"]NNs", "fills a list as if it were a dict"),
        # keys
        (b"})Ns", "a tuple is a dict key"),
        (b"}]Ns", "a list is a dict key"),
        (b"}\x8a\x09" + bytes(8) + b"\x01Ns", "is a dict key"),
        (b"\x8f()\x90", "in a set"),
    ],
)  # fmt: skip
def test_tricks_with_what_is_allowed(tmp_path: Path, body: bytes, said: str) -> None:
    assert said in refusal(as_paddle(tmp_path / "w", body))


def test_extension_codes_of_this_process_are_not_used(tmp_path: Path) -> None:
    copyreg.add_extension("os", "system", 0xF1)
    try:
        assert "EXT1" in refusal(as_paddle(tmp_path / "w", call(b"\x82\xf1", text(f"touch {tmp_path}/executed"))))
    finally:
        copyreg.remove_extension("os", "system", 0xF1)
    assert not (tmp_path / "executed").exists()


def test_attributes_never_reach_an_object(tmp_path: Path) -> None:
    state = b"}" + text("__class__") + text("x") + b"s"
    content = read_foreign(as_paddle(tmp_path / "w", EMPTY + state + b"b")).content
    assert content == {}
    assert type(content) is dict
    content = read_foreign(as_paddle(tmp_path / "w", name("argparse", "Namespace") + b")\x81" + state + b"b")).content
    assert content == {"__class__": "x"}
    assert type(content) is dict


def test_older_spellings(tmp_path: Path) -> None:
    """What Python 2 wrote: pairs for an OrderedDict, and bytes as text."""
    pairs = call(name("collections", "OrderedDict"), b"](](" + text("a") + b"K\x01e]" + b"(" + text("b") + b"K\x02ee")
    assert read_foreign(as_paddle(tmp_path / "w", pairs)).content == {"a": 1, "b": 2}
    array = numpy_state(b"K\x01\x85", DTYPE, b"U\x04\x00\x00\x80\xbf")
    assert read_foreign(as_paddle(tmp_path / "w", array)).content.tolist() == [-1.0]


# --- Bombs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(b"]" * 100_000 + b"a" * 99_999, "nested deeper", id="lists"),
        pytest.param(b")" + b"\x85" * 100_000, "nested deeper", id="tuples"),
        pytest.param(b"})" + b"\x85" * 100_000 + b"Ns", "is a dict key", id="deep key"),
        pytest.param(b"})" + b"q\x00h\x00\x86" * 60 + b"Ns", "is a dict key", id="key of shared tuples"),
        pytest.param(b"]q\x00h\x00a", "nested deeper", id="a list in itself"),
        pytest.param(b"}q\x00Nh\x00s", "nested deeper", id="a dict in itself"),
        pytest.param(b"(" * 100_000, "damaged", id="marks"),
        pytest.param(b"N" * 1_000_001, "opcodes", id="opcodes"),
        pytest.param(
            text("x" * 1_000_000) + b"q\x00" + (ENCODE + b"h\x00" + text("latin1") + b"\x86R") * 200,
            "over the limit", id="text to bytes again and again",
        ),
        pytest.param(
            b"]q\x00(" + b"N" * 100_000 + b"e" + (name("builtins", "set") + b"h\x00\x85R") * 200,
            "over the limit", id="list to set again and again",
        ),
        pytest.param(
            b"](" + numpy_state(b"J\x40\x42\x0f\x00\x85", DTYPE, b"B" + struct.pack("<I", 4_000_000) + bytes(4_000_000))
            + b"q\x00" + b"h\x00" * 100 + b"e",
            "over the limit", id="one array a hundred times",
        ),
        pytest.param(
            b"](]q\x00(" + b"N" * 2_000 + b"e" + b"h\x00" * 2_000 + b"e",
            "more than 1,000,000 values", id="one list two thousand times",
        ),
    ],
)  # fmt: skip
def test_a_bomb_is_refused_in_little_memory(tmp_path: Path, body: bytes, said: str) -> None:
    path = as_paddle(tmp_path / "w", body)
    tracemalloc.start()
    try:
        message = refusal(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said in message
    assert peak < 256 * 2**20


def test_lists_that_double_sixty_times_end_soon(tmp_path: Path) -> None:
    """2^60 steps would take centuries."""
    assert "more than 1,000,000 values" in refusal(as_paddle(tmp_path / "w", b"]" + b"q\x00]h\x00ah\x00a" * 60))


# --- PyTorch's storages -----------------------------------------------------------------------------------------------


def whole(value: int) -> bytes:
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def storage(key: str, count: int, kind: str = "FloatStorage", view: bytes | None = b"N") -> bytes:
    """A reference of the stream format; without `view` one of the ZIP format."""
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + whole(count) + (view or b"") + b"tQ"


def strided(reference: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *more: bytes) -> bytes:
    numbers = [b"(" + b"".join(map(whole, axis)) + b"t" for axis in (shape, strides)]
    return call(name("torch._utils", "_rebuild_tensor_v2"), reference, whole(offset), *numbers, b"\x89", EMPTY, *more)


FOUR = np.arange(4, dtype="<f4").tobytes()


def stream_of(tmp_path: Path, body: bytes, count: int = 4, data: bytes = FOUR, keys: tuple[str, ...] = ("k",)) -> Path:
    return as_torch_stream(tmp_path / "w.pth", body, list(keys), struct.pack("<q", count) + data)


def test_a_tensor_written_by_hand(tmp_path: Path) -> None:
    """The helpers above make good files, so that what follows is refused for its one fault."""
    body = strided(storage("k", 4), 1, (3, 2), (1, 0))
    assert read_foreign(stream_of(tmp_path, body)).content.tolist() == [[1, 1], [2, 2], [3, 3]]
    body = strided(storage("k", 4, view=None), 1, (3, 2), (1, 0))
    assert read_foreign(as_torch_zip(tmp_path / "w.zip", body, k=FOUR)).content.tolist() == [[1, 1], [2, 2], [3, 3]]


def test_a_storage_that_is_a_view_of_another(tmp_path: Path) -> None:
    part = b"(" + text("v") + whole(1) + whole(2) + b"t"
    body = strided(storage("k", 4, view=part), 0, (2,), (1,))
    assert read_foreign(stream_of(tmp_path, body)).content.tolist() == [1, 2]
    body = strided(storage("k", 4, view=part), 1, (2,), (1,))
    assert "leave the storage of 2 elements" in refusal(stream_of(tmp_path, body))
    for start, count in ((3, 2), (-1, 2), (1, -1), (0, 2**62)):
        part = b"(" + text("v") + whole(start) + whole(count) + b"t"
        body = strided(storage("k", 4, view=part), 0, (2,), (1,))
        assert "does not lie inside" in refusal(stream_of(tmp_path, body))


@pytest.mark.parametrize("value", [2, 255])
def test_a_bool_is_true_or_false(tmp_path: Path, value: int) -> None:
    body = strided(storage("k", 2, "BoolStorage"), 0, (2,), (1,))
    read = read_foreign(stream_of(tmp_path, body, 2, bytes([value, 0]))).content
    assert read.view(np.uint8).tolist() == [1, 0]


def test_big_endian_archives(tmp_path: Path) -> None:
    path = as_torch_zip(
        tmp_path / "w", strided(storage("k", 4, view=None), 0, (4,), (1,)), k=np.arange(4, dtype=">f4").tobytes()
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", "big")
    assert read_foreign(path).content.tolist() == [0, 1, 2, 3]
    path = as_torch_zip(tmp_path / "v", b"N")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/byteorder", "middle")
    assert "byte order is b'middle'" in refusal(path)


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "said"),
    [
        (0, (5,), (1,), "leave the storage of 4 elements"),
        (4, (1,), (1,), "leave the storage"),
        (2**70, (1,), (1,), "leave the storage"),
        (-1, (1,), (1,), "leave the storage"),
        (0, (2,), (4,), "leave the storage"),
        (0, (2,), (2**62,), "leave the storage"),
        (3, (2,), (-1,), "leave the storage"),
        (0, (-1,), (1,), "none negative"),
        (0, (2**62,), (0,), "more than 2^40 elements"),
        (0, (2**20, 2**20, 2**20), (0, 0, 0), "more than 2^40 elements"),
        (0, (2**30,), (0,), "over the limit"),
        (0, (2**25,), (0,), "over the limit"),
        (0, (2,), (), "as strides"),
        (0, (), (1,), "as strides"),
        (0, (1,) * 40, (1,) * 40, "at most 32"),
    ],
)
def test_a_shape_that_lies(
    tmp_path: Path, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], said: str
) -> None:
    message = refusal(stream_of(tmp_path, b"}" + text("w") + strided(storage("k", 4), offset, shape, strides) + b"s"))
    assert said in message
    assert "entry 'w'" in message


def test_an_unused_stride_may_be_anything(tmp_path: Path) -> None:
    body = strided(storage("k", 4), 0, (1, 4), (2**70, 1))
    assert read_foreign(stream_of(tmp_path, body)).content.tolist() == [[0, 1, 2, 3]]


def test_many_views_of_one_storage_are_bounded_together(tmp_path: Path) -> None:
    view = strided(storage("k", 2**18), 0, (2**18,), (1,))
    body = b"](" + view * 100 + b"e"
    assert "over the limit" in refusal(stream_of(tmp_path, body, 2**18, bytes(2**20)))
    body = b"](" + view * 10 + b"e"
    assert len(read_foreign(stream_of(tmp_path, body, 2**18, bytes(2**20))).content) == 10


def test_a_pending_negation_is_not_ignored(tmp_path: Path) -> None:
    pending = b"}" + text("neg") + b"\x88s"
    assert "negation" in refusal(stream_of(tmp_path, strided(storage("k", 4), 0, (4,), (1,), pending)))
    assert read_foreign(stream_of(tmp_path, strided(storage("k", 4), 0, (4,), (1,), b"}"))).content.shape == (4,)


ONE = strided(storage("k", 4), 0, (4,), (1,))


@pytest.mark.parametrize(
    ("body", "keys", "count", "data", "said"),
    [
        (ONE, ("k",), 2**61, FOUR, "'k' has 2,305,843,009,213,693,952 elements, its tensors expect 4"),
        (ONE, ("k",), -1, FOUR, "'k' has -1 elements"),
        (ONE, ("k",), 4, FOUR[:-1], "'k' claims 16 bytes, 15 are there"),
        (ONE, ("k",), 4, FOUR + b"!", "1 bytes follow"),
        (ONE, ("k", "k"), 4, FOUR, "'k' is listed twice"),
        (ONE, ("k", "j"), 4, FOUR, "'j' is listed and no tensor uses it"),
        (ONE, (), 4, FOUR, "the first is 'k'"),
        (b"](" + ONE + storage("j", 1) + b"e", ("k", "j"), 4, FOUR, "the file ends before storage 'j'"),
        (
            strided(storage("k", 2**60), 0, (4,), (1,)),
            ("k",),
            2**60,
            FOUR,
            "'k' claims 4,611,686,018,427,387,904 bytes",
        ),
        (strided(storage("k", -4), 0, (4,), (1,)), ("k",), -4, b"", "'k'"),
        (b"](" + ONE + storage("k", 4, "IntStorage") + b"e", ("k",), 4, FOUR, "float32 in one place and 4 x int32"),
        (b"](" + ONE + storage("k", 5) + b"e", ("k",), 4, FOUR, "5 x float32 in another"),
        (b"(" + text("module") + text("x") + b"NNtQ", (), 0, b"", "other than a storage"),
        (b"NQ", (), 0, b"", "other than a storage"),
    ],
)
def test_a_stream_that_lies(
    tmp_path: Path, body: bytes, keys: tuple[str, ...], count: int, data: bytes, said: str
) -> None:
    assert said in refusal(stream_of(tmp_path, body, count, data, keys))


def test_a_stream_without_a_list_of_storages(tmp_path: Path) -> None:
    path = as_torch_stream(tmp_path / "w", ONE)
    path.write_bytes(path.read_bytes().removesuffix(pickle.dumps([], 2)) + pickle.dumps([1], 2))
    assert "the list of storages is damaged" in refusal(path)


def test_a_stream_of_another_protocol(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1002, 2))
    assert "protocol 1002" in refusal(path)


# --- ZIP archives -----------------------------------------------------------------------------------------------------

ZIP_ONE = strided(storage("k", 4, view=None), 0, (4,), (1,))


def patched(path: Path, signature: bytes, offset: int, value: bytes, which: int) -> Path:
    """`path` with `value` written `offset` bytes into the `which`-th record that begins with `signature`."""
    data = bytearray(path.read_bytes())
    position = -1
    for _ in range(which + 1):
        position = data.index(signature, position + 1)
    data[position + offset : position + offset + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (10, struct.pack("<H", 8), "'archive/data/k' is compressed"),
        (8, struct.pack("<H", 1), "'archive/data/k' is compressed or encrypted"),
        (16, bytes(4), "checksum of ZIP entry 'archive/data/k'"),
        (20, struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0), "'archive/data/k' claims 4,294,967,280 bytes"),
        (20, struct.pack("<II", 8, 8), "checksum"),
        (24, struct.pack("<I", 2**30), "compressed"),
        (42, struct.pack("<I", 0xFFFFFF), "'archive/data/k' claims to begin at byte 16,777,215"),
        (42, struct.pack("<I", 0), "overlap"),
    ],
)
def test_a_zip_directory_that_lies(tmp_path: Path, offset: int, value: bytes, said: str) -> None:
    path = as_torch_zip(tmp_path / "w", ZIP_ONE, k=FOUR)
    assert said in refusal(patched(path, b"PK\x01\x02", offset, value, which=1))


def test_a_zip_entry_that_inflates(tmp_path: Path) -> None:
    path = tmp_path / "w"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + strided(storage("k", 2**24, view=None), 0, (4,), (1,)) + b".")
        archive.writestr("a/data/k", bytes(2**26))
    assert "compressed" in refusal(path)


def test_a_zip_entry_twice(tmp_path: Path) -> None:
    path = as_torch_zip(tmp_path / "w", ZIP_ONE, k=FOUR)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data/k", FOUR)
    assert "'archive/data/k' is there twice" in refusal(path)


def test_a_storage_of_another_size(tmp_path: Path) -> None:
    assert "'k' claims 16 bytes, 20 are there" in refusal(as_torch_zip(tmp_path / "w", ZIP_ONE, k=FOUR + bytes(4)))
    assert "no entry 'archive/data/k'" in refusal(as_torch_zip(tmp_path / "w", ZIP_ONE))
    body = strided(storage("k", 2**60, view=None), 0, (4,), (1,))
    assert "claims 4,611,686,018,427,387,904 bytes, 16 are there" in refusal(as_torch_zip(tmp_path / "w", body, k=FOUR))


def test_a_zip_of_very_many_entries(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"PK\x03\x04" + b"PK\x01\x02" * 100_001)
    assert "more than 100,000 entries" in refusal(path)


def test_a_zip_whose_pickle_refers_to_something_else(tmp_path: Path) -> None:
    assert "other than a storage" in refusal(as_torch_zip(tmp_path / "w", storage("k", 4), k=FOUR))


def test_other_zip_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.zeros(2))
    message = refusal(tmp_path / "arrays.npz")
    assert "0 entries named <folder>/data.pkl" in message
    assert "'a.npy'" in message
    path = as_torch_zip(tmp_path / "script", b"N")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    assert "TorchScript" in refusal(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", b"")
    assert "2 entries" in refusal(path)


# --- Paddle -----------------------------------------------------------------------------------------------------------


def sliced(shape: Any, slices: Any) -> dict[str, Any]:
    return {
        "b": np.float32([9]),
        "w@@.0": np.float32([0, 1, 2, 3]),
        "w@@.1": np.float32([4, 5]),
        "UnpackBigParamInfor@@": {"w": {"OriginShape": shape, "slices": slices}},
    }


def test_arrays_in_slices_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(sliced((2, 3), ["w@@.0", "w@@.1"]), 2))
    content = read_foreign(path).content
    assert list(content) == ["b", "w"]
    assert content["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("shape", "slices", "said"),
    [
        ((7,), ["w@@.0", "w@@.1"], "do not make up the shape (7,)"),
        ((2**62,), ["w@@.0"], "more than 2^40"),
        ((8,), ["w@@.0", "w@@.0"], "'w@@.0' is missing, used twice"),
        ((4,), ["x"], "'x' is missing"),
        ((4,), [1], "the slice 1 is missing"),
        ((0,), [], "not described"),
        ([6], ["w@@.0", "w@@.1"], "not described"),
    ],
)
def test_slices_that_do_not_fit(tmp_path: Path, shape: Any, slices: Any, said: str) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(sliced(shape, slices), 2))
    assert said in refusal(path)


def test_an_array_whole_and_in_slices(tmp_path: Path) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(sliced((6,), ["w@@.0", "w@@.1"]) | {"w": np.zeros(6)}, 2))
    assert "'w' is there both whole and in slices" in refusal(path)


def test_bytes_after_the_pickle(tmp_path: Path) -> None:
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"w": np.zeros(2)}, 4) + b"more")
    assert "4 bytes follow" in refusal(path)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_pickles_of_arrays(tmp_path: Path, protocol: int) -> None:
    content = {
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i8"),
        "empty": np.zeros((0, 3), np.float16),
        "bool": np.array([True, False]),
        "number": np.float32(0.1),
        "sets": [{1}, frozenset({"a"})],
        "args": Namespace(a=(1, 2.5, None), b={"c": [b"d"]}),
    }
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(content, protocol))
    read = read_foreign(path).content
    for key in ("f", "big", "empty", "bool"):
        np.testing.assert_array_equal(read[key], content[key])
        assert encoded(read[key])["array"] == content[key].dtype.name
    assert read["sets"] == [{1}, {"a"}]
    assert read["number"] == float(np.float32(0.1))
    assert read["args"] == {"a": (1, 2.5, None), "b": {"c": [b"d"]}}


# --- Files that are not checkpoints -----------------------------------------------------------------------------------


def gzipped() -> bytes:
    return gzip.compress(b"weights", mtime=0)


def tarred(member: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(member))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "found", "advice"),
    [
        (b"", "is empty", "download"),
        (b"hello, world\n", "a text file", "Download the file itself"),
        (b"\n<!DOCTYPE html><html>...", "an HTML or XML page", "Download the file itself"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "an HTML or XML page", "Download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer", "git lfs pull"),
        (tarred("weights.pth"), "a tar archive", "unpack it first"),
        (tarred("sys_info"), "PyTorch 0.1", "torch.save"),
        (gzipped(), "a gzip archive", "unpack it first"),
        (b"BZh9", "a compressed archive", "unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "Give the checkpoint"),
        (b"PK\x05\x06" + bytes(18), "an empty ZIP archive", "unpack it first"),
        (b"PK\x03\x04", "directory is missing or damaged", "download"),
        (bytes(100), "raw tensors without names", ".pdparams"),
        (b"\xde\xad\xbe\xef", "begins with the bytes de ad be ef", "download"),
        (b"\x80\x02", "breaks off", "download"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, found: str, advice: str) -> None:
    path = tmp_path / "weights.pth.tar"
    path.write_bytes(content)
    message = refusal(path)
    assert found in message
    assert advice in message


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "w.pdparams").touch()
    message = refusal(tmp_path)
    assert "a folder" in message
    assert "w.pdparams" in message


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "a device or a pipe" in refusal(tmp_path / "pipe")


def test_a_missing_file_with_similar_ones(tmp_path: Path) -> None:
    for other in ("mobilenext_x1_0.pdparams", "mobilenext_x1_0.pdopt", "mobilenext_x1_4.pdparams", "notes.txt"):
        (tmp_path / other).touch()
    message = refusal(tmp_path / "mobilenext_x1_0")
    assert "Similar names in that folder: mobilenext_x1_0.pdopt, mobilenext_x1_0.pdparams" in message
    assert "notes.txt" not in message
    assert "mobilenext_x1_0.pdparams" in refusal(tmp_path / "mobilenext_x1_0.pth")
    assert "mobilenext_x1_4.pdparams" in refusal(tmp_path / "mobilenext_x14.pdparams")
    assert "Its folder holds mobilenext_x1_0.pdopt" in refusal(tmp_path / "zzz")
    assert "no folder" in refusal(tmp_path / "nowhere" / "w.pth")


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / ("x" * 5000))
    assert "no such file" in refusal(tmp_path / "nul\0byte")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pdparams"
    with path.open("wb") as stream:
        stream.write(b"\x80\x04")
        stream.truncate(2**40)  # sparse
    assert "1,099,511,627,776 bytes, more than" in refusal(path)


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    message = refusal(as_paddle(tmp_path / "w", name("os\x1b[2J", "x" * 10_000)))
    assert "\x1b" not in message
    assert len(message) < 1500


# --- Random damage ----------------------------------------------------------------------------------------------------

DAMAGE = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
fixture_names = st.sampled_from(WRITTEN)


def survives(path: Path) -> None:
    """Either a `ForeignFile` of plain data or a `WeightsError`, in little memory."""
    tracemalloc.start()
    try:
        with contextlib.suppress(WeightsError):
            file = read_foreign(path)
            json.dumps(encoded(file.content))
            select_state_dict(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * 2**20


@DAMAGE
@given(fixture_names, st.floats(0, 1, exclude_max=True))
@example("state_dict.zip.pth", 0.0)
def test_truncated_anywhere(tmp_path: Path, fixture: str, part: float) -> None:
    data = (FIXTURES / fixture).read_bytes()
    path = tmp_path / "w"
    path.write_bytes(data[: math.floor(part * len(data))])
    refusal(path)


@DAMAGE
@given(
    fixture_names, st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6)
)
def test_bytes_replaced_anywhere(tmp_path: Path, fixture: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray((FIXTURES / fixture).read_bytes())
    for part, value in changes:
        data[math.floor(part * len(data))] = value
    path = tmp_path / "w"
    path.write_bytes(data)
    survives(path)


@DAMAGE
@given(fixture_names, st.floats(0, 1, exclude_max=True), st.binary(max_size=40))
def test_bytes_inserted_anywhere(tmp_path: Path, fixture: str, part: float, more: bytes) -> None:
    data = (FIXTURES / fixture).read_bytes()
    position = math.floor(part * len(data))
    path = tmp_path / "w"
    path.write_bytes(data[:position] + more + data[position:])
    survives(path)


@DAMAGE
@given(st.lists(st.sampled_from([bytes([code]) for code in b"().]}NKXqh\x85\x86R\x81bse\x8f\x90atu"]), max_size=40))
def test_random_opcodes(tmp_path: Path, body: list[bytes]) -> None:
    survives(as_paddle(tmp_path / "w", b"".join(body)))


@DAMAGE
@given(st.binary(max_size=200), st.sampled_from([b"", b"PK\x03\x04", b"\x80\x04", b"\x02\0\0\0\0\0\0\0{}"]))
def test_random_bytes(tmp_path: Path, rest: bytes, start: bytes) -> None:
    path = tmp_path / "w"
    path.write_bytes(start + rest)
    survives(path)
