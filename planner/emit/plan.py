"""From a plan to files: harness.yaml and torchrun.env, and what each launcher in use wants beside them.

`TARGETS` is the only list of launchers: the command line's ``--target``, the dashboard's export page and the tests
all read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import InvalidInputError, did_you_mean
from planner.emit import azure, ec2, gce, kubernetes, skypilot, slurm, torchrun_env
from planner.emit.files import write_folder
from planner.emit.harness_yaml import harness_yaml
from planner.emit.planned import EmitPlan, plan_of
from planner.emit.target import Target

__all__ = ["DEFAULT_TARGETS", "TARGETS", "EmitPlan", "Target", "emit_plan", "emitted_files", "plan_of"]

CONFIG_NAME = "harness.yaml"

TARGETS: tuple[Target, ...] = (
    torchrun_env.TARGET,
    skypilot.TARGET,
    kubernetes.TARGET,
    slurm.TARGET,
    ec2.TARGET,
    gce.TARGET,
    azure.TARGET,
)
DEFAULT_TARGETS = ("torchrun",)


def emitted_files(plan: EmitPlan, targets: Sequence[str] | None = None, *, strict: bool = True) -> dict[str, str]:
    """File name → text of harness.yaml and of these targets; None: of every one that fits the plan.

    Raises InvalidInputError for settings that the harness would not accept and, where `strict`, for a target that does
    not fit the plan.
    """
    config, text = harness_yaml(plan)
    files = {CONFIG_NAME: text}
    for target in _chosen(plan, ("all",) if targets is None else targets, strict):
        files |= target.files(plan, config)
    return files


def check_targets(names: Sequence[str]) -> None:
    """InvalidInputError, with the nearest name, for a target that there is not."""
    known = [target.name for target in TARGETS]
    for name in names:
        if name not in known and name != "all":
            raise InvalidInputError("--target", name, f"one of {', '.join(known)}, all", did_you_mean(name, known))


def _chosen(plan: EmitPlan, names: Sequence[str], strict: bool) -> list[Target]:
    check_targets(names)
    for target in TARGETS:
        if strict and target.name in names and not _fits(target, plan):
            expected = f"a target for {plan.provider}" if plan.provider else "a plan with a provider"
            raise InvalidInputError("--target", target.name, f"{expected}: {target.name} is for {target.provider} only")
    return [target for target in TARGETS if _fits(target, plan) and ("all" in names or target.name in names)]


def _fits(target: Target, plan: EmitPlan) -> bool:
    return target.provider in (None, plan.provider)


def emit_plan(
    plan: EmitPlan, folder: Path, *, targets: Sequence[str] = DEFAULT_TARGETS, field: str = "--emit"
) -> tuple[Path, ...]:
    """Write the files into `folder`, all or nothing; their paths.  InvalidInputError when it cannot be written."""
    return write_folder(folder, emitted_files(plan, targets), field=field)
