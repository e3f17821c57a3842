"""How many nodes there were over time: intervals with capacity, waits, lifetimes of a gang, joint losses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import InvalidInputError
from simulator.lifetimes import TraceReplay
from simulator.traces.observations import Observations


@dataclass(frozen=True, slots=True)
class LossStatistics:
    """How many nodes go at once."""

    events: int
    """Moments at which at least one node was lost."""
    multi_node_events: int
    """Those that took more than one."""
    nodes_lost: int
    node_hours: float
    others_lost: int
    """Nodes lost beside the first of each event."""
    others_present: int
    """Nodes that were up beside the first of each event."""

    @property
    def multi_node_share(self) -> float:
        """Share of loss events that take more than one node; NaN without events."""
        return self.multi_node_events / self.events if self.events else math.nan

    @property
    def bulk(self) -> float:
        """Maximum-likelihood estimate of `bulk`: each other node that is up goes along with this probability.

        Others lost over others present (binomial).  NaN when no event had another node beside it.
        """
        return self.others_lost / self.others_present if self.others_present else math.nan

    @property
    def marginal_rate_per_hour(self) -> float:
        """Losses per node-hour, whoever else goes: what a log of single nodes shows, and what MODEL.md wants."""
        return self.nodes_lost / self.node_hours if self.node_hours else math.nan


@dataclass(frozen=True, slots=True, eq=False)
class CapacitySeries:
    """Nodes that are up over time, a step function: `counts[i]` from `start_hours[i]` to the next start.

    start_hours: shape (n,), from 0, strictly ascending.  counts: shape (n,), whole numbers.  end_hours: end of the log.
    resolution_hours: sampling gap; None where changes were logged when they happened.
    """

    start_hours: NDArray[np.float64]
    counts: NDArray[np.int64]
    end_hours: float
    resolution_hours: float | None = None

    @classmethod
    def regular(cls, counts: ArrayLike, gap_hours: float) -> CapacitySeries:
        """One sample every `gap_hours`, each standing for the gap that it begins."""
        values = _whole_counts(counts)
        if not (math.isfinite(gap_hours) and gap_hours > 0.0):
            raise InvalidInputError("gap_seconds", gap_hours * 3600.0, "a finite number of seconds > 0")
        return cls(np.arange(values.size, dtype=np.float64) * gap_hours, values, values.size * gap_hours, gap_hours)

    @classmethod
    def irregular(cls, times_hours: ArrayLike, counts: ArrayLike) -> CapacitySeries:
        """Samples at the given times; the last one stands for as long as the median gap."""
        values = _whole_counts(counts)
        times = np.asarray(times_hours, dtype=np.float64)
        if times.shape != values.shape:
            raise InvalidInputError("trace", times.size, f"as many times as counts ({values.size})")
        if values.size < 2:
            raise InvalidInputError("trace", f"{values.size} samples", "at least two samples")
        if not (np.isfinite(times).all() and (np.diff(times) > 0.0).all()):
            raise InvalidInputError("trace", "times", "finite times that increase strictly")
        gap = float(np.median(np.diff(times)))
        return cls(times - times[0], values, float(times[-1] - times[0]) + gap, gap)

    @property
    def durations_hours(self) -> NDArray[np.float64]:
        """How long each count held, shape (n,)."""
        return np.diff(np.append(self.start_hours, self.end_hours))

    def availability(self, nodes: int = 1) -> float:
        """Share of time with at least `nodes` nodes."""
        return float(self.durations_hours[self.counts >= nodes].sum() / self.end_hours)

    def intervals(self, nodes: int = 1) -> tuple[tuple[float, float], ...]:
        """(start, end) hours of the stretches with at least `nodes` nodes."""
        up = (self.counts >= nodes).astype(np.int8)
        change = np.diff(np.concatenate([[0], up, [0]]))
        edges = np.append(self.start_hours, self.end_hours)
        starts, ends = edges[change == 1], edges[change == -1]
        return tuple(zip(starts.tolist(), ends.tolist(), strict=True))

    def lifetimes(self, nodes: int = 1) -> Observations:
        """Lifetimes of a gang that is up while there are at least `nodes` nodes.

        The stretch that is going on when the log begins has an unknown age and is left out; the one that is going on
        when it ends is censored.  InvalidInputError when nothing is left.
        """
        stretches = [pair for pair in self.intervals(nodes) if pair[0] > 0.0]
        if not stretches:
            raise InvalidInputError(
                "trace", f"no start with {nodes} node(s)", "a log in which the gang comes up at least once"
            )
        starts, ends = np.array(stretches).T
        return Observations.of(ends - starts, ends < self.end_hours)

    def waits_hours(self, nodes: int = 1) -> tuple[float, ...]:
        """How long capacity stayed away, for absences whose beginning and end were seen."""
        pairs = self.intervals(nodes)
        return tuple(start - end for (_, end), (start, _) in itertools.pairwise(pairs))

    def losses(self) -> LossStatistics:
        """Drops of the count: a drop of d from one sample to the next is d simultaneous losses."""
        drop = -np.diff(self.counts)
        lost, before = drop[drop > 0], self.counts[:-1][drop > 0]
        return LossStatistics(
            events=int(lost.size),
            multi_node_events=int((lost > 1).sum()),
            nodes_lost=int(lost.sum()),
            node_hours=float((self.counts * self.durations_hours).sum()),
            others_lost=int((lost - 1).sum()),
            others_present=int((before - 1).sum()),
        )

    def replay(self, nodes: int = 1) -> TraceReplay:
        """The series to be replayed: capacity while there are at least `nodes` nodes."""
        stretches = self.intervals(nodes)
        if not stretches:
            raise InvalidInputError(
                "trace", f"never {nodes} node(s)", f"a trace that has them at some time (most: {self.counts.max()})"
            )
        return TraceReplay.from_intervals(stretches, self.end_hours)


@dataclass(frozen=True, slots=True)
class MembershipEvent:
    """A node came or went."""

    hours: float
    node: str
    is_added: bool


@dataclass(frozen=True, slots=True, eq=False)
class Membership:
    """A log of nodes that came and went: every life with its name."""

    lifetimes: Observations
    capacity: CapacitySeries
    together: LossStatistics


def pair_membership(events: Sequence[MembershipEvent]) -> Membership:
    """Lives from add/remove events: paired per node name, nodes never removed are censored at the last time.

    Losses of one moment count as one event.  InvalidInputError for an empty log, times that go back or are negative,
    a node added while it is there or removed while it is not.
    """
    if not events:
        raise InvalidInputError("trace", "no events", "at least one node that is added")
    added: dict[str, float] = {}
    spans: list[tuple[float, bool]] = []
    now = events[0].hours
    if not (math.isfinite(now) and now >= 0.0):
        raise InvalidInputError("trace event 1", now, "a time >= 0")
    for number, event in enumerate(events, start=1):
        if not event.hours >= now or not math.isfinite(event.hours):
            raise InvalidInputError(
                f"trace event {number}", event.hours, f"a time not before the previous one ({now:g} h)"
            )
        now = event.hours
        if event.is_added:
            if event.node in added:
                raise InvalidInputError(f"trace event {number}", event.node, "a node that is not there yet")
            added[event.node] = now
        else:
            if event.node not in added:
                raise InvalidInputError(f"trace event {number}", event.node, "a node that was added before")
            spans.append((now - added.pop(event.node), True))
    spans += [(now - since, False) for since in added.values()]
    # Added at the very last moment, or removed at once: no time at risk.
    lives = [span for span in spans if span[0] > 0.0]
    if not lives:
        raise InvalidInputError("trace", f"{len(events)} events at one moment", "a log that covers some time")
    observations = Observations.of([life for life, _ in lives], [seen for _, seen in lives])
    return Membership(observations, *_capacity_and_losses(events))


def _capacity_and_losses(events: Sequence[MembershipEvent]) -> tuple[CapacitySeries, LossStatistics]:
    """The count over time, and losses per moment (removals before additions: a swap is a loss)."""
    start = events[0].hours
    times, counts = [0.0], [0]
    present = lost_events = multi = lost_nodes = others = 0
    moments: dict[float, list[MembershipEvent]] = {}
    for event in events:
        moments.setdefault(event.hours, []).append(event)
    for hours, here in moments.items():
        removed = sum(not event.is_added for event in here)
        if removed:
            lost_events += 1
            multi += removed > 1
            lost_nodes += removed
            others += present - 1
        present += len(here) - 2 * removed
        if hours == start:
            counts[0] = present
        else:
            times.append(hours - start)
            counts.append(present)
    end = events[-1].hours - start
    series = CapacitySeries(np.array(times[:-1] or times), np.array(counts[:-1] or counts, dtype=np.int64), end)
    node_hours = float((series.counts * series.durations_hours).sum())
    return series, LossStatistics(lost_events, multi, lost_nodes, node_hours, lost_nodes - lost_events, others)


def _whole_counts(counts: ArrayLike) -> NDArray[np.int64]:
    values = np.asarray(counts)
    if values.size == 0 or values.ndim != 1:
        raise InvalidInputError("trace", "no samples", "at least one sample")
    numbers = values.astype(np.float64)
    bad = ~((numbers >= 0.0) & (numbers == np.floor(numbers)) & np.isfinite(numbers))
    if bad.any():
        index = int(np.argmax(bad))
        raise InvalidInputError(f"trace sample {index + 1}", values[index], "a whole number of nodes >= 0")
    return numbers.astype(np.int64)
