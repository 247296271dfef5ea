"""Requests a second of `mobilenext serve` against what the network alone can do, in one interleaved run.

python benchmarks/serving.py                        # results/bench_serving.json; both cores
python benchmarks/serving.py --rounds 1 --seconds 2 -o FILE

MobileNeXt x1.0, freshly initialised, exported to ONNX at 224 pixels, is served by the installed command, with the
default limits. Clients are threads of one other process that keep a connection each and send a JPEG of 500 x 375
pixels as soon as the last one is answered. Server and clients share the cores: the processor time of the clients is
measured, and taken off the cores that the limits have. A limit is what one process for each core, or one thread for
each core in one process, does while the server is idle: all that an answer needs, called in turn (parsing the request,
decoding it in a bounded process as the server does, preprocessing, the network, the answer). Both are measured before
and after each measurement of the server, for half as long: a machine that is shared changes its speed within a minute.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httptools
import numpy as np
from PIL import Image

from mobilenext.data.images import decode_image
from mobilenext.data.resampling import LOADING_PAYS, begin
from mobilenext.machine.cores import available_cores
from mobilenext.machine.environment import environment
from mobilenext.machine.process_environment import FAST_PROCESS
from mobilenext.origin import origin
from mobilenext.runtime import Runtime, open_runtime
from mobilenext.serving.limits import Limits
from mobilenext.sources.choice import Choice
from mobilenext.sources.find import find_subject
from mobilenext.sources.prepare import prepare
from mobilenext.tasks import find_task

MODEL = "mobilenext_x1_0"
CLIENTS = (1, 8, 64)
BATCHES = (1, 8)  # --max-batch
MEMORY_REQUESTS = 2000


def photo(seed: int = 0) -> bytes:
    """A JPEG with the size and the detail of a photo of ImageNet."""
    coarse = np.random.default_rng(seed).integers(0, 256, (47, 63, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def export_fresh(folder: Path) -> Path:
    """The network as an exported folder; its parent holds the weights."""
    import paddle

    from mobilenext import create_model
    from mobilenext.exporting import export_model

    paddle.seed(0)
    paddle.save(create_model(MODEL).state_dict(), str(folder / "fresh.pdparams"))
    for seed in range(8):
        (folder / f"{seed}.jpg").write_bytes(photo(seed))
    images = [str(path) for path in sorted(folder.glob("*.jpg"))]
    export_model(folder / MODEL, weights=str(folder / "fresh.pdparams"), images=images)
    return folder / MODEL


class Server:
    """The installed command in a process of its own."""

    def __init__(self, exported: Path, max_batch: int) -> None:
        command = [sys.executable, "-m", "mobilenext", "serve", "--port", "0", "--exported", str(exported)]
        self.process = subprocess.Popen(
            [*command, "--max-batch", str(max_batch), "--timeout", "60"], stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if match := re.search(r"http://\S+?:(\d+) ", line):
                self.port = int(match[1])
                return
        raise SystemExit("the server did not start")

    def memory_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+)", status)
        assert match is not None
        return int(match[1]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def load(port: int, clients: int, seconds: float, content: bytes, requests: int | None = None) -> dict[str, Any]:
    """Ask with so many clients at once, for a time or a number of requests."""
    times: list[float] = []
    statuses: Counter[int] = Counter()
    until = time.perf_counter() + seconds
    left = iter(range(requests)) if requests else iter(int, 1)
    lock = threading.Lock()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() < until:
            with lock:
                if next(left, None) is None:
                    break
            began = time.perf_counter()
            connection.request("POST", "/v1/predict", content, {"Content-Type": "image/jpeg"})
            response = connection.getresponse()
            response.read()
            with lock:
                times.append(time.perf_counter() - began)
                statuses[response.status] += 1
        connection.close()

    began, processor_began = time.perf_counter(), time.process_time()
    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, processor = time.perf_counter() - began, time.process_time() - processor_began
    ordered = sorted(times)
    return {
        "clients": clients,
        "requests": len(times),
        "requests_per_second": len(times) / took,
        "cores_of_clients": processor / took,
        "p50_ms": 1e3 * statistics.median(ordered),
        "p99_ms": 1e3 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
    }


def _parsed(request: bytes) -> bytes:
    """Return the body of a request, by the parser that the server uses."""
    parts: list[bytes] = []
    httptools.HttpRequestParser(SimpleNamespace(on_body=parts.append)).feed_data(request)
    return b"".join(parts)


def _alone(exported: Path, threads: int, requests: Connection) -> None:
    """One process of a limit: answer `(stages, seconds)` with images a second; `stages` is network, or all."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(find_subject(exported=exported), Path(folder), Choice())
        networks, record, limits = [open_runtime(prepared.spec) for _ in range(threads)], prepared.record, Limits()
        task = find_task(record.task)
        options = {**task.options_of({}), "sizes": [(500, 375)], "names": [None]}
        head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
        request = (head % len(photo())).encode() + photo()
        begin(LOADING_PAYS, record.preprocessing.interpolation, record.preprocessing.image_size)

        def batch() -> Any:
            image = decode_image(_parsed(request), apply_orientation=True, limits=limits.image, wait_s=limits.timeout_s)
            return record.preprocessing.normalize(record.preprocessing.pixels(image))[None]

        def work(network: Runtime, stages: str, seconds: float) -> float:
            done, began = 0, time.perf_counter()
            while time.perf_counter() < began + seconds:
                if stages == "all":
                    task.evaluation.answer(tuple(network.predict(batch())), record, options)
                else:
                    network.predict(ready)
                done += 1
            return done / (time.perf_counter() - began)

        ready = batch()
        requests.send(0.0)
        with ThreadPoolExecutor(threads) as pool:
            while order := requests.recv():
                requests.send(sum(pool.map(work, networks, *([value] * threads for value in order))))


