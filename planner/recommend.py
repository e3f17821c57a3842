"""The main question: where to rent, how often to save, what it costs, when it is done, how sure that is.

`recommend` is a function of the scenario and the tables; `planner.commands.recommend` prints what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.assumptions import Assumption
from planner.breakeven import BreakEven
from planner.catalogue import FLAGS as PRICE_FLAGS
from planner.catalogue import OLD_PRICE, REGION_LEVEL, Offer
from planner.completion import Knowledge
from planner.evaluate import Candidate, evaluate
from planner.hazards import FLAGS as HAZARD_FLAGS
from planner.layers import Layered
from planner.places import Place, Rejected
from planner.ranking import best_of, if_real, ranked, ties
from planner.sensitivity import Influence, OtherHazard, influences, other_hazards

Say = Callable[[str, int, int], None]


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
    warnings: tuple[str, ...]
    complete: bool

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """What the recommended plan rests on and the user did not give; those that matter most first."""
        order = {row.name: index for index, row in enumerate(self.influences)}
        return tuple(sorted(self.best.completed.assumptions, key=lambda row: order.get(row.name, len(order))))

    @property
    def best_break_even(self) -> float | None:
        """Break-even rate of the recommended candidate."""
        return self.break_even_rates[self.candidates.index(self.best)]


def recommend(
    layered: Layered,
    knowledge: Knowledge,
    places: Sequence[Place],
    rejected: Sequence[Rejected],
    *,
    step_seconds: float | None = None,
    progress: Say | None = None,
) -> Recommendation:
    """Rank `places` (at least one) and explain the best.

    Raises InvalidInputError as `evaluate` does.  After Ctrl-C: what is done so far, `complete` False;
    KeyboardInterrupt where no candidate is finished.
    """

    def say(what: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(what, done, total) if progress is not None else None

    found = evaluate(layered, knowledge, places, step_seconds=step_seconds, progress=say("comparing places"))
    order = ranked(found.candidates)
    best = best_of(order)
    assert best is not None, "evaluate raises when nothing is left"
    break_even: list[float | None] = [None] * len(order)
    without_refund: float | None = None
    influence: tuple[Influence, ...] = ()
    sensitivity: tuple[OtherHazard, ...] = ()
    complete = found.complete
    try:
        if complete:
            search = BreakEven()
            for index, candidate in enumerate(order):
                break_even[index] = search.rate_per_hour(candidate)
                say("break-even rates")(index + 1, len(order))
            if best.spec.first_hour_refund:
                without_refund = search.rate_per_hour(best, refund=False)
            influence = influences(best)
            say("other interruption rates")(0, 1)
            sensitivity = other_hazards(layered, knowledge, places, best)
    except KeyboardInterrupt:
        complete = False
    cheapest = _cheapest_on_demand(places, best)
    return Recommendation(
        best=best,
        if_real=if_real(order, best),
        candidates=order,
        break_even_rates=tuple(break_even),
        break_even_without_refund=without_refund,
        ties=ties(order, best),
        rejected=(*rejected, *found.rejected),
        cheapest_on_demand=cheapest,
        influences=influence,
        sensitivity=sensitivity,
        warnings=warnings_about(best, if_real(order, best), sensitivity),
        complete=complete,
    )


def _cheapest_on_demand(places: Sequence[Place], best: Candidate) -> Offer | None:
    offers = [
        place.offer
        for place in places
        if place.offer.instance == best.offer.instance and place.offer.on_demand_usd_per_hour is not None
    ]
    return min(offers, key=lambda offer: offer.on_demand_usd_per_hour or 0.0, default=None)


def warnings_about(best: Candidate, odd: Candidate | None, sensitivity: Sequence[OtherHazard] = ()) -> tuple[str, ...]:
    """What a person should know before spending money on this."""
    warnings: list[str] = []
    if odd is not None:
        warnings.append(
            f"the price of {odd.offer.place} (${odd.spot_usd_per_hour:.2f}/h) is under half the median of its sibling "
            "zones: it does not decide the recommendation; check it"
        )
    if best.savings_fraction is not None and best.savings_fraction <= 0.0:
        warnings.append("spot is expected to cost more than on-demand: do not use it for this job")
    if not best.emergency_fits and best.completed.derived is not None:
        warnings.append(best.completed.derived.emergency_verdict)
    warnings += [PRICE_FLAGS[flag] for flag in (OLD_PRICE, REGION_LEVEL) if flag in best.offer.flags]
    warnings += [f"interruption rate: {HAZARD_FLAGS[flag]}" for flag in best.flags if flag in HAZARD_FLAGS]
    rates = [row.rate_per_hour for row in sensitivity if row.rate_per_hour > 0.0]
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
