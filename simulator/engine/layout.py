"""Where each number lies in the arrays that kernels take and fill.

Kernels take one float64 parameter vector and fill one row per quantity, so that every kernel has one signature and
is compiled once, whatever the scenario.
"""

from __future__ import annotations

ROWS = (
    "makespan_hours", "cost_usd", "interruptions", "lost_work_hours", "checkpoint_hours", "startup_hours",
    "waiting_hours", "notice_idle_hours", "slowdown_hours", "reduced_fleet_hours", "outage_hours", "reclaimed_nodes",
    "storage_usd", "billed_hours", "on_demand_hours",
)  # fmt: skip
"""Result rows in order: `simulator.runs.QUANTITIES` (a test holds the two together; kernels import nothing heavy)."""

(
    MAKESPAN, COST, INTERRUPTIONS, LOST, CHECKPOINT, STARTUP, WAITING, NOTICE_IDLE, SLOWDOWN, REDUCED, OUTAGE,
    RECLAIMED, STORAGE, BILLED, ON_DEMAND_HOURS,
) = range(len(ROWS))  # fmt: skip

PARAMETERS = (
    "work", "interval", "stall", "persist", "slowdown", "emergency", "notice", "notice_success", "startup",
    "corruption", "gib_hour_price", "put_price", "get_price", "refund", "keep_last", "nodes", "min_nodes", "scaling",
    "detect", "rendezvous", "bulk", "lifetime_kind", "provision_kind", "horizon",
    "most_interruptions", "cells_per_hour", "policy", "decision", "deadline", "on_demand_price",
)  # fmt: skip
"""Entries of the parameter vector in order (hours; prices per copy-hour, per copy and per restore)."""

(
    WORK, INTERVAL, STALL, PERSIST, PERSIST_SLOWDOWN, EMERGENCY, NOTICE, NOTICE_SUCCESS, STARTUP_TIME,
    CORRUPTION_RATE, GIB_HOUR_PRICE, PUT_PRICE, GET_PRICE, REFUND, KEEP_LAST, NODES, MIN_NODES, SCALING,
    DETECT, RENDEZVOUS, BULK_RATE, LIFETIME_KIND, PROVISION_KIND, HORIZON,
    MOST_INTERRUPTIONS, CELLS_PER_HOUR, POLICY, DECISION, DEADLINE, ON_DEMAND_PRICE,
) = range(len(PARAMETERS))  # fmt: skip

TOLERANCE = 1e-6 / 3600.0
"""Comparisons of progress, and of the moments derived from it, use 1 µs (MODEL.md, "Units")."""
