"""torchrun.env: what plain torchrun reads from its environment instead of flags (``PET_*``)."""

from __future__ import annotations

from harness.config import RunConfig
from planner.emit.planned import EmitPlan
from planner.emit.target import Target

ENVIRONMENT_NAME = "torchrun.env"

_HEADER = """# Written by planner beside harness.yaml. For plain torchrun:
#   set -a; . ./torchrun.env; set +a; torchrun train.py
# in the folder of harness.yaml, or with HARNESS_CONFIG set to where it is.
# python -m harness launch harness.yaml train.py does the same and checks the machine first.
"""


def torchrun_variables(config: RunConfig, *, vcpus: int | None = None) -> dict[str, tuple[str, str]]:
    """Variable → (value, reason).  `vcpus` of the node divide into threads per process."""
    torchrun = config.torchrun
    conf = torchrun.rdzv_conf.model_dump(exclude_none=True)
    rdzv_conf = ",".join(f"{key}={_plain(value)}" for key, value in conf.items())
    variables = {
        "PET_NNODES": (torchrun.nnodes, "MIN:MAX nodes"),
        "PET_NPROC_PER_NODE": (str(torchrun.nproc_per_node), "one process per accelerator"),
        "PET_RDZV_BACKEND": (torchrun.rdzv_backend, "torchrun's default, static, never drops a lost node"),
        "PET_RDZV_ENDPOINT": (torchrun.rdzv_endpoint, "the store; keep it on a stable host"),
        "PET_RDZV_ID": (
            config.run_id,
            "a finished run closes its rendezvous: on a store that lives on, take a new id for each launch",
        ),
        "PET_RDZV_CONF": (rdzv_conf, "shrinks in 7-12 s instead of 48 s (measured)"),
        "PET_MAX_RESTARTS": (str(torchrun.max_restarts), "each failure costs one; torchrun's default is 0"),
        "PET_MONITOR_INTERVAL": (f"{torchrun.monitor_interval_seconds:g}", "seconds between looks at the workers"),
        "PET_SHUTDOWN_TIMEOUT": (
            str(torchrun.shutdown_timeout_seconds),
            "SIGTERM to SIGKILL: emergency budget + margin",
        ),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": (
            "1",
            "without it a fleet cannot grow again: newcomers wait 60 s for a store they do not know (measured, 3 of 3)",
        ),
    }
    variables["HARNESS_CONFIG"] = ("harness.yaml", "what harness.Run.from_env() reads, from the working directory")
    if vcpus:
        threads = max(1, vcpus // torchrun.nproc_per_node)
        reason = f"{vcpus} vCPUs over {torchrun.nproc_per_node} processes; set so that numbers repeat"
        variables["OMP_NUM_THREADS"] = (str(threads), reason)
    return variables


def torchrun_env(config: RunConfig, *, vcpus: int | None = None) -> str:
    """The file's text: readable by a shell, by systemd and by docker's --env-file (nothing is quoted)."""
    lines = [_HEADER]
    for name, (value, reason) in torchrun_variables(config, vcpus=vcpus).items():
        lines.append(f"# {reason}\n{name}={value}\n")
    return "\n".join(lines)


def _files(plan: EmitPlan, config: RunConfig) -> dict[str, str]:
    instance = plan.completed.instance
    return {ENVIRONMENT_NAME: torchrun_env(config, vcpus=instance.vcpus if instance else None)}


TARGET = Target("torchrun", "plain torchrun, or python -m harness launch", _files)


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
