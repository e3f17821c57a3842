"""The dashboard's speed in a real browser: from the browser's request to the answer, and from each input to the next.

A bare Streamlit page of one title is opened alternately with the dashboard: what remains is ours.
    python -m benchmarks dashboard
Needs Debian's chromium.  Takes about a minute; nothing else should run beside it.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
COLD_STARTS = 3
VISITS = 5
PRESSES = 9
PORTS = (8653, 8654)
APP = Path(__file__).resolve().parents[1] / "app" / "main.py"

_WATCH = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  const before = document.querySelector('h1').innerText;
  const found = window.found = {};
  let started = 0, ran = false;
  addEventListener('keydown', () => { started = performance.now(); }, {capture: true, once: true});
  const watcher = new MutationObserver(() => {
    const title = document.querySelector('h1');
    if (!found.answer && title && title.innerText !== before) found.answer = performance.now() - started;
    const state = app.getAttribute('data-test-script-state');
    ran = ran || state === 'running';
    if (found.answer && ran && state === 'notRunning') {
      found.page = performance.now() - started;
      watcher.disconnect();
    }
  });
  watcher.observe(document.documentElement, {subtree: true, childList: true, characterData: true, attributes: true});
}"""
"""From the press of a key: milliseconds until the title says something else, and until the whole page is drawn."""


def main(arguments: Sequence[str] = ()) -> int:
    """Print the table; 1 where chromium is missing."""
    del arguments
    if not Path(CHROMIUM).exists():
        sys.stderr.write(f"{CHROMIUM} is missing\n")
        return 1
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, command in (("planner dashboard", _planner(PORTS[1])), ("streamlit run", _streamlit(APP, PORTS[1]))):
            _cold(browser, name, command)
        bare = Path(folder) / "bare.py"
        bare.write_text("import streamlit as st\nst.title('x')\n", encoding="utf-8")
        with _server(_streamlit(bare, PORTS[0]), PORTS[0]), _server(_planner(PORTS[1]), PORTS[1]):
            _visits(browser)
            _inputs(browser)
        browser.close()
    return 0


def _planner(port: int) -> list[str]:
    return [sys.executable, "-m", "planner", "dashboard", "--no-open", "--port", str(port)]


def _streamlit(script: Path, port: int) -> list[str]:
    settings = (f"server.port={port}", "server.address=127.0.0.1", "server.headless=true")
    flags = [f"--{setting}" for setting in (*settings, "browser.gatherUsageStats=false")]
    return [sys.executable, "-m", "streamlit", "run", str(script), *flags]


@contextlib.contextmanager
def _server(command: Sequence[str], port: int) -> Iterator[float]:
    """A server that answers; the seconds that this took."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while not _answers(port):
                assert server.poll() is None, f"{command} ended"
                time.sleep(0.02)
            yield time.perf_counter() - started
        finally:
            server.terminate()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1.0):
            return True
    except OSError:
        return False


def _cold(browser: Browser, name: str, command: Sequence[str]) -> None:
    """A server that has just come up, and its first visitor."""
    ports, answers = [], []
    for _ in range(COLD_STARTS):
        with _server(command, PORTS[1]) as seconds:
            ports.append(seconds)
            answers.append(_first_answer(browser, PORTS[1]))
    print(f"{name}: port answers after {_words(ports)}; its first visitor's request to the answer {_words(answers)}")


def _visits(browser: Browser) -> None:
    names = ("bare page", "dashboard")
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(VISITS):
        for name, port in zip(names, PORTS, strict=True):
            taken[name].append(_first_answer(browser, port))
    for name, seconds in taken.items():
        print(f"later visitors, {name}: request to the title {_words(seconds)}")


def _first_answer(browser: Browser, port: int) -> float:
    page = browser.new_context().new_page()
    started = time.perf_counter()
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("h1", timeout=60_000)
    seconds = time.perf_counter() - started
    page.context.close()
    return seconds


def _inputs(browser: Browser) -> None:
    page = browser.new_context().new_page()
    page.goto(f"http://127.0.0.1:{PORTS[1]}/")
    _settled(page)
    page.get_by_role("slider", name="Notices that are acted on").focus()
    answers, pages = [], []
    for _ in range(PRESSES):
        page.wait_for_timeout(500)
        page.evaluate(_WATCH)
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("() => window.found.page", polling=50)
        found = page.evaluate("() => window.found")
        answers.append(found["answer"] / 1000.0)
        pages.append(found["page"] / 1000.0)
    print(f"slider to the new answer, 20,000 runs: {_words(answers)}; until the whole page is drawn {_words(pages)}")
    for name in ("Compare", "Understand", "Assumptions", "Export", "Plan"):
        page.wait_for_timeout(500)
        started = time.perf_counter()
        page.get_by_role("link", name=name).first.click()
        page.wait_for_selector('[data-testid="stApp"][data-test-script-state="running"]', timeout=10_000)
        _settled(page)
        print(f"page {name:<12} {time.perf_counter() - started:.2f} s")


def _settled(page: Page) -> None:
    page.wait_for_selector("h1", timeout=60_000)
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=60_000)


def _words(seconds: Sequence[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
