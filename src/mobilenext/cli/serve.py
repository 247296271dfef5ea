"""``serve``."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import Any

from mobilenext.cli.options import (
    EXPORTED,
    JSON,
    LABELS,
    MODEL,
    ONNX,
    OUTPUT_NAME,
    RUNTIME,
    SCORING,
    SECTION,
    THREADS,
    USE,
    WEIGHTS,
    Flag,
    add_flags,
    add_preprocessing,
    preprocessing_of,
    print_json,
    values_of,
)  # fmt: skip
from mobilenext.cli.parsing import Joined
from mobilenext.cli.verb import Verb
from mobilenext.machine.stopping import Stop

SERVED = ("--score-threshold", "--iou-threshold", "--max-detections")


def _declare(command: argparse.ArgumentParser) -> None:
    add_flags(
        command,
        MODEL.several(help="names from `mobilenext list`, or model.tag"),
        WEIGHTS.several(help="checkpoint files, or one tag of the model"),
        USE,
        SECTION,
        EXPORTED.several(help="folders written by `mobilenext export`"),
        ONNX.several(help="ONNX classifiers"),
        LABELS,
        OUTPUT_NAME,
    )
    add_preprocessing(command, "preprocessing of foreign models, which do not state theirs: ONNX, Paddle Inference")
    command.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: this computer only)"
    )
    command.add_argument(
        "--port", type=int, default=8080, metavar="N", help="port to listen on; 0 takes a free one (default: 8080)"
    )
    add_flags(command, RUNTIME, THREADS(default=1, help="threads per copy of a network (default: 1)"))
    command.add_argument(
        "--copies", type=int, metavar="N", help="copies of each network (default: one per --threads cores)"
    )
    objects = command.add_argument_group("objects, of detectors: what a request does not say (default: the weights')")
    add_flags(objects, *(flag for flag in SCORING if flag.names[0] in SERVED))
    _declare_limits(command)
    _declare_front(command)
    add_flags(
        command, JSON(help="print the address and the models as JSON on standard output when requests are answered")
    )


def _declare_limits(command: argparse.ArgumentParser) -> None:
    """Declare what one request, and all of them, may cost."""
    command.add_argument(
        "--max-body-mb", type=float, default=10, metavar="MB", help="maximum size of an upload (default: 10)"
    )
    image_formats = Flag(
        "--image-formats", earlier="--formats", dest="formats", action=Joined,
        default="AVIF,BMP,GIF,JPEG,PNG,TIFF,WEBP", metavar="NAME,...",
        help="image formats to accept (default: %(default)s; also possible: ICO, JPEG2000, PPM)",
    )  # fmt: skip
    add_flags(command, image_formats)
    command.add_argument(
        "--max-megapixels", type=float, default=50, metavar="MP", help="maximum size of an image (default: 50)"
    )
    command.add_argument(
        "--max-concurrency", type=int, default=96, metavar="N", help="maximum concurrent predictions (default: 96)"
    )
    command.add_argument(
        "--max-per-client",
        type=int,
        metavar="N",
        help="maximum concurrent predictions from one address (default: three quarters of all)",
    )
    command.add_argument(
        "--max-batch", type=int, default=1, metavar="N", help="images per call of a network (default: 1)"
    )
    command.add_argument(
        "--timeout",
        type=float,
        default=10,
        metavar="SECONDS",
        help="limit for an upload, and for an answer (default: 10)",
    )


def _declare_front(command: argparse.ArgumentParser) -> None:
    """Declare under which names the server answers, and behind which proxies."""
    hosts = Flag("--allow-host", metavar="NAME", help="further host names of this server, such as *.example.org")
    proxies = Flag(
        "--trusted-proxy",
        metavar="ADDRESS",
        help="addresses or networks of proxies whose forwarded addresses and names are trusted",
    )
    origins = Flag(
        "--allow-origin",
        metavar="ORIGIN",
        help="other sites whose pages may send requests, such as https://app.example.org",
    )
    add_flags(command, hosts.several(default=None), proxies.several())
    command.add_argument(
        "--root-path", default="", metavar="PATH", help="path under which a proxy shows this server, such as /models"
    )
    add_flags(command, origins.several())


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
    answering = values_of(options, "score_threshold", "iou_threshold", "max_detections")
    execution = values_of(options, "host", "port", "runtime", "threads", "copies")
    on_ready = _print_ready if options.json else None
    serve(subjects, limits, front=front, answering=answering, on_ready=on_ready, **execution)


def _print_ready(facts: dict[str, Any]) -> None:
    print_json(facts)
    sys.stdout.flush()  # a program that reads it waits for the server


SERVE = Verb(
    "serve",
    "run a demo server: a page, and classes and heat maps of images, or the objects in them, over HTTP",
    _declare,
    _serve,
    (
        "serve                                    # the bundled network of digits, at http://127.0.0.1:8080",
        "serve --weights runs/a/best.safetensors runs/b/best.safetensors",
        "serve --model mobilenext_x0_35.digits,mobilenext_x0_35.tiny20 --port 8000",
    ),
)
