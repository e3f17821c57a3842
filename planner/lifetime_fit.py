"""From trace files to a lifetime distribution: `fit_files` is what ``planner fit`` and the dashboard call.

Imports numpy and scipy; import it where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import InvalidInputError, did_you_mean
from planner.traces.files import Trace, load_trace
from simulator.fitting import Comparison, Fit, compare
from simulator.lifetimes import Empirical
from simulator.traces import (
    HazardBin,
    KaplanMeier,
    LossStatistics,
    Observations,
    empirical_lifetime,
    hazard_by_age,
    kaplan_meier,
)

DISTRIBUTIONS = ("exponential", "weibull", "bathtub", "empirical")

_MOST_BINS = 12
_EVENTS_PER_BIN = 8


@dataclass(frozen=True, slots=True)
class FitReport:
    """Everything that the files say about lifetimes."""

    traces: tuple[Trace, ...]
    observations: Observations
    """All lives of all files, uncapped."""
    cap_hours: float | None
    kaplan_meier: KaplanMeier
    hazard: tuple[HazardBin, ...]
    """Occurrence over exposure by age, at most a dozen bins with about equally many reclaims."""
    comparison: Comparison
    empirical: Empirical
    losses: LossStatistics | None
    """Losses that come together, over all files that can tell."""
    warnings: tuple[str, ...]

    @property
    def chosen(self) -> Fit:
        """What is written unless another distribution is asked for: the preferred one, or what can express a cap."""
        if self.cap_hours is None:
            return self.comparison.preferred
        if "bathtub" in self.comparison.failures:
            reason = self.comparison.failures["bathtub"]
            raise InvalidInputError("--cap-hours", self.cap_hours, f"enough reclaims for a bathtub: {reason}")
        return self.fit_of("bathtub")

    def fit_of(self, distribution: str) -> Fit:
        """The fit of one distribution; InvalidInputError when there is none."""
        for fit in self.comparison.fits:
            if fit.distribution == distribution:
                return fit
        reason = self.comparison.failures.get(distribution)
        if reason is not None:
            raise InvalidInputError("--distribution", distribution, f"a distribution that can be fitted: {reason}")
        raise InvalidInputError(
            "--distribution",
            distribution,
            f"one of {', '.join(DISTRIBUTIONS)}",
            did_you_mean(distribution, DISTRIBUTIONS),
        )


def fit_files(
    paths: Sequence[Path],
    *,
    format: str = "auto",  # noqa: A002 the flag's name
    nodes: int = 1,
    inverted: bool = False,
    cap_hours: float | None = None,
) -> FitReport:
    """Fit exponential, Weibull and bathtub lifetimes to all lives in `paths`.

    format:    "auto" or one of `planner.traces.parse.FORMATS`.
    nodes:     for series of counts, the size of the gang whose lifetime is meant.
    inverted:  0/1 series in which 1 means no capacity.
    cap_hours: the platform's age limit: lives that reach it are censored there.

    Raises InvalidInputError for unreadable files, files without lifetimes, or a cap below every life.
    """
    if not paths:
        raise InvalidInputError("FILE", "nothing", "at least one trace file")
    traces = tuple(load_trace(path, format=format, nodes=nodes, inverted=inverted) for path in paths)
    lives = [trace.observations for trace in traces if trace.observations is not None]
    if not lives:
        told = f"{len(traces)} file(s) of {', '.join(sorted({trace.format for trace in traces}))}"
        raise InvalidInputError("FILE", told, "at least one lifetime whose beginning was seen")
    observations = Observations.concatenate(lives)
    comparison = compare(observations, cap_hours=cap_hours)
    return FitReport(
        traces=traces,
        observations=observations,
        cap_hours=cap_hours,
        kaplan_meier=kaplan_meier(observations),
        hazard=hazard_by_age(observations, _edges(observations, cap_hours)),
        comparison=comparison,
        empirical=empirical_lifetime(observations),
        losses=_pooled([trace.losses for trace in traces if trace.losses is not None]),
        warnings=_warnings(traces, observations, cap_hours),
    )


def _edges(observations: Observations, cap_hours: float | None) -> list[float]:
    """Ages that cut the reclaims below the cap into about equally many, from 0 to the longest life."""
    longest = float(observations.exit_hours.max())
    ends = [longest]
    if cap_hours is not None and cap_hours < longest:
        ends, observations = [cap_hours, longest], observations.capped(cap_hours)
    ages = np.sort(observations.exit_hours[observations.observed])
    bins = int(np.clip(ages.size // _EVENTS_PER_BIN, 1, _MOST_BINS))
    inner = np.quantile(ages, np.linspace(0.0, 1.0, bins + 1)[1:-1]) if ages.size else np.empty(0)
    return sorted({0.0, *inner.tolist(), *ends})


def _pooled(parts: Sequence[LossStatistics]) -> LossStatistics | None:
    if not parts:
        return None
    return LossStatistics(
        events=sum(part.events for part in parts),
        multi_node_events=sum(part.multi_node_events for part in parts),
        nodes_lost=sum(part.nodes_lost for part in parts),
        node_hours=math.fsum(part.node_hours for part in parts),
        others_lost=sum(part.others_lost for part in parts),
        others_present=sum(part.others_present for part in parts),
    )


def _warnings(traces: Sequence[Trace], observations: Observations, cap_hours: float | None) -> tuple[str, ...]:
    found = []
    silent = [trace.name for trace in traces if trace.observations is None]
    if silent:
        found.append(f"no lifetime whose beginning was seen in {', '.join(silent)}")
    if any(trace.format == "counts" for trace in traces):
        found.append(
            "a series of samples tells when capacity was lost: where each sample was a fresh launch, two in a row do "
            "not prove that the same node lived through both"
        )
    resolution = max((trace.capacity.resolution_hours or 0.0 for trace in traces if trace.capacity), default=0.0)
    median = float(np.median(observations.exit_hours))
    if resolution > 0.1 * median:
        found.append(
            f"samples every {resolution:.3g} h against a median life of {median:.3g} h: shorter lives were not seen"
        )
    reclaims = observations.exit_hours[observations.observed]
    longest = float(observations.exit_hours.max())
    at_the_end = int((reclaims > 0.95 * longest).sum())
    if cap_hours is None and at_the_end >= 20 and at_the_end > 0.1 * reclaims.size:
        found.append(
            f"{at_the_end} of {reclaims.size} reclaims come at the oldest 5 % of ages: if the platform has an age "
            f"limit, give it as --cap-hours"
        )
    if cap_hours is not None:
        found.append("only a bathtub carries the age limit into a plan: exponential and Weibull lives go on beyond it")
    if reclaims.size > 1 and np.unique(reclaims).size == 1:
        found.append(
            f"all {reclaims.size} reclaims came at the age of {float(reclaims[0]):.3g} h: an empirical lifetime would "
            "know no other age"
        )
    if not observations.events:
        found.append("no reclaim was seen: the rate is an upper guess from the time without one")
    return tuple(found)
