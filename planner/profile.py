"""Reading a measured profile: what the harness saw on a real run, in the planner's words.

The schema is the harness's (`harness.telemetry.schema.Profile`); `planner calibrate` writes it from telemetry.  The
next plan uses its figures instead of assumptions; what was not seen is None there and stays an assumption here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from harness.telemetry.schema import Profile
from harness.validation import load_yaml
from planner.catalogue import Instance

BYTES_PER_GIB = 2**30
UNKNOWN_ACCELERATOR = "unknown"


def load_profile(path: Path) -> Profile:
    """The profile in a JSON or YAML file; InvalidInputError, naming file and field, when it is none."""
    return load_yaml(Profile, path)


def profile_share_gib(profile: Profile) -> float | None:
    """GiB that each node saved per checkpoint; None when the profile does not know size or nodes."""
    if profile.checkpoint_bytes is None or not profile.nodes:
        return None
    return profile.checkpoint_bytes.mean / BYTES_PER_GIB / profile.nodes


def profile_source(profile: Profile, n: int, of: str = "") -> str:
    """Where a figure comes from, with its number of observations, as a phrase for the list of assumptions."""
    runs = ", ".join(profile.run_ids) or "an unnamed run"
    return f"measured, n={n}{f' {of}' if of else ''}: harness telemetry of {runs}"


def describes(profile: Profile, instance: Instance) -> bool:
    """Whether the profile may speak for `instance`: its own type, or an unnamed one with the same kind of device.

    What was measured on a CPU says nothing about a type with accelerators.  A scenario that names no type
    (`instance` without a known accelerator) is the user's own machine: any profile may speak for it.
    """
    if instance.accelerator == UNKNOWN_ACCELERATOR:
        return True
    if profile.instance not in (None, instance.name):
        return False
    return not (profile.device == "cpu" and instance.accelerator_count > 0)


def measured_step_seconds(profile: Profile | None, instance: Instance, nodes: int) -> float | None:
    """Seconds per training step on `nodes` of `instance`; None unless measured on just such a fleet."""
    if profile is None or profile.step_seconds is None or profile.nodes != nodes:
        return None
    return profile.step_seconds.mean if describes(profile, instance) else None


def measured_notice_success(profile: Profile, assumed: float) -> float | None:
    """The probability that a notice is acted on; None when none came.

    The stated assumption counts as one more notice, so that a single success does not become a certainty:
    the mean of a Beta(assumed + acted on, 1 - assumed + not acted on) posterior.
    """
    if not profile.notices:
        return None
    acted_on = min(profile.notices_acted_on, profile.notices)
    return (acted_on + assumed) / (profile.notices + 1.0)


def profile_as_of(profile: Profile) -> str:
    """The day on which the profile was made (UTC), YYYY-MM-DD."""
    return datetime.fromtimestamp(profile.created_wall_time, tz=UTC).date().isoformat()
