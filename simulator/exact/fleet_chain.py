"""An elastic fleet of independent exponential lives without fixed delays: a Markov chain, solved exactly.

Premises (rule 8): startup, detect, rendezvous, stall, persist, emergency and notice are 0, so changes take no time;
every notice is acted on, so nothing is rolled back and state is kept below `min_nodes`; waits are exponential, so
each missing node returns at rate 1/mean; a node's marginal loss rate is λ.  The number k of nodes that are up is then
a Markov chain: up at rate (n − k)/mean; down by events at rate k·λ/(1 + (n − 1)·bulk), each taking one node and each
other one with probability `bulk`.  Progress grows at r_k = (k/n)^scaling for k >= min_nodes, else not at all.

h_k(x), the expected integral of a reward c_k over the time that x hours of work still take from k nodes, obeys
``r_k·h_k'(x) = c_k + Σ_j Q_kj·h_j(x)``, h_k(0) = 0 where r_k > 0: linear, solved by a matrix exponential after the
states without progress are eliminated (there 0 = c_k + Σ_j Q_kj·h_j).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from harness.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class FleetExpectation:
    """Expected totals of one run of the fleet."""

    makespan_hours: float
    waiting_hours: float
    """Below `min_nodes`, the time before the first start included."""
    reduced_fleet_hours: float
    interruptions: float
    """Events; one event may take several nodes."""
    reclaimed_nodes: float
    billed_hours: float
    """Node-hours from arrival to reclaim or the run's end."""


def solve_fleet(
    *,
    work_hours: float,
    rate_per_hour: float,
    mean_provision_hours: float,
    nodes: int = 2,
    min_nodes: int = 1,
    scaling: float = 1.0,
    bulk: float = 0.0,
) -> FleetExpectation:
    """Expectations of an elastic fleet under the premises of the module docstring; hours, rate per node-hour."""
    if not 1 <= min_nodes <= nodes:
        raise InvalidInputError("min_nodes", min_nodes, f"a whole number from 1 to nodes={nodes}")
    if not (math.isfinite(mean_provision_hours) and mean_provision_hours > 0.0):
        raise InvalidInputError("mean_provision_hours", mean_provision_hours, "a finite number of hours > 0")
    k = np.arange(nodes + 1)
    own_rate = rate_per_hour / (1.0 + (nodes - 1) * bulk)
    generator = _generator(nodes, own_rate, mean_provision_hours, bulk)
    speed = np.where(k >= min_nodes, (k / nodes) ** scaling, 0.0)
    rewards = np.stack(
        [
            np.ones(nodes + 1),
            np.where(k < min_nodes, 1.0, 0.0),
            np.where(k >= min_nodes, 1.0 - speed, 0.0),
            k * own_rate,
            k * rate_per_hour * _marginal_share(k, nodes, bulk),
            k.astype(np.float64),
        ],
        axis=1,
    )
    totals = _expected_rewards(generator, speed, rewards, work_hours)[0]
    return FleetExpectation(*(float(total) for total in totals))


def _marginal_share(k: NDArray[np.int64], nodes: int, bulk: float) -> NDArray[np.float64]:
    """Loss rate of one of k nodes that are up, relative to one of a full fleet: fewer others can take it along."""
    return (1.0 + (np.maximum(k, 1) - 1) * bulk) / (1.0 + (nodes - 1) * bulk)


def _generator(nodes: int, own_rate: float, mean_wait: float, bulk: float) -> NDArray[np.float64]:
    q = np.zeros((nodes + 1, nodes + 1))
    for up in range(nodes + 1):
        if up < nodes:
            q[up, up + 1] = (nodes - up) / mean_wait
        for others in range(up):
            taken = math.comb(up - 1, others) * bulk**others * (1.0 - bulk) ** (up - 1 - others)
            q[up, up - 1 - others] += up * own_rate * taken
        q[up, up] = -q[up].sum()
    return q


def _expected_rewards(
    q: NDArray[np.float64], speed: NDArray[np.float64], rewards: NDArray[np.float64], work: float
) -> NDArray[np.float64]:
    """h(work), one row per state, one column per reward."""
    still, moving = speed == 0.0, speed > 0.0
    # h_still = A·h_moving + B from 0 = c + Q·h
    inverse = np.linalg.inv(-q[np.ix_(still, still)])
    a = inverse @ q[np.ix_(still, moving)]
    b = inverse @ rewards[still]
    slope = (q[np.ix_(moving, moving)] + q[np.ix_(moving, still)] @ a) / speed[moving][:, None]
    constant = (rewards[moving] + q[np.ix_(moving, still)] @ b) / speed[moving][:, None]
    # h' = slope·h + constant, h(0) = 0, as one exponential of an augmented matrix.
    m, r = slope.shape[0], rewards.shape[1]
    augmented = np.zeros((m + r, m + r))
    augmented[:m, :m], augmented[:m, m:] = slope, constant
    moving_part = linalg.expm(augmented * work)[:m, m:]
    result = np.zeros_like(rewards)
    result[moving] = moving_part
    result[still] = a @ moving_part + b
    return result
