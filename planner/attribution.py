"""What explains a wrong prediction: the plan simulated again with each measured parameter in its place.

    base          the plan, for the work that was really done
    one change    base with one parameter as it was measured; its effect is the difference of the means (refunds of
                  first hours are taken out first: no telemetry sees them)
    all changes   base with all of them; what the effects do not add up to is their interaction
    rest          actual - all changes: chance, and what the model or the telemetry leaves out

Every simulation meets the same fates (common random numbers), so that an effect's standard error is that of paired
differences.  The rate that is put in is the one that was seen (interruptions / exposure), not its posterior: the
question is what this run's interruptions did.  Pure functions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidInputError
from harness.telemetry.schema import Measurement
from planner.bill import Extras
from planner.completion import SECONDS_PER_HOUR, Completed
from planner.distributions import at_rate
from planner.evaluate import priced
from planner.plan_spec import PlannedScenario
from planner.profile import BYTES_PER_GIB
from planner.telemetry_runs import MeasuredRun, between_attempts_seconds, work_between_saves_seconds
from simulator.lifetimes import Exponential, TraceReplay
from simulator.provision import ConstantProvision
from simulator.simulate import simulate
from simulator.spec import SHORTEST_INTERVAL_HOURS, Spec
from simulator.statistics import Summary, summarize

TOTALS = ("cost_usd", "makespan_hours", "goodput")
REFUND = "first_hour_refund"
_MOST_INTERRUPTIONS = 3_000.0
"""Expected per run; beyond, a swap is not simulated: it would take minutes to say that nothing gets done."""

Array = NDArray[np.float64]
Say = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Change:
    """One parameter as planned and as measured, in `unit`, and the plan with it replaced."""

    name: str
    unit: str
    planned: float
    measured: float
    n: int | None
    apply: Callable[[Spec], Spec]
    spot_usd_per_hour: float | None = None
    """Another price, which is not the spec's business."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A difference of means with its Monte Carlo standard error."""

    mean: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one change does to each of `TOTALS`; None, and why, where it cannot be simulated alone."""

    change: Change
    effects: dict[str, Effect] | None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Total:
    """One of `TOTALS`, taken apart: actual = base + Σ effects + interaction + outside + rest."""

    base: float
    actual: float
    explained: float
    """Mean with all changes, and with what the telemetry cannot see taken out."""
    interaction: float
    outside: float
    """First wait and boots (and storage): in the prediction, not in the telemetry."""
    rest: float
    band: tuple[float, float]
    """P5 and P95 of single runs with all changes: a rest inside is what chance does."""

    @property
    def rest_is_chance(self) -> bool:
        """Whether the actual value is an ordinary run of the corrected plan."""
        return self.band[0] <= self.actual <= self.band[1]


@dataclass(frozen=True, slots=True)
class Simulated:
    """Arrays of shape (runs,) of one simulation."""

    cost_usd: Array
    makespan_hours: Array
    goodput: Array
    interruptions: Array
    reclaimed_nodes: Array
    lost_work_hours: Array
    beside_nodes_usd: Array
    """Storage and extras: the part of the cost that no node-hour explains."""

    def summary(self, name: str) -> Summary:
        """Mean and quantiles of one array."""
        return summarize(getattr(self, name))


@dataclass(frozen=True, slots=True)
class Attribution:
    """The error of a prediction, taken apart.  `contributions` have the largest effect on the cost first."""

    contributions: tuple[Contribution, ...]
    totals: dict[str, Total]
    """Empty, with `why_not`, when all changes together cannot be simulated."""
    why_not: str
    not_attributable: tuple[str, ...]


def run_plan(completed: Completed, spec: Spec, runs: int, *, spot_usd_per_hour: float | None = None) -> Simulated:
    """`spec` simulated with the scenario's prices and seed.  KeyboardInterrupt after Ctrl-C."""
    found = simulate(spec, runs=runs, seed=completed.seed)
    if not found.complete:
        raise KeyboardInterrupt
    price = completed["market.spot_usd_per_hour"] if spot_usd_per_hour is None else spot_usd_per_hour
    extras = Extras.of(completed).spot_usd(found)
    return Simulated(
        cost_usd=priced(found, price, completed["market.on_demand_usd_per_hour"]) + extras,
        makespan_hours=found.makespan_hours,
        goodput=found.goodput,
        interruptions=found.interruptions,
        reclaimed_nodes=found.reclaimed_nodes,
        lost_work_hours=found.lost_work_hours,
        beside_nodes_usd=found.storage_usd + extras,
    )


