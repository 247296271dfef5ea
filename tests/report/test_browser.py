"""The page in a browser: what it says to the console and the network, by keyboard, on a phone, in the dark."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation_folders import write_evaluation, write_large_evaluation
from mobilenext.machine.packages import installed
from mobilenext.report.page import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = [
    name
    for name, found in (
        ("chromium", BROWSER),
        ("chromedriver", DRIVER),
        *((package, installed(package)) for package in ("selenium", "jinja2", "vl_convert")),
    )
    if not found
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HOSTILE = "</script><img src=x onerror=\"window.hacked='yes'\">"
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two evaluations with a hostile class, a bench, side by side."""
    folder = tmp_path_factory.mktemp("report")
    large = write_large_evaluation(folder / "first", 600, 60)
    labels = [place % 60 for place in range(600)]
    best = [[(label + (place % 4 == 0)) % 60, (label + 2) % 60] for place, label in enumerate(labels)]
    names = [f"{HOSTILE} {number}" for number in range(60)]
    paths = [json.loads(line)["path"] for line in (large / "predictions.jsonl").read_text().splitlines()]
    other = write_evaluation(
        folder / "second", labels, best, [[0.7, 0.2]] * 600, classes=60, names=names, paths=paths, model=HOSTILE
    )
    bench = Path(__file__).parents[2] / "results" / "bench_batch1.json"
    (folder / "bench").mkdir()
    (folder / "bench" / "bench.json").write_text(bench.read_text())
    write_report([large, other, folder / "bench"], folder / "report.html")
    return folder / "report.html"


