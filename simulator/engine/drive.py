"""From a `Spec` to `Runs`: choose the kernel, share the runs out, put the rows together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.engine.flatten import Flat
from simulator.engine.layout import INTERRUPTIONS, MAKESPAN, ROWS
from simulator.engine.parallel import Piece, Progress, default_threads, run_in_pieces
from simulator.engine.philox import key_words
from simulator.horizon import raise_beyond_horizon
from simulator.lifetimes.kernels import EXPONENTIAL, PROVISION_CONSTANT
from simulator.runs import Runs
from simulator.spec import Spec


def is_plain(spec: Spec) -> bool:
    """Whether the plain kernel gives everything that `spec` asks for."""
    return (
        spec.nodes == 1
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


def kernel_for(spec: Spec, flat: Flat, seed: int, first_run: int, out: NDArray[np.float64]) -> Piece:
    """The function that fills columns begin … end − 1 of `out`."""
    key0, key1 = key_words(seed)
    run: Any = np.int64(first_run)
    if is_plain(spec):
        from simulator.engine.plain import plain_runs

        rate, wait, usd = float(flat.lifetime[0]), float(flat.provision[0]), float(flat.price.values[0])

        def plain(begin: int, end: int) -> None:
            plain_runs(flat.parameters, rate, wait, usd, key0, key1, run, begin, end, out)

        return plain
    if spec.nodes == 1:
        from simulator.engine.node import node_runs

        general_runs: Any = node_runs
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
