"""The checkpoint's part of a scenario: notices, the interval, and durations given, measured or derived."""

from __future__ import annotations

from harness.errors import InvalidInputError
from harness.telemetry.schema import Profile
from planner.catalogue import Instance
from planner.completed import Value
from planner.costs import FLAGS, derive_costs
from planner.draft import Draft
from planner.profile import (
    BYTES_PER_GIB,
    UNKNOWN_ACCELERATOR,
    describes,
    measured_notice_success,
    profile_as_of,
    profile_source,
)

_UNKNOWN_INSTANCE = Instance(
    "aws", "unknown", UNKNOWN_ACCELERATOR, 1, None, None, None, None, None, None, None, "", "", ""
)


def fill_notice_and_checkpoint(draft: Draft) -> None:
    provider = draft.values["fleet.provider"].value
    if provider is not None:
        draft.assume("notice.seconds", f"notice_seconds_{provider}")
    elif not draft.take("notice.seconds"):
        draft.put("notice.seconds", 0.0, "assumption", "no provider is given: no notice is counted on")
    profile = _own_profile(draft)
    assumed = draft.knowledge.assumptions.row("notice_success").value
    share = None if profile is None else measured_notice_success(profile, assumed)
    if profile is None or share is None:
        draft.assume("notice.success", "notice_success")
    elif not draft.take("notice.success"):
        acted_on = f"notices, {profile.notices_acted_on} acted on (the assumed {assumed:g} counts as one more)"
        source = profile_source(profile, profile.notices, acted_on)
        draft.put("notice.success", share, "profile", source, profile_as_of(profile))
    if draft.given("checkpoint.interval_seconds") is None:
        draft.values["checkpoint.interval_seconds"] = Value(
            "checkpoint.interval_seconds", "auto", "default: the cheapest interval is looked for"
        )
    else:
        draft.take("checkpoint.interval_seconds")
    _durations(draft)
    draft.assume("checkpoint.persist_slowdown", "persist_slowdown")
    draft.default("checkpoint.corruption", 0.0)
    draft.assume("checkpoint.keep_last", "keep_last", convert=int)


def _own_profile(draft: Draft) -> Profile | None:
    """The measured profile, where it may speak for the scenario's type."""
    profile = draft.knowledge.profile
    return profile if profile is not None and describes(profile, draft.instance or _UNKNOWN_INSTANCE) else None


def _durations(draft: Draft) -> None:
    """stall, persist, emergency and startup: given, measured, or derived from size and bandwidths."""
    size = draft.given("job.checkpoint_gib")
    missing = [p for p in ("checkpoint.stall_seconds", "checkpoint.persist_seconds") if draft.given(p) is None]
    profile = _own_profile(draft)
    if size is None and profile is not None and profile.checkpoint_bytes is not None:
        size = profile.checkpoint_bytes.mean / BYTES_PER_GIB
        source = profile_source(profile, profile.checkpoint_bytes.n)
        draft.put("job.checkpoint_gib", size, "profile", source, profile_as_of(profile))
    elif size is None and missing:
        flag = "--" + missing[0].split(".")[1].replace("_", "-")
        raise InvalidInputError(
            "--checkpoint-gib",
            "nothing",
            "the size of one checkpoint in GiB",
            f"{flag} is derived from it; {_size_hint(draft.knowledge.profile)}",
        )
    elif not draft.take("job.checkpoint_gib"):
        draft.put("job.checkpoint_gib", 0.0, "assumption", "no size is given: keeping checkpoints costs nothing")
    nodes = draft.values["fleet.nodes"].value
    draft.derived = derive_costs(
        draft.instance or _UNKNOWN_INSTANCE,
        draft.values["job.checkpoint_gib"].value,
        nodes,
        draft.values["notice.seconds"].value,
        assumptions=draft.knowledge.assumptions,
        profile=draft.knowledge.profile,
    )
    given = (draft.given("checkpoint.persist_seconds"), draft.given("restart.startup_seconds"))
    if draft.instance is not None and None in given:
        draft.warnings += [f"{draft.instance.name}: {FLAGS[flag]}" for flag in draft.derived.flags]
    share = draft.values["job.checkpoint_gib"].value / nodes
    for path, seconds in (
        ("checkpoint.stall_seconds", draft.derived.stall_seconds),
        ("checkpoint.persist_seconds", draft.derived.persist_seconds),
        ("restart.startup_seconds", draft.derived.startup_seconds),
    ):
        if not draft.take(path):
            draft.put(path, seconds, "derived", _derivation(draft, path.split(".")[1], share))
    _emergency(draft, share)


def _size_hint(refused: Profile | None) -> str:
    if refused is None or refused.checkpoint_bytes is None:
        return "with Adam about 0.013 GiB per million parameters"
    size, where = refused.checkpoint_bytes.mean / BYTES_PER_GIB, refused.instance or refused.device or "another type"
    return f"the profile's {size:.3g} GiB were measured on {where}: give the size if this is the same job"


def _emergency(draft: Draft, share: float) -> None:
    assert draft.derived is not None
    path = "checkpoint.emergency_seconds"
    if draft.take(path):
        return
    stall, persist = (draft.values[f"checkpoint.{name}_seconds"].value for name in ("stall", "persist"))
    if (stall, persist) == (draft.derived.stall_seconds, draft.derived.persist_seconds):
        draft.put(path, draft.derived.emergency_seconds, "derived", _derivation(draft, "emergency_seconds", share))
        return
    rows = [draft.knowledge.assumptions.row(name) for name in ("notice_poll_seconds", "notice_agreement_seconds")]
    seconds = sum(row.value for row in rows) + stall + persist
    draft.put(path, seconds, "derived", "one notice poll + agreement + stall + persist")


def _derivation(draft: Draft, name: str, share: float) -> str:
    """How a duration came about: measured, or its largest parts."""
    assert draft.derived is not None
    parts = draft.derived.parts[name.removesuffix("_seconds")]
    measured = [row for row in draft.derived.assumptions if row.name == f"measured_{name}"]
    if measured:
        added = [f"{what} {seconds:.3g} s" for what, seconds in parts[:-1] if seconds > 0.0]
        return " + ".join((measured[0].source, *added))
    largest = sorted((part for part in parts if part[1] > 0.0), key=lambda part: -part[1])[:3]
    shown = ", ".join(f"{what} {seconds:.3g} s" for what, seconds in largest)
    return f"from {share:.4g} GiB a node and bandwidths: {shown}"
