"""Bring the files that a restore needs into one directory on this node, each verified before anyone interprets it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.checkpoint.digests import digest_file
from harness.checkpoint.faults import reach
from harness.checkpoint.manifest import FileEntry, Manifest
from harness.checkpoint.targets.base import MissingObjectError, Target
from harness.errors import CorruptCheckpointError

_FILES_AT_ONCE = 4
_TRIES = 2
"""A digest that differs after a fetch may have been damaged on the way: fetch once more before giving up."""


class Assembly:
    """One checkpoint's files on this node: from its own disk where the digest matches, else from the target.

    The digests come from `manifest` alone.  `trust_local` skips the digest (not the size) of local files.
    """

    def __init__(
        self, manifest: Manifest, folder: Path, local: Path, target: Target | None, *, trust_local: bool
    ) -> None:
        self.manifest, self.folder = manifest, folder
        self._local, self._target, self._trust_local = local, target, trust_local
        self._lock = threading.Lock()
        self.bytes_local = 0
        self.bytes_fetched = 0
        self.damaged_local: list[str] = []
        """Files on this disk that were not what the manifest says."""

    def obtain(self, paths: Collection[str]) -> None:
        """Make these files available, verified, below `folder`.

        Raises CorruptCheckpointError when a file is missing or differs everywhere, ExternalServiceError when the
        target does not answer.
        """
        entries = [
            entry
            for path in sorted(set(paths))
            if not (self.folder / (entry := self.manifest.entry(path)).path).exists()
        ]
        for entry in entries:
            (self.folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_FILES_AT_ONCE, thread_name_prefix="checkpoint-fetch") as pool:
            taken = list(pool.map(self._take_local, entries))
            to_fetch = [entry for entry, here in zip(entries, taken, strict=True) if not here]
            for _ in pool.map(self._fetch, to_fetch):
                reach("restore:between_files")

    def _take_local(self, entry: FileEntry) -> bool:
        source, wanted = self._local / entry.path, self.folder / entry.path
        try:
            if source.stat().st_size != entry.bytes or not (self._trust_local or self._matches(source, entry)):
                self._note_damage(entry)
                return False
            # A link, so that retention may delete the original while it is being read.
            wanted.hardlink_to(source)
        except FileNotFoundError:
            return False
        except OSError:
            # A disk that cannot read or link this file: the target has it too.
            self._note_damage(entry)
            return False
        with self._lock:
            self.bytes_local += entry.bytes
        return True

    def _note_damage(self, entry: FileEntry) -> None:
        with self._lock:
            self.damaged_local.append(entry.path)
            self.damaged_local.sort()

    def _fetch(self, entry: FileEntry) -> None:
        wanted = self.folder / entry.path
        if self._target is None:
            raise CorruptCheckpointError(
                f"{entry.path} is damaged or missing on this node's disk, the only place it was on"
            )
        key = f"{self.manifest.run_id}/{self.manifest.name}/{entry.path}"
        for _ in range(_TRIES):
            wanted.unlink(missing_ok=True)
            try:
                self._target.get_file(key, wanted)
            except MissingObjectError:
                raise CorruptCheckpointError(f"{entry.path} is missing on {self._target.uri}") from None
            if wanted.stat().st_size == entry.bytes and self._matches(wanted, entry):
                with self._lock:
                    self.bytes_fetched += entry.bytes
                return
        wanted.unlink(missing_ok=True)
        raise CorruptCheckpointError(f"{entry.path} on {self._target.uri} differs from its digest")

    def _matches(self, path: Path, entry: FileEntry) -> bool:
        return digest_file(path, self.manifest.digest) == (entry.bytes, entry.digest)

    def discard(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.folder, ignore_errors=True)
