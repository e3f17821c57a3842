"""A dashboard server on loopback and Debian's chromium, for the tests that look through a real browser."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from harness.chaos.network import free_port
from tests.requirements import missing

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
WAIT_MS = 120_000
_IS_DRAWN_IN = """scheme => {
  const [red] = getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor.match(/\\d+/);
  return (Number(red) < 128) === (scheme === 'dark') && !document.querySelector('[data-testid=stSkeleton]');
}"""
_HOLDS_STILL = """() => new Promise(resolve => {
  const height = () => document.querySelector('[data-testid=stMain]').scrollHeight;
  const before = height();
  requestAnimationFrame(() => requestAnimationFrame(() => resolve(
    height() === before && !document.querySelector('[data-testid=stSkeleton]')
    && document.getAnimations().every(one => one.playState !== 'running' || !one.effect.getTiming().duration
      || one.effect.getTiming().iterations === Infinity))));
})"""
"""No placeholder is left, and two frames later nothing moves (what turns for ever does not count)."""


def require_chromium() -> None:
    """Skip without Debian's chromium; in CI its absence is a failure."""
    if not CHROMIUM.exists():
        missing(f"{CHROMIUM} is missing: apt-get install chromium")


@contextmanager
def dashboard(runs: Path) -> Iterator[str]:
    """`planner dashboard` as a user starts it; its address.  What it printed is shown if it does not come up."""
    port = free_port()
    log = runs / "server.log"
    command = [sys.executable, "-m", "planner", "dashboard", "--no-open", "--port", str(port), "--runs", str(runs)]
    with log.open("w") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 240.0  # the engines may have to be compiled first
        while not _answers(f"{address}/_stcore/health"):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's chromium, without a screen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Visitor:
    """One page in a context of its own, and what it complained about."""

    def __init__(self, browser: Browser, address: str, *, width: int = 1280, scheme: str = "light") -> None:
        self.address = address
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            accept_downloads=True,
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.complaints: list[str] = []
        self.elsewhere: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda line: self._console(line.type, line.text, line.location))
        self.page.on("request", lambda request: self._request(request.url))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _console(self, kind: str, text: str, location: object) -> None:
        # Opened below a page's own path, Streamlit's front end looks for the server there first: two 404s by design.
        probe = str(location.get("url", "") if isinstance(location, dict) else "")
        if kind == "error" and not probe.endswith(("/_stcore/health", "/_stcore/host-config")):
            self.complaints.append(f"{text} {probe}")

    def _request(self, url: str) -> None:
        if not url.startswith((self.address, self.address.replace("http", "ws"), "data:", "blob:")):
            self.elsewhere.append(url)

    def open(self, path: str = "/") -> Visitor:
        """Go to a path (with its query) and wait until the page is drawn."""
        self.page.goto(f"{self.address}{path}")
        return self.settle()

    def settle(self) -> Visitor:
        """Wait until the script has run and the title is there."""
        self.page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        self.page.wait_for_selector("h1, [data-testid=stAlert], [data-testid=stProgress]")
        assert self.page.locator("[data-testid=stException]").count() == 0, "a traceback is on the page"
        return self

    def look(self, scheme: str, width: int) -> Visitor:
        """Open the same page light or dark, wide or narrow; returns once it is drawn so."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        self.page.reload()  # charts take their colours from the scheme when they are drawn
        self.page.wait_for_function(_IS_DRAWN_IN, arg=scheme)
        return self.settle()

    def title(self) -> str:
        """The heading of the page, on one line."""
        return " ".join(self.page.locator("h1").first.inner_text().split())

    def whole_page(self, path: Path) -> None:
        """A picture of all that can be scrolled to."""
        height = self.page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollHeight")
        size = self.page.viewport_size
        assert size is not None
        self.page.set_viewport_size({"width": size["width"], "height": min(int(height) + 80, 6000)})
        self.page.wait_for_function(_HOLDS_STILL)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(path))
        self.page.set_viewport_size(size)

    def close(self) -> None:
        """End it."""
        self.context.close()


def fresh_folder(path: Path) -> Path:
    """An empty folder at `path`."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
