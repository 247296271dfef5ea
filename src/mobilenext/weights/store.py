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
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock, Timeout

from mobilenext.errors import DownloadError, OutputError
from mobilenext.files import sha256_of
from mobilenext.machine.home import cache_folder
from mobilenext.models.published import Download
from mobilenext.weights.verification import verify

_log = logging.getLogger(__name__)


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


def _download(source: Download, final: Path, progress: bool | None) -> None:
    """Bring the file to its .part, verify it and give it its final name."""
    _log.info("downloading %s to %s", source.url, final)
    part = _beside(final, ".part")
    if source.is_local:
        _copy(source, part)
    else:
        from mobilenext.weights.transfer import transfer

        transfer(source, part, progress, advice=_by_hand(source))
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


def _copy(source: Download, part: Path) -> None:
    """Do the same as `transfer` for a file:// URL."""
    original = Path(url2pathname(urlsplit(source.url).path))
    if not (original.is_file() and os.access(original, os.R_OK)):
        raise DownloadError(f"{source.url} cannot be read: {original} is not a readable file.")
    shutil.copyfile(original, part)


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
