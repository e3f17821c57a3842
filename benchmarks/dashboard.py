"""The dashboard's speed in a real browser: first paint and each interaction, in seconds.

A bare Streamlit page of one title is opened alternately with the dashboard: what remains is ours.
    python -m benchmarks.dashboard
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
ROUNDS = 3
PORTS = (8653, 8654)


def main() -> int:
    """Print the table; 1 where chromium is missing."""
    if not Path(CHROMIUM).exists():
        sys.stderr.write(f"{CHROMIUM} is missing\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text("import streamlit as st\nst.title('x')\n", encoding="utf-8")
        flags = ["--server.address=127.0.0.1", "--server.headless=true", "--browser.gatherUsageStats=false"]
        commands = (
            [sys.executable, "-m", "streamlit", "run", str(bare), f"--server.port={PORTS[0]}", *flags],
            [sys.executable, "-m", "planner", "dashboard", "--no-open", "--port", str(PORTS[1])],
        )
        servers = [subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for c in commands]
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                _measure(browser)
                browser.close()
        finally:
            for server in servers:
                server.terminate()
                server.wait()
    return 0


def _measure(browser: Browser) -> None:
    first: dict[str, list[float]] = {"bare page": [], "dashboard": []}
    for _ in range(ROUNDS):
        for name, port in zip(first, PORTS, strict=True):
            page = browser.new_context().new_page()
            first[name].append(_first_paint(page, port))
            page.context.close()
    for name, seconds in first.items():
        print(f"first paint, {name:<10} first {seconds[0]:.2f} s, median {statistics.median(seconds):.2f} s")
    page = browser.new_context().new_page()
    _first_paint(page, PORTS[1])
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    slider = page.get_by_role("slider", name="Notices that are acted on")
    taken = [_interaction(page, lambda: slider.press("ArrowLeft")) for _ in range(5)]
    print(f"slider to new answer at 20,000 runs: median {statistics.median(taken):.2f} s, worst {max(taken):.2f} s")
    for name in ("Compare", "Understand", "Assumptions", "Export", "Plan"):
        link = page.get_by_role("link", name=name).first
        print(f"page {name:<12} {_interaction(page, link.click):.2f} s")


def _first_paint(page: Page, port: int) -> float:
    for _ in range(100):
        try:
            started = time.perf_counter()
            page.goto(f"http://127.0.0.1:{port}/")
            break
        except PlaywrightError:  # the server is not up yet
            time.sleep(0.1)
    page.wait_for_selector("h1", timeout=60_000)
    return time.perf_counter() - started


def _interaction(page: Page, act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="running"]', timeout=10_000)
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=60_000)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
