"""A Kubernetes manifest: an Indexed Job (no operator needed) whose failure policy knows the harness's exit codes.

Requeue: pods that exit 75 or that the cluster takes away are replaced without counting; 1 and 2 end the Job.  Grace:
the pod's period covers the launcher's.  Rendezvous: a Deployment of one pod off spot behind a Service, for fleets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.config import RunConfig
from harness.errors import EXIT_BAD_INPUT, EXIT_BUG, EXIT_INTERRUPTED_RESUMABLE
from planner.emit.commented_yaml import to_yaml
from planner.emit.harness_yaml import harness_yaml
from planner.emit.planned import EmitPlan
from planner.emit.target import STORE_PORT, Target, header, is_zone_id, run_name, script_of, stop_seconds

FILE_NAME = "kubernetes.yaml"

_SPOT = {
    "aws": ("karpenter.sh/capacity-type", "spot"),
    "gcp": ("cloud.google.com/gke-spot", "true"),
    "azure": ("kubernetes.azure.com/scalesetpriority", "spot"),
}
"""The label of spot nodes.  On AWS it is Karpenter's (of a managed node group: eks.amazonaws.com/capacityType=SPOT)."""

_LOCAL = "/local"
_WORK = "/workspace"
_CONFIG = "/etc/training"


def kubernetes_yaml(plan: EmitPlan, config: RunConfig) -> str:
    """The manifest's text: several documents, the config inside."""
    name = run_name(config)
    settings = plan.settings
    if plan.nodes > 1 and settings.rdzv_endpoint is None:
        settings = replace(settings, rdzv_endpoint=f"{name}-rendezvous:{STORE_PORT}")
    settings = replace(
        settings,
        local_directory=settings.local_directory or f"{_LOCAL}/checkpoints",
        telemetry_directory=settings.telemetry_directory or f"{_LOCAL}/telemetry",
    )
    inside, text = harness_yaml(replace(plan, settings=settings))
    parts = [_config_map(name, text)]
    if plan.nodes > 1 and plan.settings.rdzv_endpoint is None:
        parts += [_service(name), _store(plan, name)]
    parts.append(_job(plan, inside, name))
    uses = (f"kubectl apply -f {FILE_NAME}", f"kubectl logs -f -l job-name={name}")
    return header(uses, _notes(plan, config)) + "\n" + "---\n".join(parts)


def _notes(plan: EmitPlan, config: RunConfig) -> list[str]:
    notes = []
    if plan.settings.image is None:
        notes.append("REPLACE the image (--image): Python, torch, the harness, and your script in /workspace.")
    if "://" not in config.checkpoint.remote:
        notes.append("REPLACE checkpoint.remote in the ConfigMap (--remote): a folder of a pod goes with the pod.")
    notes.append(
        "An Indexed Job and not Kubeflow: it needs no operator, and Kubeflow Trainer's TrainJob is not elastic yet. "
        "A replaced pod keeps its index, which is its node rank."
    )
    return notes


def _config_map(name: str, text: str) -> str:
    head = to_yaml({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-config"}}, {})
    body = "".join(f"    {line}".rstrip() + "\n" for line in text.splitlines())
    return f"{head}data:\n  harness.yaml: |\n{body}"


def _service(name: str) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-rendezvous"},
        "spec": {
            "selector": {"app": f"{name}-rendezvous"},
            "ports": [{"name": "store", "port": STORE_PORT, "targetPort": STORE_PORT}],
        },
    }
    return to_yaml(document, {"metadata": "The name that every node looks for the rendezvous store by."})


def _store(plan: EmitPlan, name: str) -> str:
    pod: dict[str, Any] = {}
    reasons = {"spec": "The rendezvous store: when it dies, every agent ends within a second, so it stays off spot."}
    if plan.provider is not None:
        key, value = _SPOT[plan.provider]
        expression = {"key": key, "operator": "NotIn", "values": [value]}
        pod["affinity"] = {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [expression]}]
                }
            }
        }
    pod["containers"] = [
        {
            "name": "store",
            "image": _image(plan),
            "command": ["python3", "-m", "harness", "rendezvous", "--port", str(STORE_PORT)],
            "ports": [{"containerPort": STORE_PORT}],
            "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        }
    ]
    labels = {"app": f"{name}-rendezvous"}
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{name}-rendezvous"},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    reasons["spec.strategy"] = "Never two stores at once: half the fleet would meet in each."
    return to_yaml(document, reasons)


def _job(plan: EmitPlan, config: RunConfig, name: str) -> str:
    least = "" if plan.min_nodes == plan.nodes else f" Training goes on with {plan.min_nodes} or more of them."
    document = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "completionMode": "Indexed",
            "completions": plan.nodes,
            "parallelism": plan.nodes,
            "backoffLimit": 6,
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    _on_exit("Ignore", EXIT_INTERRUPTED_RESUMABLE),
                    _on_exit("FailJob", EXIT_BUG, EXIT_BAD_INPUT),
                ]
            },
            "template": {"metadata": {"labels": {"app": name}}, "spec": _pod(plan, config, name)},
        },
    }
    exits = (
        "In this order: a pod that the cluster takes away (reclaim, drain, preemption) and one that exits 75 "
        "(interrupted, resumable) are replaced and do not count; 1 (a failure of training code) and 2 (bad input) "
        "end the Job, since they would only happen again; what is left counts against backoffLimit."
    )
    period = "spec.template.spec.terminationGracePeriodSeconds"
    reasons = {
        "spec.completions": f"One pod per node of the fleet.{least}",
        "spec.podFailurePolicy": exits,
        period: f"Covers the emergency budget of {config.notices.emergency_budget_seconds:g} s and torchrun's shutdown "
        f"timeout of {config.torchrun.shutdown_timeout_seconds} s, within the notice. Kubernetes' default is 30.",
        "spec.template.spec.nodeSelector": _where(plan),
        "spec.template.spec.tolerations": "Spot pools are commonly tainted by this label.",
        "spec.template.spec.affinity": "One pod per machine: each has a disk and a notice of its own.",
    }
    return to_yaml(document, reasons)


