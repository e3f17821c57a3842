"""Telemetry events and the measured profile: the contract between the harness, which writes, and the planner.

One JSON object per line, one file per node (per life of its disk).  An event carries when (wall and monotonic
clock), who (run, attempt, generation, node, rank), where in the run (step, world size) and its own payload, every
quantity with its unit in the name.  Readers ignore fields that they do not know, so adding an optional field keeps
the version; renaming or re-defining one raises it.  Standard library and pydantic only.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.errors import InvalidInputError
from harness.validation import StrictModel

TELEMETRY_VERSION: Literal[1] = 1
PROFILE_VERSION: Literal[1] = 1

Seconds = Annotated[float, Field(ge=0)]


class Event(BaseModel):
    """What every event carries."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    schema_version: int = TELEMETRY_VERSION
    wall_time: float
    """Seconds since the Unix epoch, by the node's clock."""
    monotonic_seconds: float
    """The node's monotonic clock: differences within one boot are exact durations."""
    run_id: str
    attempt_id: str
    """One incarnation of the training processes: a new one for every launch and every restart by torchrun."""
    generation: int | None = None
    """The fence that this attempt won; None before it was claimed."""
    node: int
    rank: int
    step: int = Field(ge=0)
    """Optimizer steps done in the run's history (not in this attempt)."""
    world_size: int = Field(ge=1)


class Started(Event):
    """An attempt's process group is up; nothing is restored yet."""

    event: Literal["started"] = "started"
    nodes: int = 1
    device: str = "cpu"
    startup_seconds: Seconds | None = None
    """From the start of the launcher (of the process without one) to here: imports, rendezvous, process groups."""
    restart_count: int = 0
    launch_id: str | None = None
    """Which start of the job on this node: two attempts of one launch are a restart by torchrun's agent."""
    torch_version: str | None = None
    config_digest: str | None = None


class Restored(Event):
    """The state of an earlier checkpoint was loaded; `step` is where training goes on (0: a fresh start)."""

    event: Literal["restored"] = "restored"
    checkpoint: str | None = None
    """None: there was nothing to restore."""
    restore_seconds: Seconds = 0.0
    source: str | None = None
    """Where the bytes came from: local, remote, or both."""
    skipped: tuple[str, ...] = ()
    """Newer checkpoints that were passed over, each with its reason."""
    checkpoint_bytes: int | None = None


class Window(Event):
    """A stretch of training steps that ended at `step`."""

    event: Literal["window"] = "window"
    steps: int = Field(ge=1)
    samples: int = Field(ge=0)
    seconds: Seconds
    """Wall-clock of the stretch, stalls included."""
    stall_seconds: Seconds = 0.0
    """Time of it in which training stood still for a checkpoint."""
    loss: float | None = None


class CheckpointStarted(Event):
    """All ranks began to save `step`."""

    event: Literal["checkpoint_started"] = "checkpoint_started"
    checkpoint: str
    reason: str = "periodic"
    stall_seconds: Seconds | None = None
    """How long training stood still until the state was copied, waiting included."""
    waited_seconds: Seconds | None = None
    """The part of it that was spent waiting for an earlier save."""


class CheckpointLocal(Event):
    """This node's part is complete on its own disk."""

    event: Literal["checkpoint_local"] = "checkpoint_local"
    checkpoint: str
    reason: str = "periodic"
    stall_seconds: Seconds | None = None
    seconds: Seconds | None = None
    """From the start of the save."""
    checkpoint_bytes: int | None = None
    """Bytes of this node's part."""


class CheckpointDurable(Event):
    """The global manifest is on the durable target: this checkpoint survives every node."""

    event: Literal["checkpoint_durable"] = "checkpoint_durable"
    checkpoint: str
    reason: str = "periodic"
    stall_seconds: Seconds | None = None
    persist_seconds: Seconds | None = None
    """From the end of the stall until durable."""
    checkpoint_bytes: int | None = None
    """Bytes of the whole checkpoint."""


class CheckpointFailed(Event):
    """A save did not become durable; training goes on with the last good one."""

    event: Literal["checkpoint_failed"] = "checkpoint_failed"
    checkpoint: str | None = None
    reason: str = "periodic"
    error: str
    failures_in_a_row: int | None = None


class CheckpointSkipped(Event):
    """A save was due, and left out: another was in flight and the config says to skip it then, or saves are failing."""

    event: Literal["checkpoint_skipped"] = "checkpoint_skipped"
    checkpoint: str | None = None
    reason: str = "periodic"
    error: str | None = None
    """Why it was left out."""


class NoticeReceived(Event):
    """A source announced that this node will be taken."""

    event: Literal["notice"] = "notice"
    source: str
    kind: Literal["reclaim", "rebalance"] = "reclaim"
    seconds_left: float | None = None
    """As announced; None when the source gives no time."""
    detail: str | None = None


class EmergencySaved(Event):
    """The save that a notice asked for is over."""

    event: Literal["emergency_saved"] = "emergency_saved"
    checkpoint: str | None = None
    durable: bool
    agreement_seconds: Seconds | None = None
    """From hearing the notice to the step at which all ranks save; known on the node that heard it."""
    emergency_seconds: Seconds
    """From hearing the notice (from the agreed step where another node heard it) to durable."""
    action: str | None = None
    """What was chosen for the time left: ``remote`` (this step, durable), ``finish-upload`` (of the save in flight), or
    ``local`` (this step on the node's own disk)."""
    seconds_left: Seconds | None = None
    """For saving, when it was chosen."""
    expected_seconds: Seconds | None = None
    fits: bool | None = None
    """It was expected to be done in time."""
    local: bool | None = None
    """`checkpoint` is on this node's own disk."""
    durable_step: int | None = None
    """The newest durable step when it was over."""


