"""Run the application on a socket, and stop it gracefully at SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from mobilenext.errors import UsageError, refuse_unknown
from mobilenext.machine.cores import available_cores
from mobilenext.machine.packages import require
from mobilenext.machine.pool import watched_scratch_folder
from mobilenext.machine.process_environment import FAST_PROCESS
from mobilenext.serving.front import LOCAL, Front
from mobilenext.sources.find import Subject, find_subject
from mobilenext.sources.options import Labels

if TYPE_CHECKING:
    from typing import Unpack

    from fastapi import FastAPI

    from mobilenext.serving.limits import Limits

PACKAGES = ("fastapi", "uvicorn", "httptools", "python_multipart", "prometheus_client", "fastapi_offline")
BUNDLED = "mobilenext_x0_35.digits"
BACKLOG = 256
log = logging.getLogger(__name__)


class Description(TypedDict, total=False):
    """What a model of another project does not say about itself."""

    preprocessing: Mapping[str, Any] | None
    labels: Labels | None  # a file of class names, or the names
    output_name: str | None  # the output that has the scores


class Copying(TypedDict, total=False):
    """How many copies of each network answer, and how each is run."""

    runtime: str  # auto (default) or a name
    threads: int  # of each copy (default: 1)
    copies: int | None  # of each model (default: one for each `threads` cores)


def subjects_of(
    *,
    models: Sequence[str] = (),
    weights: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    use: str | None = None,
    section: str | None = None,
    exported: Sequence[str | os.PathLike[str]] = (),
    onnx: Sequence[str | os.PathLike[str]] = (),
    **description: Unpack[Description],
) -> list[tuple[str, Subject]]:
    """Return the networks to serve, each with the name that clients ask for it by.

    Args:
        models, weights, exported, onnx: names of models, and paths of networks. A model without a tag goes with the
            weights, of which there are several only where no such model is named.
        use, section: which weights of a checkpoint that has several.
        **description: of the ONNX files and Paddle Inference models, which do not describe themselves; without an
            output name also of the only model that is served.

    Raises:
        UsageError: weights for several models, or a description for no model.
        Else as :func:`mobilenext.sources.find.find_subject`.
    """
    files = [weights] if isinstance(weights, str | os.PathLike) else list(weights or ())
    if len(files) == 1 and len(models) > 1:
        raise UsageError(f"weights {files[0]} were given with {len(models)} models; name them as --model MODEL.TAG")
    if len(files) > 1 and (nameless := [model for model in models if "." not in model]):
        raise UsageError(
            f"{len(files)} files of weights were given with the model {nameless[0]}; expected weights alone, which "
            "say what they are of, or models as MODEL.TAG"
        )
    if not models and not files and not exported and not onnx:
        log.info("no model was named: the bundled %s, which knows handwritten digits only", BUNDLED)
        models = (BUNDLED,)
    if not files and (use is not None or section is not None):
        raise UsageError(
            "use or section was given without weights; expected --weights FILE, as these options select weights "
            "within a file"
        )
    subjects: list[tuple[str, Subject]] = []
    if len(files) == 1:
        subjects.append(
            ("", find_subject(model=models[0] if models else None, weights=files[0], use=use, section=section))
        )
    else:
        for model in models:
            subjects.append((model if "." in model else "", find_subject(model=model)))
        subjects += [("", find_subject(weights=file, use=use, section=section)) for file in files]
    for folder in exported:
        subject = find_subject(exported=folder)
        where = subject.path if subject.kind == "exported" else subject.path.parent
        subjects.append((where.resolve().name, subject))
    subjects += [(Path(file).stem, find_subject(onnx=file)) for file in onnx]
    fields = {
        "preprocessing": dict(description.get("preprocessing") or {}),
        "labels": description.get("labels"),
        "output": description.get("output_name"),
    }
    return _with_description(subjects, {name: value for name, value in fields.items() if value})


def _with_description(subjects: Sequence[tuple[str, Subject]], fields: dict[str, Any]) -> list[tuple[str, Subject]]:
    """Return the subjects, with these fields where a subject does not describe itself."""
    foreign = [subject for _, subject in subjects if subject.kind in ("onnx", "paddle")]
    if not foreign and fields.keys() <= {"labels", "preprocessing"} and len(subjects) == 1:
        foreign = [subjects[0][1]]
    if fields and not foreign:
        raise UsageError(
            f"{', '.join(fields)} was given, but the models that are served say theirs; it is for --onnx, and for "
            "Paddle Inference models of other projects"
        )
    return [(name, replace(subject, **fields) if subject in foreign else subject) for name, subject in subjects]


def serve(
    subjects: Sequence[tuple[str, Subject]],
    limits: Limits,
    *,
    front: Front | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    answering: Mapping[str, Any] | None = None,
    on_ready: Callable[[dict[str, Any]], None] | None = None,
    **copying: Unpack[Copying],
) -> None:
    """Open the models and answer requests until a signal comes, which may be while the models are opened.

    Threads may still decode or compute at the end, for requests that clients gave up; ``stopping.leave`` ends them.

    Args:
        subjects: of `subjects_of`.
        front: what stands before the server; without names in it, a server of this computer only answers to those
            of the computer itself.
        host, port: to listen on; port 0 takes a free one, and the log says which.
        answering: options of answers where a request has none, such as ``score_threshold``.
        on_ready: called when requests are answered, with the address (``url``), that of the interface's page
            (``interface``) and the names of the ``models``.
        **copying: how the networks are run.

    Raises:
        MissingDependency: the extra `serve` is not installed. UsageError: the port is taken, or a number out of range.
        TypeError: a keyword that is none of these.
    """
    refuse_unknown(copying, Copying.__annotations__, "serve")
    require_extra()
    threads, copies = copying.get("threads", 1), copying.get("copies")
    if threads < 1 or (copies is not None and copies < 1):
        raise UsageError(f"threads is {threads} and copies {copies}; expected whole numbers from 1 up")
    for name, value in {**FAST_PROCESS, "OMP_NUM_THREADS": str(threads)}.items():
        os.environ.setdefault(name, value)  # for the libraries that are loaded from here on
    from mobilenext.data.resampling import expect
    from mobilenext.serving.app import create_app
    from mobilenext.serving.models import open_models

    with _own_stderr(), contextlib.closing(_listen(host, port)) as listener, watched_scratch_folder() as folder:
        address = listener.getsockname()[:2]
        copies, runtime = copies or max(1, available_cores() // threads), copying.get("runtime", "auto")
        models = open_models(subjects, folder, runtime=runtime, threads=threads, copies=copies, answering=answering)
        preprocessing = models[0].record.preprocessing
        expect(None, preprocessing.interpolation, preprocessing.image_size)
        app = create_app(models, limits, front=_named(front or Front(), _is_local(address[0])))
        with _kept():
            _run(app, limits, listener, [model.name for model in models], on_ready)
        log.info("stopped")


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Let the collector of cycles pass over what has been imported and opened.

    It stays for as long as the server runs. With many clients, looking through all of it again and again would take a
    fiftieth of the time, and all answers wait for it.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _own_stderr() -> Iterator[None]:
    """Let only Python write to standard error.

    libtiff prints warnings there, as many as the author of a file likes: they would fill the log, and where the log is
    a pipe that nobody reads, the server would wait for ever.
    """
    python_stderr = sys.stderr
    try:
        python_stderr.flush()
        real, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # there is no standard error
        yield
        return
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is python_stderr
    ]
    with open(os.dup(real), "w", buffering=1, errors="backslashreplace") as sys.stderr:  # noqa: PTH123
        try:
            for handler in handlers:
                handler.setStream(sys.stderr)
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            for handler in handlers:
                handler.setStream(python_stderr)
            sys.stderr = python_stderr


def require_extra() -> None:
    """Raise MissingDependency, in one line, if a package that serving needs is not installed."""
    require(PACKAGES, "serve", "mobilenext serve")


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise UsageError(f"port is {port}; expected 0 (any that is free) to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen on {host} port {port}: {reason}; choose another --port or --host") from error
    return listener


def _is_local(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def _named(front: Front, local: bool) -> Front:
    """Add the names of this computer to the allowed ones; a server that is open to the network answers to any name."""
    if front.hosts is None and not local:
        return front
    return replace(front, hosts=(*LOCAL, *(front.hosts or ())))


def _run(
    app: FastAPI,
    limits: Limits,
    listener: socket.socket,
    names: Sequence[str],
    on_ready: Callable[[dict[str, Any]], None] | None,
) -> None:
    import uvicorn

    from mobilenext.serving.protocol import GracefulServer, timed_protocol

    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        app, http=timed_protocol(limits), ws="none", lifespan="on", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, backlog=BACKLOG,
        timeout_keep_alive=10, timeout_graceful_shutdown=max(1, round(limits.timeout_s)),
    )  # fmt: skip
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    server = GracefulServer(config)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    server.announcement = f"serving {', '.join(names)} at {url} (the interface: {url}/docs; Ctrl-C stops)"
    if on_ready is not None:
        server.ready = partial(on_ready, {"url": url, "interface": f"{url}/docs", "models": list(names)})
    if not _is_local(host):
        log.warning("open to the network: there is no password and no encryption")
    asyncio.run(server.serve(sockets=[listener]))
