"""Entry points for ``paddle.hub``: every model by its name, and a searched network by its file.

    network = paddle.hub.load("FOLDER", "mobilenext_x1_0", source="local")
    network = paddle.hub.load("FOLDER", "mobilenext_x1_0", source="local", weights="in1k")

Keyword arguments are those of ``mobilenext.create_model``. Names here start with an underscore, since paddle.hub takes
every other callable for an entry point.
"""

import functools as _functools
import pathlib as _pathlib
import sys as _sys

dependencies = ["paddle", "numpy", "PIL", "safetensors", "httpx", "filelock", "tqdm"]

_sys.path.insert(0, str(_pathlib.Path(__file__).parent / "src"))  # a clone need not be installed

import mobilenext as _mobilenext  # noqa: E402


def _entry(name):
    @_functools.wraps(_mobilenext.create_model)
    def create(**options):
        return _mobilenext.create_model(name, **options)

    return create


def architecture(path, **options):
    """Create the network of the ``architecture.json`` of a search; options as of ``mobilenext.create_model``."""
    return _mobilenext.create_model(path, **options)


globals().update({name: _entry(name) for name in _mobilenext.list_models()})
