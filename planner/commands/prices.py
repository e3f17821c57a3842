"""``planner prices``: what instances cost where, from the bundled snapshot or live, with its age."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.console import Console

from harness.errors import EXIT_DONE, EXIT_EXTERNAL_SERVICE, InvalidInputError, did_you_mean
from planner import render
from planner.catalogue import FLAGS, NO_DISCOUNT, Catalogue, Instance, Offer, load_catalogue
from planner.commands import HELP_NAMES
from planner.figure_files import check_plot_path
from planner.prices.history import ZoneHistory, zone_histories
from planner.prices.live import LivePrices, Sources, default_regions, fetch_live
from planner.prices.plot import plot_prices
from planner.prices.records import grouped
from planner.render import Column

SCHEMA_VERSION = 1


@click.command("prices", context_settings=HELP_NAMES)
@click.option("--instance", "names", multiple=True, metavar="TYPE", help="Instance type; may be repeated.")
@click.option("--accelerator", metavar="NAME[:COUNT]", help="Every type with this accelerator, e.g. A100:8.")
@click.option("--provider", metavar="NAME", help="Only this provider: aws, gcp or azure.")
@click.option("--region", "regions", multiple=True, metavar="NAME", help="Only this region; may be repeated.")
@click.option("--live", is_flag=True, help="Ask the providers now (answers are kept for an hour).")
@click.option("--history", metavar="DAYS", help="With --live: AWS price changes of the last DAYS, e.g. 30d.")
@click.option("--scores", type=int, metavar="NODES", help="With --live: AWS placement scores for so many nodes.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw it: .png, .svg or .pdf.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
def command(
    names: tuple[str, ...],
    accelerator: str | None,
    provider: str | None,
    regions: tuple[str, ...],
    live: bool,
    history: str | None,
    scores: int | None,
    plot: Path | None,
    as_json: bool,
) -> int:
    """Spot and on-demand prices per zone, with their date and what looks wrong with them.

    Offline, from the bundled snapshot, unless --live asks the providers.  What they do not answer is listed and the
    snapshot stands in; exit code 3 when none of them answers.
    """
    days = _history_days(history, live)
    if scores is not None and not (live and scores >= 1):
        raise InvalidInputError("--scores", scores, "a whole number >= 1, beside --live")
    if plot is not None:
        check_plot_path(plot)
    catalogue = load_catalogue()
    instances = select_instances(catalogue, names, accelerator, provider)
    found: LivePrices | None = None
    now = datetime.now(UTC)
    if live:
        found = fetch_live(
            instances,
            regions=regions or default_regions(catalogue, instances),
            sources=Sources.default(),
            history_days=days,
            nodes_for_scores=scores,
            bands=False,
        )
        catalogue = found.catalogue(catalogue)
    offers = _offers(catalogue, instances, regions)
    histories = zone_histories(found.changes) if found and days > 0.0 else ()
    if plot is not None:
        plot_prices(plot, histories, offers, until=now)
    if as_json:
        start = now - timedelta(days=days)
        click.echo(json.dumps(_document(catalogue, instances, offers, histories, found, start, now), indent=2))
    else:
        _show(catalogue, instances, offers, histories, found, now - timedelta(days=days), now, plot)
    return EXIT_EXTERNAL_SERVICE if found is not None and not found.prices else EXIT_DONE


def _history_days(text: str | None, live: bool) -> float:
    if text is None:
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)d?", text.strip())
    if not match:
        raise InvalidInputError("--history", text, "a number of days, e.g. 30d")
    if not live:
        raise InvalidInputError("--history", text, "--live beside it: the bundled snapshot has no history")
    return float(match.group(1))


def select_instances(
    catalogue: Catalogue, names: Sequence[str], accelerator: str | None, provider: str | None
) -> tuple[Instance, ...]:
    """The types that are meant: by name, by accelerator (``A100`` or ``A100:8``), or all; of one provider or any."""
    if names and accelerator:
        raise InvalidInputError("--accelerator", accelerator, "either --instance or --accelerator, not both")
    if names:
        try:
            return tuple(dict.fromkeys(catalogue.instance(name, provider) for name in names))
        except InvalidInputError as error:
            raise InvalidInputError(f"--{error.field}", error.value, error.expected, error.hint) from None
    if accelerator:
        model, _, count = accelerator.partition(":")
        if count and not (count.isdigit() and int(count) >= 1):
            raise InvalidInputError("--accelerator", accelerator, "NAME or NAME:COUNT, e.g. A100:8")
        found = catalogue.with_accelerator(model, int(count) if count else None)
    else:
        found = catalogue.instances
    if provider is None:
        return found
    catalogue.require_provider(provider)
    kept = tuple(row for row in found if row.provider == provider)
    if not kept:
        raise InvalidInputError("--provider", provider, f"a provider with {accelerator}")
    return kept


def _offers(catalogue: Catalogue, instances: Iterable[Instance], regions: Sequence[str]) -> tuple[Offer, ...]:
    """Every offer in the wanted regions: spot first, cheapest first; InvalidInputError for a region that has none."""
    offers = [offer for row in instances for offer in catalogue.offers(row.name, row.provider)]
    known = {offer.region for offer in offers}
    for region in regions:
        if region not in known:
            raise InvalidInputError("--region", region, "a region with a price for it", did_you_mean(region, known))
    wanted = [offer for offer in offers if not regions or offer.region in regions]
    return tuple(sorted(wanted, key=_cheapest_first))


def _cheapest_first(offer: Offer) -> tuple[float, float]:
    on_demand = math.inf if offer.on_demand_usd_per_hour is None else offer.on_demand_usd_per_hour
    return (math.inf if offer.spot_usd_per_hour is None else offer.spot_usd_per_hour, on_demand)


def _document(
    catalogue: Catalogue,
    instances: Sequence[Instance],
    offers: Sequence[Offer],
    histories: Sequence[ZoneHistory],
    found: LivePrices | None,
    start: datetime,
    now: datetime,
) -> dict[str, object]:
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": True,
        "live": found is not None,
        "oldest_seconds": found.oldest_seconds if found else None,
        "offers": [{**asdict(offer), "flags": list(offer.flags), "discount": offer.discount} for offer in offers],
        "unpriced": [row.name for row in instances if not catalogue.offers(row.name, row.provider)],
        "history": [_history_document(history, start, now) for history in histories],
        "scores": [{"region": row.region, "zone_id": row.zone_id, "score": row.score} for row in found.scores]
        if found
        else [],
        "missing": [asdict(gap) for gap in found.missing] if found else [],
    }


def _history_document(history: ZoneHistory, start: datetime, now: datetime) -> dict[str, object]:
    extremes = history.lowest_and_highest(start, now)
    return {
        "instance": history.instance,
        "region": history.region,
        "zone": history.zone,
        "mean_usd_per_hour": history.mean(start, now),
        "lowest_usd_per_hour": extremes[0] if extremes else None,
        "highest_usd_per_hour": extremes[1] if extremes else None,
        "changes": [
            {"time": time.isoformat(), "usd_per_hour": usd}
            for time, usd in zip(history.times, history.usd_per_hour, strict=True)
        ],
    }


def _show(
    catalogue: Catalogue,
    instances: Sequence[Instance],
    offers: Sequence[Offer],
    histories: Sequence[ZoneHistory],
    found: LivePrices | None,
    start: datetime,
    now: datetime,
    plot: Path | None,
) -> None:
    out = render.console()
    shown = offers if len(instances) <= 3 else _cheapest_of_each(offers)
    notes = {flag: index + 1 for index, flag in enumerate(flag for flag in FLAGS if _has(shown, flag))}
    one_type = len(instances) == 1
    # Names may be folded in a narrow window; prices and dates never.
    columns = (
        Column("Type", wrap=True), Column("Place", wrap=True), Column("Spot/h", right=True),
        Column("On-demand/h", right=True), Column("Off", right=True), Column("As of"), Column("Notes"),
    )[one_type:]  # fmt: skip
    rows = [
        (
            offer.instance,
            offer.place,
            render.usd(offer.spot_usd_per_hour),
            render.usd(offer.on_demand_usd_per_hour),
            render.percent(offer.discount),
            offer.as_of,
            ",".join(str(notes[flag]) for flag in offer.flags),
        )[one_type:]
        for offer in shown
    ]
    title = f"{instances[0].name} ({instances[0].provider})" if one_type else None
    out.print(render.table(columns, rows, title=title))
    if len(shown) < len(offers):
        out.print(f"The cheapest place of each type; {len(offers)} prices in all (--instance shows every place).")
    for flag, number in notes.items():
        render.paragraph(out, f"{number}: {FLAGS[flag]}", indent=2)
    unpriced = [row.name for row in instances if not catalogue.offers(row.name, row.provider)]
    if unpriced:
        render.paragraph(out, f"No price is known of {', '.join(unpriced)}.")
    if histories:
        _show_history(out, histories, start, now)
    if found is None:
        out.print("From the bundled snapshot; --live asks the providers.")
    else:
        _show_live(out, found)
    if plot is not None:
        render.paragraph(out, f"Drawn in {plot}.")


def _has(offers: Sequence[Offer], flag: str) -> bool:
    return any(flag in offer.flags for offer in offers)


def _cheapest_of_each(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """The first offer of each type with a discount, in the order given (cheapest first); else its first."""
    best: dict[tuple[str, str], Offer] = {}
    for offer in offers:
        key = (offer.provider, offer.instance)
        if key not in best or (NO_DISCOUNT in best[key].flags and NO_DISCOUNT not in offer.flags):
            best[key] = offer
    return tuple(best.values())


def _show_history(out: Console, histories: Sequence[ZoneHistory], start: datetime, now: datetime) -> None:
    columns = (
        Column("Type", wrap=True), Column("Zone", wrap=True), Column("Now", right=True), Column("Mean", right=True),
        Column("Lowest", right=True), Column("Highest", right=True), Column("Changes", right=True),
    )  # fmt: skip
    rows = []
    for history in histories:
        low, high = history.lowest_and_highest(start, now) or (None, None)
        prices = (render.usd(history.at(now)), render.usd(history.mean(start, now)), render.usd(low), render.usd(high))
        changes = sum(time > start for time in history.times)
        rows.append((history.instance, history.zone, *prices, str(changes)))
    out.print(render.table(columns, rows, title=f"Spot price since {start:%Y-%m-%d}"))


def _show_live(out: Console, found: LivePrices) -> None:
    if found.scores:
        columns = (Column("Region"), Column("Zone"), Column("Score (1-10)", right=True))
        rows = [(score.region, score.zone_id or "-", str(score.score)) for score in found.scores]
        out.print(render.table(columns, rows, title="AWS placement scores"))
    asked = f"oldest answer {found.oldest_seconds / 60.0:.0f} min old" if found.oldest_seconds else "asked just now"
    if found.prices:
        out.print(f"Live: {len(found.prices)} prices, {asked}.")
    else:
        out.print("No provider answered: all prices are the bundled snapshot's.")
    for gap in grouped(found.missing):
        render.paragraph(out, f"Missing: {gap}", indent=2)
