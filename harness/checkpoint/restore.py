"""Restoring: one decision for all ranks, every byte verified before it is interpreted, nothing half loaded."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.checkpoint.assemble import Assembly
from harness.checkpoint.candidates import Candidate, Rejected, Survey, candidate_names, consider
from harness.checkpoint.components import ComponentState, load_component
from harness.checkpoint.digests import digest_file
from harness.checkpoint.faults import reach
from harness.checkpoint.generation import Lineage, check_fence, read_lineage, record_restore
from harness.checkpoint.identity import check_identity, identity_of
from harness.checkpoint.local import LocalCheckpoint, LocalStore
from harness.checkpoint.manifest import Manifest
from harness.checkpoint.names import RESTORING, part_name
from harness.checkpoint.outcomes import RestoredState, Source
from harness.checkpoint.persist import publish_manifest
from harness.checkpoint.place import Place
from harness.checkpoint.ranks import PeerLostError, Ranks, agreed, agreed_at_length, together
from harness.checkpoint.reading import Loadable, index_files, interpret, plan_reading
from harness.checkpoint.targets.base import Target
from harness.errors import (
    CheckpointError,
    CorruptCheckpointError,
    ExternalServiceError,
    FencedError,
    InvalidInputError,
)

States = Mapping[str, ComponentState]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Restorer:
    """Everything that a restore needs; `restore` is collective."""

    run_id: str
    generation: int
    verify: Literal["always", "remote-only"]
    on_corrupt: Literal["older", "newest-model"]
    place: Place
    ranks: Ranks
    local: LocalStore
    target: Target

    def restore(self, components: Mapping[str, Any], states: States) -> RestoredState | None:
        """See `Checkpointer.restore`; `states` are the components' present states."""
        survey: Survey = together(self.ranks, self._survey)
        names, lineage = together(self.ranks, lambda: self._begin(states, survey))[0]
        rejected: list[Rejected] = []
        damaged = 0
        for name in names:
            candidate = together(self.ranks, functools.partial(self._consider, name, lineage, survey))[0]
            if isinstance(candidate, Rejected):
                rejected.append(candidate)
                damaged += candidate.damaged
                continue
            assert candidate is not None
            for chosen in self._choices(states):
                try:
                    return self._restore_from(candidate, components, chosen, states, rejected)
                except CorruptCheckpointError as error:
                    logger.warning("%s cannot be restored%s: %s", name, _only(chosen, states), error)
                    reason = str(error)
            rejected.append(Rejected(name, reason))
            damaged += 1
        if damaged:
            raise CheckpointError(
                f"run {self.run_id}: no checkpoint verifies ({_skipped(rejected)}); nothing was loaded. Repair "
                f"{self.target.uri}/{self.run_id} or choose a new run_id to start from the beginning"
            )
        if lineage.newest is not None:
            generation, gone = lineage.newest
            others = f", nor can any other ({_skipped(rejected)})" if rejected else " and no other is there"
            raise CheckpointError(
                f"run {self.run_id}: generation {generation} went on from {gone}, which cannot be restored any more"
                f"{others}; nothing was loaded. Bring it back to {self.target.uri}/{self.run_id} from a copy, or "
                "choose a new run_id to start from the beginning"
            )
        if rejected:
            logger.warning("run %s starts from the beginning; skipped %s", self.run_id, _skipped(rejected))
        agreed(self.ranks, lambda: self._record(None))
        return None

    def _choices(self, states: States) -> list[States]:
        """What to try of one checkpoint: everything; and, if so configured, at least the models."""
        models = {name: state for name, state in states.items() if state.is_module}
        return [states, models] if self.on_corrupt == "newest-model" and 0 < len(models) < len(states) else [states]

    def _survey(self) -> dict[str, LocalCheckpoint]:
        return self.local.survey() if self.place.leads_node else {}

    def _begin(self, states: States, survey: Survey) -> tuple[list[str], Lineage]:
        if self.place.rank != 0:
            return [], Lineage(())
        reach("restore:before_choice")
        check_fence(self.target, self.run_id, self.generation)
        shapes = {name: state.shapes_digest() for name, state in states.items() if state.is_module}
        check_identity(self.target, identity_of(self.run_id, shapes))
        return candidate_names(self.target, self.run_id, survey), read_lineage(self.target, self.run_id)

    def _consider(self, name: str, lineage: Lineage, survey: Survey) -> Candidate | Rejected | None:
        if self.place.rank != 0:
            return None
        return consider(self.target, self.run_id, name, lineage, survey, self.place.nodes)

    def _restore_from(
        self,
        candidate: Candidate,
        components: Mapping[str, Any],
        chosen: States,
        states: States,
        rejected: list[Rejected],
    ) -> RestoredState:
        """Restore the `chosen` ones of the registered components (`states`)."""
        manifest = candidate.manifest
        self._check_components(manifest, states)
        if candidate.origin == "several nodes":
            self._finish_upload(candidate)
        assembly = Assembly(
            manifest,
            self.local.root / f"{RESTORING}{manifest.name}-g{self.generation:04d}",
            self.local.root / manifest.name,
            None if candidate.origin == "this node" else self.target,
            trust_local=self.verify == "remote-only",
        )
        try:
            loadable = self._read(assembly, components, chosen)
            fetched = self.ranks.gather((self.place.node, assembly.bytes_local, assembly.bytes_fetched))
            agreed(self.ranks, lambda: self._load(components, loadable))
        finally:
            if self.place.leads_node:
                assembly.discard()
        if candidate.origin == "this node":
            self._try_to_finish_upload(candidate)
        agreed(self.ranks, lambda: self._record(manifest.name))
        left_out = sorted(states.keys() - chosen.keys())
        return self._describe(manifest, loadable, fetched, assembly.damaged_local, left_out, rejected)

    def _check_components(self, manifest: Manifest, states: States) -> None:
        for name, state in states.items():
            stored = manifest.components.get(name)
            if stored is None or (stored.kind == "per-rank") != state.per_rank:
                raise InvalidInputError(
                    f"component {name}",
                    "not in the checkpoint" if stored is None else f"{stored.kind} in the checkpoint",
                    f"one of {', '.join(sorted(manifest.components))}, as {manifest.name} holds them",
                    "register the components that this run was started with, or choose a new run_id",
                )

    def _read(self, assembly: Assembly, components: Mapping[str, Any], states: States) -> Loadable:
        """Everything this rank needs, from verified files; all ranks succeed or fail alike."""
        reach("restore:before_files")
        small = index_files(assembly.manifest, states)
        agreed(self.ranks, lambda: assembly.obtain(small) if self.place.leads_node else None)
        mine = agreed(self.ranks, lambda: plan_reading(assembly, components, states, self.place.rank))
        wanted = self.ranks.gather((self.place.node, mine.files))
        needed = {path for node, paths in wanted if node == self.place.node for path in paths}
        agreed(self.ranks, lambda: assembly.obtain(needed) if self.place.leads_node else None)
        return agreed(self.ranks, lambda: interpret(assembly, mine, states, self.place.rank))

    def _load(self, components: Mapping[str, Any], loadable: Loadable) -> None:
        reach("restore:before_load")
        if self.place.rank == 0:
            check_fence(self.target, self.run_id, self.generation)
        for name, document in loadable.documents.items():
            load_component(name, components[name], document, loadable.tensors[name])

    def _record(self, restored: str | None) -> None:
        if self.place.rank == 0:
            reach("restore:before_record")
            check_fence(self.target, self.run_id, self.generation)
            record_restore(self.target, self.run_id, self.generation, restored)

    def _finish_upload(self, candidate: Candidate) -> None:
        """Every part lies on some node's disk but not all are on the target: bring them there, then publish."""
        agreed_at_length(self.ranks, lambda: self._upload_held_parts(candidate))
        agreed(self.ranks, lambda: self._publish_for_all(candidate))

    def _try_to_finish_upload(self, candidate: Candidate) -> None:
        """As `_finish_upload`, for what the only node has restored from its own disk: it goes on without, too."""
        try:
            self._finish_upload(candidate)
        except (PeerLostError, FencedError):
            raise
        except (CheckpointError, ExternalServiceError) as error:
            logger.warning(
                "%s was restored, but until the next save it is on this node's disk only: %s",
                candidate.manifest.name,
                error,
            )

    def _upload_held_parts(self, candidate: Candidate) -> None:
        manifest = candidate.manifest
        for node, holder in candidate.holders.items():
            if holder != self.place.rank:
                continue
            part = self.local.read(manifest.name).part
            for file in part.files:
                path = self.local.root / manifest.name / file.path
                if digest_file(path, manifest.digest) != (file.bytes, file.digest):
                    raise CorruptCheckpointError(f"{file.path} differs from its digest on the only disk that has it")
                key = f"{self.run_id}/{manifest.name}/{file.path}"
                self.target.put_file(key, path, digest=f"{manifest.digest}:{file.digest}", resume=True)
            name = part_name(node)
            self.target.put_file(f"{self.run_id}/{manifest.name}/{name}", self.local.root / manifest.name / name)

    def _publish_for_all(self, candidate: Candidate) -> None:
        if self.place.rank == 0:
            publish_manifest(self.target, candidate.manifest, self.generation)

    def _describe(
        self,
        manifest: Manifest,
        loadable: Loadable,
        fetched: list[tuple[int, int, int]],
        damaged_local: list[str],
        left_out: list[str],
        rejected: list[Rejected],
    ) -> RestoredState:
        here = [(local, remote) for node, local, remote in fetched if node == self.place.node]
        local, remote = max(here)  # only the leader of the node has anything but zeros
        source = _source(local, remote)
        remote_in_all = sum(found for _, _, found in fetched)
        line = f"restored {manifest.name} ({source}; {remote_in_all / 2**20:.1f} MiB fetched by all nodes)"
        if damaged_local:
            line += f"; damaged on this disk and fetched instead: {', '.join(damaged_local)}"
        if loadable.missing:
            line += f"; not restored: {', '.join(loadable.missing)} (saved by {manifest.world_size} ranks)"
        if left_out:
            line += f"; DAMAGED AND NOT RESTORED, as on_corrupt: newest-model asks: {', '.join(left_out)}"
        if rejected:
            line += f"; skipped {_skipped(rejected)}"
        return RestoredState(
            name=manifest.name,
            step=manifest.step,
            generation=manifest.generation,
            progress=loadable.progress,
            world_size=manifest.world_size,
            source=source,
            bytes_fetched=remote,
            bytes=manifest.bytes,
            missing=(*loadable.missing, *left_out),
            skipped=tuple((found.name, found.reason) for found in rejected),
            line=line,
        )


def _only(chosen: States, states: States) -> str:
    return "" if len(chosen) == len(states) else f", not even {', '.join(chosen)} alone"


def _source(local: int, remote: int) -> Source:
    if remote == 0:
        return "local"
    return "local and remote" if local else "remote"


def _skipped(rejected: list[Rejected]) -> str:
    return "; ".join(f"{found.name}: {found.reason}" for found in rejected)
