"""The variables of processes that compute."""

from __future__ import annotations

import os

import pytest

from mobilenext.machine.pool import WorkerPool
from mobilenext.machine.process_environment import compute_environment


@pytest.mark.parametrize(
    ("own", "tunables"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.check=1", "glibc.malloc.check=1:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
        ("glibc.malloc.hugetlb=1", "glibc.malloc.hugetlb=1"),
    ],
)
def test_large_pages_are_added_to_the_settings_of_the_user(
    monkeypatch: pytest.MonkeyPatch, own: str | None, tunables: str
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    assert compute_environment(1)["GLIBC_TUNABLES"] == tunables


def test_a_worker_has_the_threads_and_the_large_pages() -> None:
    def variables() -> list[str | None]:
        return [os.environ.get(name) for name in ("GLIBC_TUNABLES", "OMP_NUM_THREADS", "MKL_NUM_THREADS")]

    with WorkerPool(1, compute_environment(2)) as single:
        tunables, *threads = single.call(variables)
    assert tunables is not None
    assert "glibc.malloc.hugetlb" in tunables
    assert threads == ["2", "2"]
