"""The engines against results that need no sampling: closed forms, a renewal solver, a Markov chain.

Every quantity of every case is a z-test at `LIMIT` = 5 Monte Carlo standard errors: with about sixty of them the
false-failure rate of the whole module is about 4e-5 (two-sided normal, 5.7e-7 each), and the seeds are fixed.  A wrong
engine fails with probability over 97 % once it is off by 7 standard errors; each test asserts that this is less than
the gap it claims to see.  `python -m benchmarks exactness` prints the same cases with more runs.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from benchmarks.exactness import Case, cases, measure
from simulator.lifetimes import Exponential, Weibull
from simulator.simulate import simulate
from simulator.spec import Spec

LIMIT = 5.0
POWER = 7.0

ALL = cases()
SINGLE = [case for case in ALL if not case.is_fleet]
FLEETS = [case for case in ALL if case.is_fleet]


def hold(case: Case, *, runs: int, engine: str, makespan_gap: float) -> None:
    """Every quantity within `LIMIT`; a relative gap of `makespan_gap` in the makespan would be seen."""
    for row in measure(case, runs=runs, seed=17, engine=engine):
        assert abs(row.z) < LIMIT, (
            f"{row.quantity}: exact {row.exact}, simulated {row.simulated} ± {row.standard_error}"
        )
        if row.quantity == "makespan_hours":
            assert POWER * row.standard_error < makespan_gap * row.exact


@pytest.mark.parametrize("case", SINGLE, ids=lambda case: case.name)
def test_one_node_equals_its_exact_expectations(case: Case) -> None:
    """Makespan, interruptions, waits, refunded bill; 100,000 runs see 1 % of the makespan."""
    hold(case, runs=100_000, engine="auto", makespan_gap=0.01)


@pytest.mark.parametrize("case", [SINGLE[2], SINGLE[6], SINGLE[10]], ids=lambda case: case.name)
def test_the_reference_engine_does_too(case: Case) -> None:
    """A closed form, a notice, a bathtub on the oracle itself: 800 runs see 4 %."""
    hold(case, runs=800, engine="reference", makespan_gap=0.04)


@pytest.mark.parametrize("case", FLEETS, ids=lambda case: case.name)
def test_an_elastic_fleet_equals_its_markov_chain(case: Case) -> None:
    """Makespan, waiting, reduced fleet, events, nodes, bill; 100,000 runs see 0.3 % of the makespan."""
    hold(case, runs=100_000, engine="auto", makespan_gap=0.003)


@pytest.mark.parametrize("case", [c for c in SINGLE if c.makespan_standard_deviation_hours], ids=lambda case: case.name)
def test_the_spread_of_the_makespan_is_exact_too(case: Case) -> None:
    """Not only means: the standard deviation against the renewal solver's second moment.

    The error of a sample standard deviation is s·√((kurtosis − 1)/4n); 5 of them, as above; it sees 10 %.
    """
    makespan = simulate(case.spec, runs=60_000, seed=23).makespan_hours
    spread = makespan.std()
    kurtosis = float(np.mean((makespan - makespan.mean()) ** 4) / spread**4)
    error = spread * math.sqrt((kurtosis - 1.0) / (4 * makespan.size))
    assert case.makespan_standard_deviation_hours is not None
    assert abs(spread - case.makespan_standard_deviation_hours) < LIMIT * error
    assert POWER * error < 0.10 * spread


@pytest.mark.parametrize("bulk", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("min_nodes", [1, 4])
def test_the_loss_rate_of_a_node_is_the_marginal_one_whatever_bulk_is(bulk: float, min_nodes: int) -> None:
    """Without waits all four nodes are up all the time, so E[reclaimed nodes] = λ·E[node-hours] for every `bulk`.

    z-test of the mean of (reclaimed − λ·node-hours), a martingale, at 5 standard errors; 20,000 runs of about 170
    node-hours see 2.5 % of the rate.
    """
    rate = 0.15
    spec = Spec(
        work_hours=40.0, interval_hours=1.0, startup_hours=0.1, stall_hours=0.05,
        nodes=4, min_nodes=min_nodes, bulk=bulk, lifetime=Exponential(rate),
    )  # fmt: skip
    runs = simulate(spec, runs=20_000, seed=29)
    gap = runs.reclaimed_nodes - rate * runs.billed_hours
    error = float(gap.std(ddof=1)) / math.sqrt(gap.size)
    assert abs(float(gap.mean())) < LIMIT * error
    assert POWER * error < 0.025 * rate * float(runs.billed_hours.mean())
    together = runs.reclaimed_nodes.sum() / runs.interruptions.sum()
    assert together == pytest.approx(1.0 + 3 * bulk, rel=0.01)


def test_the_test_sees_a_wrong_lifetime() -> None:
    """Not vacuous: the same hold fails when the simulated shape is 2 % off the exact one."""
    case = next(case for case in SINGLE if case.name.startswith("Weibull, shape 0.62"))
    wrong = Case(case.name, dataclasses.replace(case.spec, lifetime=Weibull(0.62 * 1.02, 1.5)), case.exact)
    with pytest.raises(AssertionError, match="makespan_hours"):
        hold(wrong, runs=60_000, engine="auto", makespan_gap=0.01)
