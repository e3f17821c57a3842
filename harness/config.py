"""RunConfig: what `harness.yaml` says.  Written by `planner emit`, consumed under torchrun by `harness.Run`.

Importable without torch.  Strict: an unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from harness.errors import InvalidInputError
from harness.validation import StrictModel, load_yaml

SCHEMA_VERSION: Literal[1] = 1

PositiveSeconds = Annotated[float, Field(gt=0)]
NonNegativeSeconds = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

NOTICE_SIGNALS = ("SIGUSR1", "SIGUSR2")

_RUN_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class RendezvousConf(StrictModel):
    """torchrun's ``--rdzv-conf``; defaults shrink a fleet in seconds instead of torchrun's 48."""

    join_timeout: int = Field(600, gt=0)
    last_call_timeout: int = Field(1, gt=0)
    keep_alive_interval: int = Field(1, gt=0)
    keep_alive_max_attempt: int = Field(5, ge=3)
    """At least 3: with 2, one skipped tick evicted a healthy agent and both halves trained on (split brain)."""
    read_timeout: int = Field(60, gt=0)
    is_host: bool | None = None
    """False on trainers when the store runs on a stable host of its own; None lets torchrun decide."""


class TorchrunConfig(StrictModel):
    """What becomes ``torchrun.env`` (``PET_*``) or flags of ``harness launch``."""

    nnodes: str = Field("1:1", pattern=r"^[1-9][0-9]*(:[1-9][0-9]*)?$")
    """MIN:MAX nodes, or one number for a rigid fleet."""
    nproc_per_node: int = Field(1, ge=1)
    rdzv_backend: Literal["c10d", "etcd-v2"] = "c10d"
    rdzv_endpoint: str = "localhost:29400"
    rdzv_conf: RendezvousConf = RendezvousConf()
    max_restarts: int = Field(100, ge=0)
    shutdown_timeout_seconds: int = Field(30, gt=0)
    """How long the agent waits after SIGTERM before SIGKILL: emergency budget plus a margin, within the notice."""
    monitor_interval_seconds: float = Field(0.1, gt=0)
    process_group_timeout_seconds: int = Field(600, gt=0)
    """A silent link is only discovered by a collective that times out: set it deliberately."""

    @property
    def min_nodes(self) -> int:
        return int(self.nnodes.split(":")[0])

    @property
    def max_nodes(self) -> int:
        return int(self.nnodes.split(":")[-1])

    @model_validator(mode="after")
    def _ordered(self) -> TorchrunConfig:
        if self.min_nodes > self.max_nodes:
            raise ValueError(f"nnodes as MIN:MAX with MIN <= MAX, not {self.nnodes}")
        return self


class IntervalConfig(StrictModel):
    """When to start a periodic checkpoint: seconds of useful work, or a fixed number of steps."""

    seconds: PositiveSeconds | None = 900.0
    steps: int | None = Field(None, ge=1)
    """Set it to override `seconds`."""
    low_seconds: PositiveSeconds | None = None
    high_seconds: PositiveSeconds | None = None
    """The plateau that the planner cannot tell from the best interval: re-tuning moves only to leave it."""
    retune: bool = False
    """Adapt `seconds` to what this run measures (stall, time until durable, losses), held against `plan`."""

    @model_validator(mode="after")
    def _one_of(self) -> IntervalConfig:
        if self.seconds is None and self.steps is None:
            raise ValueError("seconds or steps: one of them must be set")
        if self.retune and (self.steps is not None or self.seconds is None):
            raise ValueError("retune: false, or seconds and no steps: a fixed number of steps is not re-tuned")
        return self


class CheckpointConfig(StrictModel):
    """Where checkpoints go and how they are kept."""

    directory: Path
    """This node's own disk.  ``{node}`` is replaced by the node's rank, for several nodes on one machine."""
    remote: str
    """The durable target: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix`` (these two need the
    extra ``gcs-azure``), ``file:///mount/prefix`` or a directory.  A prefix can hold many runs, each in its folder."""
    interval: IntervalConfig = IntervalConfig()
    keep_last: int = Field(3, ge=1)
    keep_last_local: int = Field(2, ge=1)
    digest: Literal["xxh3_128", "crc32c", "sha256"] = "xxh3_128"
    verify: Literal["always", "remote-only"] = "always"
    on_corrupt: Literal["older", "newest-model"] = "older"
    when_busy: Literal["skip", "wait"] = "wait"
    """What a save that is due does while another is in flight."""
    restore_check: Literal["off", "warn", "stop"] = "off"
    """Save the loss of the step after each checkpoint and compare it with the first loss after a restore: what to do
    when they differ by more than `restore_check_tolerance`.  Needs `run.observe(loss=…)` in every step."""
    restore_check_tolerance: float = Field(0.02, ge=0)
    """Relative.  0 asks for the very same number: deterministic kernels at an equal world size."""
    refuse_nan: bool = False
    """Refuse to save a state that holds NaN: the last good checkpoint stays, and the next save stops the run."""
    s3_endpoint_url: str | None = None
    """Another S3-compatible server; None is AWS."""
    s3_sse: Literal["aws:kms", "AES256"] | None = None
    """Server-side encryption to ask for; None leaves it to the bucket's default."""
    s3_kms_key_id: str | None = None
    """Which key ``aws:kms`` takes; None is the account's own for S3."""
    bandwidth_limit_mib_per_second: float | None = Field(None, gt=0)
    """Of each rank's uploads together, and of its downloads."""

    @field_validator("remote")
    @classmethod
    def _known_scheme(cls, remote: str) -> str:
        scheme = remote.split("://", 1)[0] if "://" in remote else "file"
        if scheme not in {"s3", "gs", "az", "file"}:
            raise ValueError(
                "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///path or a directory"
            )
        return remote

    @model_validator(mode="after")
    def _key_needs_kms(self) -> CheckpointConfig:
        if self.s3_kms_key_id is not None and self.s3_sse != "aws:kms":
            raise ValueError("s3_sse: aws:kms where s3_kms_key_id is set")
        return self


