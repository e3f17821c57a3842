"""What checkpoints and restarts cost in seconds, derived from sizes and bandwidths (REQUIREMENTS: B3, B4).

Every node saves and restores its own share of the state, in parallel with the others:

    stall     = overhead + share ÷ (staging rate × accelerators)            device → host memory; training waits
    persist   = share ÷ local write rate + share ÷ upload rate + publish    in the background; then it is durable
    emergency = one notice poll + agreement + stall + persist               from the notice to a durable checkpoint
    startup   = boot + process start + share ÷ download rate + share ÷ staging rate + compilation

Bandwidths come from the instance type; what the type does not say, and what no table can know, is an `Assumption` that
the user can override.  A measured profile replaces any of the four, scaled by the share.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.errors import InvalidInputError
from harness.telemetry.schema import Measurement, Profile
from planner.assumptions import Assumption, Assumptions, load_assumptions
from planner.catalogue import Instance
from planner.profile import describes, profile_as_of, profile_share_gib, profile_source

_GB_PER_GIB = 1.073741824
_MIB_PER_GIB = 1024.0

NETWORK_UNKNOWN = "network-bandwidth-unknown"
LOCAL_DISK_UNKNOWN = "local-disk-unknown"
PROFILE_OF_OTHER_INSTANCE = "profile-of-other-instance"
PROFILE_FAR_FROM_SIZE = "profile-far-from-size"

FLAGS = {
    NETWORK_UNKNOWN: "the type's network bandwidth is in no table: `unknown_network_gbps` is assumed",
    LOCAL_DISK_UNKNOWN: "whether the type has local drives is in no table: a network volume is assumed",
    PROFILE_OF_OTHER_INSTANCE: "the measured profile is of another instance type (or of CPUs) and is not used",
    PROFILE_FAR_FROM_SIZE: "measured at a size more than ten times smaller or larger: scaled in proportion",
}


@dataclass(frozen=True, slots=True)
class DerivedCosts:
    """The four durations in seconds, whether an emergency save fits the notice, and why.

    `parts` breaks each duration (stall, persist, emergency, startup) down into (what, seconds).
    `largest_emergency_gib` is the biggest checkpoint (whole fleet) whose emergency save still fits; None when not
    even an empty one does.  `flags` says which bandwidths of the type are unknown.  `assumptions` are those that were
    used, in the order of use.
    """

    stall_seconds: float
    persist_seconds: float
    emergency_seconds: float
    startup_seconds: float
    notice_seconds: float
    emergency_fits: bool
    largest_emergency_gib: float | None
    parts: dict[str, tuple[tuple[str, float], ...]]
    flags: tuple[str, ...]
    assumptions: tuple[Assumption, ...]

    @property
    def emergency_verdict(self) -> str:
        """One sentence that answers "does an emergency save fit in the notice?" with the numbers."""
        needed = f"an emergency save needs {self.emergency_seconds:.0f} s of the {self.notice_seconds:.0f} s notice"
        if self.largest_emergency_gib is None:
            return f"{needed}: it never fits, whatever the size"
        limit = f"{self.largest_emergency_gib:.0f} GiB is the most that fits"
        return f"{needed}: it {'fits' if self.emergency_fits else 'does not fit'} ({limit})"


class _Ledger:
    """Looks assumptions up and remembers which were used."""

    def __init__(self, assumptions: Assumptions) -> None:
        self._assumptions = assumptions
        self._used: dict[str, Assumption] = {}

    def value(self, name: str) -> float:
        row = self._assumptions.row(name)
        self._used.setdefault(name, row)
        return row.value

    def rate(self, name: str) -> float:
        """A rate: 0 would mean that nothing ever finishes."""
        value = self.value(name)
        if value <= 0.0:
            raise InvalidInputError(name, value, f"a rate > 0 in {self._used[name].unit}")
        return value

    def note(self, row: Assumption) -> None:
        self._used[row.name] = row

    def used(self) -> tuple[Assumption, ...]:
        return tuple(self._used.values())


def derive_costs(
    instance: Instance,
    checkpoint_gib: float,
    nodes: int = 1,
    notice_seconds: float | None = None,
    *,
    assumptions: Assumptions | None = None,
    profile: Profile | None = None,
) -> DerivedCosts:
    """What one checkpoint of `checkpoint_gib` (the whole fleet's state), sharded over `nodes`, costs on `instance`.

    `notice_seconds` defaults to the provider's.  `profile` holds what the harness measured for this job: its figures
    win, scaled by the share per node, unless it says that it is of another instance type.  Raises InvalidInputError
    for a negative size, no nodes or a negative notice.
    """
    _check(checkpoint_gib, nodes, notice_seconds)
    ledger = _Ledger(assumptions or load_assumptions())
    notice = ledger.value(f"notice_seconds_{instance.provider}") if notice_seconds is None else notice_seconds
    share = checkpoint_gib / nodes
    flags: list[str] = []

    # Every duration is fixed + slope × share; the pair also answers which size still fits.
    if profile is not None and not describes(profile, instance):
        flags.append(PROFILE_OF_OTHER_INSTANCE)
        profile = None
    if profile is not None and _far_from(profile_share_gib(profile), share):
        flags.append(PROFILE_FAR_FROM_SIZE)
    measured = _Measured(profile, ledger)
    stall = measured.line("stall_seconds", "copy to host memory") or _stall(instance, ledger)
    persist = measured.line("persist_seconds", "until durable") or _persist(instance, ledger, flags)
    poll = _line(("hear of the notice", ledger.value("notice_poll_seconds"), 0.0))
    emergency = measured.line("emergency_seconds", "agree, save and upload")
    if emergency is None:
        emergency = _line(("agree on the step", ledger.value("notice_agreement_seconds"), 0.0)) + stall + persist
    emergency = poll + emergency
    boot = _line(("boot", ledger.value("boot_seconds"), 0.0))
    # A measured startup runs from the launcher to the first step; how much of it grows with the state is not known.
    startup = boot + (measured.line("startup_seconds", "launch to first step") or _startup(instance, ledger, flags))

    lines = {"stall": stall, "persist": persist, "emergency": emergency, "startup": startup}
    room = notice - emergency.fixed
    largest = None if room < 0.0 else (math.inf if emergency.slope == 0.0 else nodes * room / emergency.slope)
    emergency_seconds = emergency.at(share)
    return DerivedCosts(
        stall_seconds=stall.at(share),
        persist_seconds=persist.at(share),
        emergency_seconds=emergency_seconds,
        startup_seconds=startup.at(share),
        notice_seconds=notice,
        emergency_fits=emergency_seconds <= notice,
        largest_emergency_gib=largest,
        parts={
            name: tuple((what, fixed + slope * share) for what, fixed, slope in line.terms)
            for name, line in lines.items()
        },
        flags=tuple(dict.fromkeys(flags)),
        assumptions=ledger.used(),
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """A duration as a straight line in the share per node: seconds and seconds per GiB, with its named terms."""

    fixed: float
    slope: float
    terms: tuple[tuple[str, float, float], ...]

    def at(self, share_gib: float) -> float:
        return self.fixed + self.slope * share_gib

    def __add__(self, other: _Line) -> _Line:
        return _Line(self.fixed + other.fixed, self.slope + other.slope, self.terms + other.terms)


def _line(*terms: tuple[str, float, float]) -> _Line:
    return _Line(sum(term[1] for term in terms), sum(term[2] for term in terms), terms)


def _stall(instance: Instance, ledger: _Ledger) -> _Line:
    staging = ledger.rate("staging_gib_per_second_per_accelerator") * instance.accelerator_count
    return _line(("copy to host memory", ledger.value("stall_overhead_seconds"), 1.0 / staging))


def _persist(instance: Instance, ledger: _Ledger, flags: list[str]) -> _Line:
    return _line(
        ("write to the local disk", 0.0, 1.0 / _local_write_gib_per_second(instance, ledger, flags)),
        ("upload", 0.0, 1.0 / _object_store_gib_per_second(instance, ledger, flags, "upload")),
        ("publish", ledger.value("publish_seconds"), 0.0),
    )


def _startup(instance: Instance, ledger: _Ledger, flags: list[str]) -> _Line:
    staging = ledger.rate("staging_gib_per_second_per_accelerator") * instance.accelerator_count
    return _line(
        ("process start", ledger.value("process_start_seconds"), 0.0),
        ("download", 0.0, 1.0 / _object_store_gib_per_second(instance, ledger, flags, "download")),
        ("copy to the accelerators", 0.0, 1.0 / staging),
        ("compilation", ledger.value("compile_seconds"), 0.0),
    )


def _local_write_gib_per_second(instance: Instance, ledger: _Ledger, flags: list[str]) -> float:
    if instance.local_nvme_drives:
        drives = instance.local_nvme_drives if ledger.value("nvme_striped") else 1
        return ledger.rate("nvme_write_gb_per_second_per_drive") * drives / _GB_PER_GIB
    if instance.local_nvme_drives is None:
        flags.append(LOCAL_DISK_UNKNOWN)
    volume = ledger.rate("volume_mib_per_second") / _MIB_PER_GIB
    return min(volume, _gib_per_second(instance.disk_gbps)) if instance.disk_gbps else volume


def _object_store_gib_per_second(instance: Instance, ledger: _Ledger, flags: list[str], direction: str) -> float:
    network_gbps = instance.network_gbps
    if network_gbps is None:
        flags.append(NETWORK_UNKNOWN)
        network_gbps = ledger.rate("unknown_network_gbps")
    share = ledger.rate("object_store_share_of_network")
    return min(ledger.rate(f"{direction}_gib_per_second_per_node"), share * _gib_per_second(network_gbps))


def _gib_per_second(gbps: float) -> float:
    return gbps / 8.0 / _GB_PER_GIB


class _Measured:
    """The durations that a profile holds, as lines in the share per node."""

    def __init__(self, profile: Profile | None, ledger: _Ledger) -> None:
        self._profile, self._ledger = profile, ledger

    def line(self, name: str, what: str) -> _Line | None:
        """The duration `name`; proportional to the share where the profile knows its size, None if not measured."""
        if self._profile is None:
            return None
        measurement: Measurement | None = getattr(self._profile, name)
        if measurement is None:
            return None
        seconds = measurement.mean
        origin = profile_source(self._profile, measurement.n)
        self._ledger.note(Assumption(f"measured_{name}", seconds, "s", origin, profile_as_of(self._profile)))
        share = profile_share_gib(self._profile)
        if not share or name == "startup_seconds":
            return _line((what, seconds, 0.0))
        return _line((what, 0.0, seconds / share))


def _far_from(measured_gib: float | None, wanted_gib: float) -> bool:
    """Whether two sizes differ by more than a factor of ten: proportion is then a guess about fixed costs."""
    if not measured_gib or wanted_gib <= 0.0:
        return False
    return not 0.1 <= wanted_gib / measured_gib <= 10.0


def _check(checkpoint_gib: float, nodes: int, notice_seconds: float | None) -> None:
    if not (math.isfinite(checkpoint_gib) and checkpoint_gib >= 0.0):
        raise InvalidInputError("checkpoint_gib", checkpoint_gib, "a finite number of GiB >= 0")
    if nodes < 1:
        raise InvalidInputError("nodes", nodes, "a whole number >= 1")
    if notice_seconds is not None and not (math.isfinite(notice_seconds) and notice_seconds >= 0.0):
        raise InvalidInputError("notice_seconds", notice_seconds, "a finite number of seconds >= 0")
