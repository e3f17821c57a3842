"""What happens to which node when: a file of interruptions, whoever wrote it.

A schedule holds events, not distributions: `planner schedule` writes one from a plan, a distribution or a trace, and a
person can write one by hand.  YAML or JSON::

    schema_version: 1
    interruptions:
      - {node: 1, at_step: 6, kind: notice}
      - {node: 1, at_step: 16, kind: kill, during: "upload:between_files"}

`python -m harness chaos --schedule` goes by positions (`at_step`); offsets in seconds become positions with
`--step-seconds`.
Needs no torch: the planner imports it too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from harness.chaos.interruptions import Interruption, Kind
from harness.errors import InvalidInputError
from harness.validation import StrictModel, load_yaml, parse

SCHEMA_VERSION: Literal[1] = 1


class ScheduledInterruption(StrictModel):
    """One interruption; it begins with the notice where there is one, else with the loss."""

    node: int | None = Field(None, ge=0)
    """None for what happens to the fleet (`Interruption.kind`)."""
    at_step: int | None = Field(None, ge=1)
    """Optimizer steps of the run that this node has done."""
    at_seconds: float | None = Field(None, ge=0.0)
    """Since the first node came up."""
    kind: Kind
    notice_seconds: float | None = Field(None, ge=0.0)
    cut_seconds: float | None = Field(None, gt=0.0)
    during: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.at_step is None) == (self.at_seconds is None):
            raise ValueError("either at_step or at_seconds")
        # The other rules are those of an interruption by position.
        try:
            self._at(self.at_step or 1)
        except InvalidInputError as error:
            raise ValueError(f"{error.expected}{f' ({error.hint})' if error.hint else ''}") from None
        return self

    def by_position(self, step_seconds: float | None = None) -> Interruption:
        """As chaos takes it; offsets in seconds become steps of `step_seconds` each, InvalidInputError without that."""
        if self.at_step is not None:
            return self._at(self.at_step)
        assert self.at_seconds is not None
        if step_seconds is None:
            raise InvalidInputError(
                "at_seconds", self.at_seconds, "at_step: chaos goes by positions", "or say --step-seconds"
            )
        return self._at(max(1, round(self.at_seconds / step_seconds)))

    def _at(self, step: int) -> Interruption:
        fields = self.model_dump(exclude={"at_step", "at_seconds"})
        return parse(Interruption, {**fields, "at_step": step})


class Schedule(StrictModel):
    """Interruptions in the order in which they begin, all by step or all by time."""

    schema_version: Literal[1] = SCHEMA_VERSION
    interruptions: tuple[ScheduledInterruption, ...]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        steps = [item.at_step for item in self.interruptions if item.at_step is not None]
        seconds = [item.at_seconds for item in self.interruptions if item.at_seconds is not None]
        if steps and seconds:
            raise ValueError("interruptions that all have at_step or all have at_seconds")
        if steps != sorted(steps) or seconds != sorted(seconds):
            raise ValueError("interruptions in the order in which they begin")
        return self


def load_schedule(path: Path) -> Schedule:
    """The schedule in a YAML or JSON file; InvalidInputError names the file and what would be right."""
    return load_yaml(Schedule, path)
