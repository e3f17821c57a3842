"""What is paid for beside the nodes: checkpoint storage, disks, transfer, the rendezvous host."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from harness.errors import InvalidInputError
from planner import tables
from planner.assumptions import Assumption
from planner.data_files import read_table
from planner.draft import Draft


def fill_storage(draft: Draft) -> None:
    provider = draft.values["fleet.provider"].value
    prices = _storage_prices(provider, draft.knowledge.directory)
    for name, item, to_gib in (
        ("usd_per_gib_month", "storage", 1.073741824),
        ("usd_per_1000_puts", "put", 1.0),
        ("usd_per_1000_gets", "get", 1.0),
    ):
        path = f"storage.{name}"
        if draft.take(path):
            continue
        if item in prices:
            row = prices[item]
            draft.put(path, row.value * to_gib, "data", row.source, row.as_of)
        else:
            draft.put(path, 0.0, "assumption", "no storage price is known here: left out of the cost")
    nodes = draft.values["fleet.nodes"].value
    accelerators = draft.instance.accelerator_count if draft.instance else 1
    if not draft.take("storage.shards"):
        draft.put("storage.shards", nodes * accelerators, "assumption", "one object per accelerator")


def fill_bill(draft: Draft) -> None:
    path = "bill.rendezvous_usd_per_hour"
    if draft.whole_bill and draft.values["fleet.nodes"].value > 1:
        draft.assume(path, "rendezvous_usd_per_hour")
    else:
        draft.default(path, 0.0)
    for name in (
        "on_demand_discount",
        "disk_gib",
        "disk_usd_per_gib_month",
        "transfer_gib",
        "transfer_usd_per_gib",
    ):
        draft.default(f"bill.{name}", 0.0)
    draft.default("bill.budget_usd", None)
    for size, price in (("disk_gib", "disk_usd_per_gib_month"), ("transfer_gib", "transfer_usd_per_gib")):
        if draft.given(f"bill.{size}") and draft.given(f"bill.{price}") is None:
            flag = f"--{price.replace('_', '-')}"
            raise InvalidInputError(flag, "nothing", f"a price, since --{size.replace('_', '-')} is given")


@cache
def _storage_prices(provider: str | None, directory: Path | None) -> dict[str, Assumption]:
    """The standard object store's prices of a provider by item; empty when the tables have none."""
    found: dict[str, Assumption] = {}
    for row in read_table(tables.STORAGE_PRICES, directory):
        if row.text("provider") == provider and row.text("service") in _STANDARD_STORES:
            name = row.text("item")
            found[name] = Assumption(name, row.number("value"), row.text("unit"), row.text("source"), row.text("as_of"))
    return found


_STANDARD_STORES = {"s3-standard", "gcs-standard", "blob-hot"}
