"""Whether a file is the published one: by its checksum, or by what was recorded when it was downloaded."""

from __future__ import annotations

from pathlib import Path

from mobilenext.errors import DataError
from mobilenext.files import git_blob_id, sha256_of
from mobilenext.json_files import read_json, sha256
from mobilenext.models.published import Download

_IMPOSTORS = {b"<": "a web page", b"version https://git-lfs": "a git-lfs pointer instead of the file it stands for"}


def verify(path: Path, source: Download) -> str | None:
    """Return None if the content of `path` is the published one, else why not, without a full stop.

    Without a published checksum the sha256 recorded at download counts; a file put there by hand has none either, and
    is then only refused when it is plainly no checkpoint: empty, a web page or a git-lfs pointer.
    """
    record = path.with_name(path.name + ".json")
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
