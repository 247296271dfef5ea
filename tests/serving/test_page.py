"""The page in a real browser: what is dropped, pasted or chosen is answered, at two widths, in light and dark."""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from warm import WarmCommands

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: the extra dev")

DIGITS = "mobilenext_x0_35.digits"
TINY = "mobilenext_x0_35.tiny20"
SHOTS = os.environ.get("MOBILENEXT_SCREENSHOTS")  # a folder to look at what the tests saw
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
DROP = """
const [content, kind, how] = arguments;
const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], "digit.png", {type: kind}));
if (how === "drop") {
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
} else {
  document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}));
}
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def address(exported: Path, warm_commands: WarmCommands) -> Iterator[str]:
    words = ["serve", "--port", "0", "--model", DIGITS, "--model", TINY, "--exported", str(exported)]
    process = warm_commands.start(words)
    try:
        for line in process.stderr:
            if found := re.search(r"(http://\S+?:\d+) ", line):
                break
        else:
            raise AssertionError("it did not start")
        yield found[1]
    finally:
        process.terminate()
        process.communicate(timeout=300)


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Page]:
    opened = Page(browser, address)
    opened.open()
    yield opened
    complaints = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert [each for each in complaints if not opened.expects(each["message"])] == []


class Page:
    """What a visitor does and sees."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        self.address = address
        self.expected: tuple[str, ...] = ()

    def expects(self, message: str) -> bool:
        return any(each in message for each in self.expected)

    def open(self, width: int = 1280, height: int = 900, scheme: str = "light", path: str = "/") -> None:
        self.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": width < 600})
        self.browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        self.browser.get(self.address + path)
        if path == "/":
            self.wait(lambda: len(self.all("input[name=model]")) == 3)

    def all(self, selector: str) -> list[Any]:
        found: list[Any] = self.browser.find_elements("css selector", selector)
        return found

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def wait(self, true: Callable[[], bool], seconds: float = 300) -> None:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, seconds, 0.05, (StaleElementReferenceException,)).until(lambda _: true())

    def give(self, file: Path, how: str = "drop", kind: str = "image/png") -> None:
        if how == "choose":
            self.one("#file").send_keys(str(file))
        else:
            self.browser.execute_script(DROP, base64.b64encode(file.read_bytes()).decode(), kind, how)

    def answers(self) -> dict[str, str]:
        """The first class of each model."""
        return {
            card.get_attribute("data-model"): card.find_element("css selector", ".bars li span").text
            for card in self.all(".card")
        }

    def answered(self) -> bool:
        return self.one("#status").text.startswith("Answered") and bool(self.all(".bars li"))

    def fits(self) -> bool:
        script = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        return bool(self.browser.execute_script(script))

    def shoot(self, name: str) -> None:
        if SHOTS:
            Path(SHOTS).mkdir(parents=True, exist_ok=True)
            script = "return [document.documentElement.clientWidth, document.documentElement.scrollHeight]"
            width, height = self.browser.execute_script(script)
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            taken = self.browser.execute_cdp_cmd(
                "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
            )
            (Path(SHOTS) / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))