def measured_changes(
    planned: PlannedScenario, base: Spec, run: MeasuredRun, *, spot_usd_per_hour: float | None
) -> tuple[Change, ...]:
    """Every parameter that the telemetry (or the price that was paid) puts a number to, where it differs."""
    profile = run.summary.profile
    changes = [*_durations(planned, base, run), *_fates(base, run)]
    price = float(planned.completed["market.spot_usd_per_hour"])
    if spot_usd_per_hour is not None:
        changes.append(
            Change("spot_usd_per_hour", "USD/h", price, spot_usd_per_hour, None, lambda spec: spec, spot_usd_per_hour)
        )
    nodes = profile.nodes
    if nodes is not None:

        def resized(spec: Spec) -> Spec:
            least = None if spec.min_nodes is None else min(spec.min_nodes, nodes)
            return dataclasses.replace(spec, nodes=nodes, min_nodes=least)

        changes.append(Change("nodes", "", base.nodes, nodes, None, resized))
    if base.first_hour_refund:
        # No telemetry says how old a reclaimed node was: the actual bill below is before refunds.
        changes.append(Change(REFUND, "", 1.0, 0.0, None, lambda s: dataclasses.replace(s, first_hour_refund=False)))
    return tuple(change for change in changes if change.measured != change.planned)


def _durations(planned: PlannedScenario, base: Spec, run: MeasuredRun) -> list[Change]:
    profile = run.summary.profile
    changes: list[Change] = []

    def add(name: str, measured: Measurement | None, *, beside: float = 0.0, least: float = 0.0) -> None:
        if measured is None:
            return
        field = f"{name.removesuffix('_seconds')}_hours"
        seconds = measured.mean + beside
        hours = max(seconds / SECONDS_PER_HOUR, least)
        now = float(getattr(base, field)) * SECONDS_PER_HOUR
        changes.append(Change(name, "s", now, seconds, measured.n, _setter(field, hours)))

    add("interval_seconds", work_between_saves_seconds(run), least=SHORTEST_INTERVAL_HOURS)
    add("stall_seconds", profile.stall_seconds)
    add("persist_seconds", profile.persist_seconds)
    poll = 0.0 if profile.emergency_seconds is None else _planned_poll(planned)
    add("emergency_seconds", profile.emergency_seconds, beside=poll)
    gap = between_attempts_seconds(run)
    add("startup_seconds", profile.startup_seconds, beside=_boot_seconds(planned, run))
    if gap is not None:
        wait = max(0.0, gap.mean - _boot_seconds(planned, run)) / SECONDS_PER_HOUR
        now = base.provision.expected_hours
        changes.append(
            Change(
                "provision_hours",
                "h",
                now,
                wait,
                gap.n,
                lambda spec: dataclasses.replace(spec, provision=ConstantProvision(wait)),
            )
        )
    if profile.checkpoint_bytes is not None and base.checkpoint_gib > 0.0:
        gib = profile.checkpoint_bytes.mean / BYTES_PER_GIB
        n = profile.checkpoint_bytes.n
        changes.append(
            Change(
                "checkpoint_gib",
                "GiB",
                base.checkpoint_gib,
                gib,
                n,
                lambda spec: dataclasses.replace(spec, checkpoint_gib=gib),
            )
        )
    return changes


def _setter(field: str, hours: float) -> Callable[[Spec], Spec]:
    values: dict[str, Any] = {field: hours}
    return lambda spec: dataclasses.replace(spec, **values)


