"""The market's part of a scenario: which place and price, how often nodes are lost, how long one waits for them."""

from __future__ import annotations

from harness.errors import InvalidInputError, did_you_mean
from planner.catalogue import FAR_BELOW_SIBLINGS, NO_DISCOUNT, Catalogue, Instance, Offer
from planner.completed import Value, from_table, offer_prices
from planner.distributions import lifetime_of, provision_of
from planner.draft import Draft
from planner.hazards import HazardSource, choose_hazard
from planner.layers import Layered
from planner.provision_waits import ASSUMED, CONVERTED
from simulator.lifetimes import Exponential, Lifetime
from simulator.provision import ConstantProvision, Provision

UNKNOWN_RATE = "--rate-per-hour"
"""The field of the error where no source knows the type, or no type is named."""
UNKNOWN_SOURCE = "--hazard"
"""The field of the error where the wanted source does not know the type."""


def fill_prices(draft: Draft) -> None:
    market = draft.layered.scenario.market
    wanted_region, wanted_zone = draft.given("fleet.region"), draft.given("fleet.zone")
    needed = market.spot_usd_per_hour is None or market.on_demand_usd_per_hour is None
    if draft.offer is None and draft.instance is not None and needed:
        draft.offer = _choose_offer(draft, draft.instance, wanted_region, wanted_zone)
    offer = draft.offer
    for path, found in (("fleet.region", offer and offer.region), ("fleet.zone", offer and offer.zone)):
        if not draft.take(path):
            draft.values[path] = Value(path, found, "data: where the price is from" if found else "default")
    if market.spot_usd_per_hour is None and (offer is None or offer.spot_usd_per_hour is None):
        raise InvalidInputError(
            "--spot-usd-per-hour", "nothing", "the spot price of one node", "or an --instance with a known price"
        )
    for path, price, source, as_of in offer_prices(offer):
        if not draft.take(path):
            draft.values[path] = from_table(path, price, source, as_of)
    provider = draft.values["fleet.provider"].value
    if provider is None:
        draft.default("market.first_hour_refund", False)
    else:
        draft.assume("market.first_hour_refund", f"first_hour_refund_{provider}", convert=bool)


def _choose_offer(draft: Draft, instance: Instance, region: str | None, zone: str | None) -> Offer | None:
    """The cheapest offer that is not suspicious in the wanted place; None when no price is known there."""
    offers = draft.knowledge.catalogue.offers(instance.name, instance.provider)
    check_place(draft.layered, instance, offers, region, zone)
    here = [o for o in offers if region in (None, o.region) and zone in (None, o.zone)]
    priced = [o for o in here if o.spot_usd_per_hour is not None]
    sound = [o for o in priced if FAR_BELOW_SIBLINGS not in o.flags and NO_DISCOUNT not in o.flags]
    choice = min(sound or priced, key=lambda o: o.spot_usd_per_hour or 0.0, default=None)
    return choice or (here[0] if here else None)


def fill_lifetime(draft: Draft) -> tuple[Lifetime, HazardSource | None]:
    given = draft.layered.scenario.market.lifetime
    if given is not None:
        lifetime = lifetime_of(
            given, draft.layered.name_of("market", "lifetime", "file"), nodes=draft.values["fleet.nodes"].value
        )
        rate = 0.0 if lifetime.mean_hours == float("inf") else 1.0 / lifetime.mean_hours
        if isinstance(lifetime, Exponential):
            rate = lifetime.rate_per_hour
        origins = {o for path, o in draft.layered.origins.items() if path[:2] == ("market", "lifetime")}
        draft.values["market.lifetime"] = Value("market.lifetime", given.distribution, ", ".join(sorted(origins)))
        draft.values["market.rate_per_hour"] = Value("market.rate_per_hour", rate, "from the lifetime given")
        return lifetime, None
    if draft.instance is None:
        raise InvalidInputError(
            UNKNOWN_RATE, "nothing", "how often a node is interrupted", "or market.lifetime, or --instance"
        )
    region = draft.values["fleet.region"].value
    sources = draft.knowledge.hazard_sources(draft.instance, region)
    try:
        source = choose_hazard(sources, draft.knowledge.hazard, draft.instance)
    except InvalidInputError as error:
        if draft.knowledge.hazard is None:
            expected = f"how often a node is interrupted: no source knows it of {draft.instance.name}"
            raise InvalidInputError(UNKNOWN_RATE, "nothing", expected, error.hint) from None
        raise InvalidInputError(UNKNOWN_SOURCE, error.value, error.expected, error.hint) from None
    kind = type(source.lifetime).__name__.lower()
    draft.values["market.lifetime"] = Value("market.lifetime", kind, f"data: {source.name}")
    shown = f"{source.name}: {source.source}"
    draft.put("market.rate_per_hour", source.rate_per_hour, "data", shown, source.as_of, "1/h")
    return source.lifetime, source


def fill_provision(draft: Draft) -> Provision:
    given = draft.layered.scenario.market.provision
    if given is not None:
        provision = provision_of(
            given, draft.layered.name_of("market", "provision", "file"), nodes=draft.values["fleet.nodes"].value
        )
        origins = {o for path, o in draft.layered.origins.items() if path[:2] == ("market", "provision")}
        path = "market.provision_hours"
        draft.values[path] = Value(path, provision.expected_hours, ", ".join(sorted(origins)))
        return provision
    if draft.instance is None:
        row = draft.knowledge.assumptions.row("provision_hours")
        draft.put("market.provision_hours", row.value, "assumption", row.source, row.as_of)
        return ConstantProvision(row.value)
    region, zone = (draft.values[f"fleet.{name}"].value for name in ("region", "zone"))
    source = draft.knowledge.provision_sources(draft.instance, region, zone)[0]
    origin = "assumption" if ASSUMED in source.flags or CONVERTED in source.flags else "data"
    shown = source.source if ASSUMED in source.flags else f"{source.name}: {source.source}"
    draft.put("market.provision_hours", source.mean_hours, origin, shown, source.as_of)
    return source.provision


def find_instance(layered: Layered, catalogue: Catalogue, name: str, provider: str | None = None) -> Instance:
    """The instance type called `name`; InvalidInputError in the user's words, with the nearest name."""
    try:
        return catalogue.instance(name, provider)
    except InvalidInputError as error:
        path = ("fleet", "provider") if error.field == "provider" else ("fleet", "instance")
        raise InvalidInputError(layered.name_of(*path), error.value, error.expected, error.hint) from None


def check_place(
    layered: Layered, instance: Instance, offers: tuple[Offer, ...], region: str | None, zone: str | None
) -> None:
    """InvalidInputError, with the nearest name, for a region or zone without a known price of `instance`."""
    regions = sorted({offer.region for offer in offers})
    if region is not None and region not in regions:
        expected = f"a region with a known price of {instance.name}: {', '.join(regions) or 'there is none'}"
        raise InvalidInputError(layered.name_of("fleet", "region"), region, expected, did_you_mean(region, regions))
    zones = sorted({o.zone for o in offers if o.zone is not None and region in (None, o.region)})
    if zone is not None and zone not in zones:
        expected = f"a zone with a known price of {instance.name}: {', '.join(zones) or 'there is none'}"
        raise InvalidInputError(layered.name_of("fleet", "zone"), zone, expected, did_you_mean(zone, zones))
