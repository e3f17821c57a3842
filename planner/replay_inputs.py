"""From files to a market that can be replayed: availability and spot price per tick, and what the file says of itself.

Series of availability are read by `planner.traces`; here they are laid beside prices, tick by tick.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import InvalidInputError
from planner.traces.files import load_trace
from simulator.replay import Market

PRICE_COLUMNS = ("usd_per_hour", "usd_per_h")


@dataclass(frozen=True, slots=True)
class TraceMarket:
    """A market, where its prices come from, and the on-demand price that the trace states (None: it states none)."""

    market: Market
    price_source: str
    on_demand_usd_per_hour: float | None


def load_market(
    trace: Path,
    *,
    prices: Path | None = None,
    spot_usd_per_hour: float | None = None,
    nodes: int = 1,
    inverted: bool = False,
    needs_price: bool = True,
) -> TraceMarket:
    """The market in a trace file (JSON with metadata.gap_seconds and data) with the spot prices that belong to it.

    Prices come from `prices` (CSV of change points: tick, usd_per_hour), else from `spot_usd_per_hour`, else from the
    trace's own list.  With none of them InvalidInputError is raised when `needs_price`, else spot is free.

    nodes:    spot is there when at least this many nodes are; the market's price is that of all of them.
    inverted: 1 means that there is no capacity.
    """
    if prices is not None and spot_usd_per_hour is not None:
        raise InvalidInputError("--spot-usd-per-hour", spot_usd_per_hour, "nothing beside --prices", "leave one out")
    loaded = load_trace(trace, nodes=nodes, inverted=inverted)
    series = loaded.capacity
    document = _document(trace) if series is not None and series.resolution_hours is not None else None
    if series is None or series.resolution_hours is None or document is None:
        raise InvalidInputError(
            str(trace), f"a file of {loaded.format}", "JSON with metadata.gap_seconds and data, one sample per tick"
        )
    available = np.asarray(series.counts >= nodes)
    tick_seconds = float(document["metadata"]["gap_seconds"])
    if prices is not None:
        per_node, source = read_price_changes(prices, available.size), str(prices)
    elif spot_usd_per_hour is not None:
        per_node, source = np.full(available.size, spot_usd_per_hour), "--spot-usd-per-hour"
    elif "prices" in document:
        per_node, source = _own_prices(trace, document["prices"], available.size), f"{trace}: prices"
    elif needs_price:
        raise InvalidInputError("--prices", "nothing", "a file of price changes, or --spot-usd-per-hour")
    else:
        per_node, source = np.zeros(available.size), "none"
    return TraceMarket(Market(available, per_node * nodes, tick_seconds), source, _on_demand(document["metadata"]))


def read_price_changes(path: Path, ticks: int) -> NDArray[np.float64]:
    """Price in force in each of `ticks` ticks, from a CSV of change points (columns tick and usd_per_hour).

    A row holds until the next one, the last one to the end; the first row must be that of tick 0.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InvalidInputError("--prices", path, "an existing file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError("--prices", path, "a readable UTF-8 text file", str(error)) from None
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    columns = rows.fieldnames or ()
    price_column = next((name for name in PRICE_COLUMNS if name in columns), None)
    if "tick" not in columns or price_column is None:
        raise InvalidInputError(f"{path} line 1", ",".join(columns) or "an empty file", "the columns tick,usd_per_hour")
    result = np.empty(ticks)
    before = -1
    for row in rows:
        where = f"{path} line {rows.line_num}"
        tick, price = _whole(f"{where}, tick", row["tick"]), _price(f"{where}, {price_column}", row[price_column])
        if before < 0 and tick != 0:
            raise InvalidInputError(f"{where}, tick", tick, "0: the price in force when the trace begins")
        if tick <= before:
            raise InvalidInputError(f"{where}, tick", tick, f"a tick after the previous row's, {before}")
        before = tick
        result[tick:] = price
    if before < 0:
        raise InvalidInputError(str(path), "a header without rows", "at least the price at tick 0")
    return result


def _document(path: Path) -> dict[str, Any] | None:
    """The JSON of a trace that `load_trace` has already checked; None for a text of another kind."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    if not text.lstrip().startswith("{"):
        return None
    document = json.loads(text)
    assert isinstance(document, dict)
    return document


def _own_prices(path: Path, values: object, ticks: int) -> NDArray[np.float64]:
    if not isinstance(values, list) or len(values) != ticks:
        got = len(values) if isinstance(values, list) else values
        raise InvalidInputError(f"{path}: prices", got, f"one price per sample, {ticks}")
    return np.array([_price(f"{path}: prices[{index}]", value) for index, value in enumerate(values)])


def _on_demand(metadata: dict[str, Any]) -> float | None:
    info = metadata.get("price_info")
    value = info.get("on_demand_price") if isinstance(info, dict) else None
    is_price = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0.0
    return float(value) if is_price and value is not None else None


def _price(where: str, value: object) -> float:
    try:
        price = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        price = math.nan
    if isinstance(value, bool) or not (math.isfinite(price) and price >= 0.0):
        raise InvalidInputError(where, "nothing" if value is None or value == "" else value, "a finite price >= 0")
    return price


def _whole(where: str, value: str | None) -> int:
    if value is None or not value.strip().isdigit():
        raise InvalidInputError(where, value or "nothing", "a whole number >= 0")
    return int(value)
