"""What a person should know before spending money on a plan: one sentence each."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from planner.catalogue import FLAGS as PRICE_FLAGS
from planner.catalogue import LOCAL_ZONE, OLD_PRICE, REGION_LEVEL, SNAPSHOT_PRICE, ZONE_ALIAS
from planner.evaluate import Candidate
from planner.hazards import FLAGS as HAZARD_FLAGS
from planner.ranking import Objective
from planner.sensitivity import OtherHazard
from planner.speed import ESTIMATED_SPEED, FLAG_TEXT

_SAID = (OLD_PRICE, SNAPSHOT_PRICE, REGION_LEVEL, LOCAL_ZONE, ZONE_ALIAS)
"""Flags of the recommended place's price that are worth a sentence; the others are said elsewhere."""


def unmet_objective(objective: Objective, best: Candidate) -> tuple[str, ...]:
    """What to say when no place meets the deadline with the wanted probability."""
    chance = best.deadline_probability
    if objective.name != "deadline" or (chance is not None and chance.mean >= objective.probability):
        return ()
    return (f"no place meets the deadline with probability {objective.probability:g}: this one comes closest",)


def far_below_other_regions(best: Candidate, candidates: Sequence[Candidate]) -> tuple[str, ...]:
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


def unpriced_storage(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Where checkpoints cost nothing only because no table has their price, beside places where they do cost."""
    unpriced: set[str] = set()
    priced: set[str] = set()
    for candidate in candidates:
        assumption = candidate.completed.values["storage.usd_per_gib_month"].assumption
        (unpriced if assumption is not None and assumption.value == 0.0 else priced).add(candidate.offer.provider)
    if not unpriced or not priced:
        return ()
    warning = (
        f"no storage price is known of {', '.join(sorted(unpriced))}: checkpoints cost nothing there, unlike on "
        f"{', '.join(sorted(priced))}; --usd-per-gib-month sets one price for all"
    )
    return (warning,)


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
    warnings += [PRICE_FLAGS[flag] for flag in _SAID if flag in best.offer.flags]
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
