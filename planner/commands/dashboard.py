"""``planner dashboard``: the Streamlit pages, on this machine only."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
import urllib.request
import webbrowser
from pathlib import Path

import click

from harness.errors import EXIT_DONE, InvalidInputError
from planner.options import WholeNumber

PORT = 8501


def app_directory() -> Path:
    """The pages: `planner/_app` in a wheel, `app` in a checkout."""
    here = Path(__file__).resolve().parents[1]
    for candidate in (here / "_app", here.parent / "app"):
        if (candidate / "main.py").is_file():
            return candidate
    raise InvalidInputError("dashboard", here, "an installation with the dashboard in it", "install spot-planner anew")


def server_flags(port: int) -> list[str]:
    """Streamlit's flags: loopback only, nothing phoned home, no traceback on the page."""
    settings = {
        "server.address": "127.0.0.1",
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
    }
    return [f"--{name}={value}" for name, value in settings.items()]


@click.command("dashboard")
@click.option("--port", type=WholeNumber(), default=PORT, envvar="PLANNER_PORT", help="Port on 127.0.0.1.")
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    help="Folder below which the Runs page looks for telemetry; the current folder if not given.",
)
@click.option("--open/--no-open", "open_browser", default=True, help="Open a browser.")
def command(port: int, runs: Path | None, open_browser: bool) -> int:
    """Open the dashboard: plan, compare, understand, export, follow runs.

    Listens on 127.0.0.1 only and needs no network. Ctrl-C ends it.
    """
    if not 1 <= port <= 65535:
        raise InvalidInputError("--port", port, "a port from 1 to 65535")
    if runs is not None and not runs.is_dir():
        raise InvalidInputError("--runs", runs, "an existing folder")
    missing = [name for name in ("streamlit", "altair") if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidInputError(
            "dashboard", "nothing", f"{' and '.join(missing)} to be installed", "pip install 'spot-planner[app]'"
        )
    os.environ["PLANNER_RUNS"] = str((runs or Path()).resolve())
    script = app_directory() / "main.py"
    click.echo(f"Working out the example; the pages will be at http://127.0.0.1:{port}", err=True)
    from planner.views.warm import warm_up

    # Before the port answers: the first visitor finds everything loaded, compiled and done.
    warm_up()
    if open_browser:
        threading.Thread(target=_open_when_up, args=(port,), daemon=True, name="planner-browser").start()

    from streamlit.web.cli import main as streamlit

    # Headless, so that a first start does not ask for an e-mail address; the browser is opened here instead.
    streamlit(["run", str(script), *server_flags(port)], standalone_mode=False)
    return EXIT_DONE


def _open_when_up(port: int) -> None:
    """Open the browser as soon as the server answers."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1.0):
                webbrowser.open(f"http://127.0.0.1:{port}/")
                return
        except OSError:
            time.sleep(0.1)