class NoticeSource(StrictModel):
    """One place where an interruption is announced."""

    kind: Literal["aws", "gcp", "azure", "sigterm", "signal", "file", "http"]
    address: str | None = None
    """Base URL or path; None is the provider's own address.  For ``signal``: its name."""
    seconds: PositiveSeconds | None = None
    """How long the node has from a notice of this source on, where the source does not say: GCP's length is a setting
    of the instance, Slurm's the number behind ``--signal=USR1@``.  None: `notice_seconds`."""

    @model_validator(mode="after")
    def _signal_is_known(self) -> NoticeSource:
        if self.kind == "signal" and self.address not in NOTICE_SIGNALS:
            raise ValueError(f"address: one of {', '.join(NOTICE_SIGNALS)} for a source of kind signal")
        return self


class HazardStep(StrictModel):
    """From this age of a node on, this hazard."""

    age_hours: float = Field(ge=0)
    rate_per_hour: float = Field(ge=0)


class RiskConfig(StrictModel):
    """Saves more often while nodes are of an age at which they are lost more often."""

    hazard: tuple[HazardStep, ...] = Field(min_length=1)
    """Of one node, by its age: the plan's lifetime, tabulated.  The rates of all nodes are added."""
    stall_seconds: NonNegativeSeconds
    """What a save costs, until this run has measured it."""
    minimum_seconds: NonNegativeSeconds = 0.0
    """Work between two saves at least; the time that one takes to become durable is a good value."""

    @model_validator(mode="after")
    def _ages_increase(self) -> RiskConfig:
        ages = [step.age_hours for step in self.hazard]
        if ages != sorted(set(ages)):
            raise ValueError("hazard with ages that increase")
        return self


class NoticesConfig(StrictModel):
    """Where notices come from, how often to ask, and how much time one leaves."""

    sources: tuple[NoticeSource, ...] = (NoticeSource(kind="sigterm"),)
    poll_seconds: PositiveSeconds = 5.0
    notice_seconds: NonNegativeSeconds = 120.0
    emergency_budget_seconds: PositiveSeconds = 60.0
    """Time that a notice-driven save may take, detection to durable."""
    agreement_every_steps: int | None = Field(None, ge=1)
    """Ranks agree on a notice every so many steps; None: derived from step time, at most 5 % of the notice."""
    risk: RiskConfig | None = None
    """Precaution without a notice: None saves at the checkpoint's interval alone (and on a rebalance hint)."""


