"""The fast engine: one run is one scalar function compiled by numba, one loop turn per interruption.

    simulate_fast(spec, runs, seed, first_run, progress) -> Runs

It knows every rule that a `Spec` can ask for.

Importing this package imports neither numba nor a kernel; the first simulation does.

    philox    the counter-based generator, compiled          fates     lifetimes, waits and prices, compiled
    plain     one node, exponential, nothing acted on        node      one node, every rule
    fleet     rigid and elastic fleets                      policy    one node under a deadline policy
    flatten   a Spec as arrays                               parallel  threads, Ctrl-C, progress
    compiled  the on-disk cache of kernels                   layout    what lies where in the arrays
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.engine.parallel import Progress
    from simulator.runs import Runs
    from simulator.spec import Spec


def simulate_fast(
    spec: Spec,
    runs: int,
    seed: int,
    first_run: int = 0,
    progress: Progress | None = None,
    *,
    threads: int | None = None,
) -> Runs:
    """Runs first_run … first_run + runs − 1 of `seed`.

    `progress` is called with (runs done, runs in all) a few times a second; `threads` defaults to the cores that the
    process may use.  After Ctrl-C the runs done so far come back with `complete` False.  Raises InvalidInputError
    when a run does not finish within the horizon.
    """
    from simulator.engine.drive import drive

    return drive(spec, runs, seed, first_run, progress, threads)
