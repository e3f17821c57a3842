"""`--live`: the plan on today's prices, and on the bundled ones where no provider answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from planner import render
from planner.catalogue import Catalogue, Instance
from planner.completion import Knowledge
from planner.layers import Layered

if TYPE_CHECKING:
    from planner.selection import Wanted

F = TypeVar("F", bound=Callable[..., Any])


def live_option(function: F) -> F:
    """Adds the flag."""
    decorated: F = click.option(
        "--live",
        is_flag=True,
        envvar="PLANNER_LIVE",
        help="Ask the providers for today's prices; the bundled snapshot stands in for what they do not answer.",
    )(function)
    return decorated


def with_live_prices(known: Knowledge, layered: Layered, wanted: Wanted) -> Knowledge:
    """`known` with what the providers say now about the types that come into question.

    A provider that fails is a line in `known.live.missing`, never an error.  Raises InvalidInputError, before anybody
    is asked, for types that do not exist and for a job without work.
    """
    # The cloud libraries' readers are wanted only here.
    from planner.prices.live import Sources, fetch_live
    from planner.prices.records import LiveAnswer, grouped
    from planner.selection import wanted_instances

    instances, _ = wanted_instances(layered, known.catalogue, wanted)
    fleet = layered.scenario.fleet
    regions = _regions(known.catalogue, instances, fleet.region, fleet.zone)
    with render.ProgressBar("asking the providers"):
        found = fetch_live(
            instances,
            regions=regions,
            sources=Sources.default(),
            nodes_for_scores=_nodes(layered, wanted),
            scores_by_type=True,
        )
    answer = LiveAnswer(len(found.prices), found.oldest_seconds, tuple(str(gap) for gap in grouped(found.missing)))
    return replace(
        known, catalogue=found.catalogue(known.catalogue), bands=found.bands, live=answer, scores=found.scores
    )


def _nodes(layered: Layered, wanted: Wanted) -> int | None:
    """For how many nodes placement scores are asked: the most wanted; None where a given wait makes them useless."""
    if layered.scenario.market.provision is not None:
        return None
    return max((layered.scenario.fleet.nodes or 1, *wanted.node_counts))


def _regions(
    catalogue: Catalogue, instances: Iterable[Instance], region: str | None, zone: str | None
) -> tuple[str, ...]:
    """The AWS regions to ask: only the wanted one, or the wanted zone's, where the snapshot knows it."""
    from planner.prices.live import default_regions

    instances = tuple(instances)
    known = default_regions(catalogue, instances)
    if region is not None:
        return tuple(name for name in known if name == region)
    if zone is not None:
        offers = [offer for row in instances for offer in catalogue.offers(row.name, row.provider)]
        homes = {offer.region for offer in offers if offer.zone == zone}
        return tuple(name for name in known if name in homes) or known
    return known
