"""One interruption by position, as a person types it: ``node 1 at step 7 during upload:between_files``."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.checkpoint.faults import POINTS
from harness.errors import InvalidInputError, did_you_mean
from harness.validation import StrictModel, parse

Kind = Literal["notice", "late-notice", "kill", "cut", "join", "store-death", "split-brain"]

OF_THE_FLEET = ("store-death", "split-brain")
"""These happen to the whole fleet; every other one to a node."""

HARMLESS = ("notice", "join")
"""After these not a single step may be done again."""

_NODE = re.compile(
    r"node (?P<node>\d+) at step (?P<at_step>\d+)(?: (?P<kind>notice|late-notice|kill|cut|join))?"
    r"(?: (?P<seconds>\d+(?:\.\d+)?) s)?(?: during (?P<during>\S+))?"
)
_FLEET = re.compile(r"(?P<kind>store-death|split-brain) at step (?P<at_step>\d+)")


class Interruption(StrictModel):
    """Something happens to a node, or to the fleet, once it has come so far."""

    node: int | None = Field(None, ge=0)
    """Which node; none for what happens to the fleet."""
    at_step: int = Field(ge=1)
    """Optimizer steps of the run that this node (for `join` and the fleet: any node) has done."""
    kind: Kind
    """
    notice       announced, and gone with its disk `notice_seconds` later
    late-notice  announced as if there were the config's notice, and gone after `notice_seconds`
    kill         gone with its disk
    cut          its network goes silent for `cut_seconds`; the machine itself runs on
    join         an elastic fleet: the node comes up with an empty disk
    store-death  the process that holds the rendezvous store is killed
    split-brain  the job is launched a second time while the first one still trains
    """
    notice_seconds: float | None = Field(None, ge=0)
    """None: the config's."""
    cut_seconds: float | None = Field(None, gt=0)
    during: str | None = None
    """A fault point of the checkpoints: the first time that the node is there after `at_step`, it is killed."""

    @model_validator(mode="after")
    def _consistent(self) -> Interruption:
        if (self.node is None) != (self.kind in OF_THE_FLEET):
            raise ValueError(f"{'no node' if self.kind in OF_THE_FLEET else 'node'} with kind: {self.kind}")
        if self.during is not None and self.during not in POINTS:
            hint = did_you_mean(self.during, POINTS)
            raise ValueError(f"during: one of {', '.join(POINTS)}{f' ({hint})' if hint else ''}")
        if self.during is not None and self.kind != "kill":
            raise ValueError("kind: kill with during")
        if self.notice_seconds is not None and self.kind not in {"notice", "late-notice"}:
            raise ValueError(f"no notice_seconds with kind: {self.kind}")
        if self.kind == "late-notice" and self.notice_seconds is None:
            raise ValueError("notice_seconds with kind: late-notice, as in 'late-notice 2 s'")
        if (self.cut_seconds is not None) != (self.kind == "cut"):
            raise ValueError("cut_seconds with kind: cut, and only there, as in 'cut 30 s'")
        return self

    def describe(self) -> str:
        """As `parse_position` reads it."""
        if self.node is None:
            return f"{self.kind} at step {self.at_step}"
        length = self.notice_seconds if self.cut_seconds is None else self.cut_seconds
        seconds = "" if length is None else f" {length:g} s"
        during = f" during {self.during}" if self.during else ""
        return f"node {self.node} at step {self.at_step} {self.kind}{seconds}{during}"


def parse_position(text: str) -> Interruption:
    """``node N at step S [KIND] [SECONDS s] [during POINT]``, or ``KIND at step S``; a kill by default."""
    match = _NODE.fullmatch(text.strip()) or _FLEET.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(
            "--at",
            text,
            "'node N at step S', then nothing (a kill), 'notice 30 s', 'late-notice 2 s', 'cut 30 s', 'join' or "
            "'during POINT'; or 'store-death at step S', 'split-brain at step S'",
        )
    found = match.groupdict()
    kind = found["kind"] or "kill"
    seconds = None if found.get("seconds") is None else float(found["seconds"])
    fields: dict[str, Any] = {"at_step": int(found["at_step"]), "kind": kind, "during": found.get("during")}
    if found.get("node") is not None:
        fields["node"] = int(found["node"])
    if seconds is not None or kind == "cut":
        fields["cut_seconds" if kind == "cut" else "notice_seconds"] = seconds
    try:
        return parse(Interruption, fields, source="--at")
    except InvalidInputError as error:
        # What was typed, not what it was read as.
        raise InvalidInputError("--at", text, error.expected, error.hint) from None
