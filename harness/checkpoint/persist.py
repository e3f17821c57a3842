"""The background half of a save: write, publish on this node, upload, confirm, publish for all, retain.

Every rank runs `persist` in its own thread; each stage ends with all ranks knowing whether all of them managed it.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.distributed.checkpoint.storage import WriteResult

from harness.checkpoint.digests import DigestingFile
from harness.checkpoint.durable import discard_directory, publish_directory, write_new_file
from harness.checkpoint.faults import reach
from harness.checkpoint.generation import check_fence
from harness.checkpoint.identity import Identity, claim_identity
from harness.checkpoint.local import LocalStore
from harness.checkpoint.manifest import ComponentEntry, DigestName, FileEntry, Manifest, PartManifest, seal, unseal
from harness.checkpoint.names import DOCUMENT, MANIFEST, METADATA, PROGRESS, WRITING, part_name, rank_file_name
from harness.checkpoint.place import Place
from harness.checkpoint.ranks import Ranks, agreed, agreed_at_length, together
from harness.checkpoint.retention import retain_remote
from harness.checkpoint.shards import HostBuffers, metadata_bytes, write_share
from harness.checkpoint.targets.base import MissingObjectError, Target
from harness.clock import Clock
from harness.errors import CheckpointError, SpotPlannerError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Save:
    """One save, copied and ready to be written."""

    name: str
    step: int
    sequence: int
    """Counts the saves of this attempt: makes the temporary directory a fresh one."""
    again: bool
    """A save of this name was tried before: parts of its upload may be there."""
    buffers: HostBuffers
    components: dict[str, ComponentEntry]
    documents: dict[str, bytes]
    """Of sharded components; what rank 0 writes."""
    rank_states: dict[str, bytes]
    """Of per-rank components: this rank's."""
    progress: bytes
    identity: Identity


