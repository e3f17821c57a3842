"""Whose run this is: a run's prefix remembers the models it holds, and refuses another config's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from harness.checkpoint.manifest import seal, unseal
from harness.checkpoint.names import IDENTITY
from harness.checkpoint.targets.base import MissingObjectError, Target
from harness.errors import InvalidInputError
from harness.validation import StrictModel


class Identity(StrictModel):
    """The run's id, and a digest over names, shapes and types of each model's tensors."""

    schema_version: Literal[1] = 1
    run_id: str
    models: dict[str, str]


def check_identity(target: Target, identity: Identity) -> None:
    """InvalidInputError when the run's prefix on the durable target belongs to other models; nothing is written."""
    key = f"{identity.run_id}/{IDENTITY}"
    try:
        stored = unseal(Identity, target.get_bytes(key), f"{target.uri}/{key}")
    except MissingObjectError:
        return
    _compare(stored, identity, f"{target.uri}/{identity.run_id}")


def claim_identity(target: Target, identity: Identity) -> None:
    """Write the identity down with the first checkpoint; InvalidInputError when another one is there."""
    if not target.put_bytes_if_absent(f"{identity.run_id}/{IDENTITY}", seal(identity)):
        check_identity(target, identity)


def _compare(stored: Identity, mine: Identity, where: str) -> None:
    differing = [name for name, digest in mine.models.items() if stored.models.get(name, digest) != digest]
    if stored.run_id != mine.run_id or differing:
        raise InvalidInputError(
            "run_id",
            mine.run_id,
            "a run_id that no other config has used",
            f"{where} holds checkpoints of another config ({_named(differing) or f'run {stored.run_id}'}): "
            "choose a new run_id, or go back to the config that made them",
        )


def _named(differing: list[str]) -> str:
    return f"component {', '.join(differing)} has other tensors" if differing else ""


def identity_of(run_id: str, shapes: Mapping[str, str]) -> Identity:
    """The identity of a run with these models (name → digest of its shapes)."""
    return Identity(run_id=run_id, models=dict(shapes))
