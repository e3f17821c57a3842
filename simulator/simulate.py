"""The front door: many runs of one spec, by whichever engine fits."""

from __future__ import annotations

from collections.abc import Callable

from harness.errors import InvalidInputError, did_you_mean
from simulator import draws
from simulator.engine import simulate_fast
from simulator.horizon import require_finishable
from simulator.reference import simulate_run
from simulator.runs import RunResult, Runs
from simulator.spec import Spec, is_whole

ENGINES = ("auto", "reference", "fast")

Progress = Callable[[int, int], None]
"""Called now and then with (runs done, runs asked for)."""


def simulate(
    spec: Spec,
    *,
    runs: int,
    seed: int,
    engine: str = "auto",
    first_run: int = 0,
    progress: Progress | None = None,
) -> Runs:
    """Simulate runs `first_run` … `first_run` + `runs` - 1 of `seed`.

    engine:   "fast" (compiled; "auto" is the same: it knows every spec) or "reference" (the oracle: slow, readable).
              Both give the same numbers for the same (spec, seed, run).
    progress: called with (done, runs) from time to time.

    Ctrl-C stops at once: what is done so far comes back with `complete` False (KeyboardInterrupt passes through only
    when nothing is done yet).  InvalidInputError for values out of range and for a job that cannot finish
    (`simulator.horizon`).
    """
    _whole("runs", runs, 1, draws.MAX_RUN + 1)
    _whole("seed", seed, 0, draws.MAX_SEED)
    _whole("first_run", first_run, 0, draws.MAX_RUN + 1 - runs)
    if engine not in ENGINES:
        raise InvalidInputError("engine", engine, f"one of {', '.join(ENGINES)}", did_you_mean(engine, ENGINES))
    require_finishable(spec)
    if engine != "reference":
        return simulate_fast(spec, runs, seed, first_run, progress)
    return _simulate_reference(spec, runs, seed, first_run, progress)


def _simulate_reference(spec: Spec, runs: int, seed: int, first_run: int, progress: Progress | None) -> Runs:
    results: list[RunResult] = []
    every = max(1, runs // 100)
    try:
        for run in range(first_run, first_run + runs):
            results.append(simulate_run(spec, seed, run))
            if progress is not None and len(results) % every == 0:
                progress(len(results), runs)
    except KeyboardInterrupt:
        if not results:
            raise
    return Runs.from_results(spec, seed, results, first_run=first_run, complete=len(results) == runs)


def _whole(name: str, value: object, low: int, high: int) -> None:
    if not is_whole(value, low, high):
        raise InvalidInputError(name, value, f"a whole number from {low} to {high}")
