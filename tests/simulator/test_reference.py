"""The oracle against arithmetic, closed forms and its own accounts.

Monte Carlo comparisons use a threshold of 4.5 standard errors (false-failure rate 7·10⁻⁶ each) on fixed seeds, and
assert first that 4.5 standard errors are smaller than the gap that they claim to see.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.exact import expected_totals, expected_totals_without_rollback
from simulator.exact.fleet_chain import solve_fleet
from simulator.exact.renewal import solve_renewal
from simulator.lifetimes import Exponential, Lifetime, Weibull
from simulator.provision import ConstantProvision, ExponentialProvision
from simulator.reference import simulate_run
from simulator.runs import PARTS, QUANTITIES, RunResult
from simulator.simulate import simulate
from simulator.spec import PriceSeries, Spec
from simulator.statistics import summarize
from tests.simulator.random_specs import specs

SIGMAS = 4.5


def assert_mean(values: Any, exact: float, gap: float) -> None:
    """The sample mean equals `exact` within the error, and the error can see a relative gap of `gap`."""
    summary = summarize(values)
    assert SIGMAS * summary.standard_error <= gap * abs(exact), "the sample is too small to see the gap"
    assert abs(summary.mean - exact) <= SIGMAS * summary.standard_error


def parts_of(result: RunResult, work_hours: float) -> float:
    return work_hours + sum(getattr(result, name) for name in PARTS)


# Zero hazard: arithmetic.


def test_zero_hazard_synchronous() -> None:
    """Wait + startup + work + a stall per checkpoint, the final one included; price and storage by hand."""
    spec = Spec(
        work_hours=10.0,
        interval_hours=1.0,  # divides the work: 9 periodic checkpoints, the tenth is the final one
        stall_hours=0.1,
        startup_hours=0.25,
        provision=ConstantProvision(0.5),
        price=PriceSeries.constant(8.0),
        checkpoint_gib=73.0,
        storage_usd_per_gib_month=2.0,
        usd_per_1000_puts=10.0,
        usd_per_1000_gets=10.0,
        shards=4,
        keep_last=2,
    )
    result = simulate_run(spec, seed=1, run=0)
    assert result.makespan_hours == pytest.approx(0.5 + 0.25 + 10.0 + 10 * 0.1, rel=1e-12)
    assert result.checkpoint_hours == pytest.approx(1.0)
    assert (result.startup_hours, result.waiting_hours) == (0.25, 0.5)
    # Copies become durable every 1.1 h; each of the first seven lives two periods, the eighth until the ninth's
    # successor would have been: 7 · 2.2 h, then 2.2 h and 1.1 h until the end.
    copy_hours = 7 * 2.2 + 2.2 + 1.1
    storage = 73.0 * copy_hours / 730.0 * 2.0 + 10 * 4 / 1000 * 10.0
    assert result.storage_usd == pytest.approx(storage, rel=1e-12)
    assert result.cost_usd == pytest.approx(storage + 8.0 * 11.25, rel=1e-12)
    assert result.billed_hours == pytest.approx(11.25)
    assert result.interruptions == result.lost_work_hours == result.slowdown_hours == 0.0


def test_zero_hazard_asynchronous_with_slowdown() -> None:
    """One upload at a time: on time where it fits the interval, back to back where it does not (rule 3)."""
    base = {"work_hours": 10.0, "stall_hours": 0.1, "persist_slowdown": 0.25}
    # Fits: 4 periodic checkpoints at 2, 4, 6, 8; each upload of 0.4 h slows by 0.1 h; final stall + persist 0.5 h.
    fits = simulate_run(Spec(**base, interval_hours=2.0, persist_hours=0.4), 1, 0)
    assert fits.makespan_hours == pytest.approx(10.0 + 4 * 0.1 + 4 * 0.1 + 0.5, rel=1e-12)
    assert fits.slowdown_hours == pytest.approx(0.4)
    # Does not fit: uploads of 4 h at rate 0.75 are 3 h of progress.  Starts at 2, then as soon as the one in flight
    # is durable: 5 and 8; the last upload sees 2 h of progress (2.667 h), then the final one waits 1.333 h for it.
    late = simulate_run(Spec(**base, interval_hours=2.0, persist_hours=4.0), 1, 0)
    assert late.slowdown_hours == pytest.approx(1.0 + 1.0 + 2.0 / 0.75 - 2.0)
    assert late.checkpoint_hours == pytest.approx(3 * 0.1 + (4.0 - 2.0 / 0.75) + 0.1 + 4.0)
    assert late.makespan_hours == pytest.approx(parts_of(late, 10.0), rel=1e-12)


def test_no_periodic_checkpoint_at_the_end() -> None:
    """An interval that meets the work within the tolerance of 1 µs gives the final checkpoint only (rule 3)."""
    for interval in (5.0, 5.0 - 1e-11, 5.0 + 1e-11, math.inf):
        result = simulate_run(Spec(work_hours=5.0, interval_hours=interval, stall_hours=0.5), 1, 0)
        assert result.makespan_hours == pytest.approx(5.5, rel=1e-12)
    two = simulate_run(Spec(work_hours=5.0, interval_hours=5.0 - 1e-8, stall_hours=0.5), 1, 0)
    assert two.makespan_hours == pytest.approx(6.0, rel=1e-12)


def test_an_upload_that_becomes_durable_as_the_work_ends() -> None:
    """Starts at 0.25 and 0.625 (late), durable at 1.0 = work: the checkpoint that was due at 0.875 starts no more."""
    result = simulate_run(Spec(work_hours=1.0, interval_hours=0.25, persist_hours=0.375), 1, 0)
    assert result.makespan_hours == pytest.approx(1.0 + 0.375, rel=1e-12)


def test_price_changes_are_integrated() -> None:
    """A node that is up from 0.5 h to 11.5 h pays each price for its part of that time (rule 7)."""
    price = PriceSeries((0.0, 1.0, 4.0, 20.0), (1.0, 2.0, 10.0, 99.0))
    spec = Spec(work_hours=11.0, provision=ConstantProvision(0.5), price=price)
    assert simulate_run(spec, 1, 0).cost_usd == pytest.approx(0.5 * 1.0 + 3.0 * 2.0 + 7.5 * 10.0)


def test_rigid_fleet_without_hazard_waits_for_the_slowest() -> None:
    """All nodes are billed from their own arrival; the run starts when the last one is up (rule 8)."""
    spec = Spec(work_hours=4.0, nodes=3, provision=ExponentialProvision(0.5), price=PriceSeries.constant(1.0))
    waits = [spec.provision.wait_hours(u) for u in _wait_uniforms(spec, seed=3, run=2)]
    result = simulate_run(spec, 3, 2)
    assert result.waiting_hours == pytest.approx(max(waits), rel=1e-12)
    assert result.billed_hours == pytest.approx(sum(max(waits) + 4.0 - wait for wait in waits), rel=1e-12)


def _wait_uniforms(spec: Spec, seed: int, run: int) -> list[float]:
    from simulator import draws

    return [draws.uniforms(seed, run, node, 0, draws.STREAM_PROVISION)[0] for node in range(spec.nodes)]


# Lives by hand: what happens is written down, so that each rule can be read off.


class Scripted(Lifetime):
    """Lifetimes in the order in which nodes arrive; when they are used up, nodes live for ever."""

    def __init__(self, *hours: float) -> None:
        self._hours = iter(hours)

    def inverse_cumulative_hazard(self, h: float) -> float:
        return next(self._hours, math.inf)

    def cumulative_hazard(self, age_hours: float) -> float:
        raise NotImplementedError

    def hazard(self, age_hours: float) -> float:
        raise NotImplementedError

    def mean_remaining_hours(self, age_hours: float) -> float:
        raise NotImplementedError

    def packed(self) -> tuple[int, Any]:
        raise NotImplementedError


def scripted(*lifetimes: float, **values: Any) -> RunResult:
    """One run with these lifetimes; 10 h of work, 0.5 h wait, 0.25 h startup, 1 $/h unless said otherwise."""
    defaults: dict[str, Any] = {
        "work_hours": 10.0,
        "provision": ConstantProvision(0.5),
        "startup_hours": 0.25,
        "price": PriceSeries.constant(1.0),
    }
    spec = Spec(**(defaults | values), lifetime=Scripted(*lifetimes))
    result = simulate_run(spec, 0, 0)
    assert result.makespan_hours == pytest.approx(parts_of(result, spec.work_hours), rel=1e-12)
    return result


def hours_of(result: RunResult) -> dict[str, float]:
    """The parts that are not zero, rounded for comparison by eye."""
    return {name: round(value, 9) for name in PARTS if (value := getattr(result, name))}


def test_reclaim_without_notice_rolls_back_to_the_newest_durable() -> None:
    """Rules 1, 3, 4: interval 1 h, stall 0.1 h, persist 0.2 h; a life of 3.5 h ends 0.1 h before durability."""
    # age 0.25 + 1 + 0.1 + 1 + 0.1 + 1 = 3.45: third checkpoint starts; the second was durable at 2.55.
    result = scripted(3.5, interval_hours=1.0, stall_hours=0.1, persist_hours=0.2)
    assert hours_of(result) == {
        "lost_work_hours": 1.0,
        "checkpoint_hours": 0.25 + 7 * 0.1 + 0.3,
        "startup_hours": 0.5,
        "waiting_hours": 1.0,
    }
    assert (result.interruptions, result.reclaimed_nodes) == (1.0, 1.0)
    assert result.billed_hours == pytest.approx(result.makespan_hours - 1.0)


@pytest.mark.parametrize(("life", "lost"), [(1.55, 0.2), (1.5499999, 1.1999999), (1.6, 0.25)])
def test_durable_exactly_at_the_reclaim_is_durable(life: float, lost: float) -> None:
    """Rule 4 and "Ties": captured at progress 1, durable at age 0.25 + 1 + 0.1 + 0.2 = 1.55 (0.2 h of training on)."""
    result = scripted(life, interval_hours=1.0, stall_hours=0.1, persist_hours=0.2)
    assert result.lost_work_hours == pytest.approx(lost, abs=1e-9)


def test_acted_on_notice_saves_the_progress_and_idles() -> None:
    """Rule 4: cut at the notice, nothing lost, idle and billed to the reclaim; the interval starts anew."""
    result = scripted(
        3.05, interval_hours=2.0, stall_hours=0.1, notice_hours=0.2, notice_success=1.0, emergency_hours=0.15
    )
    # notice at age 2.85 = 0.25 + 2 + 0.1 + 0.5: progress 2.5; then checkpoints at 4.5, 6.5, 8.5 and the final one.
    assert hours_of(result) == {
        "checkpoint_hours": 0.1 + 4 * 0.1,
        "startup_hours": 0.5,
        "waiting_hours": 1.0,
        "notice_idle_hours": 0.2,
    }
    assert result.interruptions == 1.0


@pytest.mark.parametrize(("emergency", "lost"), [(0.2, 0.0), (0.2000001, 1.75)])
def test_emergency_exactly_as_long_as_the_notice_fits(emergency: float, lost: float) -> None:
    """Rule 4 and "Ties": else it is as if the notice had never come."""
    result = scripted(2.0, notice_hours=0.2, notice_success=1.0, emergency_hours=emergency)
    assert result.lost_work_hours == pytest.approx(lost)
    assert result.notice_idle_hours == pytest.approx(0.2 if lost == 0.0 else 0.0)


def test_notice_is_no_longer_than_the_life() -> None:
    """Rule 4: min(notice, lifetime); a life shorter than `emergency` cannot be acted on."""
    acted_on = scripted(0.4, notice_hours=1.0, notice_success=1.0, emergency_hours=0.3)
    # noticed at birth: startup goes on to its end at 0.25, then 0.15 h idle (rule 2)
    assert hours_of(acted_on) == {"startup_hours": 0.5, "waiting_hours": 1.0, "notice_idle_hours": 0.15}
    too_short = scripted(0.4, notice_hours=1.0, notice_success=1.0, emergency_hours=0.41)
    assert hours_of(too_short) == {"lost_work_hours": 0.15, "startup_hours": 0.5, "waiting_hours": 1.0}


def test_notice_during_startup() -> None:
    """Rule 2: startup goes on until it ends or the node is reclaimed; nothing is trained."""
    idle = scripted(0.3, notice_hours=0.1, notice_success=1.0)  # notice at 0.2, startup to 0.25
    assert hours_of(idle) == {"startup_hours": 0.5, "waiting_hours": 1.0, "notice_idle_hours": 0.05}
    gone = scripted(0.2, notice_hours=0.1, notice_success=1.0)
    assert hours_of(gone) == {"startup_hours": 0.45, "waiting_hours": 1.0}


def test_notice_cuts_a_stall() -> None:
    """Rule 4: the stall counts as checkpoint time up to the notice; what it was to capture is saved by the notice."""
    result = scripted(1.35, interval_hours=1.0, stall_hours=0.2, notice_hours=0.05, notice_success=1.0)
    # stall from age 1.25, notice at 1.3; then due at progress 2, …, 9 (8 stalls) and the final one.
    assert hours_of(result) == {
        "checkpoint_hours": 0.05 + 9 * 0.2,
        "startup_hours": 0.5,
        "waiting_hours": 1.0,
        "notice_idle_hours": 0.05,
    }


def test_an_upload_in_flight_goes_on_after_a_notice() -> None:
    """Rule 4: it becomes durable if it can before the reclaim; with keep_last 1 the emergency copy is the one kept."""
    values: dict[str, Any] = {
        "interval_hours": 1.0, "persist_hours": 0.3, "notice_hours": 0.4, "notice_success": 1.0,
        "checkpoint_gib": 730.0, "storage_usd_per_gib_month": 1.0, "usd_per_1000_puts": 1000.0, "work_hours": 1.5,
    }  # fmt: skip
    # Captured at age 1.25, notice at 1.45 (progress 1.2), durable at 1.55, reclaim at 1.85.
    result = scripted(1.85, keep_last=2, emergency_hours=0.1, **values)
    assert result.lost_work_hours == 0.0
    end = result.makespan_hours
    # two copies until the end, each from its durability on; puts: periodic, emergency, final
    assert result.storage_usd == pytest.approx((end - (0.5 + 1.55)) + (end - (0.5 + 1.55)) + 3.0)
    one = scripted(1.85, keep_last=1, emergency_hours=0.05, **values)
    assert one.storage_usd == pytest.approx((one.makespan_hours - (0.5 + 1.5)) + 3.0)


def test_finish_waits_for_the_upload_in_flight() -> None:
    """Rule 5: the wait, the stall and the persist are checkpoint time, under the hazard."""
    values = {"work_hours": 1.5, "interval_hours": 1.0, "stall_hours": 0.1, "persist_hours": 0.75}
    quiet = scripted(**values)
    assert quiet.checkpoint_hours == pytest.approx(0.1 + (0.75 - 0.5) + 0.1 + 0.75)
    # A reclaim at age 2.5 (in the final persist): the periodic copy, durable at 2.1, is what is left.
    reclaimed = scripted(2.5, **values)
    assert reclaimed.lost_work_hours == pytest.approx(0.5)
    assert reclaimed.interruptions == 1.0


@pytest.mark.parametrize(
    ("persist", "emergency", "checkpoint"),
    [(1.0, 0.2, 0.1 + 0.3 + 0.2), (1.0, 0.5, 0.1 + 0.3 + 0.5), (0.35, 0.2, 0.1 + 0.35), (0.6, 0.2, 0.1 + 0.3 + 0.2)],
)
def test_notice_while_finishing_ends_the_run(persist: float, emergency: float, checkpoint: float) -> None:
    """Rule 5: the first durable copy counts, the emergency one or the final upload; no interruption, no refund."""
    # final stall from age 0.25 + 0.5 = 0.75, notice at 1.15, reclaim at 1.65: nobody was an hour old at the notice
    result = scripted(
        1.65,
        work_hours=0.5,
        stall_hours=0.1,
        persist_hours=persist,
        notice_hours=0.5,
        notice_success=1.0,
        emergency_hours=emergency,
        first_hour_refund=True,
    )
    assert result.checkpoint_hours == pytest.approx(checkpoint)
    assert result.interruptions == result.notice_idle_hours == 0.0
    assert result.billed_hours == pytest.approx(0.75 + checkpoint)


def test_first_hour_refund() -> None:
    """Rule 7: free below the age of one hour, billed at exactly one; the node on which the run ends is billed."""
    values: dict[str, Any] = {"first_hour_refund": True, "work_hours": 0.2}
    assert scripted(0.3, startup_hours=0.25, **values).billed_hours == pytest.approx(0.45)
    at_one = scripted(1.0, startup_hours=1.25, **values)
    assert at_one.billed_hours == pytest.approx(1.0 + 1.45)
    below = scripted(1.0 - 1e-8, startup_hours=1.25, **values)
    assert below.billed_hours == pytest.approx(1.45)


def test_late_checkpoint_moves_the_next_one() -> None:
    """Rule 3: the interval is measured from the actual start; an emergency save resets it too."""
    # interval 1, persist 1.4 (no slowdown): starts at 1, 2.4 (late), 3.8, … each as soon as the last is durable
    result = scripted(6.0, interval_hours=1.0, persist_hours=1.4)
    # age 6.0 is progress 5.75; started at 1, 2.4, 3.8, 5.2; durable: the one captured at 3.8 (at age 5.45)
    assert result.lost_work_hours == pytest.approx(5.75 - 3.8)


def test_corruption_falls_back_one_copy_at_a_time() -> None:
    """Rule 6: every copy is bad: one more startup each, then the run begins again from 0."""
    result = scripted(3.5, interval_hours=1.0, corruption=1.0, keep_last=2, usd_per_1000_gets=1000.0, work_hours=6.0)
    # durable at progress 1, 2, 3; two are kept; reclaim at progress 3.25
    assert hours_of(result) == {"lost_work_hours": 3.25, "startup_hours": 0.25 + 3 * 0.25, "waiting_hours": 1.0}
    assert result.storage_usd == pytest.approx(2.0)


def test_a_verdict_survives_an_interruption() -> None:
    """Rule 6: the copy that was found bad is not tried again after a reclaim in the extra startup."""
    result = scripted(3.5, 0.3, interval_hours=1.0, corruption=1.0, keep_last=2, work_hours=6.0)
    # second life: 0.25 startup (copy 3 bad), 0.05 of the next; third life: copy 2 bad, then from 0
    assert result.startup_hours == pytest.approx(0.25 + 0.3 + 0.25 + 0.25)
    assert result.lost_work_hours == pytest.approx(3.25)


def test_rigid_fleet_stops_for_a_reclaim_and_starts_together() -> None:
    """Rule 8: the others idle, billed, until the replacement is there; interruptions count events."""
    result = scripted(2.0, math.inf, 2.4, nodes=3, interval_hours=1.0)
    # lives by node: 2.0, forever, 2.4.  Reclaim at 2.5 (progress 1.75); replacement at 3.0; startup cut at 2.9 is
    # none yet: node 2 goes at 2.9 while the fleet waits; its replacement comes at 3.4.
    assert hours_of(result) == {"lost_work_hours": 0.75, "startup_hours": 0.5, "waiting_hours": 0.5 + 0.9}
    assert (result.interruptions, result.reclaimed_nodes) == (2.0, 2.0)
    end = result.makespan_hours
    assert result.billed_hours == pytest.approx(2.0 + 2.4 + (end - 0.5) + (end - 3.0) + (end - 3.4))


def test_bulk_takes_others_along_without_cascades() -> None:
    """Rule 8: with bulk 1 the whole fleet goes in one event, and only once."""
    result = scripted(2.0, 50.0, 60.0, nodes=3, bulk=1.0, first_hour_refund=True)
    assert (result.interruptions, result.reclaimed_nodes) == (1.0, 3.0)
    assert result.lost_work_hours == pytest.approx(1.75)


def test_bulk_shares_one_notice() -> None:
    """Rule 8: the event of an acted-on notice loses nothing, however many nodes it takes."""
    result = scripted(2.0, 50.0, 60.0, nodes=3, bulk=1.0, notice_hours=0.1, notice_success=1.0)
    assert hours_of(result) == {"startup_hours": 0.5, "waiting_hours": 1.0, "notice_idle_hours": 0.1}
    assert result.reclaimed_nodes == 3.0


# Elastic fleets by hand: `nodes` arrive together at 0.5 h and start to 0.75 h; a replacement takes 0.5 + 0.25 h.

ELASTIC: dict[str, Any] = {"nodes": 2, "min_nodes": 1}
ACTED_ON: dict[str, Any] = {"notice_success": 1.0}


def test_elastic_loss_that_was_acted_on() -> None:
    """Rule 8: `emergency` (idle), `rendezvous` (outage), on at half speed; the newcomer costs a stall and one more."""
    result = scripted(
        2.0, notice_hours=0.1, emergency_hours=0.05, rendezvous_hours=0.1, detect_hours=7.0, stall_hours=0.02,
        **ELASTIC, **ACTED_ON,
    )  # fmt: skip
    # Notice at 2.4; half speed from 2.55 until the replacement is ready at 2.5 + 0.75: 0.7 h.
    assert hours_of(result) == {
        "checkpoint_hours": 0.02 + 0.02,
        "startup_hours": 0.25,
        "waiting_hours": 0.5,
        "notice_idle_hours": 0.05,
        "reduced_fleet_hours": 0.35,
        "outage_hours": 0.2,
    }
    end = result.makespan_hours
    assert result.billed_hours == pytest.approx((end - 0.5) + 2.0 + (end - 3.0))


def test_elastic_loss_without_warning() -> None:
    """Rule 8: from the reclaim `detect` + `rendezvous` of outage, then on from the newest durable checkpoint."""
    result = scripted(2.0, rendezvous_hours=0.1, detect_hours=0.03, interval_hours=0.5, **ELASTIC)
    # Reclaim at 2.5 (progress 1.75, saved 1.5); half speed from 2.63 to 3.25.
    assert hours_of(result) == {
        "lost_work_hours": 0.25,
        "startup_hours": 0.25,
        "waiting_hours": 0.5,
        "reduced_fleet_hours": 0.31,
        "outage_hours": 0.13 + 0.1,
    }


def test_a_join_waits_for_the_upload_in_flight() -> None:
    """Rule 8: the newcomer is ready at 3.25, the upload in flight is durable at 3.5: half speed until then."""
    result = scripted(2.0, interval_hours=0.3, persist_hours=0.4, **ELASTIC, **ACTED_ON)
    assert result.reduced_fleet_hours == pytest.approx(0.5)
    free = scripted(2.0, interval_hours=3.0, persist_hours=0.4, **ELASTIC, **ACTED_ON)
    assert free.reduced_fleet_hours == pytest.approx(0.375)


def test_a_join_replaces_the_next_periodic_checkpoint() -> None:
    """Rule 8: the interval is measured from the join's stall."""
    # Join at 3.25 with progress 1.75 + 0.375 = 2.125; then due at 4.125, 6.125, 8.125, not at 3.75, …, 9.75.
    result = scripted(2.0, interval_hours=2.0, stall_hours=0.1, **ELASTIC, **ACTED_ON)
    assert result.checkpoint_hours == pytest.approx(0.1 + 3 * 0.1 + 0.1)