class ElasticConfig(StrictModel):
    """What happens to batch and learning rate when the world changes size."""

    batch: Literal["constant-global", "follow-world"] = "constant-global"
    """``constant-global``: the same samples per step at any size, by gradient accumulation.  ``follow-world``: every
    rank keeps its share, so the global batch grows and shrinks with the fleet."""
    learning_rate: Literal["unchanged", "linear", "sqrt"] = "unchanged"
    """How the learning rate follows a batch that is not the reference one; nothing to do for ``constant-global``."""
    warm_up_steps: int = Field(0, ge=0)
    """Over so many steps the learning rate goes from its scale before a change of size to the one after it."""
    schedule: Literal["steps", "samples"] = "steps"
    """What `step.scheduler_steps` counts: optimizer steps, or samples in units of the reference batch."""
    reference_world_size: int | None = Field(None, ge=1)
    """World size for which global batch and learning rate were chosen; None: the full fleet (MAX nodes x processes)."""
    micro_batch_samples: int | None = Field(None, ge=1)
    """At most so many samples in one forward pass; None: a rank's share at the reference world size."""
    below_minimum: Literal["wait", "leave"] | None = None
    """What the nodes that stay do when a notice leaves fewer than MIN: wait for another, up to `join_timeout`, or end
    the job for a requeue.  None: wait where MIN < MAX, leave where the fleet is rigid."""
    pin_buckets: bool = True
    """Fix DistributedDataParallel's buckets before the first step: with three or more ranks a resumed run is otherwise
    not bitwise equal to an uninterrupted one."""


class SkipConfig(StrictModel):
    """Data that is not used."""

    at_step: int = Field(ge=0)
    """Before this optimizer step is done (counted from 0)."""
    steps: int = Field(ge=1)
    """The data of so many steps, at the reference world size."""


class DataConfig(StrictModel):
    """Data order is a pure function of (seed, epoch, position)."""

    global_batch_samples: int | None = Field(None, ge=1)
    """None: the training script decides."""
    shuffle: bool = True
    randomness: Literal["per-rank", "per-sample"] = "per-rank"
    """Whom random numbers drawn in a step belong to: the rank, or the samples, whatever the rank."""
    ledger: bool = False
    """Write down which samples each step used, for ``python -m harness ledger``."""
    skip: tuple[SkipConfig, ...] = ()
    """Pass over data, as after a loss spike; leave it in place for as long as the run goes on."""

    @model_validator(mode="after")
    def _one_skip_a_step(self) -> DataConfig:
        steps = [skip.at_step for skip in self.skip]
        if len(set(steps)) < len(steps):
            raise ValueError("skip: each at_step once")
        return self


class TelemetryConfig(StrictModel):
    """One JSON Lines file per node."""

    directory: Path
    """``{node}`` as in `checkpoint.directory`."""
    window_steps: int = Field(20, ge=1)
    upload: bool = True
    """Copy it to the durable target with every checkpoint, so that it survives the node."""


class PlanAssumption(StrictModel):
    """One value that the prediction rests on."""

    name: str
    value: float | str | None
    unit: str = ""
    source: str
    as_of: str | None = None


class PlanConfig(StrictModel):
    """What was predicted: held against telemetry by `planner report`."""

    provider: str | None = None
    instance: str | None = None
    region: str | None = None
    zone: str | None = None
    nodes: int | None = None
    spot_usd_per_hour: float | None = None
    on_demand_usd_per_hour: float | None = None
    work_hours: float | None = None
    cost_usd_p50: float | None = None
    cost_usd_p95: float | None = None
    makespan_hours_p50: float | None = None
    makespan_hours_p95: float | None = None
    goodput_mean: float | None = None
    interruptions_mean: float | None = None
    lost_work_hours_mean: float | None = None
    stall_seconds: float | None = None
    persist_seconds: float | None = None
    emergency_seconds: float | None = None
    startup_seconds: float | None = None
    rate_per_hour: float | None = None
    assumptions: tuple[PlanAssumption, ...] = ()


class RunConfig(StrictModel):
    """The whole of ``harness.yaml``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    seed: int = Field(0, ge=0)
    torchrun: TorchrunConfig = TorchrunConfig()
    checkpoint: CheckpointConfig
    notices: NoticesConfig = NoticesConfig()
    elastic: ElasticConfig = ElasticConfig()
    data: DataConfig = DataConfig()
    telemetry: TelemetryConfig
    plan: PlanConfig = PlanConfig()

    @field_validator("run_id")
    @classmethod
    def _safe_name(cls, run_id: str) -> str:
        # It becomes a path component and an object key: nothing that could climb out of its prefix.
        if not _RUN_ID.fullmatch(run_id) or ".." in run_id:
            raise ValueError(
                "lower-case letters, digits, '.', '_' and '-', starting with a letter or digit, at most 63"
            )
        return run_id


def load_run_config(path: Path | str) -> RunConfig:
    """Read and check a ``harness.yaml``; InvalidInputError says what is wrong with it."""
    path = Path(path)
    if path.is_dir():
        raise InvalidInputError("config", path, "a harness.yaml file", "name the file, not its folder")
    return load_yaml(RunConfig, path)
