"""A Compute Engine instance template of Spot VMs and a managed instance group, as a script for gcloud.

Requeue: the group recreates a preempted VM, systemd restarts a launcher that exits 75.  Rendezvous: on a machine of
its own, given as RDZV_ENDPOINT.
"""

from __future__ import annotations

from dataclasses import replace

from harness.config import RunConfig
from planner.emit.harness_yaml import harness_yaml
from planner.emit.node_script import FOLDER, endpoint_lines, node_script, substitution
from planner.emit.planned import EmitPlan
from planner.emit.target import Target, header, run_name, zone_name

FILE_NAME = "gce-instance-group.sh"


def group_script(plan: EmitPlan, config: RunConfig) -> str:
    """The script's text."""
    name = run_name(config)
    zone = zone_name(plan)
    region = plan.completed["fleet.region"]
    place = f"--zone {zone}" if zone else '--zone "$ZONE"'
    ask_zone = "" if zone else f': "${{ZONE:?a zone of {region} that offers {plan.completed["fleet.instance"]}}}"\n'
    settings = replace(plan.settings, local_directory=plan.settings.local_directory or f"{FOLDER}/checkpoints/local")
    _, text = harness_yaml(replace(plan, settings=settings))
    group_zone = zone or "@ZONE@"
    node = node_script(
        plan,
        config,
        text,
        fetch="gcloud storage cp --recursive '@CODE_URI@/*' .",
        shrink=f"gcloud compute instance-groups managed resize {name} --zone {group_zone} --size 0 --quiet",
    )
    zone_sed = "" if zone else ' -e "s|@ZONE@|$ZONE|g"'
    return f"""#!/bin/bash
{
        header(
            (f"IMAGE=projects/.../images/... SERVICE_ACCOUNT=... CODE_URI=gs://bucket/code bash {FILE_NAME}",),
            _notes(config),
        )
    }set -eu
: "${{IMAGE:?an image with Python, torch and the harness: projects/PROJECT/global/images/NAME}}"
: "${{SERVICE_ACCOUNT:?the address of a service account that may use the bucket and resize the group}}"
: "${{CODE_URI:?gs://bucket/prefix of the training script}}"
{ask_zone}{endpoint_lines(plan)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/node.in.sh" <<'NODE_SCRIPT'
{node}NODE_SCRIPT
sed {substitution(plan)}{zone_sed} "$work/node.in.sh" > "$work/node.sh"

# Spot VMs cannot migrate: they stop, and the group recreates them.
gcloud compute instance-templates create {name} \\
  --machine-type {plan.completed["fleet.instance"]} \\
  --provisioning-model SPOT --instance-termination-action STOP \\
  --maintenance-policy TERMINATE --no-restart-on-failure \\
  --image "$IMAGE" --boot-disk-size 200GB --boot-disk-type pd-ssd \\
  --service-account "$SERVICE_ACCOUNT" --scopes cloud-platform \\
  --metadata-from-file startup-script="$work/node.sh"
gcloud compute instance-groups managed create {name} {place} --template {name} --size {plan.nodes}
echo "created {name}: {plan.nodes} x {plan.completed["fleet.instance"]}; to end it:"
echo "  gcloud compute instance-groups managed delete {name} {place}"
echo "  gcloud compute instance-templates delete {name}"
"""


def _notes(config: RunConfig) -> list[str]:
    if "://" in config.checkpoint.remote:
        return []
    return ["REPLACE checkpoint.remote below (--remote gs://...): a folder of the machine goes with the machine."]


def _files(plan: EmitPlan, config: RunConfig) -> dict[str, str]:
    return {FILE_NAME: group_script(plan, config)}


TARGET = Target("gce", "Compute Engine managed instance group", _files, provider="gcp")
