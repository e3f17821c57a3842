"""The adaptive deadline policy: least expected cost under what has been seen of the spot market so far.

Three parts, one file each:

- `availability`: four rates (how soon does spot go away, how soon does it come back; each for a state younger or older
  than 45 minutes), learned while the job runs from a prior worth ten hours a rate.  No history is needed.
- `table`: expected cost to finish from (time left, slack, market state, what is running), by dynamic programming.
- `decision`: observe, obey the safety net of rule 5, else take what has the least expected cost.

The safety net is the one of uniform progress and greedy, by the same code (`simulator.policies.decide`), so that no
deadline that they meet is missed.  Rule, proof and measured margins: docs/deadline-policy.md.

Compiled functions of scalars and small arrays: importing this package imports numba.
"""

from simulator.adaptive.decision import Memory, decide_adaptive, new_memory
from simulator.adaptive.table import new_table

__all__ = ["Memory", "decide_adaptive", "new_memory", "new_table"]