class Browsers:
    """Those that were started and, of these, those that no test uses: to start one takes seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Any] = []
        self.idle: dict[bool, list[Any]] = {True: [], False: []}  # with scripts, and without

    def take(self, *, scripts: bool) -> Any:
        return self.idle[scripts].pop() if self.idle[scripts] else self.start(scripts=scripts)

    def start(self, *, scripts: bool) -> Any:
        from selenium import webdriver
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service

        options = Options()
        options.binary_location = BROWSER or ""
        for flag in (*FLAGS, f"--user-data-dir={self.folder / f'profile{len(self.started)}'}"):
            options.add_argument(flag)
        if not scripts:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.started.append(webdriver.Chrome(options=options, service=Service(DRIVER)))
        return self.started[-1]

    def give_back(self, driver: Any, *, scripts: bool) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        if scripts:
            driver.execute_script("localStorage.clear()")
        ActionChains(driver).reset_actions()
        driver.get("about:blank")
        for kind in ("browser", "performance"):
            driver.get_log(kind)
        self.idle[scripts].append(driver)


@pytest.fixture(scope="module")
def browsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browsers]:
    """The browsers of these tests."""
    started = Browsers(tmp_path_factory.mktemp("browsers"))
    yield started
    for driver in started.started:
        driver.quit()


@pytest.fixture
def opened(browsers: Browsers) -> Iterator[Open]:
    """Open a page in a browser that shows no other and wait until its charts are drawn."""
    taken: list[tuple[Any, bool]] = []

    def start(page: Path, width: int = 1280, *, dark: bool = False, scripts: bool = True) -> Any:
        driver = browsers.take(scripts=scripts)
        taken.append((driver, scripts))
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": scheme})
        driver.get(page.as_uri())
        deadline = time.monotonic() + 300
        while scripts and driver.execute_script("return document.documentElement.dataset.drawn") != "yes":
            assert time.monotonic() < deadline, driver.get_log("browser")
            time.sleep(0.05)
        return driver

    yield start
    for driver, scripts in taken:
        browsers.give_back(driver, scripts=scripts)


def keys(driver: Any, *pressed: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(driver).send_keys(*pressed).perform()


def column(driver: Any, table: str, place: int) -> list[str]:
    """The texts of a column, of the rows that are shown."""
    script = """return [...document.getElementById(arguments[0]).tBodies[0].rows].filter(row => !row.hidden)
        .filter(row => row.checkVisibility()).map(row => row.cells[arguments[1]].querySelector('bdi').textContent)"""
    return list(driver.execute_script(script, table, place))


def test_the_console_and_the_network_are_silent(report: Path, opened: Open) -> None:
    driver = opened(report)
    assert driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = [one["request"]["url"] for one in requests if not one["documentURL"].startswith("chrome:")]  # its first tab
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


def test_every_chart_is_drawn_and_described(report: Path, opened: Open) -> None:
    driver = opened(report)
    charts = driver.execute_script(
        """return [...document.querySelectorAll('.chart')].map(chart => {
            const svg = chart.querySelector('svg');
            const labelled = svg?.hasAttribute('aria-label') ? svg : svg?.querySelector('[aria-label]');
            return [labelled?.ariaLabel, svg?.getBoundingClientRect().width, svg?.querySelectorAll('path').length];
        })"""
    )
    assert len(charts) > 10
    for label, width, paths in charts:
        assert label
        assert width > 200
        assert paths > 5


def test_nothing_that_was_read_runs(report: Path, opened: Open) -> None:
    driver = opened(report)
    assert driver.execute_script("return [typeof window.hacked, document.querySelectorAll('img').length]") == [
        "undefined",
        0,
    ]
    assert HOSTILE in driver.execute_script("return document.getElementById('result').textContent")


def test_a_table_is_sorted_by_keyboard(report: Path, opened: Open) -> None:
    from selenium.webdriver.common.keys import Keys

    driver = opened(report)
    driver.execute_script("document.querySelector('#classes-box .all').click()")
    driver.execute_script("document.getElementById('classes-search').focus()")
    keys(driver, Keys.TAB, Keys.TAB, Keys.TAB)  # the region that scrolls, and two headings
    focused = "return document.activeElement.textContent"
    assert driver.execute_script(focused) == "top-1, first"
    for state, reverse in (("ascending", False), ("descending", True)):
        keys(driver, Keys.ENTER)
        assert driver.execute_script("return document.activeElement.closest('th').ariaSort") == state
        values = [float(value.split()[0]) for value in column(driver, "classes", 1)]
        assert values == sorted(values, reverse=reverse)
        assert len(set(values)) > 3
    assert driver.execute_script(focused) == "top-1, first"


def test_a_table_is_searched_by_keyboard(report: Path, opened: Open) -> None:
    from selenium.webdriver.common.keys import Keys

    driver = opened(report)
    driver.execute_script("document.getElementById('classes-search').focus()")
    keys(driver, *"NUMBER 42")
    assert [name.split()[0] for name in column(driver, "classes", 0)] == ["42"]
    said = "return document.querySelector('output[for=classes-search]').textContent"
    assert driver.execute_script(said) == "1 of 60 rows"
    keys(driver, *[Keys.BACKSPACE] * 9)
    assert len(column(driver, "classes", 0)) == 25, "no search: the first rows again"


def test_a_button_shows_the_other_rows_of_a_long_table(report: Path, opened: Open) -> None:
    driver = opened(report)
    assert len(column(driver, "classes", 0)) == 25
    driver.execute_script("document.querySelector('#classes-box .all').click()")
    assert len(column(driver, "classes", 0)) == 60
    assert not driver.find_element("css selector", "#classes-box .all").is_displayed()


SCROLLING = """return [...document.querySelectorAll('.scroll')].filter(box => box.checkVisibility() &&
    (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1))
    .map(box => [box.querySelector('table').id, box.scrollWidth, box.clientWidth])"""


def test_no_table_needs_a_scroll_bar(report: Path, opened: Open) -> None:
    assert opened(report).execute_script(SCROLLING) == []


def test_the_values_of_charts_need_none_either(report: Path, opened: Open) -> None:
    """With two runs beside each other; the matrix of 60 classes alone is wider than the page."""
    driver = opened(report)
    opening = """const values = [...document.querySelectorAll('#calibration figure details, #latency figure details')];
        values.forEach(details => details.open = true); return values.length"""
    assert driver.execute_script(opening) > 4
    assert driver.execute_script(SCROLLING) == []


def test_a_phone_shows_the_first_run_and_the_names_of_the_others(report: Path, opened: Open) -> None:
    states = "return [...document.querySelectorAll('#calibration .run')].map(run => run.open)"
    phone = opened(report, 390)
    assert phone.execute_script(states) == [True, False]
    assert len(column(phone, "classes", 0)) == 8
    phone.execute_script("document.querySelectorAll('#calibration .run')[1].open = true")
    width = (
        "return document.querySelectorAll('#calibration .run')[1].querySelector('svg').getBoundingClientRect().width"
    )
    deadline = time.monotonic() + 300
    while phone.execute_script(width) < 200:
        assert time.monotonic() < deadline, "a chart that was hidden is drawn as wide as its place"
        time.sleep(0.05)


def test_the_skip_link_comes_first(report: Path, opened: Open) -> None:
    from selenium.webdriver.common.keys import Keys

    driver = opened(report)
    keys(driver, Keys.TAB)
    assert driver.execute_script("return document.activeElement.getBoundingClientRect().left") >= 0
    keys(driver, Keys.ENTER)
    assert driver.execute_script("return document.activeElement.id") == "main"


@pytest.mark.parametrize("width", [320, 1280, *(pytest.param(w, marks=pytest.mark.long) for w in (390, 768, 1920))])
def test_the_page_does_not_scroll_sideways(report: Path, opened: Open, width: int) -> None:
    driver = opened(report, width)
    inner, scroll = driver.execute_script("return [window.innerWidth, document.documentElement.scrollWidth]")
    assert inner == width
    assert scroll <= width


GROUND = "return getComputedStyle(document.body).backgroundColor"


def test_dark_and_light(report: Path, opened: Open) -> None:
    from selenium.webdriver.support.select import Select

    light, dark = opened(report), opened(report, dark=True)
    assert light.execute_script(GROUND) != dark.execute_script(GROUND)
    Select(light.find_element("id", "theme")).select_by_value("dark")
    assert light.execute_script(GROUND) == dark.execute_script(GROUND)
    light.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert light.execute_script(GROUND) == "rgb(255, 255, 255)"


CONTRAST = """
const luminance = colour => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = node => {
  for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if (!/, 0\\)$/.test(colour)) return colour;
  }
  return 'rgb(255, 255, 255)';
};
const poor = [];
for (const node of document.querySelectorAll('body *')) {
  if (!node.checkVisibility() || node.closest('svg, script, style, .unseen')) continue;
  if (![...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())) continue;
  const [one, other] = [luminance(getComputedStyle(node).color), luminance(ground(node))];
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < 4.5) poor.push([node.tagName, node.className, node.textContent.slice(0, 30), ratio]);
}
return poor.slice(0, 10);
"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_the_contrast_of_level_aa(report: Path, opened: Open, dark: bool) -> None:
    assert opened(report, dark=dark).execute_script(CONTRAST) == []