@pytest.fixture(scope="module")
def large(digits: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A digit as a picture that one can see."""
    path = tmp_path_factory.mktemp("large") / "digit.png"
    Image.open(digits[0]).resize((240, 240), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize("how", ["drop", "paste", "choose"])
def test_an_image_is_answered_with_bars_and_a_heat_map(
    page: Page, digits: list[Path], expected: list[dict[str, Any]], how: str
) -> None:
    page.give(digits[0], how)
    page.wait(page.answered)
    assert page.answers() == {DIGITS: expected[0]["labels"][0]}
    assert len(page.all(".bars li")) == 5
    page.wait(lambda: all(page.browser.execute_script("return arguments[0].naturalWidth", image) == 64
                          for image in page.all(".picture img")) and len(page.all(".picture img")) == 2)  # fmt: skip
    spoken = page.one("#spoken").get_attribute("textContent")
    assert spoken.startswith(f"{DIGITS}: {expected[0]['labels'][0]}, ")
    assert page.one("#spoken").get_attribute("aria-live") == "polite"
    widths = [float(bar.get_attribute("width").rstrip("%")) for bar in page.all(".bars rect")]
    assert widths == sorted(widths, reverse=True)


def test_a_sample_is_answered_with_one_click(page: Page) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra quickstart)")
    page.wait(lambda: len(page.all(".sample")) == 3)
    page.all(".sample")[1].click()
    page.wait(page.answered)
    assert list(page.answers()) == [DIGITS]
    page.all("input[name=model]")[0].click()
    assert page.all(".sample") == [], "no chosen model has any"


def test_models_are_compared_and_the_heat_map_is_switched(page: Page, large: Path) -> None:
    for box in page.all("input[name=model]")[1:]:
        box.click()
    page.give(large)
    page.wait(lambda: page.answered() and len(page.all(".card")) == 3)
    assert list(page.answers()) == [DIGITS, TINY, "folder"]
    assert len(page.all(".picture")) == 2
    assert "exported" in page.all(".card")[2].text
    page.shoot("desktop_light_compare")
    page.one("#heat").click()
    page.wait(lambda: page.answered() and not page.all(".picture"))
    assert len(page.all(".card")) == 3
    for box in page.all("input[name=model]"):
        if box.is_selected():
            box.click()
    page.wait(lambda: page.one("#status").text == "Choose at least one model.")


def test_what_is_no_image_is_a_sentence(page: Page, tmp_path: Path, digits: list[Path]) -> None:
    page.expected = ("status of 422",)
    text = tmp_path / "text.png"
    text.write_text("not an image")
    page.give(text)
    page.wait(lambda: page.one("#error").is_displayed())
    assert "not an image" in page.one("#error").text
    assert page.one("#error").get_attribute("role") == "alert"
    page.shoot("desktop_light_error")
    page.give(digits[0])
    page.wait(page.answered)
    assert not page.one("#error").is_displayed()


def test_too_large_a_file_is_not_sent(page: Page) -> None:
    page.browser.execute_script(
        "const transfer = new DataTransfer(); transfer.items.add(new File([new Uint8Array(11 * 2 ** 20)], 'big.png',"
        "{type: 'image/png'})); document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer,"
        "bubbles: true}));"
    )
    page.wait(lambda: page.one("#error").is_displayed())
    assert "11.0 MB" in page.one("#error").text


@pytest.mark.parametrize(
    ("width", "height", "scheme"),
    [
        (360, 740, "light"),
        (1280, 900, "dark"),
        pytest.param(360, 740, "dark", marks=pytest.mark.long),
        pytest.param(1280, 900, "light", marks=pytest.mark.long),
    ],
)
def test_widths_and_colours(page: Page, large: Path, scheme: str, width: int, height: int) -> None:
    page.open(width, height, scheme)
    assert page.fits()
    page.shoot(f"{width}_{scheme}_empty")
    page.all("input[name=model]")[1].click()
    page.give(large)
    page.wait(lambda: page.answered() and len(page.all(".picture img")) == 4)
    assert page.fits()
    page.shoot(f"{width}_{scheme}")
    camera = page.one("#camera")
    assert camera.get_attribute("capture") == "environment"
    contrasts = page.browser.execute_script(CONTRASTS)
    assert min(contrasts.values()) >= 4.5, contrasts


CONTRASTS = """
function light(colour) {
  const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((each) => {
    const value = each / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
}
function behind(element) {
  for (let each = element; each; each = each.parentElement) {
    const colour = getComputedStyle(each).backgroundColor;
    if (colour !== "rgba(0, 0, 0, 0)") return colour;
  }
  return "rgb(255, 255, 255)";
}
const found = {};
const selectors = ["h1", "header p", ".button.first", ".button", "#hint", "small", ".score", ".facts", "footer a"];
for (const selector of selectors) {
  const element = document.querySelector(selector);
  const [front, back] = [light(getComputedStyle(element).color), light(behind(element))];
  found[selector] = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
}
return found;
"""


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    reached = []
    for _ in range(16):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        active = page.browser.switch_to.active_element
        reached.append(active.get_attribute("id") or active.get_attribute("value") or active.text)
    for wanted in ("Skip to the results", "file", DIGITS, TINY, "folder", "heat", "topk", "Interface"):
        assert wanted in reached, reached
    unnamed = page.browser.execute_script(
        "return [...document.querySelectorAll('input, button, a, img:not([hidden])')].filter((each) => !(each.labels &&"
        "each.labels.length) && !each.textContent.trim() && !each.alt).map((each) => each.outerHTML)"
    )
    assert unnamed == []
    assert page.one("html").get_attribute("lang") == "en"
    assert len(page.all("h1")) == len(page.all("main")) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_interface_is_described_without_another_server(page: Page, scheme: str) -> None:
    page.open(scheme=scheme, path="/docs")
    page.wait(lambda: len(page.all(".opblock")) >= 6)
    page.all(".opblock-summary-control")[0].click()
    page.wait(lambda: bool(page.all(".opblock-body")))
    page.shoot(f"docs_{scheme}")
    loaded = page.browser.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert loaded
    assert all(name.startswith((page.address, "data:", "blob:")) for name in loaded), loaded


def test_every_request_of_the_page_is_to_its_server(page: Page, digits: list[Path]) -> None:
    page.give(digits[0])
    page.wait(page.answered)
    loaded = page.browser.execute_script("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert all(name.startswith((page.address, "data:", "blob:")) for name in loaded), loaded
