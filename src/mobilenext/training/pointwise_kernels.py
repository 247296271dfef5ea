"""The compiled copies around the matrix product of a 1x1 convolution."""

from __future__ import annotations

from mobilenext.training.depthwise_kernels import compiled


@compiled
def put_side_by_side(arrays, settings, begin, end):  # type: ignore[no-untyped-def]
    """Copy maps [N, C, P] to columns [C, N, P], for the channels from `begin` to `end`; `settings` are none."""
    maps, columns = arrays
    for c in range(begin, end):
        for n in range(maps.shape[0]):
            row, target = maps[n, c], columns[c, n]
            for p in range(len(row)):
                target[p] = row[p]


@compiled
def put_apart(arrays, settings, begin, end):  # type: ignore[no-untyped-def]
    """Copy columns [C, N, P] to maps [N, C, P], for the channels from `begin` to `end`; `settings` are none."""
    maps, columns = arrays
    for c in range(begin, end):
        for n in range(maps.shape[0]):
            row, target = columns[c, n], maps[n, c]
            for p in range(len(row)):
                target[p] = row[p]
