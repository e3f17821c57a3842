"""Deadline policies: which kind of instance to pay for next, given how far the job is.  One decision per call.

Sources: "Can't Be Late" (Wu et al., NSDI'24) for uniform progress and the safety net; the exact order and ties of the
rules are those of the public simulator of SkyNomad (andylizf/skynomad-artifact, Apache-2.0), checked window by window.

Everything here is a plain scalar function of numbers: no classes, no arrays, no imports but `math`, and no function
calls another one, so that ``numba.njit(decide)`` compiles it unchanged and both engines and the tick replay share one
text.  Pass **seconds**: the rules have frequent ties, and hours are not exact where seconds are.

A driver does, per decision (every event, at least every `step_seconds`)::

    choice = decide(policy, elapsed, done, overhead_left, current, spot_available, work, deadline, restart, step)
    overhead_left = overhead_after(choice, current, spot_available, overhead_left, restart)
    # pay for `choice`; progress starts once overhead_left has been worked off
    current = choice
"""

from __future__ import annotations

import math

NONE = 0
SPOT = 1
ON_DEMAND = 2

SPOT_ONLY = 0
"""Spot whenever it is there, else wait.  No safety net: it may miss the deadline."""
ON_DEMAND_ONLY = 1
GREEDY = 2
"""Spot whenever it is there, else on-demand while behind the straight line from 0 to the deadline; safety net."""
UNIFORM_PROGRESS = 3
"""Greedy with hysteresis: an on-demand instance is left only when ahead of the line by two restarts; safety net."""
FORCED = 4
"""The safety net alone: NONE unless rule 5 commands something.  What `simulator.adaptive` asks before it chooses."""
POLICY_CODES = {
    "spot-only": SPOT_ONLY,
    "on-demand": ON_DEMAND_ONLY,
    "greedy": GREEDY,
    "uniform-progress": UNIFORM_PROGRESS,
}
"""Code of each policy that needs no memory, by the name that users write."""

ADAPTIVE_NAME = "adaptive"
"""The policy of `simulator.adaptive`: least expected cost under what it has seen; it needs a memory and a table."""

POLICY_NAMES = (*POLICY_CODES, ADAPTIVE_NAME)

SPOT_PRICE_TICKS = ("same", "next")
"""At which tick's price a replay charges spot (rule 8)."""

TOLERANCE_SECONDS = 1e-7
"""Two progress values closer than this are a tie.

Exact for whole seconds and deadlines up to 10⁷ s (c·R and t·C are then whole numbers at least 1 apart, so c and t·C/R
are equal or 1/R apart), while rounding noise of an engine that keeps hours stays below it.
"""

TOLERANCE_STEPS = 1e-9
"""Slack when counting whole steps, for the same reason: (R−t)/g is often a whole number."""


def decide(
    policy: int,
    elapsed: float,
    done: float,
    overhead_left: float,
    current: int,
    spot_available: bool,
    work: float,
    deadline: float,
    restart: float,
    step: float,
) -> int:
    """What to run until the next decision: NONE, SPOT or ON_DEMAND (rules 2-5 of the tick replay).

    All durations in seconds.

    policy:         SPOT_ONLY, ON_DEMAND_ONLY, GREEDY, UNIFORM_PROGRESS or FORCED.
    elapsed:        t, since the job was submitted.
    done:           c, useful work that survives up to now.
    overhead_left:  r, restart overhead of the running instance that is not worked off yet.
    current:        what has been running up to now (NONE at the start).
    spot_available: whether spot capacity is there for the coming step.  With `current` SPOT and False, the instance
                    has just been lost.
    work, deadline: C and R of the whole job; `deadline` is counted from submission.
    restart:        d, overhead paid whenever a new instance starts.
    step:           g, longest time to the next decision.
    """
    if policy == ON_DEMAND_ONLY:
        return ON_DEMAND
    running = current
    if running == SPOT and not spot_available:  # rule 2: the step before counted, now there is nothing
        running = NONE
    if policy == SPOT_ONLY:
        return SPOT if spot_available else NONE

    # Rule 3: the wish.
    line = elapsed * work / deadline
    if policy == FORCED:
        choice = NONE
    elif spot_available:
        choice = SPOT
    elif done < line - TOLERANCE_SECONDS:
        choice = ON_DEMAND
    else:
        choice = NONE
    # Rule 4: leaving on-demand costs a restart now and perhaps another one later.
    if policy == UNIFORM_PROGRESS and running == ON_DEMAND:
        ahead = done > (elapsed + 2.0 * restart) * work / deadline + TOLERANCE_SECONDS
        if not (spot_available and ahead):
            choice = ON_DEMAND
    # Rule 5: the safety net, in whole steps.
    left = math.floor((deadline - elapsed) / step + TOLERANCE_STEPS)
    remaining = work - done
    if running != SPOT and math.ceil((remaining + 2.0 * restart) / step - TOLERANCE_STEPS) >= left:
        choice = ON_DEMAND
    if math.ceil((remaining + restart) / step - TOLERANCE_STEPS) >= left:
        choice = SPOT if running == SPOT and overhead_left <= TOLERANCE_SECONDS else ON_DEMAND
    return choice


def overhead_after(choice: int, current: int, spot_available: bool, overhead_left: float, restart: float) -> float:
    """Restart overhead, in seconds, that lies ahead once `choice` is taken (rule 6).

    A new instance owes the whole `restart` (set, not added to what an abandoned start still owed); waiting and staying
    change nothing.
    """
    running = NONE if current == SPOT and not spot_available else current
    if choice != NONE and choice != running:
        return restart
    return overhead_left
