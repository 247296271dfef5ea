"""Temporary files: where they are made, and what killed processes left of them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mobilenext.errors import OutputError
from mobilenext.files import write_atomically
from mobilenext.machine import temporary
from mobilenext.machine.temporary import scratch_folder, temporary_beside, temporary_folder


def dead_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_scratch_folder_is_private_and_goes(place: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == place
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "below").mkdir()
        (folder / "below/file").write_text("x")
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_cleared(place: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mobilenext.machine.temporary import *\n"
        "with scratch_folder() as a, temporary_folder(temporary_beside(Path(sys.argv[1]) / 'exported')) as b:\n"
        "    (a / 'x').write_text('x'); (b / 'x').write_text('x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(place)], check=False, timeout=300)
    assert len(list(place.iterdir())) == 2
    with scratch_folder(), temporary_folder(temporary_beside(place / "exported")):
        assert len(list(place.iterdir())) == 2
    assert list(place.iterdir()) == []


def test_files_left_beside_their_name_are_cleared(tmp_path: Path) -> None:
    pid = dead_process()
    (tmp_path / f".result.json.{pid}.tmp").write_text("cut")
    others = [f".notes.txt.{pid}.tmp", f".result.json.{pid}.tmp.bak", "result.json.tmp", ".result.json.x.tmp"]
    for name in others:
        (tmp_path / name).write_text("another's")
    write_atomically(tmp_path / "result.json", b"{}")
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", *others}


def test_what_is_in_use_stays(place: Path) -> None:
    """By a lock, whatever the number says: another container's process has a number of its own."""
    locked = place / f"mobilenext-{dead_process()}-0123abcd"
    locked.mkdir()
    descriptor = os.open(locked, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    young = place / f"mobilenext-{os.getppid()}-0123abcd"  # its process is there, and has not locked it yet
    old = place / f"mobilenext-{os.getppid()}-89abcdef"  # and this is older than such a moment
    own = place / f"mobilenext-{os.getpid()}-89abcdef"  # in a container every command may be number 1
    for folder in (young, old, own):
        folder.mkdir()
    os.utime(old, (1, 1))
    with scratch_folder():
        pass
    assert {path.name for path in place.iterdir()} == {locked.name, young.name}
    os.close(descriptor)


def test_names_of_others_and_links_stay(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "file").write_text("x")
    pid = dead_process()
    (place / f"mobilenext-{pid}-0123abcd").symlink_to(elsewhere)
    for name in (f"mobilenext-{pid}", f"mobilenext-{pid}-report", "mobilenext-abc-0123abcd"):
        (place / name).mkdir()
    before = sorted(place.iterdir())
    with scratch_folder():
        pass
    assert sorted(place.iterdir()) == before
    assert (elsewhere / "file").is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_another_users_stay(place: Path) -> None:
    folder = place / f"mobilenext-{dead_process()}-0123abcd"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with scratch_folder():
        pass
    assert folder.is_dir()


def test_a_full_disk_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (tmp_path / "a").write_text("before")
    with pytest.raises(OutputError, match="No space left on device; nothing was changed"):
        write_atomically(tmp_path / "a", b"after")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"


def test_a_folder_that_exists_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError), temporary_folder(tmp_path / "there"):
        pass
    assert (tmp_path / "there").is_dir()


def test_the_place_of_last_resort_is_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in temporary.VARIABLES:
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setattr(temporary, "_PLACES", ())
    monkeypatch.setattr(temporary, "_writable", lambda folder: folder == tmp_path)
    with scratch_folder(tmp_path / "runs" / "new") as folder:
        assert folder.parent == tmp_path
    monkeypatch.setattr(temporary, "_writable", lambda folder: False)
    with pytest.raises(OutputError, match=r"tried /nonexistent, /dev/shm and .*: set TMPDIR"), scratch_folder("a"):
        pass


def test_a_place_with_little_room_comes_second(
    place: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = tmp_path_factory.mktemp("roomy")
    monkeypatch.setattr(temporary, "_PLACES", (str(roomy),))

    class Usage:
        def __init__(self, free: int) -> None:
            self.free = free

    monkeypatch.setattr(
        "shutil.disk_usage", lambda folder: Usage(1 << 20 if place in (folder, *folder.parents) else 1 << 30)
    )
    with scratch_folder() as folder:
        assert folder.parent == roomy
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage(0))
    with pytest.raises(OutputError, match="is full: make room there, or set TMPDIR"), scratch_folder():
        raise RuntimeError("a converter says it in its own words")


def test_workers_keep_theirs_in_the_parents(place: Path) -> None:
    assert temporary.worker_environment() == {}
    with scratch_folder() as folder:
        assert set(temporary.worker_environment().values()) == {str(folder)}