def test_below_the_minimum_time_is_waiting() -> None:
    """Rule 8: with two of three needed, the second silent loss stops the run until a replacement is ready."""
    result = scripted(2.0, 2.2, nodes=3, min_nodes=2, interval_hours=0.5, rendezvous_hours=0.1, detect_hours=0.03)
    # 2.5 loss (saved 1.5), 2.63 on with two of three, 2.7 loss: waiting to 3.25, 3.35 on with two, 3.45 the third is
    # ready, 3.55 all.
    assert hours_of(result) == {
        "lost_work_hours": round(0.25 + 0.07 * 2 / 3, 9),
        "startup_hours": 0.25,
        "waiting_hours": 0.5 + 0.55,
        "reduced_fleet_hours": round((0.07 + 0.1) / 3, 9),
        "outage_hours": round(0.13 + 0.1 + 0.1, 9),
    }
    assert (result.interruptions, result.reclaimed_nodes) == (2.0, 2.0)


@pytest.mark.parametrize(("acted_on", "lost"), [(1.0, 0.0), (0.0, 1.75)])
def test_memory_survives_below_the_minimum_only_if_the_loss_was_acted_on(acted_on: float, lost: float) -> None:
    """Rule 8: no restore, so a bad checkpoint does no harm; without warning, the bad one is tried and all is lost."""
    result = scripted(2.0, nodes=3, min_nodes=2, notice_success=acted_on, bulk=0.0, corruption=1.0, work_hours=4.0)
    assert result.lost_work_hours == pytest.approx(lost)
    below = scripted(2.0, 2.1, nodes=3, min_nodes=2, notice_success=acted_on, corruption=1.0, work_hours=4.0)
    assert below.waiting_hours == pytest.approx(0.5 + 0.65)
    # second loss: 0.1 h at two thirds of the speed after the first
    assert below.lost_work_hours == pytest.approx(lost + (0.1 * 2 / 3 if lost else 0.0))


