"""One interruption by position, as a person types it: ``node 1 at step 7 during upload:between_files``."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from harness.checkpoint.faults import POINTS
from harness.errors import InvalidInputError, did_you_mean
from harness.validation import StrictModel, parse

_POSITION = re.compile(
    r"node (?P<node>\d+) at step (?P<at_step>\d+)(?: (?P<kind>notice|late-notice|kill))?"
    r"(?: (?P<notice_seconds>\d+(?:\.\d+)?) s)?(?: during (?P<during>\S+))?"
)


class Interruption(StrictModel):
    """One node is taken, and its disk with it, once it has come so far."""

    node: int = Field(ge=0)
    at_step: int = Field(ge=1)
    """Optimizer steps of the run that this node has done."""
    kind: Literal["notice", "late-notice", "kill"]
    """``notice``: announced, and gone `notice_seconds` later.  ``late-notice``: announced as if there were the config's
    notice, and gone after `notice_seconds`.  ``kill``: gone."""
    notice_seconds: float | None = Field(None, ge=0)
    """None: the config's."""
    during: str | None = None
    """A fault point of the checkpoints: the first time that the node is there after `at_step`, it is killed."""

    @model_validator(mode="after")
    def _consistent(self) -> Interruption:
        if self.during is not None and self.during not in POINTS:
            hint = did_you_mean(self.during, POINTS)
            raise ValueError(f"during: one of {', '.join(POINTS)}{f' ({hint})' if hint else ''}")
        if self.during is not None and self.kind != "kill":
            raise ValueError("kind: kill with during")
        if self.kind == "kill" and self.notice_seconds is not None:
            raise ValueError("no notice_seconds with kind: kill")
        if self.kind == "late-notice" and self.notice_seconds is None:
            raise ValueError("notice_seconds with kind: late-notice, as in 'late-notice 2 s'")
        return self

    def describe(self) -> str:
        """As `parse_position` reads it."""
        seconds = "" if self.notice_seconds is None else f" {self.notice_seconds:g} s"
        during = f" during {self.during}" if self.during else ""
        return f"node {self.node} at step {self.at_step} {self.kind}{seconds}{during}"


def parse_position(text: str) -> Interruption:
    """``node N at step S [notice|late-notice|kill] [SECONDS s] [during POINT]``; kill when no kind is given."""
    match = _POSITION.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(
            "--at", text, "'node N at step S', 'node N at step S notice 30 s' or 'node N at step S during POINT'"
        )
    return parse(
        Interruption,
        {
            "node": int(match["node"]),
            "at_step": int(match["at_step"]),
            "kind": match["kind"] or "kill",
            "notice_seconds": None if match["notice_seconds"] is None else float(match["notice_seconds"]),
            "during": match["during"],
        },
        source="--at",
    )
