"""From telemetry to a profile: what a run measured, how often, how certain it is, and what it could not tell.

A quantity that the telemetry does not hold stays None in the profile, and an assumption in the next plan: nothing is
guessed here.  Pure functions; reading is `planner.telemetry_runs`, writing the command's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import InvalidInputError
from harness.telemetry.schema import Measurement, Profile
from planner.catalogue import Instance
from planner.hazard_source import rate_interval_per_hour
from planner.profile import describes
from planner.telemetry_runs import MeasuredRun, replacement_seconds
from simulator.statistics import Proportion, wilson_interval

_USED_FOR: dict[str, tuple[str, str, str]] = {
    # field of Profile: unit, what the next plan uses it for, why it may be missing
    "step_seconds": ("s", "interval", "no window of steps was finished"),
    "samples_per_second": ("1/s", "shown only", "no window of steps was finished"),
    "stall_seconds": ("s", "stall", "no checkpoint became durable"),
    "persist_seconds": ("s", "persist", "no checkpoint became durable"),
    "emergency_seconds": ("s", "emergency", "no save on a notice became durable"),
    "startup_seconds": ("s", "startup", "no attempt says when its launcher started"),
    "checkpoint_bytes": ("bytes", "size, scale", "no checkpoint tells its size"),
    "replacement_seconds": ("s", "provision", "no reclaimed node was replaced"),
}

NOT_IN_TELEMETRY: tuple[tuple[str, str], ...] = (
    ("boot_seconds", "the boot is over before the harness starts"),
    ("persist_slowdown", "step times are not separated by whether an upload was in flight"),
    ("spot_usd_per_hour", "the harness does not know the price"),
)
"""What a scenario needs and no telemetry says: these stay the plan's assumptions."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the run ran, as far as the user or the run's config says: telemetry does not know."""

    provider: str | None = None
    instance: str | None = None
    region: str | None = None
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """One measured quantity and what it is for."""

    name: str
    unit: str
    measurement: Measurement
    used_for: str


@dataclass(frozen=True, slots=True)
class Missing:
    """One quantity that was not measured, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """The profile and how to read it."""

    profile: Profile
    attempts: int
    finished: bool
    measured: tuple[Measured, ...]
    missing: tuple[Missing, ...]
    rate_interval_per_hour: tuple[float, float] | None
    """95 % interval of the interruption rate (Gamma posterior, Jeffreys' prior); None without exposure."""
    notice_success: Proportion | None
    """Share of notices acted on with its 95 % interval (Wilson); None without a notice."""
    notes: tuple[str, ...]

    @property
    def rate_per_hour(self) -> float | None:
        """Posterior mean of the rate, (interruptions + 1/2) / exposure: what the next plan uses."""
        exposure = self.profile.exposure_hours
        return (self.profile.interruptions + 0.5) / exposure if exposure > 0.0 else None


def calibrate(runs: Sequence[MeasuredRun], place: Place, instance: Instance | None = None) -> Calibration:
    """The profile of `runs`, pooled where they are several.

    `instance` is the catalogue's row of `place.instance`: a profile measured on CPUs is not given the name of a type
    with accelerators (InvalidInputError).  Runs that cannot be pooled raise InvalidInputError.
    """
    profile = pool(
        [run.summary.profile.model_copy(update={"replacement_seconds": replacement_seconds(run)}) for run in runs]
    )
    if instance is not None and not describes(profile, instance):
        raise InvalidInputError(
            "--instance",
            instance.name,
            f"the type that was measured: the telemetry is of device {profile.device!r}",
            "leave it out",
        )
    profile = profile.model_copy(
        update={
            "provider": place.provider,
            "instance": place.instance,
            "region": place.region,
            "zone": place.zone,
        }
    )
    measured, missing = [], []
    for name, (unit, used_for, why) in _USED_FOR.items():
        measurement = getattr(profile, name)
        if measurement is None:
            missing.append(Missing(name, why))
        else:
            measured.append(Measured(name, unit, measurement, used_for))
    if not profile.notices:
        missing.append(Missing("notice_success", "no notice came"))
    missing += [Missing(name, why) for name, why in NOT_IN_TELEMETRY]
    exposure = profile.exposure_hours
    acted_on = min(profile.notices_acted_on, profile.notices)
    return Calibration(
        profile=profile,
        attempts=sum(len(run.summary.attempts) for run in runs),
        finished=all(run.summary.finished for run in runs),
        measured=tuple(measured),
        missing=tuple(missing),
        rate_interval_per_hour=rate_interval_per_hour(profile.interruptions, exposure) if exposure > 0.0 else None,
        notice_success=wilson_interval(acted_on, profile.notices) if profile.notices else None,
        notes=tuple(_notes(runs, profile, measured)),
    )