def test_a_change_during_a_rendezvous_starts_it_over() -> None:
    """Rule 8: losses at 2.5 and 2.6 give one outage to 2.8; newcomers ready at 3.25 and 3.35 one to 3.55."""
    result = scripted(2.0, 2.1, nodes=3, min_nodes=1, rendezvous_hours=0.2, **ACTED_ON)
    assert result.outage_hours == pytest.approx(0.3 + 0.3)


def test_the_final_checkpoint_waits_for_nobody() -> None:
    """Rule 8: a newcomer that is ready at 3.25, while the final checkpoint (3.2 to 4.2) is made, is not taken in."""
    result = scripted(2.0, work_hours=2.0, persist_hours=1.0, rendezvous_hours=0.2, **ELASTIC, **ACTED_ON)
    assert result.makespan_hours == pytest.approx(4.2)
    assert result.outage_hours == pytest.approx(0.2)


def test_elastic_run_starts_with_the_first_nodes() -> None:
    """Rule 8: with waits that differ, the first `min_nodes` start; the others join one by one."""
    spec = Spec(
        work_hours=10.0, nodes=3, min_nodes=2, provision=ExponentialProvision(1.0), startup_hours=0.001, scaling=1.0
    )
    waits = sorted(spec.provision.wait_hours(u) for u in _wait_uniforms(spec, seed=3, run=2))
    result = simulate_run(spec, 3, 2)
    assert result.waiting_hours == pytest.approx(waits[1])
    assert result.reduced_fleet_hours == pytest.approx((waits[2] - waits[1]) / 3, abs=1e-3)