def _on_exit(action: str, *codes: int) -> dict[str, Any]:
    return {
        "action": action,
        "onExitCodes": {"containerName": "training", "operator": "In", "values": sorted(codes)},
    }


def _where(plan: EmitPlan) -> str:
    where = "The plan's machine and place."
    if plan.provider == "aws":
        where += (
            " The capacity-type label is Karpenter's; of a managed node group: eks.amazonaws.com/capacityType: SPOT."
        )
    return where


def _pod(plan: EmitPlan, config: RunConfig, name: str) -> dict[str, Any]:
    launch = ["python3", "-m", "harness", "launch", f"{_CONFIG}/harness.yaml"]
    rank = ["--node-rank", "$(NODE_RANK)"] if plan.nodes > 1 else []
    container: dict[str, Any] = {
        "name": "training",
        "image": _image(plan),
        "workingDir": _WORK,
        "command": [*launch, *rank, *script_of(plan).split()],
    }
    if plan.nodes > 1:
        index = {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}
        container["env"] = [{"name": "NODE_RANK", "valueFrom": {"fieldRef": index}}]
    resource = _resource(plan)
    if resource is not None:
        container["resources"] = {"limits": {resource: config.torchrun.nproc_per_node}}
    mounts = [{"name": "config", "mountPath": _CONFIG}, {"name": "shared-memory", "mountPath": "/dev/shm"}]  # noqa: S108
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": f"{name}-config"}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    if str(config.checkpoint.directory).startswith(_LOCAL):
        mounts.append({"name": "local", "mountPath": _LOCAL})
        volumes.append({"name": "local", "emptyDir": {}})
    container["volumeMounts"] = mounts
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": stop_seconds(plan, config),
        "nodeSelector": _selector(plan),
    }
    if plan.provider is not None:
        key, value = _SPOT[plan.provider]
        pod["tolerations"] = [{"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}]
    if plan.nodes > 1:
        term = {"labelSelector": {"matchLabels": {"app": name}}, "topologyKey": "kubernetes.io/hostname"}
        pod["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    return {**pod, "containers": [container], "volumes": volumes}


def _selector(plan: EmitPlan) -> dict[str, str]:
    completed = plan.completed
    labels: dict[str, str] = {}
    if plan.provider is not None:
        key, value = _SPOT[plan.provider]
        labels[key] = value
    if completed["fleet.instance"]:
        labels["node.kubernetes.io/instance-type"] = completed["fleet.instance"]
    if completed["fleet.region"]:
        labels["topology.kubernetes.io/region"] = completed["fleet.region"]
    zone = completed["fleet.zone"]
    if zone is not None:
        labels["topology.k8s.aws/zone-id" if is_zone_id(zone) else "topology.kubernetes.io/zone"] = zone
    return labels


def _resource(plan: EmitPlan) -> str | None:
    """The extended resource that the device plugin of this accelerator offers; None for an unknown type."""
    instance = plan.completed.instance
    if instance is None:
        return None
    if instance.accelerator.startswith(("Trainium", "Inferentia")):
        return "aws.amazon.com/neuron"
    return "amd.com/gpu" if instance.accelerator.startswith(("MI", "Radeon")) else "nvidia.com/gpu"


def _image(plan: EmitPlan) -> str:
    return plan.settings.image or "registry.example.com/training:latest"


def _files(plan: EmitPlan, config: RunConfig) -> dict[str, str]:
    return {FILE_NAME: kubernetes_yaml(plan, config)}


TARGET = Target("kubernetes", "Kubernetes Job", _files)
