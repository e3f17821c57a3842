"""A SkyPilot task: a managed spot job that comes back where the plan puts it, and only when a run can go on.

Requeue: SkyPilot starts the whole cluster anew when a node is lost, and on exit code 75.  Rendezvous: the store runs on
the head node, since all nodes live and die together here.
"""

from __future__ import annotations

from typing import Any

from harness.config import RunConfig
from harness.errors import EXIT_INTERRUPTED_RESUMABLE
from planner.emit.commented_yaml import to_yaml
from planner.emit.planned import EmitPlan
from planner.emit.target import STORE_PORT, Target, header, run_name, script_of, zone_name

FILE_NAME = "skypilot.yaml"

_SETUP = """# Your environment, unless the image has it; without the harness this ends here and not after an hour.
python3 -c "import harness, torch"
"""


def skypilot_yaml(plan: EmitPlan, config: RunConfig) -> str:
    """The task's text.  Run from the folder that holds the training script and harness.yaml."""
    completed = plan.completed
    place = [part for part in (plan.provider, completed["fleet.region"], zone_name(plan)) if part]
    document: dict[str, Any] = {
        "name": run_name(config),
        "workdir": ".",
        "num_nodes": plan.nodes,
        "resources": {"infra": "/".join(place) or "*", "use_spot": True},
        "setup": "",
        "run": "",
    }
    resources = document["resources"]
    if completed["fleet.instance"]:
        resources["instance_type"] = completed["fleet.instance"]
    resources["job_recovery"] = {
        "strategy": "FAILOVER",
        "max_restarts_on_errors": 0,
        "recover_on_exit_codes": [EXIT_INTERRUPTED_RESUMABLE],
    }
    text = to_yaml(document, _reasons(plan))
    return (
        header((f"sky jobs launch -n {run_name(config)} {FILE_NAME}",), _notes(config))
        + "\n"
        + text.replace("setup: ''\n", _block("setup", _SETUP)).replace("run: ''\n", _block("run", _run(plan, config)))
    )


def _reasons(plan: EmitPlan) -> dict[str, str]:
    zone = plan.completed["fleet.zone"]
    infra = "Where the plan found it cheapest."
    if zone is not None and zone_name(plan) is None:
        infra += (
            f" The plan's zone is {zone}; SkyPilot wants its name in your account: aws ec2 describe-availability-zones "
            f"--zone-ids {zone} --query AvailabilityZones[].ZoneName, and put it behind the region with a slash."
        )
    return {
        "workdir": "This folder: the training script and harness.yaml.",
        "num_nodes": "The whole fleet; SkyPilot starts it anew, whole, when one node is lost."
        + (
            f" The plan counts on going on with {plan.min_nodes} nodes, which SkyPilot does not do."
            if plan.min_nodes < plan.nodes
            else ""
        ),
        "resources.infra": infra,
        "resources.use_spot": "What was planned.",
        "resources.job_recovery.strategy": "The same region first: the prices and rates of the plan are this place's.",
        "resources.job_recovery.max_restarts_on_errors": "A failure of training code would only fail again.",
        "resources.job_recovery.recover_on_exit_codes": "75: interrupted and resumable.",
    }


def _notes(config: RunConfig) -> list[str]:
    recent = (
        "recover_on_exit_codes needs a SkyPilot that knows it (0.11 does). An older one refuses the key: leave it out, "
        "and exit code 75 then counts as a failure."
    )
    notes = [recent]
    if "://" not in config.checkpoint.remote:
        notes.append("REPLACE checkpoint.remote in harness.yaml first: a folder of the node goes with the node.")
    return notes


def _run(plan: EmitPlan, config: RunConfig) -> str:
    script = script_of(plan)
    if plan.nodes == 1:
        return f"exec python3 -m harness launch harness.yaml {script}\n"
    if plan.settings.rdzv_endpoint is not None:
        return f'exec python3 -m harness launch harness.yaml --node-rank "$SKYPILOT_NODE_RANK" {script}\n'
    nodes = f"{plan.nodes}:{plan.nodes}" if plan.min_nodes < plan.nodes else config.torchrun.nnodes
    return (
        'head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)\n'
        "exec python3 -m harness launch harness.yaml \\\n"
        f'  --nnodes {nodes} --rdzv-endpoint "$head:{STORE_PORT}" --node-rank "$SKYPILOT_NODE_RANK" \\\n'
        f"  {script}\n"
    )


def _block(key: str, text: str) -> str:
    return f"{key}: |\n" + "".join(f"  {line}\n" for line in text.splitlines())


def _files(plan: EmitPlan, config: RunConfig) -> dict[str, str]:
    return {FILE_NAME: skypilot_yaml(plan, config)}


TARGET = Target("skypilot", "SkyPilot managed job", _files)
