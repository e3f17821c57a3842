"""The main question: where to rent, how often to save, what it costs, when it is done, how sure that is.

`recommend` is a function of the scenario and the tables; `planner.commands.recommend` prints what it returns.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.assumptions import Assumption
from planner.breakeven import BreakEven
from planner.catalogue import FLAGS as PRICE_FLAGS
from planner.catalogue import OLD_PRICE, REGION_LEVEL, SNAPSHOT_PRICE, Offer
from planner.completion import Knowledge
from planner.evaluate import Candidate, Effort, broad_effort, evaluate
from planner.hazards import FLAGS as HAZARD_FLAGS
from planner.influence import Influence, influences
from planner.layers import Layered
from planner.places import Place, Rejected
from planner.prices.records import LiveAnswer
from planner.ranking import COST, Objective, best_of, if_real, pareto_set, ranked, ties
from planner.robust import RobustInterval, robust_interval
from planner.selection import Selection
from planner.sensitivity import OtherHazard, other_hazards
from planner.speed import ESTIMATED_SPEED, FLAG_TEXT

Say = Callable[[str, int, int], None]

_MOST_BREAK_EVENS = 40
_LOOKED_AT_AGAIN = 8


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The answer.  `candidates` are ranked by expected cost; `break_even_rates` belong to them in that order."""

    best: Candidate
    if_real: Candidate | None
    """Cheaper than `best` if its price, which looks wrong, is real."""
    candidates: tuple[Candidate, ...]
    break_even_rates: tuple[float | None, ...]
    break_even_without_refund: float | None
    """Of the recommended candidate, where the scenario has a first-hour refund: as if there were none."""
    ties: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]
    cheapest_on_demand: Offer | None
    """Of the recommended type, anywhere in the wanted places."""
    influences: tuple[Influence, ...]
    sensitivity: tuple[OtherHazard, ...]
    robust: RobustInterval | None
    pareto: tuple[Candidate, ...]
    objective: Objective
    stated: tuple[Assumption, ...]
    """What was assumed before there were candidates."""
    warnings: tuple[str, ...]
    live: LiveAnswer | None
    """How asking for live prices went; None: nobody was asked."""
    complete: bool

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """What the recommended plan rests on and the user did not give; those that matter most first."""
        order = {row.name: index for index, row in enumerate(self.influences)}
        rows = (*self.stated, *self.best.completed.assumptions)
        return tuple(sorted(rows, key=lambda row: order.get(row.name, len(order))))

    @property
    def best_break_even(self) -> float | None:
        """Break-even rate of the recommended candidate."""
        return self.break_even_rates[self.candidates.index(self.best)]


