"""Check a data set before hours are spent on it: find out whose data it is, and leave the check to that task."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mobilenext.errors import UsageError
from mobilenext.tasks import find_task, task_of_data


def check_data(
    data: str | os.PathLike[str],
    *,
    task: str | None = None,
    list_file: str | os.PathLike[str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Describe a data set and the problems in it.

    Args:
        data, list_file: as in ``evaluate``.
        task: what a network is to answer, by the task's name; None: what the layout of the data tells.
        options: the keywords of the task's own check, such as ``split``, ``workers`` and ``decode``.

    Returns:
        The result of that check: counts, problems, and ``verdict``.

    Raises:
        DatasetError: no layout that is understood. UsageError: an option that means nothing to the task.
    """
    chosen = find_task(task) if task else task_of_data(Path(data), Path(list_file) if list_file is not None else None)
    if chosen.data_check is None:
        raise UsageError(f"there is no check of the data of the task {chosen.name}")
    known = chosen.data_check.options
    for option, value in options.items():
        if option not in known and value is not None:
            raise UsageError(
                f"{option} means nothing to a data set for {chosen.name}; known: {', '.join(sorted(known))}; --task "
                "names another task"
            )
    options = {option: value for option, value in options.items() if option in known}
    return chosen.data_check.check(data, list_file=list_file, **options)
