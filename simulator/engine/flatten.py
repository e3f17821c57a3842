"""A `Spec` as the flat arrays that kernels take: read once per simulation, never inside a loop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.draws import STREAM_RUN, uniforms_array
from simulator.engine.layout import PARAMETERS
from simulator.horizon import MAX_INTERRUPTIONS, horizon_hours
from simulator.lifetimes.kernels import TRACE
from simulator.policies import POLICY_CODES
from simulator.spec import HOURS_PER_MONTH, PriceSeries, Spec
from simulator.uncertainty import hazard_factors

_MOST_CELLS = 4096

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FlatPrice:
    """A price series for `engine.fates.price_integral`."""

    starts: Floats
    values: Floats
    sums: Floats
    """∫ price dt up to each change point."""
    cells: NDArray[np.int64]
    """The piece in force at the start of each of equally long cells up to the last change point."""
    cells_per_hour: float

    @classmethod
    def of(cls, price: PriceSeries) -> FlatPrice:
        starts = np.array(price.start_hours, dtype=np.float64)
        values = np.array(price.usd_per_hour, dtype=np.float64)
        sums = np.concatenate([[0.0], np.cumsum(np.diff(starts) * values[:-1])])
        if starts.size == 1:
            return cls(starts, values, sums, np.zeros(1, dtype=np.int64), 0.0)
        count = min(_MOST_CELLS, 64 * starts.size)
        edges = np.linspace(0.0, starts[-1], count, endpoint=False)
        # One cell back: an edge that rounding puts a hair late must not start beyond the moment that is looked up.
        cells = np.maximum(np.searchsorted(starts, np.concatenate([[0.0], edges[:-1]]), side="right") - 1, 0)
        return cls(starts, values, sums, cells.astype(np.int64), count / float(starts[-1]))


@dataclass(frozen=True)
class Flat:
    """Everything a kernel reads, for runs first_run … first_run + runs − 1 of one seed."""

    parameters: Floats
    lifetime: Floats
    provision: Floats
    hazard_scales: Floats
    """What the unit exponential of each run's lifetimes is multiplied by: one entry per run, or one for all."""
    offsets: Floats
    """Hour of the trace at which each run begins: one entry per run, or one for all."""
    price: FlatPrice

    @classmethod
    def of(cls, spec: Spec, runs: int, seed: int, first_run: int) -> Flat:
        lifetime_kind, lifetime = spec.lifetime.packed()
        provision_kind, provision = spec.provision.packed()
        price = FlatPrice.of(spec.price)
        scales = np.array([spec.marginal_hazard_divisor])
        offsets = np.zeros(1)
        if spec.rate_events is not None or lifetime_kind == TRACE:
            u_rate, u_offset = uniforms_array(seed, np.arange(first_run, first_run + runs), 0, 0, STREAM_RUN)
            if spec.rate_events is not None:
                scales = spec.marginal_hazard_divisor / hazard_factors(spec, u_rate)
            if lifetime_kind == TRACE:
                offsets = u_offset * lifetime[1]
        by_name = {
            "work": spec.work_hours,
            "interval": spec.interval_hours,
            "stall": spec.stall_hours,
            "persist": spec.persist_hours,
            "slowdown": spec.persist_slowdown,
            "emergency": spec.emergency_hours,
            "notice": spec.notice_hours,
            "notice_success": spec.notice_success,
            "startup": spec.startup_hours,
            "corruption": spec.corruption,
            "gib_hour_price": spec.checkpoint_gib * spec.storage_usd_per_gib_month / HOURS_PER_MONTH,
            "put_price": spec.shards * spec.usd_per_1000_puts / 1000.0,
            "get_price": spec.shards * spec.usd_per_1000_gets / 1000.0,
            "refund": float(spec.first_hour_refund),
            "keep_last": float(spec.keep_last),
            "nodes": float(spec.nodes),
            "min_nodes": float(spec.minimum_nodes),
            "scaling": spec.scaling,
            "detect": spec.detect_hours,
            "rendezvous": spec.rendezvous_hours,
            "bulk": spec.bulk,
            "lifetime_kind": float(lifetime_kind),
            "provision_kind": float(provision_kind),
            "horizon": horizon_hours(spec),
            "most_interruptions": float(MAX_INTERRUPTIONS),
            "cells_per_hour": price.cells_per_hour,
            "policy": float(POLICY_CODES[spec.policy]),
            "decision": spec.decision_hours,
            "deadline": math.inf if spec.deadline_hours is None else spec.deadline_hours,
            "on_demand_price": spec.on_demand_usd_per_hour,
        }
        parameters = np.array([by_name[name] for name in PARAMETERS], dtype=np.float64)
        own = [np.array(values, dtype=np.float64) for values in (lifetime, provision, scales, offsets)]
        return cls(parameters, own[0], own[1], own[2], own[3], price)
