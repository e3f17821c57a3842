"""From a `Spec` to `Runs`: choose the kernel, share the runs out, put the rows together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.engine.flatten import Flat
from simulator.engine.layout import INTERRUPTIONS, MAKESPAN, ROWS
from simulator.engine.parallel import Piece, Progress, default_threads, run_in_pieces
from simulator.engine.philox import key_words
from simulator.horizon import horizon_hours, raise_beyond_horizon
from simulator.lifetimes.kernels import EXPONENTIAL, PROVISION_CONSTANT
from simulator.runs import Runs
from simulator.spec import Spec


def is_plain(spec: Spec) -> bool:
    """Whether the plain kernel gives everything that `spec` asks for."""
    return (
        spec.nodes == 1
        and spec.policy == "spot-only"
        and spec.lifetime.packed()[0] == EXPONENTIAL
        and spec.provision.packed()[0] == PROVISION_CONSTANT
        and (spec.notice_success == 0.0 or spec.emergency_hours > spec.notice_hours)
        and spec.persist_slowdown == 0.0
        and spec.corruption == 0.0
        and not spec.first_hour_refund
        and spec.price.is_constant
        and spec.rate_events is None
        and spec.checkpoint_gib * spec.storage_usd_per_gib_month == 0.0
        and spec.usd_per_1000_puts == spec.usd_per_1000_gets == 0.0
    )


def on_demand_column(spec: Spec) -> NDArray[np.float64]:
    """Rule 9, on-demand: no reclaim, no wait, one startup, one final checkpoint; all runs are this one."""
    makespan = spec.startup_hours + spec.work_hours + spec.stall_hours + spec.persist_hours
    if makespan > horizon_hours(spec):
        raise_beyond_horizon(spec, makespan, 0)
    node_hours = spec.nodes * makespan
    storage = spec.shards * spec.usd_per_1000_puts / 1000.0
    by_name = dict.fromkeys(ROWS, 0.0) | {
        "makespan_hours": makespan,
        "cost_usd": node_hours * spec.on_demand_usd_per_hour + storage,
        "checkpoint_hours": spec.stall_hours + spec.persist_hours,
        "startup_hours": spec.startup_hours,
        "storage_usd": storage,
        "billed_hours": node_hours,
        "on_demand_hours": node_hours,
    }
    return np.array([by_name[name] for name in ROWS])


def kernel_for(spec: Spec, flat: Flat, seed: int, first_run: int, out: NDArray[np.float64]) -> Piece:
    """The function that fills columns begin … end − 1 of `out`."""
    if spec.policy == "on-demand":
        column = on_demand_column(spec)

        def the_same(begin: int, end: int) -> None:
            out[:, begin:end] = column[:, np.newaxis]

        return the_same
    key0, key1 = key_words(seed)
    run: Any = np.int64(first_run)
    if is_plain(spec):
        from simulator.engine.plain import plain_runs

        rate, wait, usd = float(flat.lifetime[0]), float(flat.provision[0]), float(flat.price.values[0])

        def plain(begin: int, end: int) -> None:
            plain_runs(flat.parameters, rate, wait, usd, key0, key1, run, begin, end, out)

        return plain
    if spec.policy != "spot-only":
        from simulator.engine.policy import policy_runs

        general_runs: Any = policy_runs
    elif spec.nodes == 1:
        from simulator.engine.node import node_runs

        general_runs = node_runs
    else:
        from simulator.engine.fleet import fleet_runs

        general_runs = fleet_runs
    price = flat.price

    def general(begin: int, end: int) -> None:
        general_runs(
            flat.parameters, flat.lifetime, flat.provision, flat.hazard_scales, flat.offsets, price.starts,
            price.values, price.sums, price.cells, key0, key1, run, begin, end, out,
        )  # fmt: skip

    return general


def drive(spec: Spec, runs: int, seed: int, first_run: int, progress: Progress | None, threads: int | None) -> Runs:
    """`simulator.engine.simulate_fast`."""
    flat = Flat.of(spec, runs, seed, first_run)
    out = np.empty((len(ROWS), runs), dtype=np.float64)
    fill = kernel_for(spec, flat, seed, first_run, out)
    fill(0, 0)  # compiles or loads the kernel before threads ask for it

    def piece(begin: int, end: int) -> None:
        fill(begin, end)
        given_up = np.flatnonzero(out[MAKESPAN, begin:end] < 0.0)
        if given_up.size:
            first = begin + given_up[0]
            raise_beyond_horizon(spec, -out[MAKESPAN, first], int(out[INTERRUPTIONS, first]))

    done = run_in_pieces(piece, runs, threads=threads or default_threads(), progress=progress)
    if done == 0:
        raise KeyboardInterrupt
    rows = {name: out[row, :done] for row, name in enumerate(ROWS)}
    return Runs(spec=spec, seed=seed, first_run=first_run, complete=done == runs, **rows)
