"""Simulated against exact: every case with a result that needs no sampling, as a table.

    python -m benchmarks exactness [--out benchmarks/results/exactness.md]

`tests/simulator/test_against_exact.py` holds the engines to the same cases; this prints them for people.  A row is one
quantity of one case: its exact value, the simulated mean ± its Monte Carlo standard error, and their distance in
standard errors (z).  Of the some sixty values of |z| about one in twenty exceeds 2, and hardly one exceeds 3.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.exact import expected_totals, expected_totals_without_rollback
from simulator.exact.fleet_chain import solve_fleet
from simulator.exact.renewal import RenewalSolution, solve_renewal
from simulator.lifetimes import Bathtub, Empirical, Exponential, Lifetime, Weibull
from simulator.provision import ConstantProvision, ExponentialProvision
from simulator.simulate import simulate
from simulator.spec import Spec

SEED = 20260


@dataclass(frozen=True, slots=True)
class Case:
    """A spec and the exact expectations of some of its quantities (names of `simulator.runs.Runs`)."""

    name: str
    spec: Spec
    exact: dict[str, float]
    makespan_standard_deviation_hours: float | None = None
    is_fleet: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """One quantity of one case, simulated."""

    case: str
    quantity: str
    exact: float
    simulated: float
    standard_error: float

    @property
    def z(self) -> float:
        """Distance in standard errors; for quantities without spread, 0 when equal to rounding, else infinite."""
        gap = self.simulated - self.exact
        if self.standard_error <= 1e-12 * max(1.0, abs(self.exact)):
            return 0.0 if math.isclose(self.simulated, self.exact, rel_tol=1e-9, abs_tol=1e-9) else math.inf
        return gap / self.standard_error


_STEPS = Empirical(
    ages_hours=(0.25, 0.5, 1.0, 2.0, 4.0, 7.0),
    survivals=(0.9, 0.8, 0.65, 0.5, 0.3, 0.2),
    tail_start_hours=9.0,
    tail_rate_per_hour=0.15,
)


def cases() -> tuple[Case, ...]:
    """All cases; solving the exact side takes about a second."""
    return (
        _zero_hazard(),
        _segments("exponential, MTBF 24 h, whole segments (Daly's first row)", 1 / 24, 58.35, 116.7 / 60),
        _segments("exponential, MTBF 6 h, last segment partial", 1 / 6, 100.0, 56.7 / 60),
        _segments("exponential, MTBF 15 min, saves every 9.2 min", 4.0, 3.0, 9.2 / 60),
        _segments("exponential, with waits (mean 0.7 h)", 0.3, 20.0, 1.5, wait=0.7),
        _segments("exponential, one segment, no periodic checkpoint", 0.1, 5.0, math.inf),
        _notice("notice works, 2 min, emergency 1 min", notice=1 / 30, emergency=1 / 60, final=0.2),
        _notice("notice works, longer than lives are at times", notice=1.0, emergency=0.05, final=0.3, wait=0.25),
        _renewal("Weibull, shape 0.62", Weibull(0.62, 1.5), 10.0, 0.4),
        _renewal("Weibull, shape 2.5", Weibull(2.5, 6.0), 30.0, 1.0),
        _renewal("bathtub without cap", Bathtub(0.45, 1.0, 24.0, 0.8), 60.0, 1.0),
        _renewal("bathtub, 24 h cap, 2019 fit", Bathtub(0.2853, 1.4838, 32.269, 8.121, 24.0), 100.0, 1.0),
        _renewal("Kaplan-Meier steps with an exponential tail", _STEPS, 15.0, 0.8),
        _fleet("elastic, 2 nodes", nodes=2, min_nodes=1, scaling=1.0, bulk=0.0),
        _fleet("elastic, 2 nodes, scaling 0.8, bulk 0.3", nodes=2, min_nodes=1, scaling=0.8, bulk=0.3),
        _fleet("elastic, 4 nodes, at least 2, bulk 0.15", nodes=4, min_nodes=2, scaling=0.9, bulk=0.15),
    )


def measure(case: Case, *, runs: int, seed: int = SEED, engine: str = "auto") -> tuple[Measured, ...]:
    """Simulate `case` and set it beside its exact values."""
    found = simulate(case.spec, runs=runs, seed=seed, engine=engine)
    rows = []
    for quantity, exact in case.exact.items():
        summary = found.summary(quantity)
        rows.append(Measured(case.name, quantity, exact, summary.mean, summary.standard_error))
    return tuple(rows)


def _zero_hazard() -> Case:
    spec = Spec(
        work_hours=10.0, interval_hours=3.0, stall_hours=0.1, startup_hours=0.5,
        provision=ConstantProvision(0.2), lifetime=Exponential(0.0),
    )  # fmt: skip
    return Case(
        "no hazard: arithmetic",
        spec,
        {"makespan_hours": 11.1, "checkpoint_hours": 0.4, "startup_hours": 0.5, "waiting_hours": 0.2},
    )


def _segments(name: str, rate: float, work: float, interval: float, *, wait: float = 0.0) -> Case:
    stall, startup = 5 / 60, 10 / 60
    exact = expected_totals(
        work_hours=work, interval_hours=interval, stall_hours=stall, startup_hours=startup,
        rate_per_hour=rate, provision_hours=wait,
    )  # fmt: skip
    spec = Spec(
        work_hours=work, interval_hours=interval, stall_hours=stall, startup_hours=startup,
        lifetime=Exponential(rate), provision=ExponentialProvision(wait), first_hour_refund=True,
    )  # fmt: skip
    return Case(
        name,
        spec,
        {
            "makespan_hours": exact.makespan_hours,
            "interruptions": exact.interruptions,
            "waiting_hours": exact.waiting_hours,
            "billed_hours": exact.billed_hours_with_refund,
        },
    )


def _notice(name: str, *, notice: float, emergency: float, final: float, wait: float = 0.0) -> Case:
    rate, work, startup, stall = 0.4, 12.0, 0.25, 0.0
    exact = expected_totals_without_rollback(
        work_hours=work, rate_per_hour=rate, startup_hours=startup, notice_hours=notice,
        emergency_hours=emergency, final_checkpoint_hours=stall + final, provision_hours=wait,
    )  # fmt: skip
    spec = Spec(
        work_hours=work, startup_hours=startup, stall_hours=stall, persist_hours=final,
        lifetime=Exponential(rate), provision=ExponentialProvision(wait),
        notice_hours=notice, notice_success=1.0, emergency_hours=emergency,
    )  # fmt: skip
    return Case(
        name,
        spec,
        {
            "makespan_hours": exact.makespan_hours,
            "interruptions": exact.interruptions,
            "waiting_hours": exact.waiting_hours,
            "checkpoint_hours": exact.checkpoint_hours,
            "lost_work_hours": 0.0,
        },
    )


def _renewal(name: str, lifetime: Lifetime, work: float, interval: float) -> Case:
    stall, startup, wait = 0.05, 0.1, 0.2
    exact: RenewalSolution = solve_renewal(
        lifetime=lifetime, work_hours=work, interval_hours=interval, stall_hours=stall, startup_hours=startup,
        provision_hours=wait, provision_variance_hours2=wait**2,
    )  # fmt: skip
    spec = Spec(
        work_hours=work, interval_hours=interval, stall_hours=stall, startup_hours=startup,
        lifetime=lifetime, provision=ExponentialProvision(wait), first_hour_refund=True,
    )  # fmt: skip
    return Case(
        name,
        spec,
        {
            "makespan_hours": exact.makespan_hours,
            "interruptions": exact.interruptions,
            "billed_hours": exact.up_hours - exact.refunded_hours,
        },
        makespan_standard_deviation_hours=exact.makespan_standard_deviation_hours,
    )


def _fleet(name: str, *, nodes: int, min_nodes: int, scaling: float, bulk: float) -> Case:
    rate, wait, work = 0.3, 0.8, 10.0
    exact = solve_fleet(
        work_hours=work, rate_per_hour=rate, mean_provision_hours=wait, nodes=nodes, min_nodes=min_nodes,
        scaling=scaling, bulk=bulk,
    )  # fmt: skip
    spec = Spec(
        work_hours=work, nodes=nodes, min_nodes=min_nodes, scaling=scaling, bulk=bulk,
        lifetime=Exponential(rate), provision=ExponentialProvision(wait), notice_success=1.0,
    )  # fmt: skip
    return Case(
        name,
        spec,
        {
            "makespan_hours": exact.makespan_hours,
            "waiting_hours": exact.waiting_hours,
            "reduced_fleet_hours": exact.reduced_fleet_hours,
            "interruptions": exact.interruptions,
            "reclaimed_nodes": exact.reclaimed_nodes,
            "billed_hours": exact.billed_hours,
            "lost_work_hours": 0.0,
        },
        is_fleet=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns 1 when a value is further than 5 standard errors from its exact one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks exactness", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=4_000_000, help="runs per case (default 4000000)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, help="also write the table to this Markdown file")
    options = parser.parse_args(arguments)
    print(f"{'case':<58}{'quantity':<21}{'exact':>13}{'simulated':>13}{'± std. error':>14}{'z':>7}")
    rows = []
    for number, case in enumerate(cases()):
        # A seed of its own for each case: else all of them would err on the same side together.
        for row in measure(case, runs=options.runs, seed=options.seed + number):
            rows.append(row)
            print(
                f"{row.case:<58}{row.quantity:<21}{row.exact:>13.6f}{row.simulated:>13.6f}"
                f"{row.standard_error:>14.6f}{row.z:>7.2f}"
            )
    worst = max(abs(row.z) for row in rows)
    print(f"largest |z|: {worst:.2f}")
    if options.out:
        options.out.write_text(_markdown(rows, options.runs, options.seed), encoding="utf-8")
    return int(worst > 5.0)


def _markdown(rows: Sequence[Measured], runs: int, seed: int) -> str:
    found = [sum(abs(row.z) > limit for row in rows) for limit in (1.0, 2.0, 3.0)]
    expected = [share * len(rows) for share in (0.3173, 0.0455, 0.0027)]  # of a standard normal
    head = f"""# Simulated against exact

`python -m benchmarks exactness --out benchmarks/results/exactness.md`: {runs:,} runs per case, seeds from {seed}; the
numbers are the same on every machine. Hours, or counts for interruptions and reclaimed nodes; `simulator/exact`
derives each exact value in its docstring.

z is the distance in Monte Carlo standard errors. Of {len(rows)} values {found[0]} exceed 1, {found[1]} exceed 2 and \
{found[2]} exceed 3; a right simulator
makes that {expected[0]:.0f}, {expected[1]:.0f} and {expected[2]:.1f} on average (the rows of one case go together). \
Where nothing is random, z is 0
if the value is equal to rounding.

| Case | Quantity | Exact | Simulated | ± standard error | z |
|---|---|---:|---:|---:|---:|
"""
    return head + "".join(
        f"| {row.case} | {row.quantity} | {row.exact:.6f} | {row.simulated:.6f} | {row.standard_error:.6f} "
        f"| {row.z:.2f} |\n"
        for row in rows
    )


if __name__ == "__main__":
    raise SystemExit(main())
