"""From a checkpoint of PyTorch or Paddle to a file of ours, or back; a certificate says what became of each tensor."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilenext.errors import OutputError, UsageError, refuse_unknown
from mobilenext.files import write_atomically
from mobilenext.machine.temporary import temporary_beside, temporary_folder
from mobilenext.origin import now, origin
from mobilenext.version import __version__
from mobilenext.weights.metadata import CERTIFICATE
from mobilenext.weights.naming import Array
from mobilenext.weights.read import ReadOptions, read_weights
from mobilenext.weights.record import Weights
from mobilenext.weights.write import check_output, narrowed, write_weights

if TYPE_CHECKING:
    from typing import Unpack


def convert_checkpoint(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    to: str = "paddle",
    storage: str = "float32",
    **options: Unpack[ReadOptions],
) -> dict[str, Any]:
    """Convert a checkpoint and write ``<output>.certificate.json`` beside it; both appear, or none.

    Args:
        source: a file that :func:`mobilenext.read_weights` reads.
        output: a ``.safetensors`` or ``.pdparams`` file.
        to: ``paddle``, or ``pytorch`` for PyTorch's names and layouts.
        storage: ``float32``, or ``float16`` for half of the size; such values are widened when they are read.
        **options: ``model``, ``use``, ``section``, ``identity_divisor``, ``preprocessing`` and ``labels``, as
            :func:`mobilenext.read_weights` takes them.

    Returns:
        The certificate: the source, what it was recognized as, and for every tensor both names, shapes and the
        sha256 of its values as they lie in the output: float32, or what ``storage`` says.

    Raises:
        WeightsError: the source cannot be read or is not one of the networks here.
        UsageError: an option that cannot work.
        OutputError: the output cannot be written.
    """
    refuse_unknown(options, ReadOptions.__annotations__, "convert_checkpoint")
    started = now()
    if to not in ("paddle", "pytorch"):
        raise UsageError(f"to is {to!r}; expected 'paddle' or 'pytorch'")
    output = Path(output)
    check_output(output, to, storage)
    weights = read_weights(source, **options)
    if output.exists() and output.samefile(weights.path):  # which may have a suffix that `source` leaves out
        raise UsageError(f"{output} is the source itself; expected another output")
    if storage == "float16":
        weights = replace(weights, notes=(*weights.notes, _note_on_rounding(weights)))
    if output.suffix == ".pdparams":
        elsewhere = (
            "a .pdparams file has no room for the identity divisor, preprocessing and labels: they are read from its "
            "certificate as long as that lies beside it, and have to be named where it does not"
        )
        weights = replace(weights, notes=(*weights.notes, elsewhere))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(temporary_beside(output)) as folder:
            new = folder / output.name
            written = write_weights(weights, new, to=to, storage=storage)
            certificate = _certificate(weights, new, written, to) | origin(started)
            if storage != "float32":
                certificate["storage"] = storage
            text = json.dumps(certificate, indent=1, ensure_ascii=False) + "\n"
            write_atomically(new.with_name(new.name + CERTIFICATE), text.encode())
            # Both are there, and what is left needs no room. A certificate alone does no harm: it names its file.
            new.with_name(new.name + CERTIFICATE).replace(output.with_name(output.name + CERTIFICATE))
            new.replace(output)
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    return certificate


def _note_on_rounding(weights: Weights) -> str:
    """Return how far float16 is from the weights."""
    changes = [
        float(np.abs(np.subtract(narrowed(tensor), tensor, dtype=np.float32)).max(initial=0))
        for tensor in weights.tensors.values()
    ]
    return f"stored as float16: no value changes by more than {max(changes):.2g}"


def _certificate(weights: Weights, output: Path, written: Mapping[str, Array], to: str) -> dict[str, Any]:
    tensors = []
    for entry in weights.entries:
        tensor = written[entry.name(to)]
        tensors.append(
            {
                "source": entry.name(weights.dialect),
                "output": entry.name(to),
                "source_shape": list(entry.shape(weights.dialect)),
                "output_shape": list(tensor.shape),
                "transposed": entry.transposed and weights.dialect != to,
                "sha256": hashlib.sha256(tensor.tobytes()).hexdigest(),
            }
        )
    return {
        "source": {"name": weights.path.name, "sha256": weights.sha256, "names": weights.dialect, "kind": weights.kind},
        "first_source": {"name": weights.source_name, "sha256": weights.source_sha256, "published": weights.card},
        "output": {"name": output.name, "sha256": hashlib.sha256(output.read_bytes()).hexdigest(), "names": to},
        "model": weights.model,
        "num_classes": weights.num_classes,
        "identity_divisor": weights.identity_divisor,
        "section": weights.section,
        "preprocessing": weights.preprocessing.to_dict(),
        "metadata": weights.metadata(),  # as stored in a safetensors file; read from here for a .pdparams
        "dropped": list(weights.dropped),
        "notes": list(weights.notes),
        "tensors": tensors,
        "mobilenext": __version__,
    }