class IntervalTuned(Event):
    """From here on periodic saves come at another interval: the run measured something else than was planned."""

    event: Literal["interval_tuned"] = "interval_tuned"
    interval_seconds: Seconds
    previous_seconds: Seconds
    stall_seconds: Seconds
    fleet_rate_per_hour: float = Field(ge=0)
    """Losses of the whole fleet, from the plan and the run's own history."""
    why: str


class Rescaled(Event):
    """The world has another size than the checkpoint that was restored."""

    event: Literal["rescaled"] = "rescaled"
    previous_world_size: int


class DataSkipped(Event):
    """Data was passed over before `step`, as ``data.skip`` asks."""

    event: Literal["data_skipped"] = "data_skipped"
    samples: int


class Left(Event):
    """This rank stops before the run is finished."""

    event: Literal["left"] = "left"
    reason: str
    """notice, below-minimum, re-forming, peer-lost, fenced, failed, bad-input."""
    detail: str | None = None


class Finished(Event):
    """The last step is done and its checkpoint is durable."""

    event: Literal["finished"] = "finished"
    loss: float | None = None


AnyEvent = Annotated[
    Started
    | Restored
    | Window
    | CheckpointStarted
    | CheckpointLocal
    | CheckpointDurable
    | CheckpointFailed
    | CheckpointSkipped
    | NoticeReceived
    | EmergencySaved
    | IntervalTuned
    | Rescaled
    | DataSkipped
    | Left
    | Finished,
    Field(discriminator="event"),
]

_EVENTS: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
EVENT_NAMES: tuple[str, ...] = (
    "started",
    "restored",
    "window",
    "checkpoint_started",
    "checkpoint_local",
    "checkpoint_durable",
    "checkpoint_failed",
    "checkpoint_skipped",
    "notice",
    "emergency_saved",
    "interval_tuned",
    "rescaled",
    "data_skipped",
    "left",
    "finished",
)


def parse_event(line: str | bytes, *, source: str = "telemetry") -> AnyEvent:
    """One line of a telemetry file; InvalidInputError when it is not an event that this version understands."""
    try:
        document: Any = json.loads(line)
    except ValueError as error:
        raise InvalidInputError(source, line[:60], "a JSON object on every line", str(error)) from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > TELEMETRY_VERSION:
        raise InvalidInputError(
            source, f"schema_version {version}", f"at most {TELEMETRY_VERSION}", "a newer version wrote it: upgrade"
        )
    try:
        return _EVENTS.validate_python(document)
    except ValidationError as report:
        first = report.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "event"
        raise InvalidInputError(f"{source}: {where}", str(line)[:60], "a telemetry event", first["msg"]) from None


def build_event(name: str, fields: dict[str, Any]) -> AnyEvent:
    """An event from its name and fields; pydantic's ValidationError when a field is missing or of the wrong type."""
    return _EVENTS.validate_python({**fields, "event": name})


class Measurement(StrictModel):
    """One measured quantity: how large, how certain.  The unit is in the name of the field that holds it."""

    mean: float
    n: int = Field(ge=1)
    """Number of observations."""
    standard_deviation: float = Field(0.0, ge=0)
    """Between observations (n − 1 in the denominator); 0 for a single one."""
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: list[float]) -> Measurement | None:
        """The summary of `values`; None when there are none."""
        if not values:
            return None
        mean = sum(values) / len(values)
        spread = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else 0.0
        return cls(mean=mean, n=len(values), standard_deviation=spread, minimum=min(values), maximum=max(values))


class Profile(StrictModel):
    """What a run measured, in the planner's terms: `planner calibrate` writes it, the next plan uses it.

    A quantity that the telemetry does not contain is None: never a guess.
    """

    schema_version: Literal[1] = PROFILE_VERSION
    run_ids: tuple[str, ...]
    created_wall_time: float
    nodes: int | None = None
    world_size: int | None = None
    device: str | None = None
    provider: str | None = None
    instance: str | None = None
    region: str | None = None
    zone: str | None = None

    step_seconds: Measurement | None = None
    """Wall-clock per step without stalls, one observation per window."""
    samples_per_second: Measurement | None = None
    """Whole fleet, without stalls."""
    stall_seconds: Measurement | None = None
    """Per checkpoint, over ranks."""
    persist_seconds: Measurement | None = None
    emergency_seconds: Measurement | None = None
    """Notice heard to durable, for saves that became durable."""
    startup_seconds: Measurement | None = None
    """Launcher start to first step: processes, rendezvous, restore."""
    checkpoint_bytes: Measurement | None = None
    replacement_seconds: Measurement | None = None
    """Last sign of an attempt that lost a node to the next one's launcher, with as many nodes: wait and boot."""

    notices: int = Field(0, ge=0)
    notices_acted_on: int = Field(0, ge=0)
    """Notices whose emergency save became durable: notice success is `notices_acted_on / notices`."""
    interruptions: int = Field(0, ge=0)
    """Nodes lost, with or without a notice."""
    exposure_hours: float = Field(0.0, ge=0)
    """Node-hours during which an interruption could have happened: the rate is interruptions / exposure_hours."""
    checkpoints_failed: int = Field(0, ge=0)
    lost_steps: int = Field(0, ge=0)
    useful_steps: int = Field(0, ge=0)
    wall_hours: float = Field(0.0, ge=0)
    goodput: float | None = Field(None, ge=0, le=1)
