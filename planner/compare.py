"""Many types and node counts for one job, ranked; the Pareto set of cost and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from planner.assumptions import Assumption
from planner.cautions import far_below_other_regions, unmet_objective, unpriced_storage, warnings_about
from planner.completion import Knowledge
from planner.evaluate import Candidate, broad_effort, evaluate
from planner.layers import Layered
from planner.places import Rejected
from planner.prices.records import LiveAnswer
from planner.ranking import COST, Objective, best_of, if_real, pareto_set, ranked, ties
from planner.selection import Selection
from planner.speed import ESTIMATED_SPEED, FLAG_TEXT


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every place as a candidate, best first by `objective`."""

    candidates: tuple[Candidate, ...]
    best: Candidate
    ties: tuple[Candidate, ...]
    """The best and those that cannot be told from it; empty when it stands alone."""
    pareto: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]
    objective: Objective
    reference: str | None
    """The fleet for which the work hours hold."""
    assumptions: tuple[Assumption, ...]
    warnings: tuple[str, ...]
    live: LiveAnswer | None
    """How asking for live prices went; None: nobody was asked."""
    seed: int
    complete: bool


def compare(
    layered: Layered,
    knowledge: Knowledge,
    selection: Selection,
    *,
    objective: Objective = COST,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """All places of `selection`; InvalidInputError and Ctrl-C as in `planner.evaluate.evaluate`."""
    if selection.several_types:
        knowledge = knowledge.of_several_types()
    effort = broad_effort("time" if objective.name == "time" else "cost")
    found = evaluate(layered, knowledge, selection.places, effort=effort, progress=progress)
    order = ranked(found.candidates, objective)
    best = best_of(order, objective)
    assert best is not None, "evaluate raises when nothing is left"
    tied = ties(order, best, objective)
    warnings = [f"{row.name}: {row.source}" for row in selection.assumptions]
    if any(ESTIMATED_SPEED in candidate.flags for candidate in order):
        warnings.append(FLAG_TEXT)
    warnings += [*warnings_about(best, if_real(order, best, objective)), *unmet_objective(objective, best)]
    warnings += [*far_below_other_regions(best, order), *unpriced_storage(order)]
    if knowledge.live is not None:
        warnings += knowledge.live.warnings
    return Comparison(
        candidates=order,
        best=best,
        ties=(best, *tied) if tied else (),
        pareto=pareto_set(order),
        rejected=(*selection.rejected, *found.rejected),
        objective=objective,
        reference=selection.workload.reference.text if selection.workload else None,
        assumptions=selection.assumptions,
        warnings=tuple(dict.fromkeys(warnings)),
        live=knowledge.live,
        seed=best.completed.seed,
        complete=found.complete,
    )
