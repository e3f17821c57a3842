"""What the emitted files say: one candidate's plan, and what the user said about the files themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.assumptions import Assumption
from planner.completion import Completed
from planner.emit.options import EmitSettings

if TYPE_CHECKING:
    from planner.evaluate import Candidate


@dataclass(frozen=True, slots=True)
class EmitPlan:
    """Everything that the emitted files say."""

    completed: Completed
    interval_seconds: float
    interval_low_seconds: float
    interval_high_seconds: float
    interval_steps: int | None
    predicted: dict[str, float | None]
    """Keys of `PlanConfig`."""
    interruptions_mean: float
    assumptions: tuple[Assumption, ...]
    settings: EmitSettings

    @property
    def nodes(self) -> int:
        """Nodes of the full fleet."""
        return int(self.completed["fleet.nodes"])

    @property
    def min_nodes(self) -> int:
        """The fewest nodes that train on."""
        return int(self.completed["fleet.min_nodes"] or self.nodes)

    @property
    def provider(self) -> str | None:
        """aws, gcp or azure; None: not known."""
        provider: str | None = self.completed["fleet.provider"]
        return provider


def plan_of(candidate: Candidate, assumptions: Iterable[Assumption], settings: EmitSettings) -> EmitPlan:
    """The plan of one candidate of a recommendation or of one simulated scenario."""
    interval = candidate.interval
    return EmitPlan(
        completed=candidate.completed,
        interval_seconds=interval.hours * 3600.0,
        interval_low_seconds=interval.low_hours * 3600.0,
        interval_high_seconds=interval.high_hours * 3600.0,
        interval_steps=candidate.interval_steps if candidate.keep_to_steps else None,
        predicted={
            "cost_usd_p50": candidate.cost_usd.p50,
            "cost_usd_p95": candidate.cost_usd.p95,
            "makespan_hours_p50": candidate.makespan_hours.p50,
            "makespan_hours_p95": candidate.makespan_hours.p95,
            "goodput_mean": candidate.goodput.mean,
            "interruptions_mean": candidate.interruptions.mean,
            "lost_work_hours_mean": candidate.lost_work_hours.mean,
        },
        interruptions_mean=candidate.interruptions.mean,
        assumptions=tuple(assumptions),
        settings=settings,
    )
