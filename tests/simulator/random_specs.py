"""Random specs for hypothesis: every rule switched on and off, jobs small enough for the reference engine.

What a node must survive to make progress durable stays within a few mean lives, also at an unlucky uncertain rate: a
job that never finishes would be a slow test of the horizon, which has its own.
"""

from __future__ import annotations

import dataclasses
import math

from hypothesis import strategies as st

from simulator.lifetimes import Bathtub, Exponential, Lifetime, Weibull
from simulator.provision import ConstantProvision, ExponentialProvision, Provision
from simulator.spec import PriceSeries, Spec


def either(*values: float) -> st.SearchStrategy[float]:
    """0 in a third of the cases, else a value from the range (low, high)."""
    low, high = values
    return st.one_of(st.just(0.0), st.floats(low, high), st.floats(low, high))


def lifetimes(fastest_mean_hours: float) -> st.SearchStrategy[Lifetime]:
    """Lifetimes with a mean of at least about `fastest_mean_hours`."""
    mean = st.floats(fastest_mean_hours, 10.0 * fastest_mean_hours)
    exponential = mean.map(lambda m: Exponential(1.0 / m))
    weibull = st.builds(lambda m, k: Weibull(k, m / math.gamma(1.0 + 1.0 / k)), mean, st.floats(0.6, 3.0))
    bathtub = st.builds(
        lambda m: Bathtub(a=0.45, tau1_hours=0.3 * m, b_hours=6.0 * m, tau2_hours=0.3 * m, cap_hours=6.0 * m), mean
    )
    return st.one_of(exponential, weibull, bathtub)


provisions: st.SearchStrategy[Provision] = st.one_of(
    st.just(ConstantProvision(0.0)),
    st.floats(0.01, 0.5).map(ConstantProvision),
    st.floats(0.01, 0.5).map(ExponentialProvision),
)

prices = st.one_of(
    st.floats(0.5, 10.0).map(PriceSeries.constant),
    st.builds(
        lambda steps, usd: PriceSeries(tuple(float(sum(steps[:i])) for i in range(4)), tuple(usd)),
        st.lists(st.floats(0.1, 5.0), min_size=3, max_size=3),
        st.lists(st.floats(0.0, 10.0), min_size=4, max_size=4),
    ),
)


@st.composite
def specs(draw: st.DrawFn, fleet: str = "one") -> Spec:
    """A spec; `fleet` is "one", "rigid" (2 to 4 nodes) or "elastic" (2 to 4 nodes, fewer at least)."""
    nodes = 1 if fleet == "one" else draw(st.integers(2, 4))
    work = draw(st.floats(0.5, 4.0))
    notice = draw(either(0.01, 0.3))
    lifetime = draw(lifetimes(2.0 * nodes))
    uncertain = draw(st.sampled_from([False, False, True]))
    return Spec(
        work_hours=work,
        nodes=nodes,
        min_nodes=draw(st.integers(1, nodes - 1)) if fleet == "elastic" else None,
        scaling=draw(st.one_of(st.just(1.0), st.floats(0.0, 1.5))),
        detect_hours=draw(either(0.001, 0.1)),
        rendezvous_hours=draw(either(0.001, 0.1)),
        bulk=0.0 if fleet == "one" else draw(either(0.05, 0.9)),
        price=draw(prices),
        first_hour_refund=draw(st.booleans()),
        lifetime=lifetime,
        provision=draw(provisions),
        notice_hours=notice,
        notice_success=draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        interval_hours=draw(st.one_of(st.floats(0.05, 1.0), st.just(math.inf if work < 1.0 else work / 4))),
        stall_hours=draw(either(0.001, 0.1)),
        persist_hours=draw(either(0.001, 0.6)),
        emergency_hours=draw(st.one_of(either(0.001, 0.3), st.just(notice))),
        persist_slowdown=draw(either(0.01, 0.7)),
        corruption=draw(st.sampled_from([0.0, 0.0, 0.1, 0.4])),
        keep_last=draw(st.integers(1, 4)),
        startup_hours=draw(either(0.01, 0.3)),
        checkpoint_gib=draw(st.floats(0.0, 500.0)),
        storage_usd_per_gib_month=1.0,
        usd_per_1000_puts=5.0,
        usd_per_1000_gets=3.0,
        shards=draw(st.integers(1, 9)),
        rate_events=9.0 if uncertain else None,
        rate_exposure_hours=9.0 * lifetime.mean_hours if uncertain else None,
    )


@st.composite
def policy_specs(draw: st.DrawFn) -> Spec:
    """One node under a deadline policy: hopeless to easy deadlines, capacity that is seldom or mostly there."""
    spec = draw(specs("one"))
    return dataclasses.replace(
        spec,
        policy=draw(st.sampled_from(["greedy", "uniform-progress", "on-demand"])),
        deadline_hours=draw(st.floats(0.5, 3.0)) * spec.work_hours,
        decision_hours=draw(st.floats(0.005, 0.2)),
        on_demand_usd_per_hour=20.0,
        provision=draw(st.one_of(st.just(spec.provision), st.floats(0.3, 4.0).map(ExponentialProvision))),
    )