def _notes(runs: Sequence[MeasuredRun], profile: Profile, measured: Sequence[Measured]) -> list[str]:
    notes = []
    single = [row.name for row in measured if row.measurement.n == 1]
    if single:
        notes.append(f"measured once, so without a spread: {', '.join(single)}")
    if profile.instance is None:
        notes.append(
            "no instance type is named (--instance, or --config): a plan uses the rate only with --hazard profile"
        )
    unfinished = [run.run_id for run in runs if not run.summary.finished]
    if unfinished:
        notes.append(f"not finished yet, measured so far: {', '.join(unfinished)}")
    if profile.checkpoints_failed:
        notes.append(f"{profile.checkpoints_failed} checkpoints failed: their durations are not in the figures")
    return notes


def pool(profiles: Sequence[Profile]) -> Profile:
    """Several runs' profiles as one: counts and hours add up, measurements are of all observations together.

    Raises InvalidInputError for runs of another fleet size or device, whose durations are not of one kind.
    """
    first = profiles[0]
    if len(profiles) == 1:
        return first
    for name in ("nodes", "world_size", "device"):
        values = sorted({str(getattr(profile, name)) for profile in profiles})
        if len(values) > 1:
            raise InvalidInputError(
                "--pool", f"runs with {name} {' and '.join(values)}", f"runs of one {name}", "calibrate them one by one"
            )
    counts = (
        "notices",
        "notices_acted_on",
        "interruptions",
        "exposure_hours",
        "checkpoints_failed",
        "lost_steps",
        "useful_steps",
        "wall_hours",
    )
    wall = sum(profile.wall_hours for profile in profiles)
    known = [profile for profile in profiles if profile.goodput is not None]
    useful = sum(profile.goodput * profile.wall_hours for profile in known if profile.goodput is not None)
    return first.model_copy(
        update={
            "run_ids": tuple(sorted({run for profile in profiles for run in profile.run_ids})),
            "created_wall_time": max(profile.created_wall_time for profile in profiles),
            **{name: pool_measurements([getattr(profile, name) for profile in profiles]) for name in _USED_FOR},
            **{name: sum(getattr(profile, name) for profile in profiles) for name in counts},
            "goodput": min(1.0, useful / wall) if len(known) == len(profiles) and wall > 0.0 else None,
        }
    )


def pool_measurements(parts: Sequence[Measurement | None]) -> Measurement | None:
    """The measurement of all observations together, from those of its parts; None when no part has any.

    Exact: the sum of squares about the common mean is that within the parts plus that between their means.
    """
    known = [part for part in parts if part is not None]
    if not known:
        return None
    n = sum(part.n for part in known)
    mean = math.fsum(part.n * part.mean for part in known) / n
    squares = math.fsum((p.n - 1) * p.standard_deviation**2 + p.n * (p.mean - mean) ** 2 for p in known)
    return Measurement(
        mean=mean,
        n=n,
        standard_deviation=math.sqrt(squares / (n - 1)) if n > 1 else 0.0,
        minimum=min(part.minimum for part in known),
        maximum=max(part.maximum for part in known),
    )
