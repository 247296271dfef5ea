"""How many cores there are for this process."""

from __future__ import annotations


def available_cores() -> int:
    """Return the number of cores that this process may use, by its affinity and by a container's quota."""
    from loky import cpu_count  # slow to import, and not needed where nothing is divided among cores

    return int(cpu_count())
