"""Agreement with SkyNomad's simulator, and the margins of the adaptive policy (on files beside the checkout)."""

from __future__ import annotations

import csv
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.policies import JOBS, TUNED_ZONES, Zone, read_aws, read_gcp
from simulator.replay import Job, Market, WindowResult, replay

SHARED = Path(__file__).resolve().parents[3] / "shared"
ANCHORS = SHARED / "anchors" / "replay.json"
TRACES = SHARED / "traces" / "aws_v100_1node_2023-02-15"

pytestmark = pytest.mark.skipif(
    not (ANCHORS.exists() and TRACES.exists()), reason=f"no reference results and traces beside the checkout: {ANCHORS}"
)


def read_market(zone: str) -> Market:
    data = json.loads((TRACES / f"{zone}_v100_1.json").read_text(encoding="utf-8"))
    available = np.array(data["data"]) == 1
    prices = np.zeros(available.size)
    with (TRACES / f"{zone}_v100_1.price_changes.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            prices[int(row["tick"]) :] = float(row["usd_per_h"])
    return Market(available, prices, float(data["metadata"]["gap_seconds"]))


def run_length_plan(result: WindowResult) -> str:
    return " ".join(f"{'NSO'[choice]}{len(list(run))}" for choice, run in groupby(result.plan.tolist()))


def test_all_540_runs_agree_to_the_cent_tick_by_tick() -> None:
    """Cost to the cent, finish to the second, ticks per type, launches and the whole plan, in every window."""
    anchors: dict[str, Any] = json.loads(ANCHORS.read_text(encoding="utf-8"))
    compared = 0
    for zone, windows in anchors["zones"].items():
        market = read_market(zone)
        for name, parameters in anchors["parameter_sets"].items():
            job = Job.from_hours(
                parameters["work_hours"],
                parameters["deadline_hours"],
                parameters["restart_hours"],
                anchors["on_demand_usd_per_hour"],
            )
            for policy in ("uniform_progress", "greedy", "on_demand"):
                results = replay(
                    market,
                    job,
                    policy.replace("_", "-"),
                    starts=[window["start_tick"] for window in windows],
                    window_ticks=anchors["window_ticks"],
                    spot_price_tick="next",
                )
                for window, result in zip(windows, results, strict=True):
                    expected = window["runs"][name][policy]
                    where = (zone, window["start_tick"], name, policy)
                    assert result.cost_usd == pytest.approx(expected["cost_usd"], abs=0.005), where
                    assert result.finish_seconds == pytest.approx(expected["finish_s"], abs=1e-3), where
                    assert result.plan.size * 195 == expected["finish_boundary_s"], where
                    ticks = dict(
                        zip(("none", "spot", "on_demand"), (result.ticks_of(kind) for kind in range(3)), strict=True)
                    )
                    assert ticks == expected["ticks"], where
                    assert result.launches == expected["launches"], where
                    assert run_length_plan(result) == expected["plan"], where
                    assert result.met_deadline is expected["deadline_met"], where
                    compared += 1
    assert compared == 540


def mean_costs(zone: Zone, policy: str) -> float:
    """Mean cost over all windows that do not overlap and the three jobs, in percent of on-demand; none is late."""
    ticks = int(np.ceil(57 * 3600 / zone.market.tick_seconds))
    starts = range(0, zone.market.ticks - ticks + 1, ticks)
    percent = []
    for hours in JOBS.values():
        job = Job.from_hours(*hours, zone.on_demand_usd_per_hour)
        (base,) = replay(zone.market, job, "on-demand")
        results = replay(zone.market, job, policy, starts=starts, window_ticks=ticks)
        assert all(result.met_deadline for result in results)
        percent += [100.0 * result.cost_usd / base.cost_usd for result in results]
    return float(np.mean(percent))


@pytest.mark.parametrize(("cloud", "over_uniform", "over_greedy"), [("aws", -3.08, -3.44), ("gcp", -2.43, -3.05)])
def test_adaptive_is_cheaper_on_zones_it_was_not_tuned_on(cloud: str, over_uniform: float, over_greedy: float) -> None:
    """The margins of docs/deadline-policy.md: on average, and in none of these zones dearer than either."""
    zones = read_gcp(SHARED) if cloud == "gcp" else [z for z in read_aws(SHARED) if z.name not in TUNED_ZONES]
    assert len(zones) == (13 if cloud == "gcp" else 4)
    costs = {
        policy: np.array([mean_costs(zone, policy) for zone in zones])
        for policy in ("uniform-progress", "greedy", "adaptive")
    }
    for other, margin in (("uniform-progress", over_uniform), ("greedy", over_greedy)):
        difference = costs["adaptive"] - costs[other]
        assert difference.mean() == pytest.approx(margin, abs=0.1)
        assert np.all(difference <= 1e-9), dict(zip((zone.name for zone in zones), difference, strict=True))
