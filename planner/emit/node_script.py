"""What a machine of a cloud's own group runs at each boot: it writes the config and keeps one launch going.

systemd does the requeue: it starts the launcher again on exit code 75 (interrupted, resumable) and 3 (the durable
target did not answer), and after any other end the group is scaled to nothing, so that nobody pays for idle machines.
"""

from __future__ import annotations

from harness.config import RunConfig
from harness.errors import EXIT_EXTERNAL_SERVICE, EXIT_INTERRUPTED_RESUMABLE
from planner.emit.planned import EmitPlan
from planner.emit.target import LAUNCHER_MARGIN_SECONDS, script_of

FOLDER = "/opt/training"
CONFIG_MARK = "HARNESS_YAML"


def node_script(plan: EmitPlan, config: RunConfig, config_text: str, *, fetch: str, shrink: str) -> str:
    """The script's text.  `fetch` copies $CODE_URI into the working directory; `shrink` scales the group to nothing.

    $CODE_URI (and $RDZV_ENDPOINT, for a fleet without one) are put in by the script that creates the group.
    """
    assert CONFIG_MARK not in config_text
    again = f"{EXIT_INTERRUPTED_RESUMABLE} {EXIT_EXTERNAL_SERVICE}"
    endpoint = " --rdzv-endpoint @RDZV_ENDPOINT@" if needs_endpoint(plan) else ""
    stop = config.torchrun.shutdown_timeout_seconds + LAUNCHER_MARGIN_SECONDS
    return f"""#!/bin/bash
# Runs as root at each boot. The image needs Python, torch and the harness.
set -eu
mkdir -p {FOLDER}
cd {FOLDER}
{fetch}
cat > harness.yaml <<'{CONFIG_MARK}'
{config_text.rstrip()}
{CONFIG_MARK}

cat > finished.sh <<'FINISHED'
#!/bin/bash
# systemd says how the launcher ended. {again}: it is started again. Anything else is the end of the job, good or bad.
case " {again} " in *" $EXIT_STATUS "*) exit 0 ;; esac
[ "$EXIT_CODE" = exited ] || exit 0
{shrink}
FINISHED
chmod +x finished.sh

cat > /etc/systemd/system/training.service <<'UNIT'
[Unit]
Description=Training under python -m harness launch
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
WorkingDirectory={FOLDER}
ExecStart=/usr/bin/env python3 -m harness launch harness.yaml{endpoint} {script_of(plan)}
ExecStopPost={FOLDER}/finished.sh
RestartForceExitStatus={again}
RestartSec=10
# SIGTERM to the launcher alone, which passes it on; SIGKILL only after the emergency save had its time.
KillMode=mixed
TimeoutStopSec={stop}

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl start --no-block training.service
"""


def needs_endpoint(plan: EmitPlan) -> bool:
    """Whether the person who creates the group still has to say where the rendezvous store is."""
    return plan.nodes > 1 and plan.settings.rdzv_endpoint is None


def endpoint_lines(plan: EmitPlan) -> str:
    """The check that it was said, for the script that creates the group."""
    if not needs_endpoint(plan):
        return ""
    why = "HOST:PORT of python -m harness rendezvous on a small on-demand machine"
    return f': "${{RDZV_ENDPOINT:?{why}}}"\n'


def substitution(plan: EmitPlan) -> str:
    """The sed expressions that put the person's values into the node's script."""
    parts = ['-e "s|@CODE_URI@|$CODE_URI|g"']
    if needs_endpoint(plan):
        parts.append('-e "s|@RDZV_ENDPOINT@|$RDZV_ENDPOINT|g"')
    return " ".join(parts)
