"""Optional packages: whether they are installed, and the one line that says how to install them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import sys
from collections.abc import Collection

from mobilenext.errors import MissingDependency
from mobilenext.machine.collection import paused_collection
from mobilenext.machine.home import provide_home
from mobilenext.machine.stopping import keep_handlers


def has_distribution(name: str) -> bool:
    """Return whether a distribution of this name is installed."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def installed(package: str) -> bool:
    """Return whether a package can be imported; it is not imported to find out."""
    return importlib.util.find_spec(package) is not None


def require(packages: Collection[str], extra: str, purpose: str) -> None:
    """Raise MissingDependency, in one line with the pip command, when one of `packages` is not installed."""
    missing = [package for package in packages if not installed(package)]
    if missing:
        raise MissingDependency(
            f"{purpose} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            f"pip install 'mobilenext[{extra}]'"
        )


def require_paddle() -> None:
    """Import Paddle, or say in one line how to install it. The level of the log stays: Paddle 2.6 would raise it.

    Raises:
        MissingDependency: Paddle is not installed.
    """
    if "paddle" not in sys.modules:
        provide_home(required=True)
    root = logging.getLogger()
    level = root.level
    try:
        # It has a remark on every number of threads but one. Looking for garbage takes a tenth of the time.
        with keep_handlers(), contextlib.redirect_stderr(io.StringIO()), paused_collection():
            import paddle  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "PaddlePaddle is not installed: `pip install 'mobilenext[cpu]'`, or a GPU build from paddlepaddle.org.cn"
        ) from error
    finally:
        root.setLevel(level)
