"""The main question: where to rent, how often to save, what it costs, when it is done, how sure that is.

`recommend` is a function of the scenario and the tables; `planner.commands.recommend` prints what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.assumptions import Assumption
from planner.breakeven import BreakEven
from planner.catalogue import Offer
from planner.cautions import far_below_other_regions, unmet_objective, unpriced_storage, warnings_about
from planner.completion import Knowledge
from planner.evaluate import Candidate, Effort, broad_effort, evaluate
from planner.influence import Influence, influences
from planner.layers import Layered
from planner.places import Place, Rejected
from planner.prices.records import LiveAnswer
from planner.ranking import COST, Objective, best_of, if_real, pareto_set, ranked, ties
from planner.robust import RobustInterval, robust_interval
from planner.selection import Selection
from planner.sensitivity import OtherHazard, other_hazards

__all__ = ["Recommendation", "recommend", "warnings_about"]

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
        names = [row.name for row in self.influences]
        order = {name: names.index(name) for name in names}
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
    if selection.several_types:
        knowledge = knowledge.of_several_types()
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
            influence = influences(best, knowledge)
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
            *unmet_objective(objective, best),
            *far_below_other_regions(best, order),
            *unpriced_storage(order),
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


def _cheapest_on_demand(places: Sequence[Place], best: Candidate) -> Offer | None:
    offers = [
        place.offer
        for place in places
        if place.offer.instance == best.offer.instance and place.offer.on_demand_usd_per_hour is not None
    ]
    return min(offers, key=lambda offer: offer.on_demand_usd_per_hour or 0.0, default=None)
