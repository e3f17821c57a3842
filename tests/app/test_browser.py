"""The dashboard in a real browser: answers, inputs, links, downloads that run, accessibility, nothing from outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, expect

from app.shell import PAGES
from harness.chaos.network import free_port
from tests.app.browser_support import WAIT_MS, Visitor, chromium, dashboard, require_chromium
from tests.app.test_run_folders import events

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
expect.set_options(timeout=WAIT_MS)
PICTURES = ROOT / "build" / "screenshots"
LINK = "instance=p4d.24xlarge&work-hours=100&checkpoint-gib=50&runs=2000"
_HEADINGS = {
    "Compare": "Compare places",
    "Understand": "Understand the plan",
    "Assumptions": "Assumptions",
    "Export": "Take it home",
    "Runs": "Runs",
}
EVIL = "<img src=x onerror=alert(1)> **bold**"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running dashboard with one run's telemetry (a hostile one) below its folder."""
    require_chromium()
    top = tmp_path_factory.mktemp("runs")
    (top / "job" / "telemetry").mkdir(parents=True)
    (top / "job" / "telemetry" / "node-0-ab.jsonl").write_text("\n".join(events(run_id=EVIL)) + "\n", encoding="utf-8")
    with dashboard(top) as found:
        yield found


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Browser]:
    del address
    with chromium() as found:
        yield found


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Callable[..., Visitor]]:
    """Opens pages in contexts of their own; afterwards none may have complained or left the machine."""
    visitors: list[Visitor] = []

    def opened(path: str = f"/?{LINK}", *, width: int = 1280, scheme: str = "light") -> Visitor:
        visitors.append(Visitor(browser, address, width=width, scheme=scheme))
        return visitors[-1].open(path)

    yield opened
    complaints = [text for visitor in visitors for text in visitor.complaints]
    elsewhere = [url for visitor in visitors for url in visitor.elsewhere]
    for visitor in visitors:
        visitor.close()
    assert complaints == []
    assert elsewhere == []


def test_it_opens_on_a_finished_example(visit: Callable[..., Visitor]) -> None:
    """No input needed: the answer, four numbers, charts with words for those who do not see them."""
    visitor = visit("/")
    assert visitor.title().startswith("Rent p4d.24xlarge in ")
    expect(visitor.page.locator("[data-testid=stMetric]")).to_have_count(4)
    chart = visitor.page.locator("[data-testid=stVegaLiteChart]").first
    expect(chart).to_be_visible()
    # Vega writes the words a moment after the chart is there.
    words = visitor.page.locator('[aria-label*="Expected cost against checkpoint interval"]').first
    expect(words).to_be_attached()


def test_changing_an_input_by_keyboard_changes_the_answer_and_its_link_reproduces_it(
    visit: Callable[..., Visitor],
) -> None:
    """Type, Enter, read; send the URL; the other side reads the same."""
    visitor = visit()
    before = visitor.title()
    field = visitor.page.get_by_label("Work (hours)", exact=True)
    field.focus()
    visitor.page.keyboard.press("Control+A")
    visitor.page.keyboard.type("250")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("h1").first).not_to_have_text(before)
    visitor.settle()
    expect(visitor.page).to_have_url(re.compile("work-hours=250"))
    other = visit(visitor.page.url.removeprefix(visitor.address))
    # "done …" counts from when each of them looks.
    assert other.title().split(", done")[0] == visitor.title().split(", done")[0]
    assert "$" in other.title()


def test_no_press_is_lost_and_focus_stays_while_the_answer_follows(visit: Callable[..., Visitor]) -> None:
    """The slider is moved without a mouse, again and again in the middle of the runs that the moves before started."""
    visitor = visit()
    page = visitor.page
    slider = page.get_by_role("slider", name="Notices that are acted on")
    slider.focus()
    for value in ("0.94", "0.93", "0.92"):
        page.keyboard.press("ArrowLeft")
        expect(page).to_have_url(re.compile(rf"notice-success={value}(&|$)"))  # the answer is not there yet
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile(r"notice-success=0.8(&|$)"))
    # What is being typed while the answer is on its way stays, too.
    field = page.get_by_label("Work (hours)", exact=True)
    expect(slider).to_be_focused()
    page.keyboard.press("ArrowLeft")
    field.fill("123")
    expect(page).to_have_url(re.compile(r"notice-success=0.79(&|$)"))
    visitor.settle()
    expect(field).to_have_value("123")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"work-hours=123(&|$)"))
    expect(page).to_have_url(re.compile(r"notice-success=0.79(&|$)"))
    visitor.settle()
    expect(slider).to_have_attribute("aria-valuetext", "0.79")
    page.go_back()
    expect(page).to_have_url(re.compile(r"work-hours=100(&|$)"))
    expect(page.get_by_label("Work (hours)", exact=True).last).to_have_value("100")


def test_a_bad_link_says_what_it_corrected(visit: Callable[..., Visitor]) -> None:
    """Named on the page; the URL holds what is used."""
    visitor = visit(f"/?{LINK}&nodes=999x")
    expect(visitor.page.get_by_text("nodes was “999x”")).to_be_visible()
    expect(visitor.page).to_have_url(re.compile(r"^[^?]*\?((?!nodes).)*$"))


