"""One run as a person would tell it: what the job did when, and what happened to it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in one phase."""

    start_hours: float
    end_hours: float
    phase: str
    """The phase's name in lower case: waiting, startup, training, stall, idle_notice, detect, rendezvous, …"""
    progress_hours: float
    """Progress at the end of the span, before anything is rolled back."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happens at one moment."""

    at_hours: float
    kind: str
    """arrival, notice (acted on), reclaim, durable (a checkpoint), rolled_back, finished."""
    progress_hours: float
    """Progress of the job at that moment (before it is rolled back)."""
    nodes: tuple[int, ...] = ()
    """Indices of the nodes concerned."""


@dataclass(slots=True)
class Timeline:
    """Spans without gaps from the first request to the end, and marks in order of time."""

    spans: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def passed(self, start: float, end: float, phase: str, progress: float) -> None:
        """Add time, to the last span where the phase is the same."""
        if end <= start:
            return
        if self.spans and self.spans[-1].phase == phase:
            start = self.spans.pop().start_hours
        self.spans.append(Span(start, end, phase, progress))