def recommend(
    layered: Layered,
    knowledge: Knowledge,
    selection: Selection,
    *,
    objective: Objective = COST,
    step_seconds: float | None = None,
    progress: Say | None = None,
) -> Recommendation:
    """Rank the places of `selection` (at least one) by `objective` and explain the best.

    Several types are compared broadly first; the best few places are then simulated with the full effort.

    Raises InvalidInputError as `evaluate` does.  After Ctrl-C: what is done so far, `complete` False;
    KeyboardInterrupt where no candidate is finished.
    """

    def say(what: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(what, done, total) if progress is not None else None

    places = selection.places
    minimise = "time" if objective.name == "time" else "cost"
    first = broad_effort(minimise) if selection.several_types else Effort(minimise=minimise)
    found = evaluate(
        layered, knowledge, places, step_seconds=step_seconds, effort=first, progress=say("comparing places")
    )
    candidates = found.candidates
    if selection.several_types and found.complete:
        candidates = _looked_at_again(
            layered, knowledge, places, candidates, objective, minimise, step_seconds, say("looking closer")
        )
    order = ranked(candidates, objective)
    best = best_of(order, objective)
    assert best is not None, "evaluate raises when nothing is left"
    break_even: list[float | None] = [None] * len(order)
    without_refund: float | None = None
    influence: tuple[Influence, ...] = ()
    sensitivity: tuple[OtherHazard, ...] = ()
    robust: RobustInterval | None = None
    complete = found.complete
    try:
        if complete:
            search = BreakEven()
            for index, candidate in enumerate(order[:_MOST_BREAK_EVENS]):
                break_even[index] = search.rate_per_hour(candidate)
                say("break-even rates")(index + 1, len(order))
            if best.spec.first_hour_refund:
                without_refund = search.rate_per_hour(best, refund=False)
            influence = influences(best)
            sensitivity = other_hazards(
                layered,
                knowledge,
                places,
                best,
                order,
                objective=objective,
                progress=say("other interruption rates"),
            )
            robust = robust_interval(best, sensitivity)
    except KeyboardInterrupt:
        complete = False
    cheapest = _cheapest_on_demand(places, best)
    odd = if_real(order, best, objective)
    return Recommendation(
        best=best,
        if_real=odd,
        candidates=order,
        break_even_rates=tuple(break_even),
        break_even_without_refund=without_refund,
        ties=ties(order, best, objective),
        rejected=(*selection.rejected, *found.rejected),
        cheapest_on_demand=cheapest,
        influences=influence,
        sensitivity=sensitivity,
        robust=robust,
        pareto=pareto_set(order),
        objective=objective,
        stated=selection.assumptions,
        warnings=(
            *warnings_about(best, odd, sensitivity),
            *(f"{row.name}: {row.source}" for row in selection.assumptions),
            *_unmet(objective, best),
            *_far_below_other_regions(best, order),
            *(knowledge.live.warnings if knowledge.live else ()),
        ),
        live=knowledge.live,
        complete=complete,
    )


def _looked_at_again(
    layered: Layered,
    knowledge: Knowledge,
    places: Sequence[Place],
    candidates: Sequence[Candidate],
    objective: Objective,
    minimise: str,
    step_seconds: float | None,
    progress: Callable[[int, int], None],
) -> tuple[Candidate, ...]:
    """The candidates with those that may be the best simulated with the full effort."""
    order = ranked(candidates, objective)
    close = {(c.offer, c.nodes) for c in order[:_LOOKED_AT_AGAIN]}
    again = [place for place in places if (place.offer, place.nodes) in close]
    better = evaluate(
        layered,
        knowledge,
        again,
        step_seconds=step_seconds,
        effort=Effort(minimise=minimise),
        progress=progress,
    ).candidates
    done = {(c.offer, c.nodes) for c in better}
    return (*better, *(c for c in candidates if (c.offer, c.nodes) not in done))


def _unmet(objective: Objective, best: Candidate) -> tuple[str, ...]:
    """What to say when no place meets the deadline with the wanted probability."""
    chance = best.deadline_probability
    if objective.name != "deadline" or (chance is not None and chance.mean >= objective.probability):
        return ()
    return (f"no place meets the deadline with probability {objective.probability:g}: this one comes closest",)


def _far_below_other_regions(best: Candidate, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """A price under half the median of the type's other regions: no sibling zone to hold it against, but odd."""
    others = [
        candidate.spot_usd_per_hour
        for candidate in candidates
        if candidate.offer.instance == best.offer.instance
        and candidate.offer.region != best.offer.region
        and candidate.nodes == best.nodes
    ]
    if len(others) < 2 or best.spot_usd_per_hour >= 0.5 * statistics.median(others):
        return ()
    warning = (
        f"the price of {best.offer.place} (${best.spot_usd_per_hour:.2f}/h) is under half the median of the type's "
        f"other regions (${statistics.median(others):.2f}/h): check it"
    )
    return (warning,)


def _cheapest_on_demand(places: Sequence[Place], best: Candidate) -> Offer | None:
    offers = [
        place.offer
        for place in places
        if place.offer.instance == best.offer.instance and place.offer.on_demand_usd_per_hour is not None
    ]
    return min(offers, key=lambda offer: offer.on_demand_usd_per_hour or 0.0, default=None)


def _emergency_verdict(best: Candidate) -> str:
    """Why an emergency save does not fit, in the plan's own numbers: the user's where some were given."""
    derived, needed = best.completed.derived, best.completed["checkpoint.emergency_seconds"]
    if derived is not None and derived.emergency_seconds == needed:
        return derived.emergency_verdict
    notice = best.completed["notice.seconds"]
    return f"an emergency save needs {needed:.0f} s of the {notice:.0f} s notice: it does not fit"


def warnings_about(best: Candidate, odd: Candidate | None, sensitivity: Sequence[OtherHazard] = ()) -> tuple[str, ...]:
    """What a person should know before spending money on this."""
    warnings: list[str] = []
    if odd is not None:
        warnings.append(
            f"the price of {odd.offer.place} (${odd.spot_usd_per_hour:.2f}/h) is under half the median of its sibling "
            "zones: it does not decide the recommendation; check it"
        )
    if ESTIMATED_SPEED in best.flags:
        warnings.append(FLAG_TEXT)
    if best.savings_fraction is not None and best.savings_fraction <= 0.0:
        warnings.append("spot is expected to cost more than on-demand: do not use it for this job")
    if not best.emergency_fits and best.completed.derived is not None:
        warnings.append(_emergency_verdict(best))
    warnings += [PRICE_FLAGS[flag] for flag in (OLD_PRICE, SNAPSHOT_PRICE, REGION_LEVEL) if flag in best.offer.flags]
    warnings += [f"interruption rate: {HAZARD_FLAGS[flag]}" for flag in best.flags if flag in HAZARD_FLAGS]
    rates = [row.rate_per_hour for row in sensitivity if row.knows_plan and row.rate_per_hour > 0.0]
    if best.completed.hazard is not None and rates:
        rates.append(best.completed.hazard.rate_per_hour)
        if max(rates) >= 10.0 * min(rates):
            warnings.append(
                f"sources of interruption rates differ {max(rates) / min(rates):,.0f}-fold "
                f"({min(rates):.2g} to {max(rates):.2g} per hour): see what each would recommend"
            )
    chance = best.deadline_probability
    if chance is not None and chance.mean < 0.9:
        deadline = best.completed["job.deadline_hours"]
        warnings.append(f"done within {deadline:g} h with probability {chance.mean:.2f} only")
    warnings += list(best.completed.warnings)
    return tuple(warnings)
