"""Replay of deadline policies on a recorded availability trace, tick by tick.

Pure: arrays in, results out, seconds inside.  `replay` runs one policy over windows of a `Market` (what was available
at which price, tick by tick) for a `Job` (work, deadline, restart overhead).  The rules are those of
`simulator.policies`; the clock, the bill and the ties are described in docs/deadline-policy.md.

Files are read by `planner.replay_inputs`; nothing here knows where a series comes from.
"""

from simulator.replay.inputs import Job, Market
from simulator.replay.windows import WindowResult, replay

__all__ = ["Job", "Market", "WindowResult", "replay"]
