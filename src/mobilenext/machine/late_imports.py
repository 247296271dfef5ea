"""Modules that Paddle imports and a command rarely uses: they are imported when one of their names is used.

Paddle imports its builder of extensions, and with it setuptools, and an HTTP client: a quarter of the seconds that
`import paddle` takes. `importlib.util.LazyLoader` cannot put these off: Paddle imports a submodule of the builder at
once, and looking up its parent's path is a use for that loader.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

RARELY_USED = ("paddle.utils.cpp_extension", "httpx")
_lock = threading.RLock()  # a module may use its own names while it is imported


def import_late(names: Sequence[str] = RARELY_USED) -> None:
    """Let these modules, where they are not imported yet, be imported when they are used.

    It changes how this process imports, so it is for processes of our own: commands and workers.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(frozenset(names)))


class _Finder:
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in self._names else None
        if spec is not None and spec.loader is not None:
            spec.loader = cast(Any, _LateLoader(spec.loader))  # its base class would take time to import
        return spec


class _LateLoader:
    """Makes a module, and leaves it to the module to run its code."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _LateModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        module.__dict__["_not_run"] = True


class _LateModule(ModuleType):
    """A module whose code runs when a name is used that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        with _lock:
            if self.__dict__.pop("_not_run", False):
                try:
                    self.__loader__.exec_module(self)  # type: ignore[union-attr]
                except BaseException:
                    self.__dict__["_not_run"] = True  # the next use fails in the same way
                    raise
        return super().__getattribute__(name)  # or its own __getattr__
