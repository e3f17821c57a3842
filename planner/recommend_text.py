"""A recommendation for a person's eye: the answer first, then what it was compared with and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console

from planner import render
from planner.catalogue import SNAPSHOT_PRICE
from planner.evaluate import Candidate
from planner.influence import Influence
from planner.prices.records import LiveAnswer
from planner.ranking import is_starred
from planner.recommend import Recommendation
from planner.render import Column
from planner.sensitivity import OtherHazard
from planner.speed import ESTIMATED_SPEED, FLAG_TEXT
from simulator.statistics import Proportion

_MOST_ROWS = 12
_MOST_INFLUENCES = 6
_SOURCE_LENGTH = 48
_MOST_NAMES = 12
_ROOMY = 13


def print_recommendation(out: Console, found: Recommendation) -> None:
    """The whole answer, at most 80 columns wide where `out` is."""
    render.paragraph(out, answer(found), style="bold")
    for line in _second_lines(found):
        render.paragraph(out, line)
    out.print()
    _print_candidates(out, found)
    _print_rejected(out, found)
    if found.influences:
        out.print()
        _print_influences(out, found)
    if found.sensitivity:
        out.print()
        _print_sensitivity(out, found)
    if found.warnings:
        out.print()
        out.print("Before you rely on it:")
        for warning in found.warnings:
            render.paragraph(out, f"- {warning}", indent=2)
    out.print()
    stopped = "" if found.complete else " Interrupted: what was done so far."
    best = found.best
    render.paragraph(
        out,
        f"{len(best.runs):,} simulated runs per place, seed {best.completed.seed}; the mean cost is known to "
        f"+/- {render.usd(best.cost_usd.standard_error)} for these assumptions.{stopped}",
    )


def answer(found: Recommendation) -> str:
    """The recommendation in one sentence."""
    best = found.best
    fleet = f"{best.nodes} x {best.offer.instance}"
    where = f"{best.offer.place} ({best.offer.region})" if best.offer.zone else best.offer.region
    steps = f" ({best.interval_steps:,} steps)" if best.interval_steps else ""
    text = (
        f"Rent {fleet} spot in {where} at {render.usd(best.spot_usd_per_hour)}/h and save every "
        f"{render.duration(best.interval.hours * 3600)}{steps}: {render.usd(best.cost_usd.p50)} (P50) to "
        f"{render.usd(best.cost_usd.p95)} (P95), done in {render.hours(best.makespan_hours.p50)} (P50) to "
        f"{render.hours(best.makespan_hours.p95)} (P95)"
    )
    if best.on_demand.cost_usd is None:
        return f"{text}; no on-demand price is known there."
    compared = f"{render.usd(best.on_demand.cost_usd)} and {render.hours(best.on_demand.makespan_hours)} on demand"
    saved = best.savings_fraction or 0.0
    if saved <= 0.0:
        return f"Rent on demand, not spot: spot would cost {text.split(': ', 1)[1]}, against {compared}."
    return f"{text}, against {compared} there: {render.percent(saved)} saved."


def _second_lines(found: Recommendation) -> list[str]:
    best = found.best
    interval = best.interval
    lines = []
    if interval.high_hours > interval.low_hours:
        lines.append(
            f"Any interval from {render.duration(interval.low_hours * 3600)} to "
            f"{render.duration(interval.high_hours * 3600)} is as good."
        )
    cheapest = found.cheapest_on_demand
    if cheapest is not None and cheapest.on_demand_usd_per_hour and best.on_demand.cost_usd:
        ratio = cheapest.on_demand_usd_per_hour / (best.on_demand_usd_per_hour or math.inf)
        if ratio < 0.999:
            cost = best.on_demand.cost_usd * ratio
            saved = 1.0 - best.cost_usd.mean / cost
            lines.append(
                f"The cheapest on-demand ({cheapest.region}) would be {render.usd(cost)}: "
                f"{render.percent(saved)} saved against that."
            )
    rate = found.best_break_even
    now = best.completed["market.rate_per_hour"]
    if rate is not None and now > 0.0:
        lines.append(
            f"Spot stays cheaper up to {rate:.3g} interruptions an hour; {now:.3g} is assumed "
            f"({best.completed.hazard.name if best.completed.hazard else 'given'})."
        )
    elif found.break_even_without_refund is not None:
        lines.append(
            "Spot never gets dearer than on-demand as long as the first hour of a reclaimed node is free; without "
            f"that refund it would from {found.break_even_without_refund:.3g} interruptions an hour on ({now:.3g} is "
            "assumed)."
        )
    if best.completed.derived is not None:
        needed, notice = best.completed["checkpoint.emergency_seconds"], best.completed["notice.seconds"]
        fits = "fits" if best.emergency_fits else "does not fit"
        lines.append(f"An emergency save takes {needed:.0f} s and {fits} the notice of {notice:.0f} s.")
    chance = best.deadline_probability
    if chance is not None:
        lines.append(
            f"Done within {render.hours(best.completed['job.deadline_hours'])} with a probability of {_chance(chance)}."
        )
    budget = best.completed["bill.budget_usd"]
    if best.within_budget is not None:
        lines.append(f"Costs at most {render.usd(budget)} with a probability of {_chance(best.within_budget)}.")
    dearer = best.dearer_than_on_demand
    if dearer is not None and dearer.mean > 0.0:
        lines.append(f"Ends up dearer than on-demand with a probability of {_chance(dearer)}.")
    odd = found.if_real
    if odd is not None:
        lines.append(
            f"If the price of {odd.offer.place} is real ({render.usd(odd.spot_usd_per_hour)}/h, starred below): "
            f"{render.usd(odd.cost_usd.p50)} (P50) there."
        )
    if found.ties:
        names = ", ".join(candidate.offer.place for candidate in found.ties[:5])
        lines.append(f"Cannot be told from it: {names}.")
    return lines


def _print_candidates(out: Console, found: Recommendation) -> None:
    shown = _shown(found)
    # Names of regions (where no zone has a price of its own) leave no room for the second quantile at 80 columns.
    roomy = max(len(place_marked(candidate)) for candidate in shown) <= _ROOMY
    several = len({candidate.offer.instance for candidate in found.candidates}) > 1
    columns = (
        *((Column("Type"),) if several else ()),
        Column("Zone", wrap=True),
        Column("Spot/h", right=True),
        *(() if several else (Column("On demand", right=True),)),
        Column("Save" if several or not roomy else "Save every", right=True),
        Column("Cost P50", right=True),
        *(() if several or not roomy else (Column("P95", right=True),)),
        Column("Done P50", right=True),
        Column("Saved", right=True),
    )
    rows = (_candidate_row(candidate, found.best, several=several, roomy=roomy) for candidate in shown)
    out.print(render.table(columns, rows))
    if len(found.candidates) > len(shown):
        out.print(f"  and {len(found.candidates) - len(shown)} dearer ones (all of them with --json)")
    if any(is_starred(candidate) for candidate in shown):
        render.paragraph(out, "* this price is under half the median of its sibling zones and may be wrong", indent=0)
    if any(ESTIMATED_SPEED in candidate.flags for candidate in shown):
        render.paragraph(out, f"~ {FLAG_TEXT}")
    print_live(out, found.live, shown)


def print_live(out: Console, live: LiveAnswer | None, shown: Sequence[Candidate]) -> None:
    """Which of the prices shown are live and which are not; nothing where nobody was asked."""
    if live is None:
        return
    dates = sorted({candidate.offer.as_of for candidate in shown if is_snapshot(candidate)})
    if dates:
        span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        render.paragraph(out, f"^ no live price: that of the bundled snapshot, of {span}")
    render.paragraph(out, live.summary)


def is_snapshot(candidate: Candidate) -> bool:
    """Whether live prices were asked for and this place's is not one."""
    return SNAPSHOT_PRICE in candidate.offer.flags


