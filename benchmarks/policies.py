"""Deadline policies on recorded spot markets, zone by zone: `python -m benchmarks policies --shared DIR`.

Each zone's trace is cut into windows that do not overlap; every policy runs every job in every window.  Costs are in
percent of what the job costs on demand.  A difference is paired (same window, same job); its standard error is over
windows, with the jobs of a window (and, in the last row, the zones at one time) averaged first, because those are not
independent.  The adaptive policy's constants come from the group "tuned on" alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.known_future import known_future_cost_usd
from simulator.replay import Job, Market, replay

POLICIES = ("uniform-progress", "greedy", "adaptive")
TUNED_ZONES = ("us-east-1a", "us-east-1d", "us-east-2a", "us-west-2a", "us-west-2c")
"""Every second of the nine AWS zones in alphabetical order, first half of the trace: what the constants come from."""

JOBS = {"48 h in 52 h": (48.0, 52.0, 0.2), "48 h in 57 h": (48.0, 57.0, 0.2), "24 h in 30 h": (24.0, 30.0, 0.1)}
"""Work, deadline and restart hours; the three of the reference results."""

OTHER_JOBS = {
    "8 h in 10 h": (8.0, 10.0, 0.1),
    "24 h in 36 h": (24.0, 36.0, 0.05),
    "24 h in 48 h": (24.0, 48.0, 0.2),
    "72 h in 84 h": (72.0, 84.0, 0.5),
    "100 h in 110 h": (100.0, 110.0, 0.2),
}
"""Jobs that nothing was tuned on."""


@dataclass(frozen=True)
class Zone:
    name: str
    market: Market
    on_demand_usd_per_hour: float


@dataclass(frozen=True)
class Costs:
    """Costs of one zone in percent of on-demand, shape (windows, jobs, policies), and the known-future floor."""

    name: str
    percent: NDArray[np.float64]
    floor: NDArray[np.float64]
    missed: NDArray[np.int64]
    """Deadlines missed, per policy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; needs the folder that holds `traces/`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks policies", description=__doc__)
    parser.add_argument("--shared", type=Path, required=True, help="folder that holds traces/")
    options = parser.parse_args(arguments)
    aws, gcp = read_aws(options.shared), read_gcp(options.shared)
    if not aws or not gcp:
        parser.error(f"no traces under {options.shared / 'traces'}")
    started = time.perf_counter()
    halves = {zone.name: split(zone) for zone in aws}
    tuned = [halves[zone.name][0] for zone in aws if zone.name in TUNED_ZONES]
    later = [halves[zone.name][1] for zone in aws if zone.name in TUNED_ZONES]
    others = [zone for zone in aws if zone.name not in TUNED_ZONES]
    groups = {
        "AWS V100 2023, zones and weeks tuned on": tuned,
        "AWS V100 2023, same zones, later weeks (not tuned on)": later,
        "AWS V100 2023, other zones (not tuned on)": others,
        "GCP H100 2025 (not tuned on)": gcp,
        "AWS V100 2023, all zones, whole traces": aws,
    }
    for title, zones in groups.items():
        print_zones(title, [run_zone(zone, JOBS) for zone in zones])
    held_out = [*later, *others]
    print_jobs("Other jobs, AWS, not tuned on", lambda job: [run_zone(zone, job) for zone in held_out])
    print_jobs("Other jobs, GCP", lambda job: [run_zone(zone, job) for zone in gcp])
    print(f"\n{time.perf_counter() - started:.0f} s, compilation included")
    return 0


