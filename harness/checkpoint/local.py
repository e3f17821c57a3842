"""This node's own disk: parts that were published here, what may be deleted, and the local side of the fence."""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.checkpoint.durable import discard_directory, write_durably
from harness.checkpoint.faults import reach
from harness.checkpoint.manifest import Manifest, PartManifest, unseal
from harness.checkpoint.names import (
    DISCARDED,
    GENERATIONS,
    MANIFEST,
    RESTORING,
    WRITING,
    parse_checkpoint_name,
    parse_part_name,
)
from harness.errors import CorruptCheckpointError, FencedError, InvalidInputError

_MARK = re.compile(r"g([0-9]{4,9})")


@dataclass(frozen=True, slots=True)
class LocalCheckpoint:
    """What this disk has of one checkpoint."""

    name: str
    part: PartManifest
    durable: bool
    """A copy of the global manifest lies beside it: the whole checkpoint was durable once."""


class LocalStore:
    """``<directory>/<run_id>`` on this node."""

    def __init__(self, directory: Path, run_id: str, generation: int) -> None:
        self.root, self._run_id, self._generation = directory / run_id, run_id, generation

    def open(self) -> None:
        """Create the directory, take the fence here too, and remove what earlier attempts left unfinished.

        By one process per node.  InvalidInputError when the place cannot be written.
        """
        try:
            (self.root / GENERATIONS).mkdir(parents=True, exist_ok=True)
            (self.root / GENERATIONS / f"g{self._generation:04d}").touch()
        except OSError as error:
            raise InvalidInputError(
                "checkpoint.directory", self.root, "a directory that this process can write", error.strerror
            ) from error
        self.check_fence()
        for path in self.root.iterdir():
            if path.name.startswith((WRITING, RESTORING, DISCARDED)):
                discard_directory(path)

    def discard_unfinished_saves(self) -> None:
        """Remove what a save that failed could not remove; only while none is being written."""
        for path in self.root.iterdir():
            if path.name.startswith((WRITING, DISCARDED)):
                discard_directory(path)

    def check_fence(self) -> None:
        """FencedError when a newer attempt has started on this node: its files must not be touched."""
        newest = newest_mark(self.root)
        if newest > self._generation:
            raise FencedError(
                f"run {self._run_id}: generation {newest} has started on this node; this attempt, generation "
                f"{self._generation}, stops and leaves {self.root} to it"
            )

    def published(self) -> list[str]:
        """Names of the checkpoints with a part on this disk, newest first.

        A later generation's is newer whatever its step: it went on from an older checkpoint than those it voided, and
        must not make way for them.
        """
        with contextlib.suppress(FileNotFoundError):
            return sorted(
                (path.name for path in self.root.iterdir() if parse_checkpoint_name(path.name) and path.is_dir()),
                key=lambda name: (parse_checkpoint_name(name) or (0, 0))[::-1],
                reverse=True,
            )
        return []

    def read(self, name: str) -> LocalCheckpoint:
        """What is here of checkpoint `name`; CorruptCheckpointError when its part manifest is damaged or foreign."""
        folder = self.root / name
        parts = [path for path in folder.iterdir() if parse_part_name(path.name) is not None]
        if len(parts) != 1:
            raise CorruptCheckpointError(f"{folder} holds {len(parts)} part manifests, expected one")
        part = unseal(PartManifest, parts[0].read_bytes(), str(parts[0]))
        self._check_owner(part, name, parts[0])
        return LocalCheckpoint(name, part, (folder / MANIFEST).is_file())

    def survey(self) -> dict[str, LocalCheckpoint]:
        """Everything usable on this disk, by name; InvalidInputError when it belongs to another run."""
        found = {}
        for name in self.published():
            with contextlib.suppress(CorruptCheckpointError, OSError):  # the durable target may still have it
                found[name] = self.read(name)
        return found

    def keep_manifest(self, manifest: Manifest, data: bytes) -> None:
        """Put a copy of the global manifest beside this node's part."""
        write_durably(self.root / manifest.name / MANIFEST, data)

    def retain(self, keep_last: int) -> list[str]:
        """Delete all but the newest `keep_last` parts, and never the newest one known to be durable; their names."""
        names = self.published()
        kept = set(names[:keep_last])
        for name in names:
            if (self.root / name / MANIFEST).is_file():
                kept.add(name)
                break
        gone = [name for name in reversed(names) if name not in kept]
        if gone:
            self.check_fence()
            reach("retention:before_local_delete")
        for name in gone:
            discard_directory(self.root / name)
            reach("retention:between_local_deletes")
        return gone

    def make_room(self, bytes_needed: int) -> None:
        """Before a save: keep only the newest parts when the disk would not hold another one beside all of them."""
        if shutil.disk_usage(self.root).free < bytes_needed * 1.05:
            self.retain(1)

    def _check_owner(self, part: PartManifest, name: str, source: Path) -> None:
        if part.run_id != self._run_id:
            raise InvalidInputError(
                "checkpoint.directory",
                self.root,
                f"a directory of run {self._run_id}",
                f"{source} belongs to run {part.run_id}: use another directory or the right run_id",
            )
        if part.name != name:
            raise CorruptCheckpointError(f"{source} describes {part.name}, not {name}")


def newest_local_generation(directory: Path, run_id: str) -> int:
    """The highest generation of this run that has started on this node; 0 when none has, or none can be read."""
    try:
        return newest_mark(directory / run_id)
    except OSError:
        return 0


def newest_mark(root: Path) -> int:
    """The highest generation that has left its mark in a run's local directory."""
    names = (path.name for path in (root / GENERATIONS).iterdir())
    return max((int(found.group(1)) for name in names if (found := _MARK.fullmatch(name))), default=0)