def place_marked(candidate: Candidate) -> str:
    """The place, with a mark where its price needs a second look."""
    return candidate.offer.place + ("*" if is_starred(candidate) else "") + ("^" if is_snapshot(candidate) else "")


def _shown(found: Recommendation) -> tuple[Candidate, ...]:
    return found.candidates[:_MOST_ROWS]


def _candidate_row(candidate: Candidate, best: Candidate, *, several: bool, roomy: bool) -> tuple[str, ...]:
    mark = "> " if candidate is best else "  "
    zone = place_marked(candidate)
    estimated = "~" if ESTIMATED_SPEED in candidate.flags else ""
    name = candidate.offer.instance.removeprefix("Standard_")
    return (
        *((mark + name, zone) if several else (mark + zone,)),
        render.usd(candidate.spot_usd_per_hour),
        *(() if several else (render.usd(candidate.on_demand_usd_per_hour),)),
        render.duration(candidate.interval.hours * 3600),
        render.usd(candidate.cost_usd.p50),
        *(() if several or not roomy else (render.usd(candidate.cost_usd.p95),)),
        estimated + render.hours(candidate.makespan_hours.p50),
        render.percent(candidate.savings_fraction),
    )


def _print_rejected(out: Console, found: Recommendation) -> None:
    several = len({row.instance for row in found.rejected} | {c.offer.instance for c in found.candidates}) > 1
    by_reason: dict[str, list[str]] = {}
    for row in found.rejected:
        place = row.zone or row.region
        name = row.instance.removeprefix("Standard_")
        shown = f"{name} {place}" if several and row.zone else name if several else place or name
        by_reason.setdefault(row.reason, []).append(shown)
    for reason, where in by_reason.items():
        names = list(dict.fromkeys(where))
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        render.paragraph(out, f"Rejected, {reason}: {', '.join(names[:_MOST_NAMES])}{more}", indent=0)


