"""Where a run's telemetry is: on the nodes' own disks, and on the durable target that outlives them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.config import RunConfig
from harness.errors import InvalidInputError
from harness.telemetry.writer import TARGET_PREFIX


def places_of(config: RunConfig, path: Path) -> list[str]:
    """Where the config at `path` says that telemetry goes: the nodes' disks that are here, and the durable target.

    Raises InvalidInputError where neither is to be found.
    """
    found = durable_places(config, path)
    for base in (Path(), path.parent):
        pattern = str(config.telemetry.directory).replace("{node}", "*")
        root = Path(pattern)
        if root.is_absolute():
            found += [str(folder) for folder in Path("/").glob(str(root.relative_to("/")))]
        else:
            found += [str(folder) for folder in base.glob(pattern)]
    if not found:
        raise InvalidInputError(
            "telemetry", config.telemetry.directory, "the run's telemetry on this machine", "name its folder or bucket"
        )
    return sorted(set(found))


def durable_places(config: RunConfig, path: Path) -> list[str]:
    """The run's folder on the durable target of the config at `path`: what reclaimed nodes wrote is only there.

    Empty where the target is a folder that is not on this machine.
    """
    remote = config.checkpoint.remote
    if "://" in remote and not remote.startswith("file://"):
        return [f"{remote.rstrip('/')}/{config.run_id}"]
    local = Path(remote.removeprefix("file://"))
    return sorted({str(p) for p in (local / config.run_id, path.parent / local / config.run_id) if p.is_dir()})


def is_durable(files: Iterable[str], run_ids: Iterable[str]) -> bool:
    """Whether one of these telemetry files at least lies on a durable target (RUN_ID/telemetry/FILE there)."""
    folders = tuple(f"/{run}/{TARGET_PREFIX}" for run in run_ids)
    return any("://" in file or any(folder in f"/{file}" for folder in folders) for file in files)
