"""From a plan to harness.yaml (RunConfig): every tuned value with its reason above it."""

from __future__ import annotations

import math
import re
from typing import Any

from harness.config import RunConfig
from harness.errors import InvalidInputError
from harness.validation import parse
from planner.emit.commented_yaml import to_yaml
from planner.emit.options import LOCAL_DIRECTORY, REMOTE_DIRECTORY, TELEMETRY_DIRECTORY, EmitSettings
from planner.emit.planned import EmitPlan
from planner.emit.planned_rows import planned_rows, short
from planner.emit.risk import hazard_steps, own_share, unannounced_share
from planner.render import duration

_MARGIN_SECONDS = 10
_HEADER = """Written by planner. Read by harness: python -m harness launch harness.yaml train.py
The reason for each value is above it. Unknown keys are errors."""


def harness_yaml(plan: EmitPlan) -> tuple[RunConfig, str]:
    """The checked config and its text.  Raises InvalidInputError for settings that the harness would not accept."""
    document, reasons = _Builder(plan).build()
    return _checked(document), to_yaml(document, reasons, header=_HEADER)


def check_settings(settings: EmitSettings) -> None:
    """InvalidInputError, naming the flag, for settings that the harness would not accept whatever the plan."""
    _checked(
        {
            "run_id": settings.run_id or "run",
            "checkpoint": {
                "directory": settings.local_directory or LOCAL_DIRECTORY,
                "remote": settings.remote or REMOTE_DIRECTORY,
            },
            "telemetry": {"directory": settings.telemetry_directory or TELEMETRY_DIRECTORY},
            "torchrun": {"rdzv_endpoint": settings.rdzv_endpoint} if settings.rdzv_endpoint else {},
        }
    )


def _checked(document: dict[str, Any]) -> RunConfig:
    try:
        return parse(RunConfig, document)
    except InvalidInputError as error:
        flag = _FLAGS.get(error.field)
        if flag is None:
            raise
        raise InvalidInputError(flag, error.value, error.expected, error.hint) from None


_FLAGS = {
    "run_id": "--run-id",
    "checkpoint.remote": "--remote",
    "checkpoint.directory": "--local-directory",
    "telemetry.directory": "--telemetry-directory",
    "torchrun.rdzv_endpoint": "--rdzv-endpoint",
}