class Limit:
    """Processes that do without a server what the server does; they wait between two measurements."""

    def __init__(self, exported: Path, processes: int, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        pairs = [context.Pipe() for _ in range(processes)]
        self._ends = [own for own, _ in pairs]
        self._processes = [context.Process(target=_alone, args=(exported, threads, other)) for _, other in pairs]
        for process in self._processes:
            process.start()
        for end in self._ends:
            end.recv()

    def images_per_second(self, stages: str, seconds: float) -> float:
        for end in self._ends:
            end.send((stages, seconds))
        return float(sum(end.recv() for end in self._ends))

    def stop(self) -> None:
        for end in self._ends:
            end.send(None)
        for process in self._processes:
            process.join()


def measure(servers: dict[int, Server], limits: dict[str, Limit], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each server and number of clients of each round, with the limits before and after it."""
    rows: list[dict[str, Any]] = []
    content = photo()
    for server in servers.values():
        load(server.port, 8, 2, content)  # warm

    def now() -> dict[str, float]:
        return {name: limit.images_per_second("all", options.seconds / 2) for name, limit in limits.items()}

    for number in range(options.rounds):
        before = now()
        for size, server in servers.items():
            for clients in CLIENTS:
                row = load(server.port, clients, options.seconds, content)
                after = now()
                means = {name: (before[name] + after[name]) / 2 for name in limits}
                rows.append({"round": number, "max_batch": size, **row, "limits_images_per_second": means})
                print(rows[-1], flush=True)
                before = after
    return rows


def memory_of(server: Server) -> list[float]:
    """Return the memory before requests, and after each quarter of them."""
    memory = [server.memory_mib()]
    for _ in range(4):
        load(server.port, 8, 600, photo(), MEMORY_REQUESTS // 4)
        memory.append(server.memory_mib())
    return [round(value, 1) for value in memory]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("-o", "--output", default="results/bench_serving.json")
    options.add_argument("--rounds", type=int, default=6)
    options.add_argument("--seconds", type=float, default=4)
    arguments = options.parse_args()
    os.environ.update(FAST_PROCESS | {"OMP_NUM_THREADS": "1"})
    with tempfile.TemporaryDirectory() as name:
        exported = export_fresh(Path(name))
        where, cores = environment(), available_cores()
        limits = {"processes": Limit(exported, cores, 1), "threads": Limit(exported, 1, cores)}
        servers = {size: Server(exported, size) for size in BATCHES}
        try:
            rows = measure(servers, limits, arguments)
            network = limits["processes"].images_per_second("network", arguments.seconds)
            memory = memory_of(servers[BATCHES[0]])
        finally:
            for limit in limits.values():
                limit.stop()
            for server in servers.values():
                server.stop()
    result = {
        "model": MODEL,
        "image": {"format": "JPEG", "size": [500, 375], "bytes": len(photo())},
        "seconds": arguments.seconds,
        "network_images_per_second": network,
        "rows": rows,
        "memory_mib_every_500_requests": memory,
        "load_average_after": [round(value, 2) for value in os.getloadavg()],
        **origin(),
        "environment": where,
    }
    Path(arguments.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