@pytest.mark.parametrize("scaling", [0.0, 0.5, 1.0])
def test_scaling_of_a_reduced_fleet(scaling: float) -> None:
    """Rule 8: progress advances at (k/nodes)^scaling; the rest of that time is reduced-fleet time."""
    result = scripted(2.0, scaling=scaling, **ELASTIC, **ACTED_ON)
    assert result.reduced_fleet_hours == pytest.approx(0.75 * (1.0 - 0.5**scaling))


def test_elastic_bulk_loss_is_one_event() -> None:
    """Rule 8: all go at one moment, one notice for all; the state is in nobody's memory, but was saved."""
    result = scripted(
        2.0, 50.0, 60.0, nodes=3, min_nodes=1, bulk=1.0, notice_hours=0.1, emergency_hours=0.05, **ACTED_ON
    )
    assert (result.interruptions, result.reclaimed_nodes, result.lost_work_hours) == (1.0, 3.0, 0.0)
    # emergency to 2.45, then waiting to the replacements' startups' end at 3.25
    assert hours_of(result) == {"startup_hours": 0.25, "waiting_hours": 0.5 + 0.8, "notice_idle_hours": 0.05}


# Accounts.


@pytest.mark.parametrize("fleet", ["one", "rigid", "elastic"])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_parts_add_up_in_every_run(fleet: str, data: st.DataObject) -> None:
    """makespan = work + the sum of the parts, each accumulated on its own, for any spec; nothing is negative."""
    spec = data.draw(specs(fleet))
    result = simulate_run(spec, data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 2**32 - 1)))
    assert result.makespan_hours == pytest.approx(parts_of(result, spec.work_hours), rel=1e-10)
    for name in QUANTITIES:
        assert getattr(result, name) >= -1e-12, name
    assert result.reclaimed_nodes >= result.interruptions
    assert result.billed_hours <= spec.nodes * result.makespan_hours * (1 + 1e-12)
    prices = spec.price.usd_per_hour
    bill = result.cost_usd - result.storage_usd
    assert min(prices) * result.billed_hours - 1e-9 <= bill <= max(prices) * result.billed_hours + 1e-9