class _Builder:
    """Collects values and their reasons."""

    def __init__(self, plan: EmitPlan) -> None:
        self.plan = plan
        self.completed = plan.completed
        self.document: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}

    def build(self) -> tuple[dict[str, Any], dict[str, str]]:
        self._set("schema_version", 1, "")
        self._set(
            "run_id",
            self._run_id(),
            "Names the run's folder in the durable target: keep it to resume, change it to start afresh.",
        )
        self._set(
            "seed",
            self.completed.seed,
            "Seed of data order and initial weights; the plan was simulated with the same one.",
        )
        self._torchrun()
        self._checkpoint()
        self._notices()
        directory = self.plan.settings.telemetry_directory or TELEMETRY_DIRECTORY
        self._set(
            "telemetry.directory",
            directory,
            "This node's own disk; a copy goes to the durable target with every checkpoint.",
        )
        self._predicted()
        return self.document, self.reasons

    def _set(self, path: str, value: Any, reason: str) -> None:
        at = self.document
        *parents, name = path.split(".")
        for parent in parents:
            at = at.setdefault(parent, {})
        at[name] = value
        if reason:
            self.reasons[path] = reason

    def _run_id(self) -> str:
        if self.plan.settings.run_id is not None:
            return self.plan.settings.run_id
        place = self.completed["fleet.zone"] or self.completed["fleet.region"] or "anywhere"
        name = f"{self.completed['fleet.instance'] or 'run'}-{place}".lower()
        return re.sub(r"[^a-z0-9._-]+", "-", name)[:63].strip("-.") or "run"

    def _torchrun(self) -> None:
        nodes = self.completed["fleet.nodes"]
        least = self.completed["fleet.min_nodes"] or nodes
        instance = self.completed.instance
        fleet = "training waits for all of them" if least == nodes else f"training goes on with {least} or more"
        self._set("torchrun.nnodes", f"{least}:{nodes}", f"MIN:MAX nodes: {fleet}.")
        if instance is not None:
            count = instance.accelerator_count
            reason = f"One process per accelerator: {instance.name} has {count} x {instance.accelerator}."
            self._set("torchrun.nproc_per_node", count, reason)
        endpoint = self.plan.settings.rdzv_endpoint
        if endpoint is None:
            endpoint = "localhost:29400"
            why = "The only node hosts the rendezvous store itself."
            if nodes > 1:
                why = (
                    "REPLACE with a small on-demand host (--rdzv-endpoint HOST:PORT): when the store's host dies, "
                    "every agent ends within a second."
                )
        else:
            why = (
                "As given with --rdzv-endpoint. Keep it off spot: when its host dies, every agent ends within a second."
            )
        self._set("torchrun.rdzv_endpoint", endpoint, why)
        self._rendezvous(nodes)
        restarts = max(100, math.ceil(10 * self.plan.interruptions_mean))
        self._set(
            "torchrun.max_restarts",
            restarts,
            f"Each failure costs one restart on every survivor, and at 0 left the job dies; torchrun's default is 0. "
            f"{self.plan.interruptions_mean:.1f} interruptions are expected: at least ten times that.",
        )
        budget, shutdown = self._budget()
        notice = self.completed["notice.seconds"]
        within = f"within the notice of {notice:g} s" if notice else "there is no notice to fit into"
        self._set(
            "torchrun.shutdown_timeout_seconds",
            shutdown,
            f"From SIGTERM to SIGKILL: the emergency budget of {budget:g} s and a margin, {within}. A pod's grace "
            "period must be at least this.",
        )
        stall = self.completed["checkpoint.stall_seconds"]
        timeout = max(180, math.ceil(10 * stall))
        self._set(
            "torchrun.process_group_timeout_seconds",
            timeout,
            f"A link that goes silent is only discovered by a collective that times out. Longer than any gap "
            f"between two collectives: ten stalls of {stall:.3g} s, at least 3 min. Raise it for slow compilation.",
        )

    def _rendezvous(self, nodes: int) -> None:
        measured = "measured: 7-12 s from a loss to the survivors' next step instead of 48 s at torchrun's defaults"
        self._set(
            "torchrun.rdzv_conf.last_call_timeout",
            1,
            f"Survivors wait this long for more nodes whenever the fleet is not full ({measured}).",
        )
        self._set("torchrun.rdzv_conf.keep_alive_interval", 1, "A dead node is noticed after interval x attempts: 5 s.")
        self._set(
            "torchrun.rdzv_conf.keep_alive_max_attempt",
            5,
            "At least 3: with 2, one skipped heartbeat evicted a healthy node and both halves trained on (measured).",
        )
        if nodes > 1 and self.plan.settings.rdzv_endpoint is not None:
            self._set(
                "torchrun.rdzv_conf.is_host", False, "The store runs on a host of its own: no spot node may become it."
            )

    def _checkpoint(self) -> None:
        plan, settings = self.plan, self.plan.settings
        local = settings.local_directory or LOCAL_DIRECTORY
        where = "" if settings.local_directory else " Put it on the fastest local disk (--local-directory)."
        self._set("checkpoint.directory", local, f"This node's own disk; it is gone with the node.{where}")
        remote = settings.remote or REMOTE_DIRECTORY
        why = "What survives the node: checkpoints count from here."
        if settings.remote is None:
            why = "REPLACE before renting spot (--remote s3://bucket/prefix): this folder does not survive the machine."
        self._set("checkpoint.remote", remote, why)
        rate = self.completed["market.rate_per_hour"]
        hazard = self.completed.hazard.name if self.completed.hazard else "given"
        stall, persist = (self.completed[f"checkpoint.{name}_seconds"] for name in ("stall", "persist"))
        chosen = "Cheapest in simulation" if self.completed.wants_optimum else "As given"
        self._set(
            "checkpoint.interval.seconds",
            round(plan.interval_seconds, 1),
            f"{chosen} ({duration(plan.interval_seconds)}) for {rate:.3g} interruptions per node-hour ({hazard}), "
            f"a stall of {stall:.3g} s and {persist:.3g} s until durable.",
        )
        if plan.interval_steps is not None:
            self._set(
                "checkpoint.interval.steps",
                plan.interval_steps,
                "The same in steps of the measured length; it overrides seconds.",
            )
        if plan.interval_high_seconds > plan.interval_low_seconds:
            self._set(
                "checkpoint.interval.low_seconds",
                round(plan.interval_low_seconds, 1),
                "From here to high_seconds no interval can be told from the best: re-tuning moves only to leave it.",
            )
            self._set("checkpoint.interval.high_seconds", round(plan.interval_high_seconds, 1), "")
        if plan.interval_steps is None and self.completed.wants_optimum:
            self._set(
                "checkpoint.interval.retune",
                True,
                "Follows the stall, the uploads and the losses that the run measures; false keeps to seconds.",
            )
        self._set(
            "checkpoint.keep_last", self.completed["checkpoint.keep_last"], "Durable checkpoints kept, as simulated."
        )

    def _notices(self) -> None:
        provider = self.completed["fleet.provider"]
        kinds = [provider, "sigterm"] if provider else ["sigterm"]
        self._set(
            "notices.sources",
            [{"kind": kind} for kind in kinds],
            "Several at once: the provider's metadata service, and SIGTERM from whoever manages the machine.",
        )
        notice = self.completed["notice.seconds"]
        poll = 5.0 if notice == 0.0 or notice >= 60.0 else 1.0
        self._set(
            "notices.poll_seconds", poll, f"A poll costs nothing; this one loses at most {poll:g} s of the notice."
        )
        self._set("notices.notice_seconds", notice, f"{self.completed.values['notice.seconds'].origin}.")
        budget, _ = self._budget()
        needed = self.completed["checkpoint.emergency_seconds"]
        if notice == 0.0 or needed <= notice:
            origin = self._origin("checkpoint.emergency_seconds")
            reason = f"From a notice to a durable emergency checkpoint: {needed:.3g} s ({origin})."
        else:
            reason = (
                f"An emergency save needs {needed:.3g} s and does not fit into the notice of {notice:g} s: this is all "
                "the time there is."
            )
        self._set("notices.emergency_budget_seconds", budget, reason)
        self._risk()

    def _risk(self) -> None:
        """Only beside an interval that the planner chose: one that the user gave is kept to."""
        completed = self.completed
        missed, own = unannounced_share(completed), own_share(completed)
        steps = hazard_steps(completed.lifetime, missed * own)
        if not steps or not completed.wants_optimum:
            return
        stall, persist = (completed[f"checkpoint.{name}_seconds"] for name in ("stall", "persist"))
        self._set("notices.risk.stall_seconds", short(stall), "What a save costs, until this run has measured it.")
        self._set(
            "notices.risk.minimum_seconds",
            short(stall + persist),
            "Never more often than a save takes to become durable: another begun before would only wait for it.",
        )
        age = "the same at every age" if len(steps) == 1 else "by its age"
        counted = "" if missed == 1.0 else f", times the {missed:.3g} whose notice is missed"
        counted += "" if own == 1.0 else f", times {own:.3g} since one event often takes several nodes"
        self._set(
            "notices.risk.hazard",
            [{"age_hours": short(start), "rate_per_hour": short(rate)} for start, rate in steps],
            f"Reclaims per hour of one node, {age}: the plan's lifetime{counted}. With it a node saves more often "
            "while it is of an age at which nodes are lost more often, without waiting for a notice.",
        )
        # The table belongs to the rates, but a reader meets the block first.
        self.reasons["notices.risk"] = "Precaution without a notice, at the density that loses least for this hazard."

    def _origin(self, path: str) -> str:
        return self.completed.values[path].origin.split(": ")[0]

    def _budget(self) -> tuple[float, int]:
        """Emergency budget and shutdown timeout (s): the first within the second, both within the notice."""
        needed = float(max(1, math.ceil(self.completed["checkpoint.emergency_seconds"])))
        notice = self.completed["notice.seconds"]
        if notice == 0.0:
            return needed, int(needed) + _MARGIN_SECONDS
        budget = min(needed, float(max(1, math.floor(notice))))
        return budget, int(max(budget, min(budget + _MARGIN_SECONDS, math.floor(notice))))

    def _predicted(self) -> None:
        completed = self.completed
        values: dict[str, Any] = {
            name: completed[f"fleet.{name}"] for name in ("provider", "instance", "region", "zone", "nodes")
        }
        values["spot_usd_per_hour"] = completed["market.spot_usd_per_hour"]
        values["on_demand_usd_per_hour"] = completed["market.on_demand_usd_per_hour"]
        values["work_hours"] = completed["job.work_hours"]
        values |= {name: None if value is None else short(value) for name, value in self.plan.predicted.items()}
        for name in ("stall", "persist", "emergency"):
            values[f"{name}_seconds"] = short(completed[f"checkpoint.{name}_seconds"])
        values["startup_seconds"] = short(completed["restart.startup_seconds"])
        values["rate_per_hour"] = short(completed["market.rate_per_hour"])
        for name, value in values.items():
            if value is not None:
                self._set(f"plan.{name}", value, "")
        self.reasons["plan"] = "What was predicted, and from what: planner report holds the run's telemetry against it."
        self._set(
            "plan.assumptions",
            planned_rows(self.plan.assumptions, completed),
            "Not given, so assumed; then, by section and name, what was given: planner report plans with both again.",
        )
