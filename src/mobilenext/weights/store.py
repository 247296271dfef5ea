"""The cache of published weights: found there, or downloaded, and verified whenever it is used.

    published file  ->  <filename>.part  ->  verified  ->  <filename>

Only a verified file carries the final name. Beside it may lie `<filename>.part` (an unfinished download),
`<filename>.lock` (one process downloads, the others wait) and `<filename>.json` (what was downloaded, for a file whose
publisher gives no checksum). The next call continues an unfinished download if there is a checksum, which tells whether
the two halves belong together; otherwise it starts over.

Environment: MOBILENEXT_HOME is the cache folder, MOBILENEXT_OFFLINE=1 forbids the network, and HTTPS_PROXY, NO_PROXY
and SSL_CERT_FILE mean what they mean elsewhere.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
from filelock import FileLock, Timeout
from tqdm import tqdm

from mobilenext.errors import DataError, DownloadError, OutputError
from mobilenext.files import git_blob_id, sha256_of
from mobilenext.json_files import read_json, sha256
from mobilenext.machine.home import user_home
from mobilenext.models.published import Download

_log = logging.getLogger(__name__)

_WAITS_S = (1.0, 4.0)  # before the second and the third attempt
_TIMEOUT_S = httpx.Timeout(30.0, connect=10.0)  # of silence, not for the whole download
_LARGEST_BYTES = 1 << 30  # published checkpoints are below 100 MB: more is not a checkpoint
_IMPOSTORS = {b"<": "a web page", b"version https://git-lfs": "a git-lfs pointer instead of the file it stands for"}


def cache_folder() -> Path:
    """Return $MOBILENEXT_HOME, else $XDG_CACHE_HOME/mobilenext, else ~/.cache/mobilenext; not created here.

    Raises OutputError where the user has no home folder and none of the variables is set.
    """
    try:
        if home := os.environ.get("MOBILENEXT_HOME"):
            return Path(home).expanduser().absolute()
        if caches := os.environ.get("XDG_CACHE_HOME"):
            return Path(caches).expanduser().absolute() / "mobilenext"
        return user_home().absolute() / ".cache" / "mobilenext"
    except RuntimeError as error:
        raise OutputError(f"no folder for the weights: {error} Set MOBILENEXT_HOME to a folder.") from error


def cached(source: Download) -> Path | None:
    """Return the file in the cache, if it is there and complete. Nothing is hashed: `verify` and `fetch` do that."""
    path = cache_folder() / source.filename
    return path if path.is_file() else None


def fetch(source: Download, *, progress: bool | None = None) -> Path:
    """Return the verified file in the cache, downloaded if it is not there; one put there by hand is verified, too.

    progress: draw a bar on standard error; None draws it only on a terminal.

    Raises DownloadError when the file cannot be brought or is not the published one, and OutputError when the cache
    cannot be written.
    """
    final = cache_folder() / source.filename
    with _cache_errors(final.parent):
        if cached(source) is None:
            if os.environ.get("MOBILENEXT_OFFLINE", "") not in ("", "0") and not source.is_local:
                raise DownloadError(f"{source.filename} is not here and MOBILENEXT_OFFLINE is set. {_by_hand(source)}")
            final.parent.mkdir(parents=True, exist_ok=True)
            with _only_process(final):
                if cached(source) is None:  # no other process brought it while this one waited
                    _download(source, final, progress)
    if problem := verify(final, source):
        raise DownloadError(f"{problem}. It is left as it is: delete {final} and run again to download it.")
    if not source.has_checksum:
        _log.warning("%s is not verified by a published checksum: there is none for %s", final, source.url)
    return final


def verify(path: Path, source: Download) -> str | None:
    """Return None if the content of `path` is the published one, else why not, without a full stop.

    Without a published checksum the sha256 recorded at download counts; a file put there by hand has none either, and
    is then only refused when it is plainly no checkpoint: empty, a web page or a git-lfs pointer.
    """
    record = _beside(path, ".json")
    try:
        with path.open("rb") as file:
            head = file.read(64)
        looks_like = next((what for start, what in _IMPOSTORS.items() if head.startswith(start)), None)
        hint = f"; it looks like {looks_like}" if looks_like else ""
        if source.git_blob and (blob := git_blob_id(path)) != source.git_blob:
            return f"{path} does not verify: expected git blob {source.git_blob}, found {blob}{hint}"
        if source.sha256 and (digest := sha256_of(path)) != source.sha256:
            return f"{path} does not verify: expected sha256 {source.sha256}, found {digest}{hint}"
        if source.has_checksum:
            return None
        if looks_like or not head:
            return f"{path} is not a checkpoint: it is {looks_like or 'empty'}"
        if record.exists():
            expected = read_json(record, {"sha256": sha256()}, remedy="delete that too")["sha256"]
            if (digest := sha256_of(path)) != expected:
                return f"{path} is not what was downloaded: expected sha256 {expected} (from {record}), found {digest}"
    except (OSError, DataError) as error:
        return f"{path} cannot be verified: {error}"
    return None


def _download(source: Download, final: Path, progress: bool | None) -> None:
    """Bring the file to its .part, verify it and give it its final name."""
    _log.info("downloading %s to %s", source.url, final)
    part = _beside(final, ".part")
    if source.is_local:
        _copy(source, part)
    else:
        _transfer(source, part, progress)
    if problem := verify(part, source):
        part.unlink(missing_ok=True)
        raise DownloadError(f"{problem}. It came from {source.url} and has been removed.")
    if not source.has_checksum:
        record = {
            "url": source.url,
            "sha256": sha256_of(part),
            "size_bytes": part.stat().st_size,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        _beside(final, ".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    part.replace(final)


class _Fault(Exception):
    """What went wrong in one attempt and may go right in the next."""


def _copy(source: Download, part: Path) -> None:
    """Do the same as `_transfer` for a file:// URL."""
    original = Path(url2pathname(urlsplit(source.url).path))
    if not (original.is_file() and os.access(original, os.R_OK)):
        raise DownloadError(f"{source.url} cannot be read: {original} is not a readable file.")
    shutil.copyfile(original, part)


