"""Speed of the simulator as ratios, and what its variance reduction buys.

    python -m benchmarks simulator [--rounds 7] [--quick] [--out benchmarks/results/simulator.md]

Everything is timed in one process, contenders taking turns; a ratio is the median over rounds of the ratio within a
round, so that a busy machine slows both sides of it.  One warm-up round is not counted: it compiles.  The plain case
is `benchmarks.plain_peers.PLAIN`; targets are those of the project's requirements.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.plain_peers import PLAIN, compiled_c, simulated_by_simpy, vectorised_numpy
from simulator.controls import control_spec, controls_for
from simulator.engine import simulate_fast
from simulator.exact import expected_totals
from simulator.lifetimes import Bathtub, Weibull
from simulator.provision import ExponentialProvision
from simulator.reference import simulate_run
from simulator.runs import Runs
from simulator.simulate import simulate
from simulator.spec import PriceSeries, Spec

EVERY_RULE = replace(
    PLAIN,
    persist_hours=0.02,
    persist_slowdown=0.1,
    notice_hours=120 / 3600,
    notice_success=0.5,
    emergency_hours=65 / 3600,
    corruption=0.02,
    first_hour_refund=True,
    provision=ExponentialProvision(0.1),
    price=PriceSeries(tuple(6.0 * i for i in range(40)), tuple(8.0 + math.sin(i) for i in range(40))),
    checkpoint_gib=50.0,
    storage_usd_per_gib_month=0.023,
    usd_per_1000_puts=0.005,
    usd_per_1000_gets=0.0004,
    shards=8,
)
"""One node under rules 1 to 7, everything on; reclaimed as often as in the plain case."""

FLEET = replace(
    PLAIN,
    nodes=16,
    min_nodes=8,
    scaling=0.9,
    detect_hours=15 / 3600,
    rendezvous_hours=30 / 3600,
    persist_hours=0.02,
    persist_slowdown=0.1,
    notice_hours=120 / 3600,
    notice_success=0.5,
    emergency_hours=65 / 3600,
    provision=ExponentialProvision(0.1),
)
"""Sixteen nodes that go on with eight, with notices, joins and asynchronous saving."""


def seconds(action: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


class Report:
    """Rows that are printed as they come, and kept for the Markdown file."""

    def __init__(self) -> None:
        self._markdown: list[str] = []

    def heading(self, text: str, what: str) -> None:
        """A new table: its title and what its numbers are."""
        print(f"\n{text}: {what}", flush=True)
        self._markdown += ["", f"## {text}", "", f"{what[0].upper()}{what[1:]}.", "", "| | | |", "|---|---:|---|"]

    def line(self, what: str, value: str, note: str = "") -> None:
        """One row."""
        print(f"  {what:<66} {value:>16}  {note}", flush=True)
        self._markdown.append(f"| {what.strip()} | {value} | {note} |")

    def write(self, path: Path, command: str) -> None:
        """The file, with the machine's name on top."""
        head = ["# Speed of the simulator, and what variance reduction buys", "", f"`{command}`, {machine()}."]
        path.write_text("\n".join([*head, *self._markdown, ""]), encoding="utf-8")


