"""Reading a measured profile: what the harness saw on a real run, in the planner's words.

The schema is the harness's (`harness.telemetry.schema.Profile`); `planner calibrate` writes it from telemetry.  The
next plan uses its figures instead of assumptions; what was not seen is None there and stays an assumption here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from harness.telemetry.schema import Profile
from harness.validation import load_yaml

BYTES_PER_GIB = 2**30


def load_profile(path: Path) -> Profile:
    """The profile in a JSON or YAML file; InvalidInputError, naming file and field, when it is none."""
    return load_yaml(Profile, path)


def profile_share_gib(profile: Profile) -> float | None:
    """GiB that each node saved per checkpoint; None when the profile does not know size or nodes."""
    if profile.checkpoint_bytes is None or not profile.nodes:
        return None
    return profile.checkpoint_bytes.mean / BYTES_PER_GIB / profile.nodes


def profile_source(profile: Profile) -> str:
    """Where the figures come from, as a phrase for the list of assumptions."""
    return f"measured by the harness in {', '.join(profile.run_ids) or 'an unnamed run'}"


def profile_as_of(profile: Profile) -> str:
    """The day on which the profile was made (UTC), YYYY-MM-DD."""
    return datetime.fromtimestamp(profile.created_wall_time, tz=UTC).date().isoformat()