def _transfer(source: Download, part: Path, progress: bool | None) -> None:
    """Bring all bytes to `part`; each attempt goes on where the last one ended, be it in this process or before."""
    waits_s = iter(_WAITS_S)
    with _client(source) as client:
        while True:
            try:
                return _attempt(client, source, part, progress)
            except _Fault as fault:
                kept, wait_s = _kept_bytes(part, source), next(waits_s, None)
                if wait_s is None:
                    raise DownloadError(
                        f"{source.url} was not downloaded in {1 + len(_WAITS_S)} attempts: {fault}. "
                        f"The same command goes on at byte {kept}. {_by_hand(source)}"
                    ) from fault
                _log.warning("%s: %s; next attempt in %g s, from byte %d", source.url, fault, wait_s, kept)
                time.sleep(wait_s)


def _attempt(client: httpx.Client, source: Download, part: Path, progress: bool | None) -> None:
    """Request the bytes that are missing, once."""
    start = _kept_bytes(part, source)
    headers = {"Accept-Encoding": "identity"}  # the file's own bytes and length, not those of a compressed transfer
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with client.stream("GET", source.url, headers=headers) as response:
            _check_status(response, source, part, start)
            continues = response.status_code == httpx.codes.PARTIAL_CONTENT
            if start and not continues:
                _log.warning("%s is sent from its start: the %d bytes that are here are dropped", source.url, start)
            _receive(response, source, part, start if continues else 0, progress)
    except httpx.HTTPError as error:
        raise _Fault(str(error) or type(error).__name__) from error
    if continues and (problem := verify(part, source)):
        part.unlink(missing_ok=True)
        raise _Fault(f"{problem}; it began in an earlier request and is dropped")


def _check_status(response: httpx.Response, source: Download, part: Path, start: int) -> None:
    """Check that the answer is a whole file, or its rest from `start` on."""
    status = response.status_code
    answer = f"the server answered {status} {response.reason_phrase}".rstrip()
    is_other_range = not response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
    if status == 416 or (status == 206 and is_other_range):
        part.unlink(missing_ok=True)
        raise _Fault(f"{answer}, it does not continue at byte {start}")
    if status >= 500 or status in (408, 429):  # of the client's errors, those two pass with time
        raise _Fault(answer)
    if status not in (200, 206):
        raise DownloadError(f"{source.url} cannot be downloaded: {answer}. {_by_hand(source)}")


def _receive(response: httpx.Response, source: Download, part: Path, start: int, progress: bool | None) -> None:
    """Write the body of `response` to `part` from byte `start` on; the length must be the one announced."""
    total = _total_bytes(response)
    if total is None and not source.has_checksum:
        raise DownloadError(f"{source.url} has neither length nor checksum: nothing would tell a part from the whole.")
    too_large = DownloadError(f"{source.url} is larger than {_LARGEST_BYTES} bytes: that is no checkpoint.")
    if total is not None and total > _LARGEST_BYTES:
        raise too_large
    hidden = None if progress is None else not progress  # None: tqdm looks whether standard error is a terminal
    received = start
    try:
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(desc=source.filename, total=total, initial=start, unit="B", unit_scale=True, disable=hidden) as bar,
        ):
            for chunk in response.iter_raw():
                received += len(chunk)
                if received > _LARGEST_BYTES:
                    break
                file.write(chunk)
                bar.update(len(chunk))
    except httpx.HTTPError as error:
        raise _Fault(f"{received} of {total or 'unknown'} bytes arrived, then: {error}") from error
    if received > _LARGEST_BYTES:
        part.unlink()
        raise too_large
    if total is not None and received != total:
        raise _Fault(f"{received} of {total} bytes arrived")


def _total_bytes(response: httpx.Response) -> int | None:
    """Return the length of the whole file, of which the body may be only the rest; None if the server does not say."""
    _, _, total = response.headers.get("Content-Range", "").rpartition("/")
    text = total or response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _kept_bytes(part: Path, source: Download) -> int:
    """Return how much of an unfinished download the next request continues: 0 if no checksum guards the seam."""
    return part.stat().st_size if source.has_checksum and part.exists() else 0


def _client(source: Download) -> httpx.Client:
    """Return a client that follows redirects, but from https only to https.

    Raises:
        DownloadError: settings of the environment that cannot work.
    """

    def refuse_downgrade(request: httpx.Request) -> None:
        if source.url.startswith("https:") and request.url.scheme != "https":
            raise DownloadError(f"{source.url} leads to {request.url}, which is not https: not followed.")

    try:
        return httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True, event_hooks={"request": [refuse_downgrade]})
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        settings = "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, SSL_CERT_FILE"
        raise DownloadError(f"no connection is possible with the settings in {settings}: {error}") from error


def _by_hand(source: Download) -> str:
    path = cache_folder() / source.filename
    return f"To bring it by hand, download {source.url} elsewhere and put it at {path}: it is verified there."


@contextmanager
def _only_process(final: Path) -> Iterator[None]:
    """Let one process at a time pass; the others log that they wait."""
    lock = FileLock(_beside(final, ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.warning("another process is downloading %s: waiting for it", final)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _cache_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "Free space or correct its permissions, or set MOBILENEXT_HOME to another folder."
        raise OutputError(f"the cache of weights in {folder} cannot be used: {error}. {advice}") from error


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
