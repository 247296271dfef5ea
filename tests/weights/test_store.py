"""The weights cache against a real server on 127.0.0.1 that misbehaves on request."""

from __future__ import annotations

import functools
import hashlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from mobilenext.errors import DownloadError, OutputError, UsageError
from mobilenext.machine.home import cache_folder
from mobilenext.models.published import Download
from mobilenext.weights import transfer
from mobilenext.weights.store import cached, fetch
from mobilenext.weights.verification import verify

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT_BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
OTHER = b"\x80" + CONTENT[1:]  # of the same length
FLOOD_BYTES = 100_000_000
NAME = "model_best.pth.tar"


@dataclass
class Script:
    """What the server does: one word for each GET in turn, then "whole" for ever. See `_Handler`."""

    url: str = ""
    content: bytes = CONTENT
    words: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)  # the Range header of each GET
    flood_bytes: int = 0  # how much of a flood went out
    asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    script: Script

    def do_GET(self) -> None:
        script, content = self.script, self.script.content
        wanted = self.headers["Range"]
        script.ranges.append(wanted)
        script.asked.set()
        word, _, argument = (script.words.pop(0) if script.words else "whole").partition(" ")
        start = int(wanted[len("bytes=") : -1]) if wanted else 0
        if self.headers["Accept-Encoding"] != "identity":  # a range of a compressed transfer is no range of the file
            self._answer(406, b"")
        elif word == "status":
            self._answer(int(argument), b"no")
        elif word == "redirect":
            self._answer(302, b"", Location=argument)
        elif word == "instead":
            self._answer(200, argument.encode())
        elif word == "announce":
            self._answer(200, b"", **{"Content-Length": argument})
        elif word == "no-length":
            self._answer(200, content, **{"Content-Length": None})
        elif word == "flood":
            self._answer(200, b"", **{"Content-Length": None})
            while script.flood_bytes < FLOOD_BYTES:
                script.flood_bytes += self.wfile.write(content)
        elif word == "wrong-range":
            self._answer(206, content, **{"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"})
        elif word == "short-rest":
            headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            self._answer(206, content[start : start + 500], **headers)
        elif word == "ignore-range":
            self._answer(200, content)
        elif word == "cut":
            self._answer(200, content[: int(argument)], **{"Content-Length": len(content)})
        else:
            if word == "wait":
                script.may_answer.wait(300)
            if start >= len(content):
                self._answer(416, b"")
            elif wanted:
                headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
                self._answer(206, content[start:], **headers)
            else:
                self._answer(200, content)

    def _answer(self, status: int, body: bytes, **headers: object) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing the server waits for its threads

    def handle_error(self, *_: object) -> None:
        """A client that goes away is part of these tests."""


@pytest.fixture
def server() -> Iterator[Script]:
    script = Script()
    handler = type("Handler", (_Handler,), {"script": script})
    with _Server(("127.0.0.1", 0), handler) as running:
        script.url = f"http://127.0.0.1:{running.server_port}/weights"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield script
        script.may_answer.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no proxy, no waiting between attempts."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "MOBILENEXT_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MOBILENEXT_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(transfer, "_WAITS_S", (0.0, 0.0))
    return tmp_path / "cache"


def published(server: Script) -> Download:
    return Download(NAME, server.url, git_blob=GIT_BLOB, sha256=SHA256)


def names_in(folder: Path) -> set[str]:
    """Without the lock, which some systems leave behind."""
    return {path.name for path in folder.iterdir()} - {NAME + ".lock"}


def put_part(cache: Path, content: bytes) -> None:
    cache.mkdir()
    (cache / (NAME + ".part")).write_bytes(content)


