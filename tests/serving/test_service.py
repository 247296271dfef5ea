from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: the extra serve")
from mobilenext.errors import ImageError
from mobilenext.serving.limits import Limits
from mobilenext.serving.metrics import Metrics
from mobilenext.serving.problems import Problem
from mobilenext.serving.server import _kept
from mobilenext.serving.service import Service
from mobilenext.serving.uploads import Upload


@pytest.mark.parametrize("fault", ["damaged", "stopping", "late", "behind"])
def test_a_request_that_fails_leaves_no_upload_in_memory(
    models: list[Any], digits: list[Path], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Without the collector of cycles, which would come late: it counts objects, and an upload is one of 10 MB."""

    async def scenario() -> None:
        exported = next(model for model in models if model.open_heat_map is None)
        service = Service([exported], Limits(timeout_s=0.5 if fault in ("late", "behind") else 60), Metrics())
        await service.start()
        (queue,), (feed,) = service._queues.values(), service._feeds.values()
        if fault == "stopping":
            queue.stop()
        if fault == "late":
            monkeypatch.setattr(queue, "put", lambda *_, **__: True)
        if fault == "behind":
            monkeypatch.setattr(feed, "_places", 0)
        content = b"no image" if fault == "damaged" else digits[0].read_bytes()
        gc.collect()
        gc.disable()
        try:
            upload = Upload(content, None)
            alive = weakref.ref(upload)
            with pytest.raises(ImageError if fault == "damaged" else Problem):
                await service.predict(upload, exported, service.options_of(exported, {}))
            del upload
            for _ in range(100):  # the thread that decoded may be on its way out
                if alive() is None:
                    break
                await asyncio.sleep(0.05)
            assert alive() is None
        finally:
            gc.enable()
            await service.stop()

    asyncio.run(asyncio.wait_for(scenario(), 300))


def test_the_collector_passes_over_what_stays_while_the_server_runs() -> None:
    before = gc.get_freeze_count()
    with _kept():
        assert gc.get_freeze_count() > before + 10_000
    assert gc.get_freeze_count() == 0
