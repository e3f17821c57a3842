"""The end of a run: its numbers in their rows."""

# numba infers the types of kernels; what they take is said in words.
# mypy: disallow-untyped-defs=False, check-untyped-defs=False

from __future__ import annotations

from simulator.engine import layout
from simulator.engine.compiled import inlined


@inlined
def write_run(
    out, i, parameters, finished, now, nodes_cost, billed, copy_hours, puts, gets, interruptions, reclaimed,
    lost, saving, starting, waiting, idle, slowed, reduced, outage, on_demand_hours,
):  # fmt: skip
    """Fill column `i`; a run that was given up has a negative makespan.  `copy_hours` counts what is left, too."""
    storage = (
        copy_hours * parameters[layout.GIB_HOUR_PRICE]
        + puts * parameters[layout.PUT_PRICE]
        + gets * parameters[layout.GET_PRICE]
    )
    out[layout.MAKESPAN, i] = now if finished else -now
    out[layout.COST, i] = nodes_cost + storage
    out[layout.INTERRUPTIONS, i] = interruptions
    out[layout.LOST, i] = lost
    out[layout.CHECKPOINT, i] = saving
    out[layout.STARTUP, i] = starting
    out[layout.WAITING, i] = waiting
    out[layout.NOTICE_IDLE, i] = idle
    out[layout.SLOWDOWN, i] = slowed
    out[layout.REDUCED, i] = reduced
    out[layout.OUTAGE, i] = outage
    out[layout.RECLAIMED, i] = reclaimed
    out[layout.STORAGE, i] = storage
    out[layout.BILLED, i] = billed
    out[layout.ON_DEMAND_HOURS, i] = on_demand_hours
