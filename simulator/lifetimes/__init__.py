"""How long a node lives before the provider takes it back: one class per distribution, one formula per module.

No module here imports numpy at import time: the command line builds lifetimes before it knows that it will simulate.
"""

from __future__ import annotations

from simulator.lifetimes.base import Lifetime
from simulator.lifetimes.bathtub import Bathtub
from simulator.lifetimes.empirical import Empirical
from simulator.lifetimes.exponential import Exponential
from simulator.lifetimes.trace import TraceReplay
from simulator.lifetimes.weibull import Weibull

__all__ = ["Bathtub", "Empirical", "Exponential", "Lifetime", "TraceReplay", "Weibull"]