def machine() -> str:
    """Where and when this was measured."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            row.split(":", 1)[1].strip() for row in cpuinfo.read_text().splitlines() if row.startswith("model name")
        ]
        model = names[0] if names else model
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({model}, virtual), load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, numba {version('numba')}"
    )


def judged(value: float, limit: float, *, at_least: bool) -> str:
    """The target, and whether it is met."""
    met = value >= limit if at_least else value <= limit
    return f"target {'>=' if at_least else '<='} {limit:g}: {'met' if met else 'MISSED'}"


def plain_case(report: Report, rounds: int, runs: int) -> None:
    """The plain case against C, NumPy, SimPy and the reference engine."""
    c = compiled_c()
    few = max(50, runs // 4000)

    def engine(threads: int) -> Callable[[], Runs]:
        return lambda: simulate_fast(PLAIN, runs, 1, threads=threads)

    contenders: dict[str, Callable[[], object]] = {
        "engine": engine(1),
        "engine, 2 threads": engine(2),
        "NumPy": lambda: vectorised_numpy(runs, 1),
        "SimPy": lambda: simulated_by_simpy(few, 1),
        "reference": lambda: [simulate_run(PLAIN, 1, run) for run in range(few)],
    }
    if c is not None:
        contenders["C"] = lambda: c(runs, 1, 1)
        contenders["C, 2 threads"] = lambda: c(runs, 1, 2)
    each: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        names = list(contenders)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken = seconds(contenders[name]) / (few if name in {"SimPy", "reference"} else runs)
            if turn > 0:
                each[name].append(taken)

    def ratio(slow: str, fast: str) -> float:
        return statistics.median(a / b for a, b in zip(each[slow], each[fast], strict=True))

    result = simulate_fast(PLAIN, runs, 1)
    line = report.line
    report.heading(
        "Plain case", f"{runs:,} runs a round, {result.interruptions.mean():.1f} interruptions a run, {rounds} rounds"
    )
    per_run = statistics.median(each["engine"])
    print(f"  (one thread: {1e-6 / per_run:.2f} M runs/s, {1e9 * per_run / result.interruptions.mean():.1f} ns a loss)")
    if c is None:
        line("C", "no compiler")
    else:
        largest = float(np.abs(c(1000, 1, 1) - result.makespan_hours[:1000]).max())
        line("largest difference to C's makespans (same draws), hours", f"{largest:.1e}")
        line("speed of the engine / C (gcc -O3 -march=native), one thread each", f"{ratio('C', 'engine'):.2f}",
             judged(ratio("C", "engine"), 0.9, at_least=True))  # fmt: skip
        line("  two threads each", f"{ratio('C, 2 threads', 'engine, 2 threads'):.2f}")
        line("C on two threads / one", f"{ratio('C', 'C, 2 threads'):.2f}")
    two = ratio("engine", "engine, 2 threads")
    line("engine on two threads / one", f"{two:.2f}", judged(two, 1.8, at_least=True))
    line("speed of the engine / vectorised NumPy", f"{ratio('NumPy', 'engine'):.1f}")
    line("speed of the engine / SimPy", f"{ratio('SimPy', 'engine'):,.0f}")
    line("speed of the engine / reference engine", f"{ratio('reference', 'engine'):,.0f}")
    expected = expected_totals(
        work_hours=100.0, interval_hours=0.5, stall_hours=5 / 60, startup_hours=5 / 60, rate_per_hour=0.15,
        provision_hours=0.1, refund_age_hours=0.0,
    ).makespan_hours  # fmt: skip
    summary = result.summary("makespan_hours")
    numpy_mean, simpy_mean = vectorised_numpy(runs, 1).mean(), simulated_by_simpy(few, 1).mean()
    line("mean makespan: exact, engine", f"{expected:.3f}, {summary.mean:.3f}", f"± {summary.standard_error:.3f}")
    line("mean makespan: NumPy, SimPy (few runs)", f"{numpy_mean:.3f}, {simpy_mean:.2f}")


def other_cases(report: Report, rounds: int, runs: int) -> None:
    """Every rule, other lifetimes, fleets and policies, per interruption, as multiples of the plain case's time."""

    def run(spec: Spec, count: int) -> Runs:
        return simulate_fast(spec, count, 1, threads=1)

    rigid = replace(FLEET, min_nodes=None)
    cases: dict[str, tuple[Spec, int, float | None]] = {
        "every rule, one node": (EVERY_RULE, runs // 2, 3.0),
        "every rule, Weibull lifetimes": (replace(EVERY_RULE, lifetime=Weibull(0.62, 4.6)), runs // 4, None),
        "every rule, bathtub lifetimes": (
            replace(EVERY_RULE, lifetime=Bathtub(0.45, 1.0, 24.0, 0.8, 24.0)),
            runs // 4,
            None,
        ),
        "16 nodes, elastic": (FLEET, runs // 40, 12.0),
        "16 nodes, elastic, bulk 0.1": (replace(FLEET, bulk=0.1), runs // 40, 12.0),
        "16 nodes, rigid, bulk 0.1": (replace(rigid, bulk=0.1, work_hours=25.0), runs // 40, None),
    }
    ratios: dict[str, list[float]] = {name: [] for name in cases}
    lost: dict[str, float] = {}
    for turn in range(rounds + 1):
        for name, (spec, count, _) in cases.items():
            started = time.perf_counter()
            plain = run(PLAIN, runs // 2)
            per_plain = (time.perf_counter() - started) / plain.interruptions.sum()
            started = time.perf_counter()
            result = run(spec, count)
            per_event = (time.perf_counter() - started) / result.interruptions.sum()
            lost[name] = float(result.reclaimed_nodes.sum() / result.interruptions.sum())
            if turn > 0:
                ratios[name].append(per_event / per_plain)
    report.heading("Every rule, fleets", "time per interruption, in multiples of the plain case's, one thread")
    for name, (_, _, limit) in cases.items():
        ratio = statistics.median(ratios[name])
        note = "" if limit is None else judged(ratio, limit, at_least=False)
        if lost[name] > 1.05:
            note += f" ({lost[name]:.1f} nodes an event: {ratio / lost[name]:.1f} per lost node)"
        report.line(name, f"{ratio:.2f}", note.strip())


def policies(report: Report, rounds: int, runs: int) -> None:
    """Deadline policies against the reference engine."""
    few = max(4, runs // 20_000)
    report.heading(
        "Deadline policies", "speed of the engine / reference engine, one thread, the plain case at 1.4 × work"
    )
    for policy in ("greedy", "uniform-progress"):
        spec = replace(
            PLAIN, policy=policy, deadline_hours=1.4 * PLAIN.work_hours, on_demand_usd_per_hour=24.0,
            provision=ExponentialProvision(3.0),
        )  # fmt: skip
        ratios = []
        for turn in range(min(rounds, 3) + 1):
            slow = seconds(partial(simulate, spec, runs=few, seed=1, engine="reference")) / few
            fast = seconds(partial(simulate_fast, spec, runs // 20, 1, threads=1)) / (runs // 20)
            if turn > 0:
                ratios.append(slow / fast)
        report.line(policy, f"{statistics.median(ratios):,.0f}")


def variance_reduction(report: Report, runs: int) -> None:
    """How many times fewer runs give the same standard error, for the mean cost and for differences of intervals."""
    line = report.line
    report.heading(
        "Variance reduction", f"variance of the plain estimate / variance of the one that is reported, {runs:,} runs"
    )
    cases = {
        "plain case": PLAIN,
        "plain case, asynchronous (stall 5 s, persist 60 s)": replace(
            PLAIN, stall_hours=5 / 3600, persist_hours=1 / 60
        ),
        "every rule": EVERY_RULE,
        "every rule, Weibull lifetimes": replace(EVERY_RULE, lifetime=Weibull(0.62, 4.6)),
        "every rule, rate known from 20 events": replace(EVERY_RULE, rate_events=20.0, rate_exposure_hours=20 / 0.15),
    }
    for name, spec in cases.items():
        control = control_spec(spec)
        assert control is not None
        controls = controls_for(spec, 1, runs, simulate(control, runs=runs, seed=1))
        base, other = (
            simulate(replace(spec, interval_hours=interval), runs=runs, seed=1).cost_usd for interval in (0.5, 0.6)
        )
        independent = simulate(replace(spec, interval_hours=0.6), runs=runs, seed=2).cost_usd
        mean = controls.estimate(base)
        common = (base - independent).var() / (base - other).var()
        paired = controls.estimate(base - other)
        line(f"{name}: mean cost, control variates", f"{mean.variance_ratio:.1f}")
        line("  0.5 h against 0.6 h: common random numbers", f"{common:.1f}")
        line("  and control variates on the difference", f"{common * paired.variance_ratio:.1f}")


SCRIPT = """
import time
started = time.perf_counter()
from benchmarks.plain_peers import PLAIN
from benchmarks.simulator import EVERY_RULE, FLEET
from dataclasses import replace
from simulator.engine import simulate_fast
from simulator.engine.drive import drive
import simulator.engine.plain, simulator.engine.node, simulator.engine.fleet, simulator.engine.policy
print(time.perf_counter() - started)
for spec in (PLAIN, EVERY_RULE, FLEET, replace(PLAIN, policy="greedy", deadline_hours=200.0)):
    started = time.perf_counter()
    drive(spec, 10, 1, 0, None, 1)
    print(time.perf_counter() - started)
"""


def start_up(report: Report) -> None:
    """Cold and warm start in fresh processes: imports, then the first simulation by each kernel."""
    report.heading(
        "First simulation in a fresh process", "seconds: imports; then the plain, single-node, fleet and policy kernel"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PLANNER_CACHE_DIR": folder}
        for name in ("cold: kernels are compiled", "warm: kernels are read from the cache"):
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
            )
            imports, *kernels = (float(value) for value in done.stdout.split())
            report.line(name, f"{imports:.2f}; " + ", ".join(f"{value:.2f}" for value in kernels))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks simulator", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that are counted (default 7)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs: for a look, not for quoting")
    parser.add_argument("--out", type=Path, help="also write the tables to this Markdown file")
    options = parser.parse_args(arguments)
    runs = 20_000 if options.quick else 200_000
    print(machine())
    report = Report()
    plain_case(report, options.rounds, runs)
    other_cases(report, options.rounds, runs)
    policies(report, options.rounds, runs)
    variance_reduction(report, runs // 4)
    start_up(report)
    if options.out:
        report.write(options.out, f"python -m benchmarks simulator --rounds {options.rounds}")
    return 0