def _planned_poll(planned: PlannedScenario) -> float:
    """Seconds until a notice is heard: an emergency is measured from there, and planned from the notice."""
    rows = {row.name: row.value for row in planned.completed.assumptions}
    value = rows.get("notice_poll_seconds", 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def _boot_seconds(planned: PlannedScenario, run: MeasuredRun) -> float:
    """The boot that comes before the measured startup: the planned one, but no longer than attempts were apart."""
    gap = between_attempts_seconds(run)
    return planned.boot_seconds if gap is None else min(planned.boot_seconds, gap.mean)


def _fates(base: Spec, run: MeasuredRun) -> list[Change]:
    profile = run.summary.profile
    changes: list[Change] = []
    if profile.exposure_hours > 0.0 and not isinstance(base.lifetime, TraceReplay):
        seen = profile.interruptions / profile.exposure_hours
        mean = base.lifetime.mean_hours
        now = 0.0 if math.isinf(mean) else 1.0 / mean
        scaled = at_rate(base.lifetime, now, seen) if seen > 0.0 and now > 0.0 else None
        lifetime = scaled or Exponential(seen)
        changes.append(
            Change(
                "rate_per_hour",
                "1/h",
                now,
                seen,
                profile.interruptions,
                lambda spec: dataclasses.replace(spec, lifetime=lifetime, rate_events=None, rate_exposure_hours=None),
            )
        )
    if profile.notices:
        share = min(profile.notices_acted_on, profile.notices) / profile.notices
        changes.append(
            Change(
                "notice_success",
                "",
                base.notice_success,
                share,
                profile.notices,
                lambda spec: dataclasses.replace(spec, notice_success=share),
            )
        )
    return changes


def attribute(
    planned: PlannedScenario,
    base: Spec,
    before: Simulated,
    changes: Sequence[Change],
    run: MeasuredRun,
    actual: dict[str, float],
    *,
    runs: int,
    progress: Say | None = None,
) -> Attribution:
    """Take `actual` - `before` apart.  `before` is `base` simulated with `runs` runs; `actual` holds `TOTALS`."""
    completed = planned.completed
    contributions: list[Contribution] = []
    compared, reference = base, before
    # The refund first: the actual bill is before refunds, and refunds would turn the sign of what interruptions cost.
    ordered_changes = sorted(changes, key=lambda change: change.name != REFUND)
    for done, change in enumerate(ordered_changes):
        changed = change.apply(compared)
        reason = _hopeless(changed)
        if reason:
            contributions.append(Contribution(change, None, reason))
        else:
            after = run_plan(completed, changed, runs, spot_usd_per_hour=change.spot_usd_per_hour)
            contributions.append(Contribution(change, {name: _effect(reference, after, name) for name in TOTALS}))
            if change.name == REFUND:
                compared, reference = changed, after
        if progress is not None:
            progress(done + 1, len(changes) + 1)
    everything, price = base, None
    for change in changes:
        everything, price = change.apply(everything), change.spot_usd_per_hour or price
    why_not = _hopeless(everything)
    totals: dict[str, Total] = {}
    if not why_not:
        corrected = run_plan(completed, everything, runs, spot_usd_per_hour=price)
        totals = _totals(planned, before, corrected, everything, contributions, run, actual, price)
    ordered = sorted(contributions, key=lambda c: -abs(c.effects["cost_usd"].mean) if c.effects else math.inf)
    known = {change.name for change in changes}
    return Attribution(tuple(ordered), totals, why_not, _not_attributable(base, known))


def _effect(before: Simulated, after: Simulated, name: str) -> Effect:
    difference = getattr(after, name) - getattr(before, name)
    found = summarize(difference)
    return Effect(found.mean, found.standard_error)


def _totals(
    planned: PlannedScenario,
    before: Simulated,
    corrected: Simulated,
    spec: Spec,
    contributions: Sequence[Contribution],
    run: MeasuredRun,
    actual: dict[str, float],
    spot_usd_per_hour: float | None,
) -> dict[str, Total]:
    boot = _boot_seconds(planned, run) / SECONDS_PER_HOUR
    price = planned.completed["market.spot_usd_per_hour"] if spot_usd_per_hour is None else spot_usd_per_hour
    boots_usd = len(run.summary.attempts) * spec.nodes * boot * price
    makespans = np.maximum(corrected.makespan_hours - spec.provision.expected_hours - boot, 1e-9)
    seen = {
        "cost_usd": corrected.cost_usd - corrected.beside_nodes_usd - boots_usd,
        "makespan_hours": makespans,
        "goodput": spec.work_hours / makespans,
    }
    totals = {}
    for name, value in actual.items():
        base, full = float(getattr(before, name).mean()), float(getattr(corrected, name).mean())
        explained = float(seen[name].mean())
        effects = math.fsum(c.effects[name].mean for c in contributions if c.effects is not None)
        low, high = (float(q) for q in np.quantile(seen[name], (0.05, 0.95)))
        totals[name] = Total(
            base=base,
            actual=value,
            explained=explained,
            interaction=full - base - effects,
            outside=explained - full,
            rest=value - explained,
            band=(low, high),
        )
    return totals


def _hopeless(spec: Spec) -> str:
    """Why a spec is not simulated; empty when it can be."""
    mean = spec.lifetime.mean_hours if not isinstance(spec.lifetime, TraceReplay) else math.inf
    fleet = 0.0 if math.isinf(mean) else spec.nodes / spec.marginal_hazard_divisor / mean
    segment = min(spec.interval_hours, spec.work_hours)
    tries = min(fleet * (spec.startup_hours + segment + spec.stall_hours + spec.persist_hours), 50.0)
    if fleet * spec.work_hours * math.exp(tries) > _MOST_INTERRUPTIONS:
        return "with this alone the job would hardly ever save before the next interruption"
    try:
        from simulator.horizon import require_finishable

        require_finishable(spec)
    except InvalidInputError as error:
        return f"with this alone the job would not finish: {error.expected}"
    return ""


def _not_attributable(base: Spec, known: set[str]) -> tuple[str, ...]:
    """Parameters of the plan that nothing in the telemetry puts a number to."""
    unseen = {
        "spot_usd_per_hour": "the price that was paid (give --spot-usd-per-hour)",
        "rate_per_hour": "the interruption rate: nothing was observed, or a trace was planned with",
        "stall_seconds": "the stall: no checkpoint became durable",
        "persist_seconds": "the time until durable: no checkpoint became durable",
        "emergency_seconds": "the emergency save: none became durable",
        "notice_success": "notice success: no notice came",
        "startup_seconds": "the startup: no attempt tells it",
        "provision_hours": "the wait for capacity: there was one attempt only",
    }
    found = [text for name, text in unseen.items() if name not in known]
    if base.persist_slowdown or "persist_seconds" in known:
        found.append("slower steps while an upload is in flight: not separated in the telemetry")
    if base.is_elastic:
        found.append("detection and rendezvous of an elastic fleet, and its scaling")
    if base.nodes > 1:
        found.append("whether nodes are lost together (bulk)")
    return (*found, "how often the first hour of a reclaimed node was free: the actual cost is before refunds")
