"""What others published: where a checkpoint lies, and which accuracy was reported of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mobilenext.data.preprocessing import Preprocessing
from mobilenext.errors import UsageError


@dataclass(frozen=True)
class Download:
    """Where a published checkpoint lies and how it is verified.

    Raises UsageError for a filename with a folder in it, and for a URL that is not https, http or file.
    """

    filename: str  # its name in the cache
    url: str
    git_blob: str | None = None  # sha1 of b"blob <size>\0" + content: what a git repository calls the file
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.filename in ("", "..") or Path(self.filename).name != self.filename:
            raise UsageError(f"{self.filename!r} is not the name of a file in the cache: expected no folder in it")
        if not self.url.startswith(("https://", "http://", "file://")):
            raise UsageError(f"{self.url!r} cannot be downloaded: expected https://, http:// or file://")

    @property
    def has_checksum(self) -> bool:
        """Whether the publisher states a checksum of the content."""
        return bool(self.git_blob or self.sha256)

    @property
    def is_local(self) -> bool:
        """Whether no network is needed."""
        return self.url.startswith("file:")


@dataclass(frozen=True)
class Published:
    """An accuracy that somebody else reported, with the data set."""

    dataset: str
    images: int
    top1_percent: float
    top5_percent: float


@dataclass(frozen=True)
class PublishedDetection:
    """The average precision of a detector that somebody else reported, with the data set; percent."""

    dataset: str
    images: int
    voc_map_percent: float  # IoU 0.5, 11 points, mean over the classes
    ap_percent: float | None = None  # COCO's, IoU 0.5 to 0.95
    ap50_percent: float | None = None


@dataclass(frozen=True)
class WeightsCard:
    """Weights that can be downloaded: ``model.tag``, their origin, and everything needed to use them correctly."""

    tag: str
    origin: str
    licence: str
    source: Download | None  # None: the file ships with the package
    published: Published | PublishedDetection | None
    epoch: int | None = None
    identity_divisor: int = 1
    use: str = "auto"  # which state dict of the checkpoint: raw or ema (auto: ema where there is one)
    num_classes: int = 1000
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    bundled: str = ""  # name of the file in mobilenext/weights/bundled/
    sample: str = ""  # name of a picture there, to try the weights with
    note: str = ""