# The folder


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("MOBILENEXT_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mobilenext"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "mobilenext"
    assert not (tmp_path / "cache").exists()


def test_without_a_home_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("MOBILENEXT_HOME")
    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(OutputError, match="MOBILENEXT_HOME"):
        cache_folder()


@pytest.mark.parametrize(
    ("filename", "url"), [("../x", "https://a"), ("..", "https://a"), ("", "https://a"), ("x", "ftp://a")]
)
def test_a_source_that_cannot_work_is_refused(filename: str, url: str) -> None:
    with pytest.raises(UsageError):
        Download(filename, url)


# Fetching


def test_fetch_downloads_once_and_verifies(server: Script, cache: Path) -> None:
    source = published(server)
    assert cached(source) is None
    assert fetch(source) == cached(source) == cache / NAME
    assert fetch(source).read_bytes() == CONTENT
    assert names_in(cache) == {NAME}
    assert server.ranges == [None]


@pytest.mark.parametrize("checksum", [{"git_blob": GIT_BLOB}, {"sha256": SHA256}])
def test_one_checksum_is_enough(server: Script, checksum: dict[str, str]) -> None:
    source = Download(NAME, server.url, **checksum)
    assert verify(fetch(source), source) is None


def test_redirects_are_followed(server: Script) -> None:
    server.words = [f"redirect {server.url}/elsewhere"]
    assert fetch(published(server)).read_bytes() == CONTENT


def test_https_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.scheme == "https"
        return httpx.Response(302, headers={"Location": "http://example.org/x"})

    monkeypatch.setattr(httpx, "Client", functools.partial(httpx.Client, transport=httpx.MockTransport(answer)))
    with pytest.raises(DownloadError, match="not https"):
        fetch(Download(NAME, "https://example.org/x", sha256=SHA256))


def test_a_file_url_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENEXT_OFFLINE", "1")
    original = tmp_path / "with a space.pdparams"
    original.write_bytes(CONTENT)
    assert fetch(Download(NAME, original.as_uri(), sha256=SHA256)).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="not a readable file"):
        fetch(Download("other", (tmp_path / "missing").as_uri()))


@pytest.mark.parametrize(("progress", "is_drawn"), [(True, True), (False, False), (None, False)])
def test_the_bar(server: Script, capsys: pytest.CaptureFixture[str], progress: bool | None, is_drawn: bool) -> None:
    fetch(published(server), progress=progress)
    out, err = capsys.readouterr()
    assert (NAME in err) is is_drawn
    assert not out


# What lies in the cache


def test_a_damaged_file_is_reported_and_kept(server: Script, cache: Path) -> None:
    cache.mkdir()
    (cache / NAME).write_bytes(OTHER)
    assert cached(published(server)) == cache / NAME
    with pytest.raises(DownloadError, match=rf"expected git blob {GIT_BLOB}, found \w+\. .*delete {cache / NAME}"):
        fetch(published(server))
    assert (cache / NAME).read_bytes() == OTHER
    assert server.ranges == []


def test_a_file_put_there_by_hand_is_used_offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENEXT_OFFLINE", "1")
    source = Download(NAME, "https://example.org/x", sha256=SHA256)
    with pytest.raises(DownloadError) as refused:
        fetch(source)
    assert "https://example.org/x" in str(refused.value)
    assert str(cache / NAME) in str(refused.value)
    cache.mkdir(exist_ok=True)
    (cache / NAME).write_bytes(CONTENT)
    assert fetch(source) == cache / NAME


