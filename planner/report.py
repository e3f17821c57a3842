"""Predicted against actual: every quantity of a run's plan beside what its telemetry says, and what explains the rest.

Predictions come from the plan in harness.yaml, simulated again (`planner.plan_spec`) for the work that was done so far,
so that an unfinished run is held against what was predicted for as much work.  A plan that lacks what a simulation
needs is compared by its own figures alone.  Pure functions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.special import stdtrit

from harness.config import PlanConfig, RunConfig
from harness.errors import InvalidInputError
from harness.telemetry.schema import Measurement
from planner.attribution import TOTALS, Attribution, Simulated, attribute, measured_changes, run_plan
from planner.completion import SECONDS_PER_HOUR, Knowledge
from planner.hazard_source import rate_interval_per_hour
from planner.plan_spec import PlannedScenario, planned_scenario
from planner.retrace import Retraced, retrace
from planner.telemetry_runs import MeasuredRun
from simulator.spec import Spec

DEFAULT_RUNS = 4_000
_REPRODUCED = 0.01
"""Relative difference of the medians up to which the plan counts as reproduced."""
SIMULATED = "P5-P95 of simulated runs"
POSTERIOR = "95% of the measured rate (Gamma posterior)"
OF_THE_MEAN = "95% of the measured mean (Student)"


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity.

    `low` and `high` bound what `band` names: single simulated runs (then the actual value should lie inside) or the
    measurement (then the prediction should).
    """

    quantity: str
    unit: str
    planned: float | None
    """As the plan says it: for all of the work."""
    predicted: float | None
    """For the work that was done: the median where simulated, else as planned."""
    actual: float | None
    n: int | None
    """Observations behind the actual value."""
    low: float | None
    high: float | None
    band: str | None
    inside: bool | None

    @property
    def ratio(self) -> float | None:
        """Actual over predicted."""
        if self.actual is None or not self.predicted:
            return None
        return self.actual / self.predicted


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The comparison; `attribution` is None, with `why_not`, where the plan cannot be simulated."""

    run: MeasuredRun
    plan: PlanConfig
    rows: tuple[Row, ...]
    work_hours: float | None
    """Useful work that was done; None when no step was measured."""
    planned_work_hours: float | None
    reproduced: bool | None
    """Whether simulating the config's plan gives the plan's own figures; None when it cannot be simulated."""
    attribution: Attribution | None
    why_not: str
    retraced: Retraced | str
    """The simulator on the interruptions that this run met, or why there is nothing to say."""
    runs: int
    notes: tuple[str, ...]


def report(
    config: RunConfig,
    run: MeasuredRun,
    knowledge: Knowledge,
    *,
    runs: int = DEFAULT_RUNS,
    spot_usd_per_hour: float | None = None,
    name: str = "harness.yaml",
    progress: Callable[[int, int], None] | None = None,
) -> PlanReport:
    """Hold `config`'s plan against `run`.

    `spot_usd_per_hour` is the price that was paid per node (the plan's without it).  InvalidInputError when the config
    is another run's.
    """
    if config.run_id != run.run_id:
        raise InvalidInputError(
            "telemetry", f"run {run.run_id}", f"the run of {name}, {config.run_id}", "name the config that it ran under"
        )
    plan, profile = config.plan, run.summary.profile
    work = profile.useful_steps * profile.step_seconds.mean / SECONDS_PER_HOUR if profile.step_seconds else None
    work = work or None
    actual = _actual(run, plan, spot_usd_per_hour)
    notes: list[str] = []
    planned: PlannedScenario | None = None
    before: Simulated | None = None
    found: Attribution | None = None
    reproduced: bool | None = None
    why_not = "" if work else "no step was finished"
    if work:
        try:
            planned = planned_scenario(config, knowledge, name=name)
            reproduced = _reproduces(plan, run_plan(planned.completed, planned.spec, runs))
            base = _for_the_work(planned.spec, work)
            before = run_plan(planned.completed, base, runs)
            changes = measured_changes(planned, base, run, spot_usd_per_hour=spot_usd_per_hour)
            totals = {total: actual[total] for total in TOTALS if actual.get(total) is not None}
            known = {total: value for total, value in totals.items() if value is not None}
            found = attribute(planned, base, before, changes, run, known, runs=runs, progress=progress)
        except InvalidInputError as error:
            why_not = str(error)
    if planned is not None:
        notes += planned.notes
    notes += _notes(run, plan, work, reproduced)
    rows = (*_totals(plan, before, actual), *_parameters(plan, run))
    return PlanReport(
        run=run,
        plan=plan,
        rows=rows,
        work_hours=work,
        planned_work_hours=plan.work_hours,
        reproduced=reproduced,
        attribution=found,
        why_not=why_not,
        retraced=retrace(run),
        runs=runs,
        notes=tuple(notes),
    )


def _for_the_work(spec: Spec, work_hours: float) -> Spec:
    return dataclasses.replace(spec, work_hours=work_hours, deadline_hours=None)


def _actual(run: MeasuredRun, plan: PlanConfig, spot_usd_per_hour: float | None) -> dict[str, float | None]:
    """What the run came to.  Billed: node-hours from each launcher's start to its last sign, before any refund."""
    profile = run.summary.profile
    price = plan.spot_usd_per_hour if spot_usd_per_hour is None else spot_usd_per_hour
    step = profile.step_seconds
    return {
        "cost_usd": None if price is None else price * profile.exposure_hours,
        "makespan_hours": profile.wall_hours,
        "goodput": profile.goodput,
        "reclaimed_nodes": float(profile.interruptions),
        "lost_work_hours": None if step is None else profile.lost_steps * step.mean / SECONDS_PER_HOUR,
    }


def _reproduces(plan: PlanConfig, again: Simulated) -> bool:
    pairs = ((plan.cost_usd_p50, again.cost_usd), (plan.makespan_hours_p50, again.makespan_hours))
    return all(
        said is None or math.isclose(said, float(sorted(values)[len(values) // 2]), rel_tol=_REPRODUCED)
        for said, values in pairs
    )


def _totals(plan: PlanConfig, before: Simulated | None, actual: dict[str, float | None]) -> list[Row]:
    planned = {
        "cost_usd": ("USD", plan.cost_usd_p50),
        "makespan_hours": ("h", plan.makespan_hours_p50),
        "goodput": ("", plan.goodput_mean),
        "reclaimed_nodes": ("", plan.interruptions_mean),
        "lost_work_hours": ("h", plan.lost_work_hours_mean),
    }
    rows = []
    for name, (unit, said) in planned.items():
        value = actual[name]
        if before is None:
            rows.append(Row(name, unit, said, said, value, None, None, None, None, None))
            continue
        found = before.summary(name)
        # Counts of few events have a median of 0: their mean says more.
        predicted = found.p50 if name in TOTALS else found.mean
        inside = None if value is None else found.p5 <= value <= found.p95
        rows.append(Row(name, unit, said, predicted, value, None, found.p5, found.p95, SIMULATED, inside))
    return rows


def _parameters(plan: PlanConfig, run: MeasuredRun) -> list[Row]:
    profile = run.summary.profile
    rows = []
    if profile.exposure_hours > 0.0:
        low, high = rate_interval_per_hour(profile.interruptions, profile.exposure_hours)
        seen = profile.interruptions / profile.exposure_hours
        inside = None if plan.rate_per_hour is None else low <= plan.rate_per_hour <= high
        said = plan.rate_per_hour
        rows.append(Row("rate_per_hour", "1/h", said, said, seen, profile.interruptions, low, high, POSTERIOR, inside))
    for name in ("stall_seconds", "persist_seconds", "emergency_seconds", "startup_seconds"):
        said, measured = getattr(plan, name), getattr(profile, name)
        rows.append(_duration(name, said, measured))
    return rows


def _duration(name: str, said: float | None, measured: Measurement | None) -> Row:
    if measured is None:
        return Row(name, "s", said, said, None, None, None, None, None, None)
    if measured.n < 2:
        return Row(name, "s", said, said, measured.mean, measured.n, None, None, None, None)
    half = float(stdtrit(measured.n - 1, 0.975)) * measured.standard_deviation / math.sqrt(measured.n)
    low, high = measured.mean - half, measured.mean + half
    inside = None if said is None else low <= said <= high
    return Row(name, "s", said, said, measured.mean, measured.n, low, high, OF_THE_MEAN, inside)


def _notes(run: MeasuredRun, plan: PlanConfig, work: float | None, reproduced: bool | None) -> list[str]:
    profile = run.summary.profile
    notes = []
    if work and plan.work_hours and not math.isclose(work, plan.work_hours, rel_tol=0.02):
        state = "did" if run.summary.finished else "has done"
        notes.append(
            f"the run {state} {work:.4g} h of work of {plan.work_hours:.4g} h planned: predictions are for the former"
        )
    if not run.summary.finished:
        notes.append("the run is not finished: figures are so far, the prediction includes the final checkpoint")
    if reproduced is False:
        notes.append("simulating the config's plan does not give its own figures: the config lacks something")
    if plan.nodes is not None and profile.nodes is not None and plan.nodes != profile.nodes:
        notes.append(f"planned for {plan.nodes} nodes, run on {profile.nodes}")
    if plan.instance is not None and profile.device == "cpu":
        notes.append(f"planned for {plan.instance}, run on CPUs: the durations are of another machine")
    notes.append("the actual cost is node-hours x price: no boots, no refunds, no storage (telemetry cannot see them)")
    notes.append("startup is measured from the launcher and planned from the boot; emergency from the notice's receipt")
    return notes
