"""How long the planner takes: recommend for one type over all zones, and compare over every priced AWS row.

    python -m benchmarks planner [--rounds N]

The work is that of the commands, in this process, with warm kernels.  The engine's share is the time inside
`simulate`, of the planner and of the sweep's search; the rest is tables, completion, statistics and ranking.
As yardsticks: the interpreter's own start (``python -c pass``), the command as a whole in a fresh process, and the
engine's raw speed on the recommended place.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from planner.catalogue import load_catalogue
from planner.compare import Comparison, compare
from planner.completion import Knowledge
from planner.evaluate import Candidate
from planner.layers import layer
from planner.recommend import recommend
from planner.selection import Wanted, select
from simulator.simulate import simulate

JOB = {"work_hours": 100.0, "checkpoint_gib": 50.0}
TYPE = "p4d.24xlarge"
COUNTS = (1, 2, 4, 8)
LARGEST_ERROR = 0.005
LARGEST_SHARE = 0.10


@dataclass
class Engine:
    """Time inside the engine, and what it did there."""

    seconds: float = 0.0
    calls: int = 0
    runs: int = 0


@contextmanager
def timed_engine() -> Iterator[Engine]:
    """Every call of `simulate`, by whatever module it was imported, is timed while this lasts."""
    engine = Engine()

    @functools.wraps(simulate)
    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            found = simulate(*arguments, **named)
        finally:
            engine.seconds += time.perf_counter() - began
        engine.calls += 1
        engine.runs += len(found)
        return found

    places = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith(("planner.", "simulator.")) and getattr(module, "simulate", None) is simulate
    ]
    names = {module.__name__ for module in places}
    assert names >= {"planner.interval_search", "planner.sensitivity", "planner.breakeven", "simulator.sweep"}, names
    for module in places:
        module.simulate = timed  # type: ignore[attr-defined]
    try:
        yield engine
    finally:
        for module in places:
            module.simulate = simulate  # type: ignore[attr-defined]


def knowledge() -> Knowledge:
    """The bundled tables, read anew."""
    catalogue = load_catalogue()
    return Knowledge(catalogue=catalogue, assumptions=catalogue.assumptions)


def recommend_one_type() -> tuple[Candidate, ...]:
    """As ``planner recommend --instance p4d.24xlarge --work-hours 100 --checkpoint-gib 50``."""
    layered = layer({"job": JOB, "fleet": {"instance": TYPE}}, None, {})
    known = knowledge()
    selection = select(layered, known, Wanted())
    return recommend(layered, known, selection).candidates


def compare_aws() -> Comparison:
    """As ``planner compare --provider aws --reference p4d.24xlarge --node-counts 1,2,4,8`` with the same job."""
    layered = layer({"job": JOB, "fleet": {"provider": "aws"}}, None, {})
    known = knowledge()
    return compare(layered, known, select(layered, known, Wanted(reference=TYPE, node_counts=COUNTS)))


def median_seconds(work: Callable[[], object], rounds: int) -> float:
    """Median wall time."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def process(*arguments: str) -> Callable[[], object]:
    """A fresh interpreter with these arguments."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def line(name: str, value: str) -> None:
    """One row."""
    print(f"  {name:<52} {value:>14}", flush=True)


def case(name: str, work: Callable[[], Any], rounds: int, interpreter: float) -> tuple[Any, float]:
    """Print one case's rows (the median round's); what it returned and the share of time outside the engine."""
    work()  # reads the compiled kernels, fills the file cache
    measured: list[tuple[float, Engine]] = []
    found: Any = None
    for _ in range(rounds):
        with timed_engine() as engine:
            began = time.perf_counter()
            found = work()
            measured.append((time.perf_counter() - began, engine))
    measured.sort(key=lambda pair: pair[0])
    wall, engine = measured[len(measured) // 2]
    print(name)
    line("wall time", f"{wall:.2f} s")
    line("as a multiple of the interpreter's own start", f"{wall / interpreter:.0f}")
    line("inside the engine", f"{engine.seconds:.2f} s")
    line("  calls; simulated runs", f"{engine.calls:,}; {engine.runs:,}")
    outside = 1.0 - engine.seconds / wall
    line("share of time outside the engine", f"{outside:.1%}")
    return found, outside


def raw_speed(candidate: Candidate, runs: int = 100_000) -> None:
    """Runs per second of the engine on one candidate's spec."""
    simulate(candidate.spec, runs=1_000, seed=1)
    began = time.perf_counter()
    simulate(candidate.spec, runs=runs, seed=1)
    line("the engine alone on the best place, runs per second", f"{runs / (time.perf_counter() - began):,.0f}")


def largest_error(candidates: Sequence[Candidate]) -> float:
    """Of the mean cost, relative."""
    return max(c.cost_usd.standard_error / c.cost_usd.mean for c in candidates)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 when a candidate's error is too large or the big case spends too much outside the engine."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks planner", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts (default 3)")
    rounds = parser.parse_args(arguments).rounds
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start\n")
    interpreter = median_seconds(process("-c", "pass"), 9)
    line("python -c pass", f"{interpreter * 1000:.0f} ms")
    line("planner --help, whole process", f"{median_seconds(process('-m', 'planner', '--help'), 3):.2f} s")
    flags = ("recommend", "--instance", TYPE, "--work-hours", "100", "--checkpoint-gib", "50")
    line("planner recommend, whole process", f"{median_seconds(process('-m', 'planner', *flags), rounds):.2f} s")
    print()
    found, _ = case(f"recommend: {TYPE}, all zones", recommend_one_type, rounds, interpreter)
    line("candidates", f"{len(found):,}")
    line("largest standard error of the cost", f"{largest_error(found):.2%}")
    raw_speed(found[0])
    print()
    compared, outside = case(
        f"compare: every priced AWS row x {', '.join(map(str, COUNTS))} nodes", compare_aws, rounds, interpreter
    )
    candidates = compared.candidates
    error = largest_error(candidates)
    line("candidates; rejected", f"{len(candidates):,}; {len(compared.rejected):,}")
    line("  at the level of a region (no zone)", f"{sum(c.offer.zone is None for c in candidates):,}")
    line("largest standard error of the cost", f"{error:.2%}")
    missed = [name for name, bad in (("error", error > LARGEST_ERROR), ("share", outside > LARGEST_SHARE)) if bad]
    if missed or not math.isfinite(error):
        print(f"\nmissed: {', '.join(missed)} (at most {LARGEST_ERROR:.1%} and {LARGEST_SHARE:.0%})")
        return 1
    return 0
