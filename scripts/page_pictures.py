"""Pictures of the pages as a browser shows them: the report of the quickstart, and the demo with its second digit."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from mobilenext.files import write_atomically

WIDTH = 1265  # pixels; of the report the height of its first three sections is shown
REPORT_HEIGHT = 1688
WAIT_S = 120
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync")
DEMO = ("mobilenext_x0_35.digits", "mobilenext_x0_35.tiny20", "ssdlite320_mobilenext_x0_35.bccd")


def report(path: Path) -> None:
    """Draw the head of the page that `mobilenext quickstart` writes."""
    with tempfile.TemporaryDirectory() as folder:
        # In that folder, since the page shows the command.
        subprocess.run(
            [sys.executable, "-m", "mobilenext", "quickstart"], check=True, stdout=subprocess.DEVNULL, cwd=folder
        )
        page = next(Path(folder).rglob("report.html"))
        with browser() as driver:
            driver.get(page.as_uri())
            wait(lambda: driver.execute_script("return document.documentElement.dataset.drawn") == "yes")
            shoot(driver, path, REPORT_HEIGHT)


def serve(path: Path) -> None:
    """Draw the page of `mobilenext serve` with the answer for its second sample."""
    command = [sys.executable, "-m", "mobilenext", "serve", "--port", "0"]
    command += [part for model in DEMO for part in ("--model", model)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server, browser() as driver:
        assert server.stderr is not None
        try:
            address = next(match[1] for line in server.stderr if (match := re.search(r"(http://\S+?:\d+) ", line)))
            driver.get(address)
            wait(lambda: len(driver.find_elements("css selector", "#samples .sample")) > 1)
            driver.find_elements("css selector", "#samples .sample")[1].click()
            wait(lambda: driver.find_elements("css selector", "#cards .bars"))
            time.sleep(1)  # the heat map is drawn after the bars
            shoot(driver, path, driver.execute_script("return document.documentElement.scrollHeight"))
        finally:
            server.terminate()


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Open a browser without a window, in light colors."""
    from selenium import webdriver

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        sys.exit("chromium is not installed: it draws the pictures of the pages")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            screen = {"width": WIDTH, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            yield driver
        finally:
            driver.quit()


def wait(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the page was not drawn within {WAIT_S} s")
        time.sleep(0.2)


def shoot(driver: Any, path: Path, height: int) -> None:
    """Store the upper `height` pixels of the page."""
    screen = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    store(driver.get_screenshot_as_png(), path)


def store(picture: bytes, path: Path) -> None:
    """Store a PNG with a palette of 256 colors, a third of the size."""
    content = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256).save(content, "PNG", optimize=True)
    write_atomically(path, content.getvalue())
