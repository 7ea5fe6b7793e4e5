"""The page in a headless browser: from a dropped photograph to the boxes at a pixel."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxconv.app.explorer import Explorer
from boxconv.app.pictures import BOXES
from boxconv.app.server import MEGABYTES, Application, listening

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if BROWSER is None or DRIVER is None:
    pytest.skip("needs chromium and chromedriver: apt-get install chromium-driver", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
waiting = pytest.importorskip("selenium.webdriver.support.wait")

SECONDS = 60


class Page:
    """The page in a browser."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver = driver
        self.folder = folder

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def wait(self, condition: Any) -> None:
        waiting.WebDriverWait(self.driver, SECONDS).until(lambda _: condition())

    def shown(self, selector: str) -> bool:
        return bool(self.one(selector).is_displayed())

    def show(self, view: str) -> None:
        self.one(f"label:has(> [value={view}])").click()

    def give(self, content: bytes) -> None:
        path = self.folder / "given"
        path.write_bytes(content)
        self.one("#file").send_keys(str(path))

    def click(self, row: float, column: float) -> None:
        """Click on the photograph; the place is given as shares of its height and width."""
        stage = self.one("#stage")
        right, down = ((share - 0.5) * stage.size[side] for share, side in ((column, "width"), (row, "height")))
        webdriver.ActionChains(self.driver).move_to_element_with_offset(stage, int(right), int(down)).click().perform()

    def chosen(self) -> list[float]:
        """The place of the mark, as shares; it may differ from that of a click, which is on a whole pixel."""
        script = "const {top, left} = document.querySelector('#mark').style; return [top, left]"
        return [float(side.removesuffix("%")) / 100 for side in self.driver.execute_script(script)]


@pytest.fixture
def page(explorer: Explorer, tmp_path: Path) -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", profile):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with listening(Application(explorer), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        try:
            driver.set_window_size(1280, 900)
            driver.get(f"http://127.0.0.1:{server.port}/")
            yield Page(driver, tmp_path)
        finally:
            driver.quit()
            server.shutdown()
            thread.join()


def test_from_a_photograph_to_its_boxes(page: Page, photo: bytes, explorer: Explorer) -> None:
    page.wait(lambda: page.one("#name").text == "mine")
    assert "24 × 40 pixels" in page.one("#about").text
    page.give(photo)
    page.wait(lambda: page.shown("#map"))
    assert not page.shown("#drop")
    shares = {entry["name"]: entry["share"] for entry in explorer.labels(photo)["shares"]}
    listed = [item.find_element("css selector", "span").text for item in page.all("#shares li")]
    assert listed == list(shares)

    page.click(0.55, 0.3)
    page.wait(lambda: page.shown("#heat"))
    assert page.one("[name=view]:checked").get_attribute("value") == "context"
    at = page.chosen()
    assert at == pytest.approx([0.55, 0.3], abs=0.01)
    likely = explorer.context(photo, *at)["classes"]
    page.wait(lambda: [item.text for item in page.all("#likely span")] == [entry["name"] for entry in likely])
    assert f"“{likely[0]['name']}”" in page.one("#context-text").text

    page.show("boxes")
    page.wait(lambda: len(page.all("#boxes rect")) == BOXES)
    assert not page.shown("#heat")
    first, *_, last = explorer.layers
    assert drawn(page) == placed(explorer, first, *at)
    page.one("#layer option:last-child").click()
    page.wait(lambda: drawn(page) == placed(explorer, last, *at))

    page.one("#another").click()
    assert page.shown("#drop")
    assert not page.all("#boxes rect")
    unexpected = [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not unexpected


def drawn(page: Page) -> list[Any]:
    """Edges of the boxes on the page, in thousandths of the photograph."""
    script = """return [...document.querySelectorAll("#boxes rect")].map((rectangle) => {
        const {x, y, width, height} = rectangle.getBBox();
        return [x, y, width, height];
    })"""
    return [pytest.approx(box, rel=1e-4, abs=0.1) for box in page.driver.execute_script(script)]


def placed(explorer: Explorer, layer: str, row: float, column: float) -> list[list[float]]:
    return [
        [1000 * value for value in (b["left"], b["top"], b["right"] - b["left"], b["bottom"] - b["top"])]
        for b in explorer.boxes(layer, row, column)["boxes"]
    ]


def test_errors_are_one_sentence_and_the_next_photograph_is_taken(page: Page, photo: bytes) -> None:
    page.wait(lambda: page.one("#name").text == "mine")
    for content, words in [
        (b"a note", "This file: the content is not an image of kind PNG"),
        (bytes(MEGABYTES * 2**20 + 1), f"This file has more than {MEGABYTES} MB."),
        (b"", "This file: the file is empty."),
    ]:
        page.give(content)
        page.wait(lambda words=words: words in page.one("#error").text)
        assert page.shown("#drop")
    page.give(photo)
    page.wait(lambda: page.shown("#map"))
    assert not page.shown("#error")


BROUGHT = """
const transfer = new DataTransfer();
if (arguments[1]) transfer.items.add(new File([new Uint8Array(arguments[1])], "photo"));
else transfer.items.add("https://example.org/photo.jpg", "text/uri-list");
document.getElementById("drop").dispatchEvent(
    arguments[0] === "drop"
        ? new DragEvent("drop", {dataTransfer: transfer, bubbles: true})
        : new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}));
"""


def test_photographs_are_dropped_and_pasted(page: Page, photo: bytes) -> None:
    page.wait(lambda: page.one("#name").text == "mine")
    page.driver.execute_script(BROUGHT, "drop", None)
    page.wait(lambda: page.one("#error").text == "That is no file: drop an image file, not a link or a text.")
    for how in ("drop", "paste"):
        page.driver.execute_script(BROUGHT, how, list(photo))
        page.wait(lambda: page.shown("#map"))
        assert not page.shown("#error")
        page.one("#another").click()
        page.wait(lambda: page.shown("#drop"))


def test_without_a_mouse_and_on_a_phone(page: Page, photo: bytes) -> None:
    page.wait(lambda: page.one("#name").text == "mine")
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    page.give(photo)
    page.wait(lambda: page.shown("#map"))
    keys = webdriver.Keys
    page.one("#stage").send_keys(keys.ARROW_UP, keys.ARROW_LEFT)
    page.wait(lambda: page.shown("#heat"))
    assert page.chosen() == pytest.approx([0.48, 0.48])
    for view in ("classes", "context", "boxes"):
        page.show(view)
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= 390


def test_the_browser_asks_nobody_else(page: Page, photo: bytes) -> None:
    page.wait(lambda: page.one("#name").text == "mine")
    page.give(photo)
    page.wait(lambda: page.shown("#map"))
    asked = page.driver.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    home = page.driver.current_url
    assert {name.removeprefix(home) for name in asked if not name.startswith("data:")} == {
        "page.css", "page.js", "network", "labels",
    }  # fmt: skip
