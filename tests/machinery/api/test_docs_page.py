"""/docs in a real browser: it works without any other host, with and without authentication."""

import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import wait_for
from PIL import Image
from selenium import webdriver

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no Chromium: apt-get install chromium chromium-driver"
    ),
]
OPTIONS = """
    --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run
    --disable-background-networking --disable-component-update --disable-sync
    --window-size=1200,1600
"""
# The first element of a CSS selector that is shown.
SHOWN = "return [...document.querySelectorAll(arguments[0])].find(each => each.offsetParent)"
PREDICT = "#operations-predictions-predict"
ANSWER = f"{PREDICT} .live-responses-table tr.response"


class Page:
    """/docs of an API in a browser."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser, self.host = browser, urlsplit(url).netloc
        browser.get(f"{url}/docs")

    def find(self, selector: str):
        return wait_for(lambda: self.browser.execute_script(SHOWN, selector))

    def click(self, selector: str) -> None:
        self.find(selector)
        self.browser.execute_script(f"({SHOWN[7:]}).click()", selector)

    def try_prediction(self) -> tuple[int, dict]:
        """Execute the example of POST /predict: the status and the body of the answer."""
        for button in (".opblock-summary-control", ".try-out__btn", ".execute"):
            self.click(f"{PREDICT} {button}")
        return self.answer()

    def answer(self) -> tuple[int, dict]:
        status = self.find(f"{ANSWER} .response-col_status").text.split()[0]
        return int(status), json.loads(self.find(f"{ANSWER} .response-col_description code").text)

    def authorize(self, key: str) -> None:
        self.click(".auth-wrapper .authorize")
        self.find(".auth-container input").send_keys(key)
        self.click(".auth-container .authorize")
        self.click(".auth-container .btn-done")

    def save(self, file: Path) -> Image.Image:
        """A screenshot with the answer in its middle."""
        self.browser.execute_script(f"({SHOWN[7:]}).scrollIntoView()", ANSWER)
        self.browser.save_screenshot(str(file))
        return Image.open(file).convert("RGB")

    def require_own_requests(self) -> None:
        """It asked this host alone."""
        lines = [
            json.loads(line["message"])["message"] for line in self.browser.get_log("performance")
        ]
        asked = {
            urlsplit(line["params"]["request"]["url"])
            for line in lines
            if line["method"] == "Network.requestWillBeSent"
        }
        assert {"/docs", "/openapi.json", "/predict"} <= {url.path for url in asked}
        # The others are the browser's own pages (chrome:) and content of this one (data:, blob:).
        hosts = {url.netloc for url in asked if url.scheme in ("http", "https", "ws", "wss")}
        assert hosts == {self.host}

    def errors(self) -> list[str]:
        """What the browser's console shows as errors."""
        lines = self.browser.get_log("browser")
        return [line["message"] for line in lines if line["level"] == "SEVERE"]


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS.split(), f"--user-data-dir={tmp_path / 'browser'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


def is_drawn(image: Image.Image) -> bool:
    """Whether it shows more than a background with little on it."""
    colours = image.getcolors(1 << 24)
    most = max(count for count, _ in colours)
    return len(colours) > 100 and most < 0.9 * image.width * image.height


def test_a_prediction_is_made_on_the_page(serve, browser):
    api = serve()
    page = Page(browser, api.url)
    status, body = page.try_prediction()
    assert (status, len(body["predictions"])) == (200, 1)
    assert is_drawn(page.save(api.project.folder / "log" / "docs.png"))
    page.require_own_requests()
    assert page.errors() == []


def test_the_page_asks_for_a_key_where_one_is_needed(serve, project, browser):
    key = project.run("api-key", "create", "browser").stdout.split()[-1]
    api = serve(APP__AUTHENTICATION__REQUIRED="true")
    page = Page(browser, api.url)
    status, body = page.try_prediction()
    assert (status, body["code"]) == (401, "authentication")
    page.authorize(key)
    page.click(f"{PREDICT} .btn-clear")
    page.click(f"{PREDICT} .execute")
    status, body = page.answer()
    assert (status, len(body["predictions"])) == (200, 1)
    assert is_drawn(page.save(api.project.folder / "log" / "docs-with-key.png"))
    page.require_own_requests()
    # The browser itself reports the answer 401 there.
    assert [line for line in page.errors() if "401 (Unauthorized)" not in line] == []
