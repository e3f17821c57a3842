"""Retention on the durable target: the newest N of the living history stay, and always one complete checkpoint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from harness.checkpoint.faults import reach
from harness.checkpoint.generation import Lineage, check_fence, read_lineage
from harness.checkpoint.names import MANIFEST, parse_checkpoint_name
from harness.checkpoint.targets.base import Target


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What goes, oldest first."""

    keep: tuple[str, ...]
    delete: tuple[str, ...]


def plan_retention(
    complete: Collection[str],
    incomplete: Collection[str],
    lineage: Lineage,
    keep_last: int,
    protected: Collection[str] = (),
) -> RetentionPlan:
    """Which checkpoints to keep and to delete (a pure function).

    Kept: the newest `keep_last` complete ones of the living history, what is `protected`, and whatever is newer than
    the newest complete one (an upload in flight).  Without a complete one nothing is deleted.
    """
    alive = sorted((name for name in complete if lineage.disowned_by(name) is None), key=_key, reverse=True)
    keep = set(alive[: max(1, keep_last)]) | set(protected)
    if not alive:
        return RetentionPlan(tuple(sorted(keep, key=_key)), ())
    newest = _key(alive[0])
    gone = [
        name
        for name in {*complete, *incomplete} - keep
        if name in complete or _key(name) < newest or lineage.disowned_by(name) is not None
    ]
    return RetentionPlan(tuple(sorted(keep, key=_key)), tuple(sorted(gone, key=_key)))


def retain_remote(
    target: Target,
    run_id: str,
    generation: int,
    keep_last: int,
    protected: Collection[str] = (),
    *,
    ended: dict[int, str | None] | None = None,
) -> tuple[str, ...]:
    """Delete what `plan_retention` says from the durable target, and what broken uploads left; the names that went.

    The manifest goes first, so that a checkpoint that is half deleted never looks complete.  FencedError as soon as a
    newer attempt exists: only the newest may delete.  `ended` remembers, from one call to the next, what the earlier
    generations restored: a run of many attempts has many such records.
    """
    prefix = f"{run_id}/"
    keys: dict[str, list[str]] = defaultdict(list)
    for info in target.list(prefix):
        name = info.key[len(prefix) :].partition("/")[0]
        if parse_checkpoint_name(name):
            keys[name].append(info.key)
    complete = [name for name, found in keys.items() if f"{prefix}{name}/{MANIFEST}" in found]
    lineage = read_lineage(target, run_id, ended)
    if ended is not None:
        ended.pop(generation, None)  # this attempt may restore again
    plan = plan_retention(complete, keys.keys() - set(complete), lineage, keep_last, protected)
    if plan.delete:
        reach("retention:before_remote_delete")
    for name in plan.delete:
        # Before each one: a newer attempt may meanwhile go on from what this plan lets go of.
        check_fence(target, run_id, generation)
        manifest = f"{prefix}{name}/{MANIFEST}"
        target.delete(sorted(keys[name], key=lambda key: (key != manifest, key)))
        reach("retention:between_remote_deletes")
    newest = max((_key(name) for name in complete if lineage.disowned_by(name) is None), default=(0, 0))

    def broken(key: str) -> bool:
        # One save is in flight at a time, and it is newer than the newest complete one.  What is no checkpoint
        # (telemetry, ledgers, another attempt's claim) may be arriving just now: it is not ours to judge.
        name = key[len(prefix) :].partition("/")[0]
        found = parse_checkpoint_name(name)
        return found is not None and (found <= newest or lineage.disowned_by(name) is not None)

    check_fence(target, run_id, generation)
    target.abort_uploads(prefix, broken)
    return plan.delete


def _key(name: str) -> tuple[int, int]:
    return parse_checkpoint_name(name) or (0, 0)
