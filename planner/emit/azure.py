"""An Azure scale set of Spot VMs, as a script for the Azure command line.

Requeue: the scale set tries to restore evicted VMs (for an hour each), systemd restarts a launcher that exits 75.
Rendezvous: on a machine of its own, given as RDZV_ENDPOINT.
"""

from __future__ import annotations

from dataclasses import replace

from harness.config import RunConfig
from planner.emit.harness_yaml import harness_yaml
from planner.emit.node_script import FOLDER, endpoint_lines, node_script, substitution
from planner.emit.planned import EmitPlan
from planner.emit.target import Target, header, run_name

FILE_NAME = "azure-scale-set.sh"


def group_script(plan: EmitPlan, config: RunConfig) -> str:
    """The script's text."""
    name = run_name(config)
    zone: str | None = plan.completed["fleet.zone"]
    settings = replace(plan.settings, local_directory=plan.settings.local_directory or f"{FOLDER}/checkpoints/local")
    _, text = harness_yaml(replace(plan, settings=settings))
    node = node_script(
        plan,
        config,
        text,
        fetch="az login --identity --output none\n"
        "az storage blob download-batch --auth-mode login --destination . --source @CODE_URI@ --output none",
        shrink=f"az vmss scale --resource-group @RESOURCE_GROUP@ --name {name} --new-capacity 0 --output none",
    )
    zones = f" --zones {zone.rsplit('-', 1)[-1]}" if zone else ""
    location = plan.completed["fleet.region"]
    return f"""#!/bin/bash
{header((f"RESOURCE_GROUP=... IMAGE=... IDENTITY=... CODE_URI=https://... bash {FILE_NAME}",), _notes(config))}set -eu
: "${{RESOURCE_GROUP:?a resource group in {location}}}"
: "${{IMAGE:?an image with Python, torch and the harness}}"
: "${{IDENTITY:?the id of a user-assigned identity that may read the code, use the container and scale the set}}"
: "${{CODE_URI:?https://ACCOUNT.blob.core.windows.net/CONTAINER of the training script}}"
{endpoint_lines(plan)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/node.in.sh" <<'NODE_SCRIPT'
{node}NODE_SCRIPT
sed {substitution(plan)} -e "s|@RESOURCE_GROUP@|$RESOURCE_GROUP|g" "$work/node.in.sh" > "$work/node.sh"

# max-price -1: at most the on-demand price, so that no VM is evicted for its price.
az vmss create --resource-group "$RESOURCE_GROUP" --name {name} --location {location}{zones} \\
  --vm-sku {plan.completed["fleet.instance"]} --instance-count {plan.nodes} \\
  --priority Spot --eviction-policy Delete --max-price -1 \\
  --enable-spot-restore True --spot-restore-timeout PT1H \\
  --orchestration-mode Uniform --single-placement-group false --upgrade-policy-mode Manual \\
  --image "$IMAGE" --os-disk-size-gb 200 --assign-identity "$IDENTITY" \\
  --admin-username azureuser --generate-ssh-keys --load-balancer '""' --custom-data "$work/node.sh"
echo "created {name}: {plan.nodes} x {plan.completed["fleet.instance"]}; to end it:"
echo "  az vmss delete --resource-group $RESOURCE_GROUP --name {name}"
"""


def _notes(config: RunConfig) -> list[str]:
    if "://" in config.checkpoint.remote:
        return []
    return ["REPLACE checkpoint.remote below (--remote az://...): a folder of the machine goes with the machine."]


def _files(plan: EmitPlan, config: RunConfig) -> dict[str, str]:
    return {FILE_NAME: group_script(plan, config)}


TARGET = Target("azure", "Azure scale set", _files, provider="azure")