# Exact expectations.

SYNCHRONOUS = [
    # rate, work, interval, stall, startup, wait, refund
    (0.2, 8.0, 1.0, 0.02, 0.1, 0.1, False),
    (0.5, 6.0, 0.75, 0.05, 0.2, 0.0, True),
    (1.5, 3.0, 0.4, 0.05, 0.1, 0.3, True),
    (0.05, 20.0, 4.0, 0.1, 0.5, 0.5, False),
    (0.4, 5.0, 1.7, 0.1, 0.15, 0.2, True),  # the last segment is shorter
]


@pytest.mark.parametrize(("rate", "work", "interval", "stall", "startup", "wait", "refund"), SYNCHRONOUS)
def test_exponential_synchronous_equals_the_segment_formula(
    rate: float, work: float, interval: float, stall: float, startup: float, wait: float, refund: bool
) -> None:
    """Makespan, interruptions and billed hours (with and without the first-hour refund) against closed forms."""
    spec = Spec(
        work_hours=work,
        interval_hours=interval,
        stall_hours=stall,
        startup_hours=startup,
        lifetime=Exponential(rate),
        provision=ExponentialProvision(wait),
        first_hour_refund=refund,
    )
    exact = expected_totals(
        work_hours=work,
        interval_hours=interval,
        stall_hours=stall,
        startup_hours=startup,
        rate_per_hour=rate,
        provision_hours=wait,
    )
    runs = simulate(spec, runs=2500, seed=2026, engine="reference")
    assert_mean(runs.makespan_hours, exact.makespan_hours, gap=0.07)
    assert_mean(runs.interruptions, exact.interruptions, gap=0.12)
    assert_mean(runs.billed_hours, exact.billed_hours_with_refund if refund else exact.up_hours, gap=0.07)