def test_the_plan_survives_walking_through_the_pages(visit: Callable[..., Visitor]) -> None:
    """Navigation keeps the scenario, and the URL of each page carries it."""
    visitor = visit(f"/?{LINK}&work-hours=77".replace("work-hours=100&", ""))
    for _, title, _ in PAGES[1:]:
        visitor.page.get_by_role("link", name=title, exact=False).first.click()
        expect(visitor.page).to_have_url(re.compile(rf"/{title.lower()}\?.*work-hours=77"))
        expect(visitor.page.locator("h1").last).to_contain_text(_HEADINGS[title])
        visitor.settle()
        # Inputs are made anew on each page.
        expect(visitor.page.get_by_label("Work (hours)", exact=True).last).to_have_value("77")
        visitor.settle()
    visitor.page.get_by_role("link", name="Plan").first.click()
    expect(visitor.page.locator("h1").first).to_contain_text("Rent p4d.24xlarge")
    expect(visitor.page.get_by_label("Work (hours)", exact=True).last).to_have_value("77")
    slider = visitor.page.get_by_role("slider", name="Notices that are acted on")
    expect(slider.last).to_have_attribute("aria-valuetext", "0.95")


def test_long_work_can_be_stopped_and_the_page_stays_usable(visit: Callable[..., Visitor]) -> None:
    """A million runs of a big fleet: progress, Stop, and the next answer."""
    visitor = visit(f"/?{LINK}&nodes=64&min-nodes=32&bulk=0.5".replace("runs=2000", "runs=1000000"))
    visitor.page.get_by_role("button", name="Stop").first.click()
    expect(visitor.page.get_by_text("Stopped.")).to_be_visible()
    visitor.page.get_by_role("button", name="Start over with the example").click()
    expect(visitor.page.locator("h1").first).to_contain_text("Rent p4d.24xlarge")


def test_a_run_is_followed_live_and_its_text_stays_text(visit: Callable[..., Visitor]) -> None:
    """What telemetry says is shown as it stands; no markup of it comes to life (a dialog would be a complaint)."""
    visitor = visit("/runs")
    expect(visitor.page.get_by_text(EVIL)).to_be_visible()
    assert visitor.page.locator("img[src=x]").count() == 0
    expect(visitor.page.get_by_text("Predicted against actual", exact=True)).to_be_visible()


def test_a_downloaded_config_runs(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    """The button's file, unchanged, under torchrun: it trains, checkpoints and finishes."""
    settings = {
        "instance": "g4dn.xlarge",
        "work-hours": "1",
        "checkpoint-gib": "0.01",
        "runs": "1000",
        "run-id": "downloaded",
        "local-directory": str(tmp_path / "local"),
        "remote": str(tmp_path / "durable"),
        "telemetry-directory": str(tmp_path / "telemetry"),
        "rdzv-endpoint": f"127.0.0.1:{free_port()}",
    }
    visitor = visit("/export?" + "&".join(f"{key}={value}" for key, value in settings.items()))
    with visitor.page.expect_download() as arriving:
        visitor.page.get_by_role("button", name="Download harness.yaml").click()
    config = tmp_path / "harness.yaml"
    arriving.value.save_as(config)
    assert yaml.safe_load(config.read_text(encoding="utf-8"))["run_id"] == "downloaded"
    with visitor.page.expect_download() as arriving:
        visitor.page.get_by_role("button", name=re.compile(r"^Download .*\.csv$")).click()
    assert len(arriving.value.path().read_text(encoding="utf-8").splitlines()) > 2
    small = "--steps 6 --batch 4 --context 16 --channels 16 --layers 1 --heads 2 --corpus-bytes 100000"
    outcome = tmp_path / "result.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "harness", "launch", str(config), str(ROOT / "examples" / "train_gpt.py"),
            *small.split(), "--result", str(outcome),
        ],
        cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "weights_sha256" in json.loads(outcome.read_text(encoding="utf-8"))
    assert list((tmp_path / "durable" / "downloaded").glob("step-000000006-*/manifest.json"))


@pytest.mark.parametrize("name", [name for name, _, _ in PAGES])
def test_pages_are_accessible_and_pictured(visit: Callable[..., Visitor], name: str) -> None:
    """axe finds nothing serious, light, dark and narrow; a picture of each is kept for people to look at."""
    from axe_playwright_python.sync_playwright import Axe

    path = "/" if name == "plan" else f"/{name}"
    visitor = visit(f"{path}?{LINK}")
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390)):
        visitor.look(scheme, width)
        if name == "understand":
            expect(visitor.page.get_by_text("Regret of this plan's interval")).to_be_visible()
            visitor.settle()
        if name == "runs":
            # Left alone: while a run is followed live, part of the page is always being drawn anew.
            visitor.page.get_by_text("Follow it live").click()
            expect(visitor.page.get_by_role("switch", name="Follow it live")).not_to_be_checked()
            visitor.settle()
        found = Axe().run(visitor.page).response["violations"]
        serious = [
            (rule["id"], node["html"][:200])
            for rule in found
            if rule["impact"] in {"serious", "critical"}
            for node in rule["nodes"]
        ]
        visitor.whole_page(PICTURES / f"{name}-{scheme}-{width}.png")
        assert serious == [], f"{scheme} {width}"