def test_offline_zero_means_online(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENEXT_OFFLINE", "0")
    fetch(published(server))


def test_verify_says_what_it_found(tmp_path: Path) -> None:
    path = tmp_path / NAME
    source = Download(NAME, "https://example.org/x", sha256=SHA256)
    assert "cannot be verified" in str(verify(path, source))
    path.write_bytes(b"<html>please log in</html>")
    assert "web page" in str(verify(path, source))
    assert SHA256 in str(verify(path, source))
    path.write_bytes(CONTENT)
    assert verify(path, source) is None


# Without a published checksum


def test_without_a_checksum_the_download_is_recorded(
    server: Script, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Download(NAME, server.url)
    path = fetch(source)
    assert "not verified by a published checksum" in caplog.text
    record = json.loads((cache / (NAME + ".json")).read_text())
    assert set(record) == {"url", "sha256", "size_bytes", "date"}
    assert (record["url"], record["sha256"], record["size_bytes"]) == (server.url, SHA256, len(CONTENT))
    assert fetch(source) == path
    path.write_bytes(OTHER)
    with pytest.raises(DownloadError, match=f"not what was downloaded: expected sha256 {SHA256}"):
        fetch(source)
    (cache / (NAME + ".json")).write_text("{}")
    with pytest.raises(DownloadError, match="damaged"):
        fetch(source)


@pytest.mark.parametrize("body", ["<!doctype html>", "version https://git-lfs.github.com/spec/v1", ""])
def test_without_a_checksum_an_impostor_is_refused(server: Script, cache: Path, body: str) -> None:
    server.words = [f"instead {body}"]
    with pytest.raises(DownloadError, match="not a checkpoint"):
        fetch(Download(NAME, server.url))
    assert names_in(cache) == set()


def test_without_a_checksum_a_length_is_needed(server: Script, cache: Path) -> None:
    server.words = ["no-length"]
    with pytest.raises(DownloadError, match="neither length nor checksum"):
        fetch(Download(NAME, server.url))
    server.words = ["no-length"]
    assert fetch(published(server)).read_bytes() == CONTENT


def test_without_a_checksum_nothing_is_continued(server: Script) -> None:
    server.words = ["cut 1000"]
    assert fetch(Download(NAME, server.url)).read_bytes() == CONTENT
    assert server.ranges == [None, None]


# Faults on the way


@pytest.mark.parametrize("length", [0, 1, 70_000, len(CONTENT) - 1])
def test_a_cut_download_is_continued(server: Script, length: int, caplog: pytest.LogCaptureFixture) -> None:
    server.words = [f"cut {length}"]
    assert fetch(published(server)).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={length}-" if length else None]
    assert f"{length} of {len(CONTENT)} bytes arrived" in caplog.text


def test_after_three_cuts_the_part_waits_for_the_next_call(server: Script, cache: Path) -> None:
    server.words = ["cut 1000"] + ["status 503"] * 2
    with pytest.raises(DownloadError, match=r"3 attempts: .* 503 .*same command goes on at byte 1000"):
        fetch(published(server))
    assert cached(published(server)) is None
    assert names_in(cache) == {NAME + ".part"}
    assert fetch(published(server)).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=1000-"


def test_a_cut_message_says_how_much_arrived_and_where_to_put_the_file(server: Script, cache: Path) -> None:
    server.words = ["cut 1000"] * 3
    with pytest.raises(DownloadError) as failed:
        fetch(Download(NAME, server.url))
    assert f"1000 of {len(CONTENT)} bytes arrived" in str(failed.value)
    assert str(cache / NAME) in str(failed.value)


def test_an_interrupted_download_is_continued(server: Script, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(transfer.tqdm):  # type: ignore[misc]
        def update(self, n: float | None = 1) -> bool | None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "tqdm", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(published(server))
    kept = (cache / (NAME + ".part")).stat().st_size
    assert 0 < kept <= len(CONTENT)
    assert fetch(published(server)).read_bytes() == CONTENT
    assert server.ranges[1] == f"bytes={kept}-"


@pytest.mark.parametrize(
    ("word", "said", "next_range"),
    [
        ("ignore-range", "sent from its start: the 1000 bytes that are here are dropped", []),
        ("status 416", "does not continue at byte 1000", [None]),
        ("wrong-range", "does not continue at byte 1000", [None]),
        ("short-rest", f"1500 of {len(CONTENT)} bytes arrived", ["bytes=1500-"]),
    ],
)
def test_a_server_that_does_not_continue_as_asked(
    server: Script, cache: Path, caplog: pytest.LogCaptureFixture, word: str, said: str, next_range: list[str | None]
) -> None:
    put_part(cache, CONTENT[:1000])
    server.words = [word]
    assert fetch(published(server)).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", *next_range]
    assert said in caplog.text


def test_a_part_of_another_file_is_dropped_once(server: Script, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_part(cache, OTHER[:1000])
    assert fetch(published(server)).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]
    assert "does not verify" in caplog.text


def test_a_part_that_is_already_whole_or_too_long(server: Script, cache: Path) -> None:
    put_part(cache, CONTENT + b"and more")
    assert fetch(published(server)).read_bytes() == CONTENT


def test_wrong_content_never_gets_the_final_name(server: Script, cache: Path) -> None:
    server.content = OTHER
    with pytest.raises(DownloadError) as failed:
        fetch(Download(NAME, server.url, sha256=SHA256))
    assert f"expected sha256 {SHA256}, found {hashlib.sha256(OTHER).hexdigest()}" in str(failed.value)
    assert names_in(cache) == set()
    assert server.ranges == [None]


def test_a_server_error_passes(server: Script, caplog: pytest.LogCaptureFixture) -> None:
    server.words = ["status 500", "status 429"]
    assert fetch(published(server)).read_bytes() == CONTENT
    assert "500 Internal Server Error" in caplog.text


def test_a_missing_file_is_not_asked_for_again(server: Script, cache: Path) -> None:
    server.words = ["status 404"]
    with pytest.raises(DownloadError, match=rf"404 Not Found\. .* put it at {cache / NAME}"):
        fetch(published(server))
    assert server.ranges == [None]


def test_silence_ends_an_attempt(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_TIMEOUT_S", httpx.Timeout(5.0, read=0.2))
    server.words = ["wait"]
    assert fetch(published(server)).read_bytes() == CONTENT
    assert len(server.ranges) == 2


def test_without_a_network_the_way_by_hand_is_named(cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"  # bound, but nobody listens
        with pytest.raises(DownloadError, match=rf"download {url} elsewhere and put it at {cache / NAME}"):
            fetch(Download(NAME, url, sha256=SHA256))


def test_a_proxy_that_cannot_work_is_named(server: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:1")
    with pytest.raises(DownloadError, match="ALL_PROXY"):
        fetch(published(server))


def test_no_more_than_the_largest_size_is_taken(server: Script, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.words = [f"announce {1 << 40}"]
    with pytest.raises(DownloadError, match="is larger than 1073741824 bytes"):
        fetch(published(server))
    monkeypatch.setattr(transfer, "_LARGEST_BYTES", 100_000)
    server.words = ["flood"]
    with pytest.raises(DownloadError, match="is larger than 100000 bytes"):
        fetch(published(server))
    assert server.flood_bytes < FLOOD_BYTES
    assert names_in(cache) == set()


# The disk


def test_a_cache_that_cannot_be_made(server: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOBILENEXT_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match=rf"{tmp_path / 'file' / 'cache'} .*MOBILENEXT_HOME"):
        fetch(published(server))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device without free space")
def test_a_full_disk(server: Script, cache: Path) -> None:
    cache.mkdir()
    (cache / (NAME + ".part")).symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"No space left.* MOBILENEXT_HOME"):
        fetch(published(server))
    assert cached(published(server)) is None


# Two processes


def test_two_processes_download_once(server: Script, cache: Path) -> None:
    server.words = ["wait"]
    code = f"from mobilenext.weights.store import Download, fetch; print(fetch({published(server)!r}))"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    with start() as first:
        assert server.asked.wait(300)
        with start() as second:
            assert second.stderr is not None
            waits = second.stderr.readline()
            server.may_answer.set()
            ends = [process.communicate(timeout=300) for process in (first, second)]
    assert "another process is downloading" in waits
    assert ends == [(f"{cache / NAME}\n", "")] * 2
    assert server.ranges == [None]
    assert (cache / NAME).read_bytes() == CONTENT
