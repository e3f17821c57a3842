"""Sentences for a page: errors in the words of its inputs, and what each chart shows, for those who do not see it."""

from __future__ import annotations

from urllib.parse import urlencode

import pandas as pd

from harness.errors import InvalidInputError, SpotPlannerError
from planner import render
from planner.views.link import Query
from planner.views.plan import Plan
from planner.views.timeline import RunView
from simulator.statistics import Summary

PlannerError = SpotPlannerError
"""Every error that a user can cause or meet: what a page turns into a sentence."""


def error_sentence(error: Exception) -> str:
    """One or two sentences: what cannot be used, what would be right, what to try; never a traceback."""
    if isinstance(error, InvalidInputError):
        field = error.field.replace("--", "")
        shown = " ".join(str(error.value).split())
        given = "is missing" if shown == "nothing" else f"cannot be “{shown}”"
        hint = f" Hint: {error.hint.replace('--', '')}." if error.hint else ""
        return f"{field} {given}: expected {error.expected.replace('--', '')}.{hint}"
    if isinstance(error, SpotPlannerError):
        return f"{error}."
    return f"This is a bug in the planner, please report it: {type(error).__name__}: {error}"


def interval_alt(plan: Plan) -> str:
    """What the cost curve shows."""
    points, best = plan.curve.points, plan.curve.optimum
    ends = ", ".join(
        f"{render.usd(point.cost.mean)} at {render.duration(point.interval_hours * 3600.0)}"
        for point in (points[0], points[-1])
    )
    low, high = (render.duration(hours * 3600.0) for hours in (best.low_hours, best.high_hours))
    return (
        f"Expected cost against checkpoint interval: {ends}; least, {render.usd(best.cost.mean)}, at "
        f"{render.duration(best.interval_hours * 3600.0)}; flat from {low} to {high}."
    )


def distribution_alt(what: str, summary: Summary, unit: str) -> str:
    """What a distribution shows; `unit` is USD or hours."""
    word = render.usd if unit == "USD" else render.hours
    return (
        f"Distribution of {what} over the simulated runs: half are at or below {word(summary.p50)}, "
        f"95 % at or below {word(summary.p95)}, 5 % at or below {word(summary.p5)}."
    )


def parts_alt(what: str, parts: pd.DataFrame) -> str:
    """What a bar of parts shows."""
    shares = (f"{part} {render.percent(share)}" for part, share in zip(parts["part"], parts["share"], strict=True))
    return f"{what}, by part: {', '.join(shares)}."


def compare_alt(rows: pd.DataFrame) -> str:
    """What the comparison shows."""
    ends = (
        f"{render.usd(row['cost_p50_usd'])} in {row['zone'] or row['region']}" for row in (rows.iloc[0], rows.iloc[-1])
    )
    return (
        f"{len(rows)} places by cost and time: from {' to '.join(ends)}; "
        f"{int(rows['pareto'].sum())} of them are beaten by no other in both cost and time."
    )


def tornado_alt(rows: pd.DataFrame) -> str:
    """What the tornado shows."""
    shown = rows.dropna(subset=["cost_percent"]).head(3)
    parts = (
        f"{name} {changed_to}: {percent:+.1f} %"
        for name, changed_to, percent in zip(shown["name"], shown["changed_to"], shown["cost_percent"], strict=True)
    )
    return f"Change of the expected cost when one value changes; the largest: {'; '.join(parts)}."


def run_sentence(view: RunView) -> str:
    """One simulated run in a sentence."""
    result = view.result
    times = "once" if result.interruptions == 1.0 else f"{result.interruptions:.0f} times"
    return (
        f"Run {view.run}: done after {render.hours(result.makespan_hours)} for {render.usd(result.cost_usd)}; "
        f"interrupted {times}, {render.duration(result.lost_work_hours * 3600.0)} of work lost."
    )


def link_text(base: str, query: Query) -> str:
    """The URL that reproduces a plan: `base` (a page of the dashboard, its own query ignored) with `query`."""
    return f"{base.split('?')[0].rstrip('/')}/?{urlencode(query)}"
