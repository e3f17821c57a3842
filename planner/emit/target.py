"""What a target of emit is, and the few things that launchers share: names, places, quoting, time."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.config import RunConfig
from planner.emit.planned import EmitPlan

STORE_PORT = 29400
LAUNCHER_MARGIN_SECONDS = 15
"""The launcher itself waits 10 s beyond torchrun's shutdown timeout before it kills what is left."""
DEFAULT_SCRIPT = "train.py"

_ZONE_ID = re.compile(r"[a-z]{2,5}\d-(?:[a-z0-9]+-)*az\d+")


@dataclass(frozen=True, slots=True)
class Target:
    """One launcher: `files` makes what it needs beside harness.yaml."""

    name: str
    title: str
    files: Callable[[EmitPlan, RunConfig], dict[str, str]]
    provider: str | None = None
    """Only for plans of this provider; None: for any."""


def script_of(plan: EmitPlan) -> str:
    """The training script and its arguments, as a shell takes them."""
    return plan.settings.script or DEFAULT_SCRIPT


def run_name(config: RunConfig) -> str:
    """The run's id as a name that DNS, clouds and schedulers accept: at most 40 of a-z, 0-9 and -, a letter first."""
    name = re.sub(r"[^a-z0-9]+", "-", config.run_id.lower()).strip("-")
    return (name if name[:1].isalpha() else f"run-{name}")[:40].rstrip("-")


def zone_name(plan: EmitPlan) -> str | None:
    """The zone by its name; None where it is not known by one (AWS's zone ids are no names)."""
    zone: str | None = plan.completed["fleet.zone"]
    return None if zone is None or is_zone_id(zone) else zone


def is_zone_id(zone: str) -> bool:
    """Whether this is one of AWS's zone ids (use1-az2), which mean the same in every account."""
    return _ZONE_ID.fullmatch(zone) is not None


def stop_seconds(plan: EmitPlan, config: RunConfig) -> int:
    """From SIGTERM to SIGKILL of the launcher: torchrun's own timeout and a margin, within the notice if it fits."""
    shutdown = config.torchrun.shutdown_timeout_seconds
    notice = int(plan.completed["notice.seconds"])
    wanted = shutdown + LAUNCHER_MARGIN_SECONDS
    return max(shutdown, min(wanted, notice)) if notice else wanted


def comment(text: str, *, indent: int = 0, width: int = 110) -> str:
    """A paragraph as comment lines."""
    margin = " " * indent + "# "
    return "\n".join(textwrap.wrap(" ".join(text.split()), width, initial_indent=margin, subsequent_indent=margin))


def header(uses: Iterable[str], notes: Iterable[str] = ()) -> str:
    """The comment at the top of a file: the commands that use it, then what to know."""
    lines = ["# Written by planner. Use it with:", *(f"#   {use}" for use in uses)]
    for note in notes:
        lines += ["#", comment(note)]
    return "\n".join(lines) + "\n"


def quoted(value: object) -> str:
    """A value as one word of a shell."""
    return shlex.quote(str(value))
