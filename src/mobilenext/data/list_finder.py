"""The files that a list names: where they are looked for, and which spellings of a name stand for the same file."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from mobilenext.data.listing import IMAGE_SUFFIXES
from mobilenext.data.parts import IMAGES_FOLDER, is_filler, part_of
from mobilenext.errors import DatasetError

Form = Callable[[str], str]
_URL = re.compile(r"[a-z][a-z0-9+.-]{1,20}://", re.IGNORECASE)  # of a bucket: s3://photos/cat/1.jpg


class NotFound(Exception):
    """Why no file belongs to a name."""


def leads_out(name: str) -> bool:
    """Return whether a name is an absolute path or goes up by ``..``, so that it may stand for any file."""
    return _is_absolute(name) or _goes_up(name)


def _is_absolute(name: str) -> bool:
    return name.startswith(("/", "\\")) or re.match(r"[a-zA-Z]:[\\/]", name) is not None


def _goes_up(name: str) -> bool:
    return ".." in re.split(r"[\\/]", name)


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


class Finder:
    """Finds the files of a list, asking the file system once for each folder, not 50,000 times.

    A name is looked up in ROOT/imgs, in ROOT and beside the list, as it is written, then in a folder of the list's part
    and in images/. Only where there is no such file, these stand for one: backslashes, another Unicode form, a
    percent-encoded name, a path that begins with ROOT's own name, a name without the suffix of the only image that has
    it, and an absolute path of another computer or a URL, if the same beginning of all such paths stands for the same
    folder.
    """

    def __init__(
        self, root: Path, list_file: Path, bases: Sequence[Path] | None = None, *, inside: bool = False
    ) -> None:
        """Look names up in `bases`; `inside`: find nothing elsewhere, for names that their reader did not write."""
        self._inside = inside
        self.spellings: Counter[str] = Counter()  # how many names were found in another spelling
        self._root = f"{root.as_posix()}/"
        self._root_name = root.resolve().name
        self._folders: dict[str, dict[str, bool]] = {}  # folder -> name in it -> whether that is a file
        if bases is None:
            bases = [root / IMAGES_FOLDER, root, list_file.parent, *self._folders_of_images(root, list_file)]
        self._bases = list(dict.fromkeys(base.as_posix() for base in bases))
        self._forms: dict[tuple[str, Form], dict[str, list[str]]] = {}  # the same by another form of the names
        self._elsewhere: tuple[str, ...] | None = None  # how absolute paths of another computer begin

    def is_file(self, name: str) -> bool:
        """Return whether there is a file for a name."""
        try:
            self.find(name, count=False)
        except NotFound:
            return False
        return True

    def find(self, name: str, *, count: bool = True) -> tuple[str, str]:
        """Return the path of the file, and its name relative to the root, or as it was written if it is elsewhere.

        Two names of one file, such as ``a.jpg`` and ``./a.jpg``, have the same path.

        Raises:
            NotFound: there is none.
        """
        if self._inside and _goes_up(unquote(name)):
            raise NotFound("'..' leads out of the data set; expected the name of a picture in it")
        is_folder = False
        for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
            for path in self._paths(spelling):
                folder, _, last = path.rpartition("/")
                is_file = self._listing(folder or "/").get(last)
                if is_file:
                    return _plain(path), self._relative(path, spelling)
                is_folder = is_folder or is_file is not None
        if is_folder:
            raise NotFound("this is not a file; expected an image file")
        name = name.replace("\\", "/")
        for path in self._paths(name):
            actual = self._in_form(path, _nfc)
            if actual is not None:
                self.spellings["in another Unicode form"] += count
                return _plain(actual), self._relative(path, name)
        for how, path in self._other_spellings(name):
            self.spellings[how] += count
            return _plain(path), self._relative(path, path)
        for path in self._paths(name):
            actual = self._in_form(path, _folded)
            if actual is not None:
                raise NotFound(f"no such file, but {self._relative(actual, actual)}: upper and lower case differ")
        if self._inside and _is_absolute(name.removeprefix("file://")):
            raise NotFound("an absolute path that leads out of the data set; expected the name of a picture in it")
        raise NotFound(f"no such file; looked below {', '.join(self._bases)} (upper and lower case differ)")

    def notes(self) -> list[str]:
        """Return sentences on names that are not those of files as they are written."""
        return [f"names of the list found {how}: {count:,}" for how, count in self.spellings.items() if count]

    def _folders_of_images(self, root: Path, list_file: Path) -> list[Path]:
        """Return the folders in `root` that by their names hold the images of a list: ``train/``, ``images/``."""
        part = part_of(list_file.stem)
        names = sorted(name for name, is_file in self._listing(root.as_posix()).items() if not is_file)
        of_part = [name for name in names if part and part_of(name) == part]
        return [root / name for name in of_part + [name for name in names if is_filler(name)]]

    def _paths(self, name: str) -> list[str]:
        if name.startswith("/") or _has_drive(name):
            return [] if self._inside and not name.startswith(self._root) else [name]
        return [f"{base}/{name}" for base in self._bases]

    def _relative(self, path: str, otherwise: str) -> str:
        return path.removeprefix(self._root) if path.startswith(self._root) else otherwise

    def _other_spellings(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield the files that the name may stand for: how, and the path."""
        decoded = unquote(name.removeprefix("file://"))
        if decoded != name:
            yield from (("percent-decoded", path) for path in self._paths(decoded) if self._is_there(path))
        if name.startswith(f"{self._root_name}/"):
            path = self._root + name.removeprefix(f"{self._root_name}/")
            if self._is_there(path):
                yield "below the data set's folder, whose name they begin with", path
        if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
            for path in self._paths(name):
                folder, _, last = path.rpartition("/")
                named = self._by_form(folder, _stem).get(last, [])
                images = [file for file in named if Path(file).suffix.lower() in IMAGE_SUFFIXES]
                if len(images) == 1:
                    yield "by adding the suffix of the only image of that name", f"{folder}/{images[0]}"
        if _URL.match(name):
            yield from self._moved("/" + unquote(name.partition("://")[2]))
        elif name.startswith("/") or _has_drive(name):
            yield from self._moved(name)

    def _moved(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield the ends of an absolute path of another computer, to be looked up below the data set, longest first."""
        kind = PureWindowsPath if _has_drive(name) else PurePosixPath
        parts = kind(name).parts
        cuts: Sequence[int] = range(1, len(parts))
        if self._elsewhere is not None:
            cuts = [len(self._elsewhere)] if parts[: len(self._elsewhere)] == self._elsewhere else []
        for cut in cuts:
            for path in self._paths("/".join(parts[cut:])):
                if self._is_there(path):
                    self._elsewhere = parts[:cut]
                    yield f"below the data set, for {kind(*parts[:cut])} of another computer", path
                    return

    def _is_there(self, path: str) -> bool:
        folder, _, last = path.rpartition("/")
        return self._listing(folder or "/").get(last, False)

    def _in_form(self, path: str, form: Form) -> str | None:
        """Return the file whose path is the same as `path` in a form of its names; None for none.

        Raises:
            NotFound: several.
        """
        folder, _, last = path.rpartition("/")
        actual = self._folder_in_form(folder, form)
        if actual is None:
            return None
        names = [name for name in self._by_form(actual, form).get(form(last), []) if self._listing(actual)[name]]
        if len(names) > 1:
            raise NotFound(f"several files are called so: {', '.join(map(ascii, names))}; write one of them exactly")
        return f"{actual}/{names[0]}" if names else None

    def _folder_in_form(self, folder: str, form: Form) -> str | None:
        if not folder or self._listing(folder):
            return folder
        above, _, last = folder.rpartition("/")
        actual = self._folder_in_form(above, form) if above else None
        names = self._by_form(actual, form).get(form(last), []) if actual is not None else []
        return f"{actual}/{names[0]}" if len(names) == 1 else None

    def _by_form(self, folder: str, form: Form) -> dict[str, list[str]]:
        if (folder, form) not in self._forms:
            names: dict[str, list[str]] = {}
            for name in self._listing(folder):
                names.setdefault(form(name), []).append(name)
            self._forms[folder, form] = names
        return self._forms[folder, form]

    def _listing(self, folder: str) -> dict[str, bool]:
        if folder not in self._folders:
            try:
                with os.scandir(folder) as entries:
                    self._folders[folder] = {entry.name: entry.is_file() for entry in entries}
            except PermissionError as error:
                raise DatasetError(f"{folder}: this folder may not be listed: {error.strerror}") from error
            except (OSError, ValueError):  # no such folder, or the name of none: nothing is in it
                self._folders[folder] = {}
        return self._folders[folder]


def _has_drive(name: str) -> bool:
    """Return whether an absolute path has a drive of Windows, a letter or a server; the slow question comes last."""
    return (name[1:3] in (":\\", ":/") or name.startswith(("\\\\", "//"))) and bool(PureWindowsPath(name).drive)


def _plain(path: str) -> str:
    """Return a path without the parts that name no other file: ``a//b`` and ``a/./b`` are ``a/b``."""
    return str(Path(path)) if "//" in path or "/." in path else path


def _stem(name: str) -> str:
    return re.sub(r"\.[^.]*\Z", "", name)