@dataclass(frozen=True, slots=True)
class Written:
    """What one rank wrote."""

    node: int
    files: list[FileEntry]
    results: dict[str, list[WriteResult]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Saver:
    """Everything that saves need and that stays the same between them."""

    run_id: str
    generation: int
    algorithm: DigestName
    keep_last: int
    keep_last_local: int
    refuse_nan: bool
    place: Place
    ranks: Ranks
    """For the background only: a group that the training thread never uses."""
    local: LocalStore
    target: Target
    clock: Clock
    unfinished: list[str] = field(default_factory=list)
    """Checkpoints of this attempt whose upload failed since the last durable one; the same on every rank."""

    ended: dict[int, str | None] = field(default_factory=dict)
    """What earlier generations restored, as far as retention has read it."""

    def persist(self, save: Save, on_local: Callable[[int], None]) -> Manifest:
        """Make `save` durable; the same error on every rank when any rank could not do its part.

        `on_local` is called with its size in bytes once this node's part is published on its own disk.
        """
        if save.again and (found := together(self.ranks, lambda: self._published_before(save))[0]) is not None:
            self.unfinished.clear()
            return found
        temporary = self.local.root / f"{WRITING}{save.name}-{save.sequence}"
        try:
            agreed(self.ranks, lambda: self._make_folder(save, temporary))
            written = together(self.ranks, lambda: self._write(save, temporary))
            files = together(self.ranks, lambda: self._publish_part(save, temporary, written))
        except SpotPlannerError:
            if self.place.leads_node:
                with contextlib.suppress(OSError):  # a disk that refuses this, too: the next save removes it
                    discard_directory(temporary)
            raise
        # Documents and indices were written by rank 0 for all; they belong to node 0's part.
        by_rank = [Written(report.node, [*report.files, *extra]) for report, extra in zip(written, files, strict=True)]
        on_local(sum(file.bytes for report in by_rank if report.node == self.place.node for file in report.files))
        try:
            if self.unfinished[:-1]:
                agreed(self.ranks, lambda: self._remove_unfinished(save))
            agreed_at_length(self.ranks, lambda: self._upload_files(save, by_rank[self.place.rank]))
            agreed(self.ranks, lambda: self._upload_part(save))
            manifest = together(self.ranks, lambda: self._publish(save, by_rank))[0]
        except SpotPlannerError:
            if save.name not in self.unfinished:
                self.unfinished.append(save.name)
            raise
        assert manifest is not None
        self.unfinished.clear()  # retention removes what is older than a complete one
        return manifest

    def _published_before(self, save: Save) -> Manifest | None:
        """What the try before published although its answer was lost: it is durable, and must not be written over."""
        if self.place.rank != 0:
            return None
        check_fence(self.target, self.run_id, self.generation)
        key = self._key(save, MANIFEST)
        try:
            return unseal(Manifest, self.target.get_bytes(key), f"{self.target.uri}/{key}")
        except MissingObjectError:
            return None

    def _make_folder(self, save: Save, temporary: Path) -> None:
        if self.place.rank == 0:
            check_fence(self.target, self.run_id, self.generation)
        if self.place.leads_node:
            self.local.check_fence()
            self.local.discard_unfinished_saves()
            self.local.make_room(save.buffers.bytes * self.place.ranks_on_node)
            for component in save.components:
                (temporary / component).mkdir(parents=True)
        reach("write:before_files")

    def _write(self, save: Save, temporary: Path) -> Written:
        if self.refuse_nan:
            save.buffers.refuse_nan()
        files, results = [], {}
        for component, entry in save.components.items():
            if entry.kind == "per-rank":
                path = f"{component}/{rank_file_name(self.place.rank)}"
                files.append(self._write_bytes(temporary, path, save.rank_states[component]))
            elif share := save.buffers.share(component):
                file, results[component] = write_share(temporary, component, self.place.rank, share, self.algorithm)
                files.append(file)
        reach("write:after_files")
        return Written(self.place.node, files, results)

    def _publish_part(self, save: Save, temporary: Path, written: list[Written]) -> list[FileEntry]:
        """Rank 0 adds what there is once, each node's leader its part manifest; the files that were added."""
        added: list[FileEntry] = []
        if self.place.rank == 0:
            added.append(self._write_bytes(temporary, PROGRESS, save.progress))
            for component, document in save.documents.items():
                added.append(self._write_bytes(temporary, f"{component}/{DOCUMENT}", document))
                if component in save.buffers.plan.metadata:
                    results = [report.results.get(component, []) for report in written]
                    index = metadata_bytes(save.buffers.plan.metadata[component], results)
                    added.append(self._write_bytes(temporary, f"{component}/{METADATA}", index))
        if self.place.leads_node:
            mine = [file for report in written if report.node == self.place.node for file in report.files]
            part = PartManifest(node=self.place.node, files=(*mine, *added), **self._description(save))
            reach("local:before_part_manifest")
            write_new_file(temporary / part_name(self.place.node), seal(part))
            self.local.check_fence()
            reach("local:before_rename")
            publish_directory(temporary, self.local.root / save.name)
            reach("local:after_rename")
            self.local.retain(self.keep_last_local)
        return added

    def _remove_unfinished(self, save: Save) -> None:
        """Give back the room of uploads that failed; the last one stays: a later attempt can go on with it."""
        gone = [name for name in self.unfinished[:-1] if name != save.name]
        if self.place.rank == 0:
            check_fence(self.target, self.run_id, self.generation)
            for name in gone:
                prefix = f"{self.run_id}/{name}/"
                keys = [info.key for info in self.target.list(prefix)]
                if prefix + MANIFEST not in keys:  # complete after all: the answer to its publication was lost
                    self.target.delete(keys)
        for name in gone:
            self.unfinished.remove(name)

    def _upload_files(self, save: Save, mine: Written) -> None:
        if self.place.leads_node:
            check_fence(self.target, self.run_id, self.generation)
        reach("upload:before_files")
        for file in mine.files:
            self.target.put_file(
                self._key(save, file.path),
                self.local.root / save.name / file.path,
                digest=f"{self.algorithm}:{file.digest}",
                resume=save.again,
            )
            reach("upload:between_files")

    def _upload_part(self, save: Save) -> None:
        if self.place.leads_node:
            name = part_name(self.place.node)
            reach("upload:before_part_manifest")
            self.target.put_file(self._key(save, name), self.local.root / save.name / name)

    def _publish(self, save: Save, written: list[Written]) -> Manifest | None:
        if self.place.rank != 0:
            return None
        manifest = Manifest(
            files=tuple(file for report in written for file in report.files),
            save_id=uuid.uuid4().hex,
            created_unix_seconds=self.clock.wall(),
            torch_version=torch.__version__,
            **self._description(save),
        )
        claim_identity(self.target, save.identity)
        publish_manifest(self.target, manifest, self.generation)
        return manifest

    def tidy(self, manifest: Manifest, protected: tuple[str, ...] = ()) -> None:
        """After a checkpoint became durable: note it beside the local part, and delete what is no longer needed.

        A failure here costs disk space, not the checkpoint: it is logged, and the next save tries again.
        """
        try:
            if self.place.leads_node:
                reach("local:before_manifest")
                self.local.check_fence()
                self.local.keep_manifest(manifest, seal(manifest))
                self.local.retain(self.keep_last_local)
            if self.place.rank == 0:
                retain_remote(self.target, self.run_id, self.generation, self.keep_last, protected, ended=self.ended)
        except (SpotPlannerError, OSError) as error:
            logger.warning("retention after %s was not finished: %s", manifest.name, error)

    def _description(self, save: Save) -> dict[str, object]:
        return {
            "run_id": self.run_id,
            "name": save.name,
            "step": save.step,
            "generation": self.generation,
            "world_size": self.place.world_size,
            "nodes": self.place.nodes,
            "digest": self.algorithm,
            "components": save.components,
        }

    def _write_bytes(self, folder: Path, path: str, data: bytes) -> FileEntry:
        with DigestingFile(folder / path, self.algorithm) as file:
            file.write(data)
            return FileEntry(path=path, bytes=len(data), digest=file.finish())

    def _key(self, save: Save, path: str) -> str:
        return f"{self.run_id}/{save.name}/{path}"


def publish_manifest(target: Target, manifest: Manifest, generation: int) -> None:
    """Confirm that every part is on the durable target, then publish the global manifest, last and conditionally.

    `generation` is the attempt that publishes (not always the one that saved: a later one may finish an upload).
    Raises CheckpointError when something is missing or somebody else published, FencedError when fenced.
    """
    prefix = f"{manifest.run_id}/{manifest.name}/"
    sizes = {info.key[len(prefix) :]: info.bytes for info in target.list(prefix)}
    wrong = [file.path for file in manifest.files if sizes.get(file.path) != file.bytes]
    wrong += [name for node in range(manifest.nodes) if (name := part_name(node)) not in sizes]
    if wrong:
        raise CheckpointError(f"{manifest.name}: {target.uri} lacks {wrong[0]} after its upload ({len(wrong)} files)")
    reach("upload:before_manifest")
    check_fence(target, manifest.run_id, generation)
    if not target.put_bytes_if_absent(prefix + MANIFEST, seal(manifest)):
        raise CheckpointError(f"{manifest.name}: another process has published this checkpoint already")
    reach("upload:after_manifest")
