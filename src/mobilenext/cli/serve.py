"""``serve``."""

from __future__ import annotations

import argparse
import logging

from mobilenext.cli.options import (
    EXPORTED,
    LABELS,
    MODEL,
    ONNX,
    OUTPUT_NAME,
    RUNTIME,
    SECTION,
    THREADS,
    USE,
    WEIGHTS,
    add_flags,
    add_preprocessing,
    preprocessing_of,
    values_of,
)  # fmt: skip
from mobilenext.cli.verb import Verb
from mobilenext.machine.stopping import Stop


def _declare(command: argparse.ArgumentParser) -> None:
    add_flags(
        command,
        MODEL(action="append", default=[], metavar="NAME", help="model or model.tag; repeat it"),
        WEIGHTS(help="a file, or a tag of the one model's card"),
        USE,
        SECTION,
        EXPORTED(action="append", default=[], help="of `mobilenext export`; repeat it"),
        ONNX(action="append", default=[], help="an ONNX classifier; repeat it"),
        LABELS,
        OUTPUT_NAME,
    )
    add_preprocessing(command, "preprocessing of the models that do not say theirs: ONNX, Paddle Inference")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this computer only)")
    command.add_argument("--port", type=int, default=8080, help="0 takes one that is free (default 8080)")
    add_flags(command, RUNTIME, THREADS(default=1, help="of each copy of a network (default 1)"))
    command.add_argument("--copies", type=int, help="of each network (default: one for each --threads cores)")
    _declare_limits(command)
    _declare_front(command)


def _declare_limits(command: argparse.ArgumentParser) -> None:
    """Declare what one request, and all of them, may cost."""
    command.add_argument("--max-body-mb", type=float, default=10, metavar="MB", help="of an upload (default 10)")
    command.add_argument(
        "--formats", default="AVIF,BMP,GIF,JPEG,PNG,TIFF,WEBP", metavar="LIST",
        help="of images that are read; others there are: ICO, JPEG2000, PPM (default: %(default)s)",
    )  # fmt: skip
    command.add_argument("--max-megapixels", type=float, default=50, metavar="MP", help="of an image (default 50)")
    command.add_argument("--max-concurrency", type=int, default=96, metavar="N", help="predictions inside (default 96)")
    command.add_argument(
        "--max-per-client", type=int, metavar="N", help="of them from one address (default: three quarters)"
    )
    command.add_argument("--max-batch", type=int, default=1, metavar="N", help="images a call of a network (default 1)")
    command.add_argument("--timeout", type=float, default=10, metavar="SECONDS", help="to upload, and to answer")


def _declare_front(command: argparse.ArgumentParser) -> None:
    """Declare under which names the server answers, and behind which proxies."""
    command.add_argument(
        "--allow-host", action="append", metavar="NAME", help="another name that is answered, *.example.org; repeat it"
    )
    command.add_argument(
        "--trusted-proxy", action="append", default=[], metavar="ADDRESS",
        help="address or network of a proxy whose forwarded addresses and names count; repeat it",
    )  # fmt: skip
    command.add_argument("--root-path", default="", metavar="PATH", help="where a proxy shows the server, /models")
    command.add_argument(
        "--allow-origin", action="append", default=[], metavar="ORIGIN",
        help="another site whose pages may ask, https://app.example.org; repeat it",
    )  # fmt: skip


def _serve(options: argparse.Namespace) -> int:
    try:
        _serve_until_stopped(options)
    except (Stop, KeyboardInterrupt):  # while it was starting
        logging.info("stopped")
    return 0


def _serve_until_stopped(options: argparse.Namespace) -> None:
    from mobilenext.serving.server import require_extra, serve, subjects_of

    require_extra()
    from mobilenext.serving.front import Front
    from mobilenext.serving.limits import Limits

    limits = Limits(
        max_body_bytes=round(options.max_body_mb * 2**20),
        max_pixels=round(options.max_megapixels * 1e6),
        timeout_s=options.timeout,
        max_concurrency=options.max_concurrency,
        max_per_client=options.max_per_client,
        max_batch=options.max_batch,
        formats=tuple(options.formats.upper().replace(",", " ").split()),
    )
    front = Front.of(
        hosts=options.allow_host, proxies=options.trusted_proxy, prefix=options.root_path, origins=options.allow_origin
    )
    subjects = subjects_of(
        models=options.model,
        weights=options.weights,
        use=options.use,
        section=options.section,
        exported=options.exported,
        onnx=options.onnx,
        preprocessing=preprocessing_of(options),
        labels=options.labels,
        output_name=options.output_name,
    )
    serve(subjects, limits, front=front, **values_of(options, "host", "port", "runtime", "threads", "copies"))


SERVE = Verb("serve", "a demo server: a page, and images in, classes and heat maps out over HTTP", _declare, _serve)
