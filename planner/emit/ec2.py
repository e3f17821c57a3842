"""An EC2 launch template and an Auto Scaling group of spot instances, as a script for the AWS command line.

Requeue: the group replaces a reclaimed node, systemd restarts a launcher that exits 75.  Rendezvous: on a machine
of its own, given as RDZV_ENDPOINT.  Capacity Rebalancing stays off: the harness saves early on a recommendation, and
the node is worth keeping until it is really taken.
"""

from __future__ import annotations

import json
from dataclasses import replace

from harness.config import RunConfig
from planner.emit.harness_yaml import harness_yaml
from planner.emit.node_script import FOLDER, endpoint_lines, node_script, substitution
from planner.emit.planned import EmitPlan
from planner.emit.target import Target, header, is_zone_id, run_name

FILE_NAME = "ec2-auto-scaling-group.sh"

_VOLUME_GIB = 200
_LATEST = "$Latest"


def group_script(plan: EmitPlan, config: RunConfig) -> str:
    """The script's text."""
    name = run_name(config)
    region = plan.completed["fleet.region"]
    zone = plan.completed["fleet.zone"]
    where = f"a subnet in {zone}" if zone else f"subnets in {region}, separated by commas"
    settings = replace(plan.settings, local_directory=plan.settings.local_directory or f"{FOLDER}/checkpoints/local")
    _, text = harness_yaml(replace(plan, settings=settings))
    node = node_script(
        plan,
        config,
        text,
        fetch="aws s3 cp --recursive --only-show-errors @CODE_URI@ .",
        shrink=f"aws autoscaling update-auto-scaling-group --region {region} "
        f"--auto-scaling-group-name {name} --min-size 0 --desired-capacity 0",
    )
    return f"""#!/bin/bash
{
        header(
            (f"IMAGE_ID=ami-... SUBNET_IDS=subnet-... INSTANCE_PROFILE=... CODE_URI=s3://... bash {FILE_NAME}",),
            _notes(plan, config),
        )
    }set -eu
: "${{IMAGE_ID:?an AMI with Python, torch and the harness}}"
: "${{SUBNET_IDS:?{where}}}"
: "${{INSTANCE_PROFILE:?the name of an instance profile that may use the bucket and scale the group}}"
: "${{CODE_URI:?s3://bucket/prefix of the training script}}"
{endpoint_lines(plan)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/node.sh" <<'NODE_SCRIPT'
{node}NODE_SCRIPT
user_data=$(sed {substitution(plan)} "$work/node.sh" | base64 | tr -d '\\n')

cat > "$work/template.json" <<TEMPLATE
{json.dumps(_template(plan, name), indent=2)}
TEMPLATE
aws ec2 create-launch-template --region {region} --cli-input-json "file://$work/template.json"

cat > "$work/group.json" <<GROUP
{json.dumps(_group(plan, name), indent=2).replace(_LATEST, chr(92) + _LATEST)}
GROUP
aws autoscaling create-auto-scaling-group --region {region} --cli-input-json "file://$work/group.json"
echo "created {name}: {plan.nodes} x {plan.completed["fleet.instance"]}; to end it:"
echo "  aws autoscaling delete-auto-scaling-group --region {region} --auto-scaling-group-name {name} --force-delete"
echo "  aws ec2 delete-launch-template --region {region} --launch-template-name {name}"
"""


def _notes(plan: EmitPlan, config: RunConfig) -> list[str]:
    zone = plan.completed["fleet.zone"]
    notes = []
    if zone is not None and is_zone_id(zone):
        notes.append(
            f"{zone} is a zone id: aws ec2 describe-subnets --filters Name=availability-zone-id,Values={zone} finds "
            "your subnets there."
        )
    if "://" not in config.checkpoint.remote:
        notes.append("REPLACE checkpoint.remote below (--remote): a folder of the machine goes with the machine.")
    notes.append(
        "The instance profile needs the bucket of the checkpoints, and autoscaling:UpdateAutoScalingGroup on this "
        "group so that the last node can end it."
    )
    return notes


def _template(plan: EmitPlan, name: str) -> dict[str, object]:
    """The request of ec2:CreateLaunchTemplate; $-variables are filled in by the shell."""
    volume = {"VolumeSize": _VOLUME_GIB, "VolumeType": "gp3", "DeleteOnTermination": True, "Encrypted": True}
    return {
        "LaunchTemplateName": name,
        "LaunchTemplateData": {
            "ImageId": "$IMAGE_ID",
            "InstanceType": plan.completed["fleet.instance"],
            "IamInstanceProfile": {"Name": "$INSTANCE_PROFILE"},
            "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": volume}],
            # Two hops, so that a container on the machine hears notices too.
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
            "UserData": "$user_data",
        },
    }


def _group(plan: EmitPlan, name: str) -> dict[str, object]:
    """The request of autoscaling:CreateAutoScalingGroup."""
    template = {"LaunchTemplateName": name, "Version": _LATEST}
    return {
        "AutoScalingGroupName": name,
        "MinSize": 0,
        "MaxSize": plan.nodes,
        "DesiredCapacity": plan.nodes,
        "VPCZoneIdentifier": "$SUBNET_IDS",
        "CapacityRebalance": False,
        "MixedInstancesPolicy": {
            "LaunchTemplate": {
                "LaunchTemplateSpecification": template,
                "Overrides": [{"InstanceType": plan.completed["fleet.instance"]}],
            },
            "InstancesDistribution": {
                "OnDemandBaseCapacity": 0,
                "OnDemandPercentageAboveBaseCapacity": 0,
                "SpotAllocationStrategy": "price-capacity-optimized",
            },
        },
        "Tags": [{"Key": "Name", "Value": name, "PropagateAtLaunch": True}],
    }


def _files(plan: EmitPlan, config: RunConfig) -> dict[str, str]:
    return {FILE_NAME: group_script(plan, config)}


TARGET = Target("ec2", "EC2 Auto Scaling group", _files, provider="aws")
