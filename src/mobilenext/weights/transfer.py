"""Files over HTTP: an unfinished one goes on where it stopped, and no server decides how much is written.

It is imported when something is downloaded: httpx takes a third of a second.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import httpx
from tqdm import tqdm

from mobilenext.errors import DownloadError
from mobilenext.models.published import Download
from mobilenext.weights.verification import verify

_log = logging.getLogger(__name__)

_WAITS_S = (1.0, 4.0)  # before the second and the third attempt
_TIMEOUT_S = httpx.Timeout(30.0, connect=10.0)  # of silence, not for the whole download
_LARGEST_BYTES = 1 << 30  # published checkpoints are below 100 MB: more is not a checkpoint


class _Fault(Exception):
    """What went wrong in one attempt and may go right in the next."""


def transfer(source: Download, part: Path, progress: bool | None, *, advice: str) -> None:
    """Bring all bytes to `part`; each attempt goes on where the last one ended, be it in this process or before.

    Raises:
        DownloadError: the file cannot be brought; the message ends with `advice`.
    """
    waits_s = iter(_WAITS_S)
    with _client(source) as client:
        while True:
            try:
                return _attempt(client, source, part, progress, advice)
            except _Fault as fault:
                kept, wait_s = _kept_bytes(part, source), next(waits_s, None)
                if wait_s is None:
                    raise DownloadError(
                        f"{source.url} was not downloaded in {1 + len(_WAITS_S)} attempts: {fault}. "
                        f"The same command goes on at byte {kept}. {advice}"
                    ) from fault
                _log.warning("%s: %s; next attempt in %g s, from byte %d", source.url, fault, wait_s, kept)
                time.sleep(wait_s)


def _attempt(client: httpx.Client, source: Download, part: Path, progress: bool | None, advice: str) -> None:
    """Request the bytes that are missing, once."""
    start = _kept_bytes(part, source)
    headers = {"Accept-Encoding": "identity"}  # the file's own bytes and length, not those of a compressed transfer
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with client.stream("GET", source.url, headers=headers) as response:
            _check_status(response, source, part, start, advice)
            continues = response.status_code == httpx.codes.PARTIAL_CONTENT
            if start and not continues:
                _log.warning("%s is sent from its start: the %d bytes that are here are dropped", source.url, start)
            _receive(response, source, part, start if continues else 0, progress)
    except httpx.HTTPError as error:
        raise _Fault(str(error) or type(error).__name__) from error
    if continues and (problem := verify(part, source)):
        part.unlink(missing_ok=True)
        raise _Fault(f"{problem}; it began in an earlier request and is dropped")


def _check_status(response: httpx.Response, source: Download, part: Path, start: int, advice: str) -> None:
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
        raise DownloadError(f"{source.url} cannot be downloaded: {answer}. {advice}")


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