@pytest.mark.parametrize("shape", [0.6, 2.0])
def test_weibull_equals_the_renewal_solution(shape: float) -> None:
    """A hazard that falls or rises with age, against numerically integrated renewal equations."""
    values: dict[str, Any] = {
        "lifetime": Weibull(shape, 2.0), "work_hours": 6.0, "interval_hours": 0.75, "stall_hours": 0.03,
        "startup_hours": 0.1,
    }  # fmt: skip
    exact = solve_renewal(**values, provision_hours=0.2)
    spec = Spec(**values, provision=ConstantProvision(0.2), first_hour_refund=True)
    runs = simulate(spec, runs=2500, seed=7, engine="reference")
    assert_mean(runs.makespan_hours, exact.makespan_hours, gap=0.03)
    assert_mean(runs.interruptions, exact.interruptions, gap=0.08)
    assert_mean(runs.billed_hours, exact.up_hours - exact.refunded_hours, gap=0.04)


def test_notice_that_always_works_loses_nothing() -> None:
    """Notices always acted on and fitting: no rollback in any run, and the means are the closed form's."""
    spec = Spec(
        work_hours=8.0,
        lifetime=Exponential(0.4),
        provision=ExponentialProvision(0.1),
        startup_hours=0.2,
        notice_hours=0.15,
        notice_success=1.0,
        emergency_hours=0.1,
        persist_hours=0.5,
        stall_hours=0.05,
    )
    exact = expected_totals_without_rollback(
        work_hours=8.0,
        rate_per_hour=0.4,
        startup_hours=0.2,
        notice_hours=0.15,
        emergency_hours=0.1,
        final_checkpoint_hours=0.55,
        provision_hours=0.1,
    )
    runs = simulate(spec, runs=2500, seed=11, engine="reference")
    # A life below `emergency` has no fitting notice, but has not trained yet either (startup is longer).
    assert np.all(runs.lost_work_hours == 0.0)
    assert_mean(runs.makespan_hours, exact.makespan_hours, gap=0.02)
    assert_mean(runs.interruptions, exact.interruptions, gap=0.06)
    assert_mean(runs.waiting_hours, exact.waiting_hours, gap=0.12)
    assert_mean(runs.checkpoint_hours, exact.checkpoint_hours, gap=0.03)