def test_without_scripts_the_tables_are_there(report: Path, opened: Open) -> None:
    driver = opened(report, scripts=False)
    assert "91." in driver.page_source
    assert driver.find_element("id", "classes").is_displayed()
    assert not driver.find_element("id", "classes-search").is_displayed()
    assert driver.find_element("css selector", "noscript p").size["height"] > 0


def test_what_a_point_says_when_it_is_pointed_at(report: Path, opened: Open) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    driver = opened(report)
    mark = driver.find_element("css selector", "#calibration .chart .mark-rect path")
    ActionChains(driver).scroll_to_element(mark).move_to_element(mark).perform()
    tip = driver.find_element("id", "tip")
    assert tip.is_displayed()
    assert "95 %" in tip.text


def test_a_click_in_the_legend_brings_out_a_runtime(report: Path, opened: Open) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    driver = opened(report)
    chart = driver.find_element("css selector", "#bench .chart")
    opacities = """return [...arguments[0].querySelectorAll('.mark-symbol.role-mark path')]
        .map(point => point.getAttribute('opacity'))"""
    before = driver.execute_script(opacities, chart)
    name = chart.find_element("css selector", ".role-legend-label text")
    ActionChains(driver).scroll_to_element(chart).move_to_element(name).click().perform()
    after = driver.execute_script(opacities, chart)
    assert len(before) == len(after) > 10
    assert 0 < sum(one != other for one, other in zip(before, after, strict=True)) < len(before)