def read_aws(shared: Path) -> list[Zone]:
    """The nine zones with one V100 (p3.2xlarge at 3.06 USD/h on demand)."""
    zones = []
    for path in sorted((shared / "traces" / "aws_v100_1node_2023-02-15").glob("*_v100_1.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        available = np.array(document["data"]) == 1
        prices = np.empty(available.size)
        with path.with_suffix("").with_suffix(".price_changes.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                prices[int(row["tick"]) :] = float(row["usd_per_h"])
        market = Market(available, prices, float(document["metadata"]["gap_seconds"]))
        zones.append(Zone(path.name.removesuffix("_v100_1.json"), market, 3.06))
    return zones


def read_gcp(shared: Path) -> list[Zone]:
    """Thirteen zones with H100s; in these files 1 means unavailable."""
    zones = []
    for path in sorted((shared / "traces" / "gcp_h100_16_simready_2025-10").glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        metadata = document["metadata"]
        available = np.array(document["data"]) == 0
        market = Market(available, np.array(document["prices"], dtype=float), float(metadata["gap_seconds"]))
        zones.append(Zone(metadata["zone"], market, float(metadata["price_info"]["on_demand_price"])))
    return zones


def split(zone: Zone) -> tuple[Zone, Zone]:
    """The first and the second half of a zone's trace."""
    middle = zone.market.ticks // 2
    return tuple(  # type: ignore[return-value]
        Zone(zone.name, part(zone.market, start, end), zone.on_demand_usd_per_hour)
        for start, end in ((0, middle), (middle, zone.market.ticks))
    )


def part(market: Market, start: int, end: int) -> Market:
    return Market(market.available[start:end], market.spot_usd_per_hour[start:end], market.tick_seconds)


def run_zone(zone: Zone, jobs: dict[str, tuple[float, float, float]]) -> Costs:
    """Every policy and job in every window of a zone; windows as long as the longest deadline."""
    longest = max(deadline for _, deadline, _ in jobs.values())
    ticks = int(np.ceil(longest * 3600.0 / zone.market.tick_seconds))
    starts = range(0, zone.market.ticks - ticks + 1, ticks)
    percent = np.empty((len(starts), len(jobs), len(POLICIES)))
    floor = np.empty((len(starts), len(jobs)))
    missed = np.zeros(len(POLICIES), dtype=np.int64)
    for number, hours in enumerate(jobs.values()):
        job = Job.from_hours(*hours, zone.on_demand_usd_per_hour)
        (base,) = replay(zone.market, job, "on-demand")
        for which, policy in enumerate(POLICIES):
            results = replay(zone.market, job, policy, starts=starts, window_ticks=ticks)
            percent[:, number, which] = [100.0 * result.cost_usd / base.cost_usd for result in results]
            missed[which] += sum(not result.met_deadline for result in results)
        for index, start in enumerate(starts):
            best = known_future_cost_usd(part(zone.market, start, start + ticks), job)
            floor[index, number] = 100.0 * best / base.cost_usd
    return Costs(zone.name, percent, floor, missed)


def together(zones: Iterable[Costs]) -> Costs:
    """All zones as one, their windows side by side as further jobs: what happens at one time is averaged first."""
    listed = list(zones)
    return Costs(
        "all",
        np.concatenate([costs.percent for costs in listed], axis=1),
        np.concatenate([costs.floor for costs in listed], axis=1),
        np.sum([costs.missed for costs in listed], axis=0),
    )


def print_zones(title: str, zones: list[Costs]) -> None:
    windows = zones[0].percent.shape[0]
    print(f"\n{title}: {windows} windows x {len(JOBS)} jobs per zone, percent of the on-demand cost")
    print_header("zone")
    for costs in [*zones, together(zones)]:
        print_row(costs)


def print_jobs(title: str, run: Callable[[dict[str, tuple[float, float, float]]], list[Costs]]) -> None:
    print(f"\n{title}")
    print_header("job")
    for name, hours in OTHER_JOBS.items():
        zones = run({name: hours})
        fewest = min(costs.percent.shape[0] for costs in zones)
        cut = [Costs(c.name, c.percent[:fewest], c.floor[:fewest], c.missed) for c in zones]
        costs = together(cut)
        print_row(Costs(name, costs.percent, costs.floor, costs.missed))


def print_header(first: str) -> None:
    print(
        f"{first:<18} {'uniform':>8} {'greedy':>7} {'adaptive':>8} {'floor':>6}"
        f" {'vs uniform':>15} {'dearer':>7} {'vs greedy':>15} {'dearer':>7}  missed"
    )


def print_row(costs: Costs) -> None:
    uniform, greedy, adaptive = (costs.percent[:, :, which] for which in range(3))
    cells = []
    for other in (uniform, greedy):
        difference = adaptive - other
        by_window = difference.mean(axis=1)
        error = by_window.std(ddof=1) / np.sqrt(by_window.size) if by_window.size > 1 else np.nan
        cells.append(f"{difference.mean():+7.2f} +- {error:4.2f} {np.mean(difference > 1e-9):7.0%}")
    print(
        f"{costs.name:<18} {uniform.mean():8.2f} {greedy.mean():7.2f} {adaptive.mean():8.2f} {costs.floor.mean():6.2f}"
        f" {cells[0]} {cells[1]}  {'/'.join(map(str, costs.missed))}"
    )