@pytest.mark.parametrize("bulk", [0.0, 0.4])
def test_loss_rate_of_a_node_is_the_marginal_one(bulk: float) -> None:
    """Rule 8: reclaimed nodes per billed node-hour is the lifetime's rate, whatever `bulk` is (no notice)."""
    spec = Spec(work_hours=30.0, interval_hours=0.5, nodes=4, bulk=bulk, lifetime=Exponential(0.1), startup_hours=0.05)
    runs = simulate(spec, runs=150, seed=3, engine="reference")
    # The ratio's error: reclaimed − rate·hours has mean 0 in every run.
    assert_mean(runs.reclaimed_nodes - 0.1 * runs.billed_hours + 10.0, 10.0, gap=0.25)
    assert_mean(runs.reclaimed_nodes, float(0.1 * runs.billed_hours.mean()), gap=0.2)


@pytest.mark.parametrize(
    ("nodes", "min_nodes", "bulk", "scaling"), [(2, 1, 0.0, 1.0), (4, 3, 0.0, 0.5), (4, 2, 0.3, 1.0)]
)
def test_elastic_fleet_equals_the_markov_chain(nodes: int, min_nodes: int, bulk: float, scaling: float) -> None:
    """All fixed delays zero, notices always acted on: every total against the solved chain."""
    values: dict[str, Any] = {"nodes": nodes, "min_nodes": min_nodes, "bulk": bulk, "scaling": scaling}
    exact = solve_fleet(work_hours=10.0, rate_per_hour=0.3, mean_provision_hours=0.5, **values)
    spec = Spec(
        work_hours=10.0,
        lifetime=Exponential(0.3),
        provision=ExponentialProvision(0.5),
        notice_success=1.0,
        **values,
    )
    runs = simulate(spec, runs=800, seed=4, engine="reference")
    assert_mean(runs.makespan_hours, exact.makespan_hours, gap=0.03)
    assert_mean(runs.waiting_hours, exact.waiting_hours, gap=0.2)
    assert_mean(runs.reduced_fleet_hours, exact.reduced_fleet_hours, gap=0.12)
    assert_mean(runs.interruptions, exact.interruptions, gap=0.12)
    assert_mean(runs.reclaimed_nodes, exact.reclaimed_nodes, gap=0.12)
    assert np.all(runs.lost_work_hours == 0.0)


def test_uncertain_rate_has_the_posterior_mean() -> None:
    """With 8 events in 20 h and negligible overheads, the mean rate seen is (8 + ½)/20, and it varies by run."""
    spec = Spec(
        work_hours=100.0,
        interval_hours=5.0,
        lifetime=Exponential(0.3),  # a point value that is not 8/20: the posterior does not depend on it
        rate_events=8,
        rate_exposure_hours=20.0,
        notice_success=1.0,
        notice_hours=0.0,
    )
    runs = simulate(spec, runs=400, seed=5, engine="reference")
    assert np.all(runs.makespan_hours == pytest.approx(100.0))
    assert_mean(runs.interruptions / 100.0, 8.5 / 20.0, gap=0.1)
    # Var = E[rate]/100 + Var[rate]: 0.00425 + 8.5/400; a rate drawn anew for each node would give 0.00425 only.
    assert runs.interruptions.var() / 1e4 == pytest.approx(0.00425 + 8.5 / 400, rel=0.3)
