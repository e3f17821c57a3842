"""A run told as a timeline: the same run, nothing left out."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.reference import simulate_run, simulate_timeline
from simulator.spec import Spec
from tests.simulator.random_specs import specs

PART_OF = {
    "waiting": "waiting_hours",
    "startup": "startup_hours",
    "stall": "checkpoint_hours",
    "finishing": "checkpoint_hours",
    "ending": "checkpoint_hours",
    "idle_notice": "notice_idle_hours",
    "detect": "outage_hours",
    "rendezvous": "outage_hours",
}


@settings(max_examples=80, deadline=None)
@given(
    spec=st.sampled_from(["one", "rigid", "elastic"]).flatmap(specs),
    policy=st.sampled_from(["spot-only", "spot-only", "on-demand", "greedy"]),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_timeline_tells_the_whole_run(spec: Spec, policy: str, seed: int) -> None:
    """Writing it changes nothing; spans follow without gaps and sum to the parts; every event has its mark."""
    if policy != "greedy" or spec.nodes == 1:
        spec = dataclasses.replace(spec, policy=policy, deadline_hours=2.0 * spec.work_hours)
    result, timeline = simulate_timeline(spec, seed, 1)
    assert result == simulate_run(spec, seed, 1)
    at = 0.0
    hours = dict.fromkeys([*PART_OF.values(), "training"], 0.0)
    for span in timeline.spans:
        assert span.start_hours == pytest.approx(at, abs=1e-12)
        at = span.end_hours
        hours[PART_OF.get(span.phase, "training")] += span.end_hours - span.start_hours
    assert at == result.makespan_hours
    for part in set(PART_OF.values()):
        assert hours[part] == pytest.approx(getattr(result, part), abs=1e-9), part
    spent = result.slowdown_hours + result.reduced_fleet_hours + result.lost_work_hours
    assert hours["training"] == pytest.approx(spec.work_hours + spent, abs=1e-9)
    reclaims = [mark for mark in timeline.marks if mark.kind == "reclaim"]
    assert sum(len(mark.nodes) for mark in reclaims) == result.reclaimed_nodes
    assert timeline.marks[-1].kind == "finished"
    assert [mark.at_hours for mark in timeline.marks] == sorted(mark.at_hours for mark in timeline.marks)
    assert any(mark.kind == "rolled_back" for mark in timeline.marks) == (result.lost_work_hours > 0.0)
