"""What is simulated: one frozen description of a job on interruptible nodes, all durations in hours.

`docs/model.md`'s words are the field names here.  The file-facing scenario (seconds, YAML, defaults from tables) is
`planner.scenario`; it ends in a `Spec`.  Values are checked on construction: an engine never sees nonsense.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field, fields
from typing import TypeGuard

from harness.errors import InvalidInputError, did_you_mean
from simulator.lifetimes import Exponential, Lifetime, TraceReplay
from simulator.policies import POLICY_CODES
from simulator.provision import ConstantProvision, Provision

HOURS_PER_MONTH = 730.0
"""Storage is priced per GiB-month; a month is 730 h (rule 7)."""

TOLERANCE_HOURS = 1e-6 / 3600.0
"""Comparisons of progress, and ties between moments, use a tolerance of 1 µs (docs/model.md, "Units")."""

SHORTEST_INTERVAL_HOURS = 1e-3 / 3600.0
"""A thousand times the tolerance; nobody saves more often than every millisecond."""

MAX_NODES = 65_536
"""Fits the 24 bits that a node's index has in the counter of the draws."""

MAX_KEPT = 1_000_000


@dataclass(frozen=True, slots=True)
class PriceSeries:
    """A price per node over time: change points in hours since the first request, the last one held.

    ``PriceSeries.constant(8.0)`` is the usual case.  `start_hours` begins with 0 and increases strictly.
    """

    start_hours: tuple[float, ...]
    usd_per_hour: tuple[float, ...]

    @classmethod
    def constant(cls, usd_per_hour: float) -> PriceSeries:
        """One price for ever."""
        return cls((0.0,), (usd_per_hour,))

    def __post_init__(self) -> None:
        if not self.start_hours or len(self.start_hours) != len(self.usd_per_hour):
            raise InvalidInputError(
                "spot_usd_per_hour", self.start_hours, "as many change points as prices, at least one"
            )
        if self.start_hours[0] != 0.0 or any(
            b <= a for a, b in zip(self.start_hours, self.start_hours[1:], strict=False)
        ):
            raise InvalidInputError("spot_usd_per_hour", self.start_hours, "change points that start at 0 and increase")
        for start in self.start_hours:
            _require(math.isfinite(start), "spot_usd_per_hour", start, "finite change points")
        for price in self.usd_per_hour:
            _finite("spot_usd_per_hour", price)

    @property
    def is_constant(self) -> bool:
        """Whether the price never changes."""
        return len(self.start_hours) == 1

    def integral_usd(self, from_hours: float, to_hours: float) -> float:
        """∫ price(t) dt over [from, to], in dollars: what one node costs that is billed in that time (rule 7)."""
        usd = 0.0
        for i, (start, price) in enumerate(zip(self.start_hours, self.usd_per_hour, strict=True)):
            end = self.start_hours[i + 1] if i + 1 < len(self.start_hours) else math.inf
            usd += price * max(0.0, min(to_hours, end) - max(from_hours, start))
        return usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One simulated job.  Defaults are the neutral element of each rule (no overhead, no notice, one node)."""

    # job
    work_hours: float
    """Useful hours on the whole fleet, uninterrupted, without checkpoints."""
    checkpoint_gib: float = 0.0
    deadline_hours: float | None = None

    # fleet (rule 8); rigid when min_nodes == nodes, elastic when below
    nodes: int = 1
    min_nodes: int | None = None
    """None: as `nodes` (rigid)."""
    scaling: float = 1.0
    detect_hours: float = 0.0
    rendezvous_hours: float = 0.0
    bulk: float = 0.0

    # market
    price: PriceSeries = field(default_factory=lambda: PriceSeries.constant(0.0))
    """Spot price of one node."""
    on_demand_usd_per_hour: float = 0.0
    first_hour_refund: bool = False
    lifetime: Lifetime = field(default_factory=lambda: Exponential(0.0))
    provision: Provision = field(default_factory=lambda: ConstantProvision(0.0))

    # notice (rule 4)
    notice_hours: float = 0.0
    notice_success: float = 0.0

    # checkpoint (rules 3-6)
    interval_hours: float = math.inf
    """Progress between two checkpoint starts; infinite: only the final checkpoint."""
    stall_hours: float = 0.0
    persist_hours: float = 0.0
    emergency_hours: float = 0.0
    persist_slowdown: float = 0.0
    corruption: float = 0.0
    keep_last: int = 3

    # restart (rule 2)
    startup_hours: float = 0.0

    # storage (rule 7)
    storage_usd_per_gib_month: float = 0.0
    usd_per_1000_puts: float = 0.0
    usd_per_1000_gets: float = 0.0
    shards: int = 1

    # policy (rule 9)
    policy: str = "spot-only"
    decision_hours: float = 60.0 / 3600.0

    # rate uncertainty: what the lifetime was estimated from; None: the lifetime is taken as known
    rate_events: float | None = None
    """Interruptions that were seen."""
    rate_exposure_hours: float | None = None
    """Node-hours in which they were seen."""

    @property
    def minimum_nodes(self) -> int:
        """`min_nodes`, or `nodes` where none is given."""
        return self.nodes if self.min_nodes is None else self.min_nodes

    @property
    def is_elastic(self) -> bool:
        """Whether the run may go on with fewer than `nodes` (rule 8)."""
        return self.minimum_nodes < self.nodes

    @property
    def marginal_hazard_divisor(self) -> float:
        """1 + (nodes - 1)·bulk: each node's own cumulative hazard is divided by it.

        So that what a log of single nodes shows stays the given lifetime (rule 8, correlated loss).
        """
        return 1.0 + (self.nodes - 1) * self.bulk

    def with_interval(self, interval_hours: float) -> Spec:
        """The same job at another interval: `dataclasses.replace`, but only what changes is checked again."""
        _interval(interval_hours)
        changed = object.__new__(Spec)
        for read, write in _SLOTS:
            write(changed, read(self))
        object.__setattr__(changed, "interval_hours", interval_hours)
        return changed

    def __post_init__(self) -> None:
        self._check_job_and_fleet()
        self._check_money_and_times()
        self._check_uncertainty()

    def _check_job_and_fleet(self) -> None:
        _finite("work_hours", self.work_hours, above_zero=True)
        if self.deadline_hours is not None:
            _finite("deadline_hours", self.deadline_hours, above_zero=True)
        _whole("nodes", self.nodes, 1, MAX_NODES)
        if self.min_nodes is not None:
            _whole("min_nodes", self.min_nodes, 1, self.nodes, f"nodes={self.nodes}")
        names = tuple(POLICY_CODES)
        if isinstance(self.lifetime, TraceReplay):
            _require(self.bulk == 0.0, "bulk", self.bulk, "0 with a trace: its losses come together as they did")
        _require(self.policy in names, "policy", self.policy, f"one of {', '.join(names)}", names)
        if self.policy in {"greedy", "uniform-progress"}:
            why = f"policy {self.policy}"
            _require(self.deadline_hours is not None, "deadline_hours", None, f"a deadline: {why} needs one")
            _require(self.nodes == 1, "nodes", self.nodes, f"1 with {why}: it decides for one node")
        _finite("decision_hours", self.decision_hours, above_zero=True)

    def _check_money_and_times(self) -> None:
        for name in (
            "checkpoint_gib",
            "scaling",
            "detect_hours",
            "rendezvous_hours",
            "on_demand_usd_per_hour",
            "notice_hours",
            "stall_hours",
            "persist_hours",
            "emergency_hours",
            "startup_hours",
            "storage_usd_per_gib_month",
            "usd_per_1000_puts",
            "usd_per_1000_gets",
        ):
            _finite(name, getattr(self, name))
        _interval(self.interval_hours)
        for name in ("bulk", "notice_success", "corruption"):
            value = getattr(self, name)
            _require(_is_number(value) and 0.0 <= value <= 1.0, name, value, "a probability between 0 and 1")
        slowdown = self.persist_slowdown
        _require(_is_number(slowdown) and 0.0 <= slowdown < 1.0, "persist_slowdown", slowdown, "a fraction in [0, 1)")
        _whole("keep_last", self.keep_last, 1, MAX_KEPT)
        _whole("shards", self.shards, 1, MAX_KEPT)

    def _check_uncertainty(self) -> None:
        events, exposure = self.rate_events, self.rate_exposure_hours
        if events is None and exposure is None:
            return
        if events is None or exposure is None:
            missing = "rate_events" if events is None else "rate_exposure_hours"
            raise InvalidInputError(missing, None, "a value: events and exposure_hours come together")
        _finite("rate_events", events)
        _finite("rate_exposure_hours", exposure, above_zero=True)
        if isinstance(self.lifetime, TraceReplay):
            raise InvalidInputError("rate_events", events, "no uncertain rate with a trace: it has no rate to scale")
        if isinstance(self.lifetime, Exponential):
            rate = self.lifetime.rate_per_hour
            expected = "a rate > 0 where events and exposure_hours are given, such as (events + 1/2) / exposure_hours"
            _require(rate > 0.0, "lifetime.rate_per_hour", rate, expected)
        else:
            _require(
                events > 0.0, "rate_events", events, "an event at least, behind a lifetime that is not exponential"
            )


_SLOTS = tuple((Spec.__dict__[entry.name].__get__, Spec.__dict__[entry.name].__set__) for entry in fields(Spec))
"""How each field is read and written: a search changes the interval of a spec dozens of times for every candidate."""


def _interval(value: object) -> None:
    _require(
        _is_number(value) and value >= SHORTEST_INTERVAL_HOURS,
        "interval_hours",
        value,
        f"a duration of at least {SHORTEST_INTERVAL_HOURS * 3600:g} s (infinite: only the final checkpoint)",
    )


def _finite(name: str, value: object, *, above_zero: bool = False) -> None:
    ok = _is_number(value) and math.isfinite(value) and (value > 0.0 if above_zero else value >= 0.0)
    _require(ok, name, value, f"a finite number {'> 0' if above_zero else '>= 0'}")


def _whole(name: str, value: object, low: int, high: int, high_name: str | None = None) -> None:
    # A number that is not whole is shown as it is written in Python: "got 2" for 2.0 would not say what is wrong.
    shown = repr(value) if isinstance(value, float) else value
    _require(is_whole(value, low, high), name, shown, f"a whole number from {low} to {high_name or high}")


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether `value` is a whole number (NumPy's too; a truth value is none) from `low` to `high`."""
    if type(value) is int:  # nearly always, and much faster to see than to ask an abstract class
        return low <= value <= high
    return not isinstance(value, bool) and isinstance(value, numbers.Integral) and low <= int(value) <= high


def _is_number(value: object) -> TypeGuard[float]:
    """A real number (NumPy's too), not NaN and not a truth value."""
    if type(value) is float:  # nearly always, and a hundred times faster to see than to ask an abstract class
        return not math.isnan(value)
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and not math.isnan(value)


def _require(condition: bool, name: str, value: object, expected: str, choices: tuple[str, ...] = ()) -> None:
    if not condition:
        raise InvalidInputError(name, value, expected, did_you_mean(str(value), choices))
