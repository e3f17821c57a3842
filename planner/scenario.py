"""The scenario: what the user says about a job, in the user's units, before anything is filled in.

Every field may be left out; `planner.completion` fills what is missing from the bundled tables or a stated
assumption.  Strict: unknown keys, text where a number belongs, NaN and nonsense are errors that name the field.
The same fields are the command line's flags (`planner.options`) and environment variables.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.validation import StrictModel

Positive = Annotated[float, Field(strict=True, gt=0)]
NonNegative = Annotated[float, Field(strict=True, ge=0)]
Probability = Annotated[float, Field(strict=True, ge=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
Text = Annotated[str, Field(min_length=1)]

DEFAULT_SEED = 1


class Job(StrictModel):
    """What has to be computed."""

    work_hours: Positive | None = Field(
        None, description="Useful training hours on the whole fleet, uninterrupted, without checkpoints."
    )
    checkpoint_gib: NonNegative | None = Field(
        None, description="Size of one checkpoint (model and optimizer state) in GiB."
    )
    deadline_hours: Positive | None = Field(None, description="Hours from the first request to the finished job.")


class Fleet(StrictModel):
    """Where and on what it runs."""

    provider: Literal["aws", "gcp", "azure"] | None = Field(None, description="Cloud provider.")
    instance: Text | None = Field(None, description="Instance type, e.g. p4d.24xlarge.")
    region: Text | None = Field(None, description="Region, e.g. us-east-1.")
    zone: Text | None = Field(None, description="Zone, e.g. use1-az2.")
    nodes: Count | None = Field(None, description="Number of instances.")
    min_nodes: Count | None = Field(None, description="Go on training with this many; as --nodes: a rigid fleet.")
    scaling: NonNegative | None = Field(None, description="Speed of k of n nodes is (k/n)^SCALING.")
    detect_seconds: NonNegative | None = Field(None, description="From a silent loss of a node to its discovery.")
    rendezvous_seconds: NonNegative | None = Field(
        None, description="Outage of the survivors at a membership change: restart, restore, compilation."
    )
    bulk: Probability | None = Field(None, description="Probability that another node goes with a reclaimed one.")


class ExponentialLifetime(StrictModel):
    """Constant hazard."""

    distribution: Literal["exponential"] = "exponential"
    rate_per_hour: NonNegative | None = Field(None, description="Interruptions per node-hour.")
    probability_per_hour: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = Field(
        None, description="Probability of an interruption within an hour; rate = -ln(1 - p)."
    )
    events: NonNegative | None = Field(None, description="Interruptions that the rate was estimated from.")
    exposure_hours: Positive | None = Field(None, description="Node-hours that they were observed in.")

    @model_validator(mode="after")
    def _one_rate(self) -> ExponentialLifetime:
        given = [value for value in (self.rate_per_hour, self.probability_per_hour) if value is not None]
        if len(given) != 1 and not (not given and self.events is not None and self.exposure_hours is not None):
            raise ValueError("exactly one of rate_per_hour and probability_per_hour")
        _check_exposure(self.events, self.exposure_hours)
        return self


class WeibullLifetime(StrictModel):
    """Hazard that falls (shape < 1) or rises with age."""

    distribution: Literal["weibull"]
    shape: Positive = Field(description="Weibull shape; below 1 the hazard falls with age.")
    scale_hours: Positive = Field(description="Weibull scale in hours.")
    events: NonNegative | None = None
    exposure_hours: Positive | None = None

    @model_validator(mode="after")
    def _exposure(self) -> WeibullLifetime:
        _check_exposure(self.events, self.exposure_hours)
        return self


class BathtubLifetime(StrictModel):
    """Early and late reclaims (Kadupitiya et al., HPDC 2020), with an optional cap."""

    distribution: Literal["bathtub"]
    a: Positive = Field(description="Bathtub amplitude A.")
    tau1_hours: Positive = Field(description="Bathtub early decay time.")
    b_hours: Positive = Field(description="Bathtub onset of late reclaims.")
    tau2_hours: Positive = Field(description="Bathtub late growth time.")
    cap_hours: Positive | None = Field(None, description="Age at which what is left is reclaimed.")
    events: NonNegative | None = None
    exposure_hours: Positive | None = None

    @model_validator(mode="after")
    def _exposure(self) -> BathtubLifetime:
        _check_exposure(self.events, self.exposure_hours)
        return self


class EmpiricalLifetime(StrictModel):
    """Observed lifetimes from a file (Kaplan-Meier)."""

    distribution: Literal["empirical"]
    file: Text = Field(description="CSV of observed lifetimes.")
    events: NonNegative | None = None
    exposure_hours: Positive | None = None


class TraceLifetime(StrictModel):
    """Replay of an availability trace."""

    distribution: Literal["trace"]
    file: Text = Field(description="Availability trace.")


Lifetime = Annotated[
    ExponentialLifetime | WeibullLifetime | BathtubLifetime | EmpiricalLifetime | TraceLifetime,
    Field(discriminator="distribution"),
]


class ConstantProvision(StrictModel):
    """The same wait for every request."""

    distribution: Literal["constant"] = "constant"
    hours: NonNegative = Field(description="Wait for capacity, unbilled.")


class ExponentialProvision(StrictModel):
    """Memoryless wait."""

    distribution: Literal["exponential"]
    mean_hours: Positive = Field(description="Mean wait for capacity.")


class EmpiricalProvision(StrictModel):
    """Observed waits from a file."""

    distribution: Literal["empirical"]
    file: Text = Field(description="CSV of observed waits.")


Provision = Annotated[
    ConstantProvision | ExponentialProvision | EmpiricalProvision, Field(discriminator="distribution")
]


class Market(StrictModel):
    """Prices, interruptions and waits."""

    spot_usd_per_hour: NonNegative | None = Field(None, description="Spot price of one node.")
    on_demand_usd_per_hour: Positive | None = Field(None, description="On-demand price of one node.")
    first_hour_refund: bool | None = Field(
        None, strict=True, description="A node reclaimed within its first hour is free (AWS)."
    )
    lifetime: Lifetime | None = None
    provision: Provision | None = None


class Notice(StrictModel):
    """The warning before a reclaim."""

    seconds: NonNegative | None = Field(None, description="Warning before a reclaim.")
    success: Probability | None = Field(None, description="Probability that a notice with enough time is acted on.")


class Checkpoint(StrictModel):
    """How often, and what one costs."""

    interval_seconds: Positive | Literal["auto"] | None = Field(
        None, description="Work between two checkpoint starts, or auto for the optimum."
    )
    stall_seconds: NonNegative | None = Field(None, description="Training stands still per checkpoint.")
    persist_seconds: NonNegative | None = Field(None, description="After the stall, until the checkpoint is durable.")
    emergency_seconds: NonNegative | None = Field(None, description="From a notice to a durable emergency checkpoint.")
    persist_slowdown: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = Field(
        None, description="Fraction of speed lost while an upload is in flight."
    )
    corruption: Probability | None = Field(None, description="Probability that a durable checkpoint is bad.")
    keep_last: Count | None = Field(None, description="Durable checkpoints kept.")


class Restart(StrictModel):
    """What coming back costs."""

    startup_seconds: NonNegative | None = Field(
        None, description="Boot, image, restore, process groups, compilation: billed, no progress."
    )


class Storage(StrictModel):
    """What keeping checkpoints costs."""

    usd_per_gib_month: NonNegative | None = Field(None, description="Storage price.")
    usd_per_1000_puts: NonNegative | None = Field(None, description="Price of 1,000 writes.")
    usd_per_1000_gets: NonNegative | None = Field(None, description="Price of 1,000 reads.")
    shards: Count | None = Field(None, description="Objects per checkpoint.")


class Bill(StrictModel):
    """What else is paid for, and what on-demand really costs you."""

    on_demand_discount: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = Field(
        None, description="Your discount on on-demand prices (savings plan), as a fraction."
    )
    rendezvous_usd_per_hour: NonNegative | None = Field(None, description="Price of the stable rendezvous host.")
    disk_gib: NonNegative | None = Field(None, description="Size of the disks that each node pays for.")
    disk_usd_per_gib_month: NonNegative | None = Field(None, description="Price of those disks.")
    transfer_gib: NonNegative | None = Field(None, description="Data that is moved to the region once.")
    transfer_usd_per_gib: NonNegative | None = Field(None, description="Price of moving it.")
    budget_usd: Positive | None = Field(None, description="What the job may cost: the probability is reported.")


class Policy(StrictModel):
    """Who decides between spot, on-demand and waiting."""

    name: Literal["spot-only", "on-demand", "greedy", "uniform-progress"] | None = Field(
        None, description="Deadline policy."
    )
    decision_seconds: Positive | None = Field(None, description="Time between two decisions of the policy.")


class Simulation(StrictModel):
    """How many simulated runs, and from which seed."""

    runs: Count | None = Field(None, description="Simulated runs per candidate.")
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**64)] | None = Field(
        None, description="Seed of the random fates."
    )


class Scenario(StrictModel):
    """The whole document (DESIGN's scenario contract)."""

    job: Job = Job()
    fleet: Fleet = Fleet()
    market: Market = Market()
    notice: Notice = Notice()
    checkpoint: Checkpoint = Checkpoint()
    restart: Restart = Restart()
    storage: Storage = Storage()
    bill: Bill = Bill()
    policy: Policy = Policy()
    simulation: Simulation = Simulation()


def _check_exposure(events: float | None, exposure_hours: float | None) -> None:
    if (events is None) != (exposure_hours is None):
        raise ValueError("events and exposure_hours together, or neither")
