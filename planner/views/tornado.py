"""What moves the answer: each uncertain value at both ends of its range, and what it costs to be wrong about it.

The same simulated fates everywhere (common random numbers), so the differences are of the values, not of luck.  The
regret of a value is what this plan's interval costs more than the best interval would, if that value is the true one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from harness.errors import InvalidInputError
from planner import render
from planner.bill import Extras
from planner.completion import complete
from planner.distributions import at_rate
from planner.evaluate import Candidate, with_lifetime
from planner.hazards import HazardSource, hazard_sources
from planner.views.link import changed, resolve
from planner.views.plan import Plan, Say, billed
from simulator.provision import ConstantProvision
from simulator.simulate import simulate
from simulator.spec import PriceSeries, Spec
from simulator.sweep import sweep

RUNS = 2_000
PRICE_SHARE = 0.25
"""Spot prices move by about this much between zones and months."""


@dataclass(frozen=True, slots=True)
class Change:
    """One value changed: what it is, to what, and the job that it makes."""

    name: str
    side: str
    """low, high, or other (a source that is no end of a range)."""
    changed_to: str
    spec: Spec


def tornado(plan: Plan, say: Say | None = None) -> pd.DataFrame:
    """One row per changed value: change of the expected cost (%) and makespan (h), best interval then, regret (%).

    Sorted by the largest change of cost of each name.  A change under which the job cannot finish has no numbers.
    """
    best = plan.best
    base = simulate(billed(best), runs=RUNS, seed=best.completed.seed)
    fixed = Extras.of(best.completed).transfer_usd
    cost, makespan = fixed + float(base.cost_usd.mean()), float(base.makespan_hours.mean())
    changes = tuple(_changes(plan))
    rows: list[dict[str, object]] = []
    for index, change in enumerate(changes):
        if say is not None:
            say("sensitivities", index, len(changes))
        rows.append(_row(best, change, cost, makespan, None if say is None else lambda: say("sensitivities", -1, -1)))
    table = pd.DataFrame(rows, columns=COLUMNS)
    size = table["cost_percent"].abs().fillna(0.0).groupby(table["name"]).transform("max")
    return table.assign(size=size).sort_values(["size", "name", "side"], ascending=[False, True, True]).drop(
        columns="size"
    ).reset_index(drop=True)  # fmt: skip


COLUMNS = [
    "name",
    "side",
    "changed_to",
    "cost_percent",
    "makespan_hours",
    "best_interval_minutes",
    "regret_percent",
]


def _row(
    best: Candidate, change: Change, cost: float, makespan: float, tick: Callable[[], None] | None
) -> dict[str, object]:
    row: dict[str, object] = {"name": change.name, "side": change.side, "changed_to": change.changed_to}
    try:
        mine = simulate(change.spec, runs=RUNS, seed=best.completed.seed)
        found = sweep(
            change.spec,
            runs=RUNS,
            seed=best.completed.seed,
            intervals_hours=None,
            progress=None if tick is None else lambda _done, _total: tick(),
        )
        at_best = simulate(
            change.spec.with_interval(found.optimum.interval_hours),
            runs=RUNS,
            seed=best.completed.seed,
        )
    except InvalidInputError:  # the job cannot finish then: there is nothing to compare
        return {**row, **dict.fromkeys(COLUMNS[3:])}
    fixed = Extras.of(best.completed).transfer_usd
    mean = fixed + float(mine.cost_usd.mean())
    least = min(mean, fixed + float(at_best.cost_usd.mean()))
    return {
        **row,
        "cost_percent": 100.0 * (mean / cost - 1.0) if cost > 0.0 else 0.0,
        "makespan_hours": float(mine.makespan_hours.mean()) - makespan,
        "best_interval_minutes": found.optimum.interval_hours * 60.0,
        "regret_percent": 100.0 * (mean / least - 1.0) if least > 0.0 else 0.0,
    }


def _changes(plan: Plan) -> Iterator[Change]:
    best = plan.best
    spec, completed = billed(best), best.completed
    yield from _hazard_changes(plan)
    price = best.spot_usd_per_hour
    for side, factor in (("low", 1.0 - PRICE_SHARE), ("high", 1.0 + PRICE_SHARE)):
        other = PriceSeries.constant(spec.price.usd_per_hour[0] + price * (factor - 1.0))
        yield Change("spot price", side, f"{render.usd(price * factor)}/h", dataclasses.replace(spec, price=other))
    for side, factor in (("low", 0.5), ("high", 2.0)):
        startup = spec.startup_hours * factor
        if startup > 0.0:
            changed_to = render.duration(startup * 3600.0)
            yield Change("startup", side, changed_to, dataclasses.replace(spec, startup_hours=startup))
        wait = spec.provision
        if isinstance(wait, ConstantProvision) and wait.hours > 0.0:
            longer = dataclasses.replace(spec, provision=ConstantProvision(wait.hours * factor))
            yield Change("wait for capacity", side, render.duration(wait.hours * factor * 3600.0), longer)
        size = completed["job.checkpoint_gib"] * factor
        if size > 0.0:
            yield Change("checkpoint size", side, f"{size:,.4g} GiB", _resized(plan, size))
    for side, success in (("low", 0.0), ("high", 1.0)):
        if success != spec.notice_success:
            shown = "never acted on" if success == 0.0 else "always acted on"
            yield Change("notice success", side, shown, dataclasses.replace(spec, notice_success=success))


def _hazard_changes(plan: Plan) -> Iterator[Change]:
    best, spec = plan.best, billed(plan.best)
    hazard = best.completed.hazard
    if hazard is None:
        rate = best.completed["market.rate_per_hour"]
        for side, factor in (("low", 0.5), ("high", 2.0)):
            lifetime = at_rate(spec.lifetime, rate, rate * factor) if rate > 0.0 else None
            if lifetime is not None:
                yield Change("interruption rate", side, f"{rate * factor:.3g}/h", with_lifetime(spec, lifetime))
        return
    for side, end in (("low", hazard.rate_low_per_hour), ("high", hazard.rate_high_per_hour)):
        if end is not None and end > 0.0 and end != hazard.rate_per_hour:
            changed_to = f"{end:.3g}/h ({hazard.name}, {side} end)"
            yield Change("interruption rate", side, changed_to, with_lifetime(spec, hazard.lifetime_at(end)))
    for source in sources(plan):
        if source.name != hazard.name:
            other = dataclasses.replace(
                spec,
                lifetime=source.lifetime,
                rate_events=source.events,
                rate_exposure_hours=source.exposure_hours,
            )
            yield Change(f"if {source.name} is right", "other", f"{source.rate_per_hour:.3g}/h", other)


def sources(plan: Plan) -> tuple[HazardSource, ...]:
    """Every source of interruption rates that knows the recommended type, best first; empty for a type it is not."""
    instance = plan.best.completed.instance
    if instance is None:
        return ()
    return hazard_sources(
        instance, plan.best.offer.region, assumptions=plan.link.knowledge.assumptions,
        profile=plan.link.knowledge.profile, own=plan.link.knowledge.own, bands=plan.link.knowledge.bands,
    )  # fmt: skip


def _resized(plan: Plan, size_gib: float) -> Spec:
    """The plan's job with another checkpoint size: what is derived from it is derived anew."""
    best = plan.best
    link = resolve(changed(plan.link.query, {"checkpoint-gib": f"{size_gib:.6g}"}), plan.link.knowledge.catalogue)
    completed = complete(link.layered, link.knowledge, offer=best.offer, nodes=best.nodes)
    spec = completed.to_spec(interval_hours=best.interval.hours)
    return Extras.of(best.completed).in_node_hours(spec, best.spot_usd_per_hour)
