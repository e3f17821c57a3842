"""Agreement with SkyNomad's public simulator, window by window (needs the reference results beside the checkout)."""

from __future__ import annotations

import csv
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
