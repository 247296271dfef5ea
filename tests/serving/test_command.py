"""The installed command on a real socket."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

DIGITS = "mobilenext_x0_35.digits"
PATIENCE = 300  # seconds, as long as a client waits: a busy machine does not take that long
Serving = Callable[..., tuple[subprocess.Popen[str], int]]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A new connection for each request, as of many clients."""
    with httpx.Client(timeout=PATIENCE, limits=httpx.Limits(max_keepalive_connections=0)) as opened:
        yield opened


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_stopped_and_leaves_nothing(
    serving: Serving, exported: Path, digits: list[Path], expected: list[dict[str, Any]], sent: signal.Signals,
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process, port = serving("--exported", exported, "--exported", exported)
    address = f"http://127.0.0.1:{port}"
    names = [card["name"] for card in client.get(f"{address}/v1/models").json()["models"]]
    assert names == ["folder", "folder-2"]
    for path, row in zip(digits, expected, strict=True):
        answer = client.post(f"{address}/v1/predict", params={"topk": 3}, files={"file": path.read_bytes()}).json()
        assert [each["id"] for each in answer["classes"]] == row["classes"]
    process.send_signal(sent)
    assert process.wait(PATIENCE) == 0
    assert process.stderr is not None
    assert process.stderr.read().splitlines()[-1] == "stopped"
    left = {path.name for path in tmp_path.iterdir()} - {".ses"}  # which ONNX Runtime makes when it is imported
    assert left == set()


def test_without_a_model_it_is_the_bundled_one(serving: Serving, client: httpx.Client) -> None:
    process, port = serving("--allow-host", "models.example.org", "--trusted-proxy", "127.0.0.1", "--json")
    (card,) = client.get(f"http://localhost:{port}/v1/models").json()["models"]
    assert (card["name"], card["heat_map"]) == (DIGITS, True)
    for host, status in (("models.example.org", 200), ("other.example.org", 421)):  # as a proxy passes them on
        headers = {"Host": host, "X-Forwarded-For": "203.0.113.7", "X-Forwarded-Host": host}
        assert client.get(f"http://127.0.0.1:{port}/v1/models", headers=headers).status_code == status
    with pytest.raises(OSError, match=r".*"), socket.create_connection((_other_address(), port), PATIENCE):
        pass
    process.terminate()
    assert process.wait(PATIENCE) == 0
    assert process.stdout is not None
    url = f"http://127.0.0.1:{port}"
    assert json.loads(process.stdout.read()) == {"url": url, "interface": f"{url}/docs", "models": [DIGITS]}


def _other_address() -> str:
    """An address of this machine that is not the loopback's, or one that refuses as well."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])
    return "127.0.0.2"


def test_a_flood_is_refused_and_survived(
    serving: Serving, client: httpx.Client, exported: Path, digits: list[Path]
) -> None:
    _, port = serving("--exported", exported, "--max-concurrency", 6, "--timeout", 60)
    address = f"http://127.0.0.1:{port}/v1/predict"
    content = digits[0].read_bytes()

    def ask(_: int) -> int:
        return client.post(address, content=content).status_code

    with ThreadPoolExecutor(48) as threads:
        statuses = Counter(threads.map(ask, range(480)))
    assert set(statuses) <= {200, 429, 503}, statuses
    assert statuses[200] > 0
    assert client.post(address, content=content).status_code == 200


def test_slow_clients_are_cut_off_and_keep_nobody_waiting(
    serving: Serving, client: httpx.Client, exported: Path, digits: list[Path]
) -> None:
    _, port = serving("--exported", exported, "--timeout", 1, "--max-concurrency", 8)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(8)]
    for each in slow[:6]:  # all that one client may have
        each.sendall(head + b"a few bytes")
    time.sleep(0.3)
    assert client.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    assert client.post(f"http://127.0.0.1:{port}/v1/predict", content=digits[0].read_bytes()).status_code == 429
    for each in slow[:6]:
        assert each.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert client.post(f"http://127.0.0.1:{port}/v1/predict", content=digits[0].read_bytes()).status_code == 200
    slow[6].sendall(head[:30])  # half a head, and nothing at all
    for each in slow[6:]:
        assert each.recv(4096) == b""
    for each in slow:
        each.close()


def test_bytes_that_are_no_http(serving: Serving, client: httpx.Client, exported: Path) -> None:
    _, port = serving("--exported", exported)
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 70_000):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(sent + b"\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                assert b"Traceback" not in connection.recv(4096)
    assert client.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def test_what_cannot_be_served(mobilenext: Callable[..., Any], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = mobilenext("serve", "--port", taken.getsockname()[1])
        assert done.returncode == 2
        assert "in use" in done.stderr
    for arguments, code, said in (
        (("--model", "mobilenext_x0_35.digit"), 3, "did you mean 'digits'"),
        (("--exported", tmp_path / "none"), 3, "no folder"),
        (("--port", 70_000), 2, "65535"),
        (("--host", "no.such.host.invalid"), 2, "cannot listen"),
        (("--max-concurrency", 0), 2, "max_concurrency"),
        (("--threads", 0), 2, "threads"),
        (("--model", "a", "--model", "b", "--weights", "w"), 2, "MODEL.TAG"),
    ):
        done = mobilenext("serve", *arguments)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_a_missing_extra_is_one_line() -> None:
    program = (
        "import sys; sys.modules['fastapi'] = None\n"
        "import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'fastapi' else find(name, *rest)\n"
        "from mobilenext.cli import main; sys.exit(main(['serve']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'mobilenext[serve]'" in done.stderr


def test_the_requests_under_way_are_answered_before_it_stops(
    serving: Serving, exported: Path, digits: list[Path]
) -> None:
    process, port = serving("--exported", exported)
    content = digits[0].read_bytes()
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(head + content[:10])
        time.sleep(0.3)
        process.terminate()
        threading.Timer(0.5, lambda: connection.sendall(content[10:])).start()
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert process.wait(PATIENCE) == 0


def test_several_weights_are_named_by_the_folders_of_their_runs(tmp_path: Path) -> None:
    from mobilenext.errors import UsageError
    from mobilenext.serving.models import name_of
    from mobilenext.serving.server import subjects_of

    paths = [tmp_path / run / f"{file}.safetensors" for run in ("first", "second") for file in ("best", "last")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
        (path.parent / "run.json").touch()
    subjects = subjects_of(models=[DIGITS], weights=paths)
    assert [(name, subject.path) for name, subject in subjects[1:]] == [("", path) for path in paths]
    assert subjects[0][0] == DIGITS
    assert [name_of(path) for path in paths] == ["first", "first-last", "second", "second-last"]
    (tmp_path / "first" / "run.json").unlink()
    assert name_of(paths[0]) == "best", "outside of a run the file has the name"
    with pytest.raises(UsageError, match=r"4 files of weights were given with the model mobilenext_x1_0"):
        subjects_of(models=["mobilenext_x1_0"], weights=paths)


def test_what_is_told_of_the_weights_that_are_served(tmp_path: Path) -> None:
    from mobilenext.errors import UsageError
    from mobilenext.serving.server import subjects_of

    path = tmp_path / "last.pth"
    path.touch()
    fields = {"image_size": 64}
    ((_, subject),) = subjects_of(weights=path, use="raw", section="student", preprocessing=fields)
    assert (subject.path, subject.use, subject.section) == (path, "raw", "student")
    assert subject.preprocessing == fields
    with pytest.raises(UsageError, match="use or section was given without weights"):
        subjects_of(models=[DIGITS], section="student")
    with pytest.raises(UsageError, match="preprocessing was given, but the models that are served say theirs"):
        subjects_of(models=[DIGITS, DIGITS], preprocessing=fields)
