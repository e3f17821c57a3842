"""A measured profile: what the harness saw on a real run, in the planner's words.

`planner calibrate` writes one from telemetry; the next plan reads it and uses its figures instead of assumptions.
Everything that was not seen is absent, never filled in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from harness.validation import StrictModel, load_yaml

NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]

PROFILE_VERSION = 1


class Profile(StrictModel):
    """One job's measurements.  Durations in seconds are medians over what was seen; None: not seen."""

    profile_version: int = Field(PROFILE_VERSION, ge=1, le=PROFILE_VERSION)
    source: str = Field(min_length=1, description="Which run and telemetry it was measured from.")
    as_of: str = Field(min_length=4, description="Day of the last event, YYYY-MM-DD.")
    provider: str | None = None
    instance: str | None = None
    nodes: Annotated[int, Field(ge=1)] | None = None
    checkpoint_gib: NonNegative | None = Field(None, description="Size of the checkpoints that were timed, all nodes.")

    step_seconds: Annotated[float, Field(gt=0)] | None = None
    stall_seconds: NonNegative | None = None
    persist_seconds: NonNegative | None = None
    emergency_seconds: NonNegative | None = None
    startup_seconds: NonNegative | None = None
    persist_slowdown: Annotated[float, Field(ge=0, lt=1)] | None = None
    detect_seconds: NonNegative | None = None
    rendezvous_seconds: NonNegative | None = None
    provision_hours: NonNegative | None = None

    interruptions: Count | None = Field(None, description="Reclaims seen, counted per node.")
    exposure_hours: NonNegative | None = Field(None, description="Node-hours in which they were seen.")
    notices: Count | None = Field(None, description="Reclaims that came with a notice long enough for a save.")
    notices_saved: Count | None = Field(None, description="Those whose emergency save became durable in time.")

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        if (self.interruptions is None) != (self.exposure_hours is None):
            raise ValueError("interruptions and exposure_hours together, or neither")
        if self.interruptions is not None and self.exposure_hours == 0.0:
            raise ValueError("exposure_hours > 0 where interruptions were counted")
        if (self.notices is None) != (self.notices_saved is None):
            raise ValueError("notices and notices_saved together, or neither")
        if self.notices is not None and self.notices_saved is not None and self.notices_saved > self.notices:
            raise ValueError("notices_saved of at most notices")
        return self

    @property
    def share_gib(self) -> float | None:
        """GiB that each node saved; None when the size is not known."""
        return None if self.checkpoint_gib is None else self.checkpoint_gib / (self.nodes or 1)


def load_profile(path: Path) -> Profile:
    """The profile in a YAML or JSON file; InvalidInputError, naming file and field, when it is none."""
    return load_yaml(Profile, path)
