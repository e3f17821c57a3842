"""An sbatch script: requeues itself on exit code 75, and is told to save before its time is over.

Requeue: the script asks for it, since Slurm requeues by itself only after a node failure or a preemption.  Warning:
``--signal`` sends SIGTERM to the launchers ahead of the time limit, and a preemption sends SIGTERM too, so both take
the way of a notice.  Rendezvous: the store runs on the allocation's first node, with which the allocation ends.
"""

from __future__ import annotations

from harness.config import RunConfig
from harness.errors import EXIT_INTERRUPTED_RESUMABLE
from planner.emit.planned import EmitPlan
from planner.emit.target import (
    LAUNCHER_MARGIN_SECONDS,
    STORE_PORT,
    Target,
    comment,
    header,
    quoted,
    run_name,
    script_of,
)

FILE_NAME = "slurm.sbatch"


def slurm_script(plan: EmitPlan, config: RunConfig) -> str:
    """The script's text.  Submit it from the folder that holds the training script and harness.yaml."""
    shutdown = config.torchrun.shutdown_timeout_seconds + LAUNCHER_MARGIN_SECONDS
    elastic = plan.min_nodes < plan.nodes
    warning = (
        f"SIGTERM to the launchers before the time limit: {shutdown} s to save and end, and Slurm may be up to 60 s "
        "late. A preemption sends it too, and needs as much GraceTime of the partition."
    )
    options = [
        ("job-name", run_name(config), "The run's name."),
        ("nodes", str(plan.nodes), "The whole fleet, one launcher on each node."),
        ("ntasks-per-node", "1", ""),
        ("exclusive", None, "All accelerators and processors of a node: one training process per accelerator."),
        *_accelerators(plan, config),
        (
            "requeue",
            None,
            "After a node failure or a preemption (PreemptMode=REQUEUE) Slurm starts the job again by itself.",
        ),
        (
            "signal",
            f"TERM@{shutdown + 60}",
            warning,
        ),
        ("open-mode", "append", "Attempts write into one log."),
        ("output", "slurm-%x-%j.log", ""),
    ]
    if elastic:
        options.append(("no-kill", None, f"Training goes on with {plan.min_nodes} or more of the nodes."))
    lines = ["#!/bin/bash", header((f"sbatch {FILE_NAME}",), _notes(config)).rstrip("\n"), ""]
    for name, value, why in options:
        if why:
            lines.append(comment(why))
        lines.append(f"#SBATCH --{name}" + ("" if value is None else f"={value}"))
    return "\n".join(lines) + "\n" + _body(plan)


def _accelerators(plan: EmitPlan, config: RunConfig) -> list[tuple[str, str | None, str]]:
    instance = plan.completed.instance
    if instance is None:
        return []
    count = config.torchrun.nproc_per_node
    return [("gpus-per-node", str(count), f"{instance.name}: {count} x {instance.accelerator}.")]


def _notes(config: RunConfig) -> list[str]:
    notes = ["Give --partition, --account and --time as your cluster wants them, below or on sbatch's command line."]
    if "://" not in config.checkpoint.remote:
        notes.append(
            "REPLACE checkpoint.remote in harness.yaml unless it is on a file system that all nodes share: checkpoints "
            "have to be found from whatever nodes the job gets next."
        )
    return notes


def _body(plan: EmitPlan) -> str:
    script = quoted(script_of(plan))
    if plan.nodes > 1 and plan.settings.rdzv_endpoint is None:
        head = (
            "# The store runs on the allocation's first node; a port of the job's own, should two share a node.\n"
            'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\n'
            f'export RDZV_ENDPOINT="$head:$(({STORE_PORT} + SLURM_JOB_ID % 1000))"\n'
        )
        endpoint = ' --rdzv-endpoint "$RDZV_ENDPOINT"'
    else:
        head, endpoint = "", ""
    rank = ' --node-rank "$SLURM_NODEID"' if plan.nodes > 1 else ""
    kept = " --no-kill" if plan.min_nodes < plan.nodes else ""
    return f"""
set -u
cd "$SLURM_SUBMIT_DIR" || exit 2
{head}export TRAINING_SCRIPT={script}

# --kill-on-bad-exit=0 and --wait=0: a node that leaves first does not take from the others the time to save.
srun --kill-on-bad-exit=0 --wait=0{kept} bash -c \\
  'exec python3 -m harness launch harness.yaml{endpoint}{rank} $TRAINING_SCRIPT'
code=$?

# {EXIT_INTERRUPTED_RESUMABLE}: interrupted and resumable. Other failures would only happen again, so they end the job.
if [ "$code" -eq {EXIT_INTERRUPTED_RESUMABLE} ]; then
  echo "interrupted (exit $code): back into the queue, attempt $((${{SLURM_RESTART_COUNT:-0}} + 2))"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def _files(plan: EmitPlan, config: RunConfig) -> dict[str, str]:
    return {FILE_NAME: slurm_script(plan, config)}


TARGET = Target("slurm", "Slurm batch job", _files)