def _print_influences(out: Console, found: Recommendation) -> None:
    columns = (
        Column("What matters most"),
        Column("Value", right=True),
        Column("If"),
        Column("Cost", right=True),
        Column("Done", right=True),
        Column("Source (as of)", wrap=True),
    )
    rows = [_influence_row(row) for row in found.influences[:_MOST_INFLUENCES]]
    out.print(render.table(columns, rows))


def _influence_row(row: Influence) -> tuple[str, ...]:
    unit = {"USD/h": "$/h", "1/h": "/h"}.get(row.unit, row.unit)
    source = row.source.removeprefix("assumption: ")
    source = source if len(source) <= _SOURCE_LENGTH else source[:_SOURCE_LENGTH].rsplit(" ", 1)[0] + " ..."
    return (
        row.name,
        f"{render.number(row.value)} {unit}".strip(),
        row.changed_to,
        "-" if row.cost_fraction == math.inf else f"{100 * row.cost_fraction:+.1f}%",
        "-" if row.makespan_hours == math.inf else f"{row.makespan_hours:+.1f} h",
        f"{source} ({row.as_of})" if row.as_of else source,
    )


def _chance(chance: Proportion) -> str:
    return render.probability_with_interval(chance.mean, chance.low, chance.high)


def _print_sensitivity(out: Console, found: Recommendation) -> None:
    best, hazard = found.best, found.best.completed.hazard
    several = len({candidate.offer.instance for candidate in found.candidates}) > 1
    time = any(row.minimise == "time" for row in found.sensitivity)
    columns = (
        Column("If the truth is", wrap=True),
        Column("Rate/h", right=True),
        Column("Best" if several else "Best zone", wrap=True),
        Column("Save" if several else "Save every", right=True),
        Column("Done" if time else "Cost", right=True),
        *(() if several else (Column("This plan", right=True),)),
        Column("Regret", right=True),
    )
    value = render.hours(best.makespan_hours.mean) if time else render.usd(best.cost_usd.mean)
    first = (
        f"> {hazard.name if hazard else 'given'} (used)",
        f"{best.completed['market.rate_per_hour']:.2g}",
        _type_and_place(best.offer.instance, best.offer.place) if several else best.offer.place,
        render.duration(best.interval.hours * 3600),
        value,
        *(() if several else (value,)),
        "",
    )
    idle = [row for row in found.sensitivity if not row.knows_plan and row.regret_fraction < 0.0005]
    shown = [row for row in found.sensitivity if row not in idle]
    out.print(render.table(columns, (first, *(_sensitivity_row(row, several, time) for row in shown))))
    if any(not row.knows_plan for row in shown):
        render.paragraph(
            out, f"(others): says nothing new about {best.offer.instance}, but about other types; theirs is the rate."
        )
    if idle:
        names = ", ".join(row.name for row in idle)
        render.paragraph(out, f"Of other types only, and none of them would be better then: {names}.")
    robust = found.robust
    if robust is not None and robust.worst_regret_fraction < robust.plan_worst_regret_fraction - 0.0005:
        render.paragraph(
            out,
            f"Saving every {render.duration(robust.interval_hours * 3600)} instead is within "
            f"{100 * robust.worst_regret_fraction:.1f}% of the best interval whichever of these is true (this plan: "
            f"{100 * robust.plan_worst_regret_fraction:.1f}%).",
        )


def _sensitivity_row(row: OtherHazard, several: bool, time: bool) -> tuple[str, ...]:
    place = row.zone or row.region
    values = (row.best_makespan_hours, row.plan_makespan_hours) if time else (row.best_cost_usd, row.plan_cost_usd)
    best, plan = (render.hours(value) if time else render.usd(value) for value in values)
    return (
        f"  {row.name}" + ("" if row.knows_plan else " (others)"),
        f"{row.rate_per_hour:.2g}",
        _type_and_place(row.instance, place) if several else place,
        render.duration(row.interval_hours * 3600),
        best,
        *(() if several else (plan,)),
        f"+{100 * max(0.0, row.regret_fraction):.1f}%",
    )


def _type_and_place(instance: str, place: str) -> str:
    return f"{instance.removeprefix('Standard_')} {place}"
