"""Emit's targets: each file does in a launcher's hands what it says, as far as that goes without the launcher."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config import RunConfig
from harness.errors import InvalidInputError
from harness.launch import LaunchOptions, plan_launch
from harness.validation import parse
from planner.emit.options import EmitSettings
from planner.emit.plan import TARGETS, EmitPlan, emitted_files
from planner.emit.risk import hazard_steps
from simulator.lifetimes import Bathtub, Exponential, Lifetime, Weibull
from tests.planner.conftest import Outcome
from tests.planner.test_emit import plan

Planner = Callable[..., Outcome]

FLEET = {"nodes": 4, "min_nodes": 4}
RATE = {"lifetime": {"distribution": "exponential", "rate_per_hour": 0.1}}
PLACES: dict[str, dict[str, Any]] = {
    "aws": {},
    "gcp": {"fleet": {"instance": "a2-highgpu-8g", "zone": None}, "market": RATE},
    "azure": {"fleet": {"instance": "Standard_ND96asr_v4", "zone": None}, "market": RATE},
}


def plan_on(provider: str, settings: EmitSettings | None = None, **fleet: Any) -> EmitPlan:
    """A plan on one provider's machines."""
    sections = {name: dict(values) for name, values in PLACES[provider].items()}
    sections.setdefault("fleet", {}).update(fleet)
    return plan(settings or EmitSettings(remote="s3://bucket/runs"), **sections)


class Commands:
    """Stand-ins on PATH: each writes its arguments down, one line per call, and ends with a given code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, name: str, body: str = "") -> None:
        """A command; `body` runs after its arguments were written down."""
        path = self.folder / name
        path.write_text(f'#!/bin/bash\nprintf "%s\\t" "$@" >> "{self.folder}/{name}.calls"\n'
                        f'echo >> "{self.folder}/{name}.calls"\n{body}\n')  # fmt: skip
        path.chmod(0o755)

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of each call so far."""
        path = self.folder / f"{name}.calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.rstrip("\t").split("\t") for line in lines]

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """`script` under bash, with these commands before all others."""
        path = f"{self.folder}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", script], env={"PATH": path, "HOME": str(self.folder), **variables},
            cwd=self.folder, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """An empty folder of stand-ins."""
    return Commands(tmp_path / "bin")


# -- the registry ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", list(PLACES))
def test_every_target_that_fits_is_written_and_no_two_share_a_file(provider: str) -> None:
    """Without names: harness.yaml and the files of each target for this provider or for any."""
    emitted = emitted_files(plan_on(provider))
    fitting = [target for target in TARGETS if target.provider in (None, provider)]
    assert len(fitting) == 5
    one_by_one = [set(emitted_files(plan_on(provider), (target.name,))) - {"harness.yaml"} for target in fitting]
    assert sum(map(len, one_by_one)) == len(set().union(*one_by_one)) == len(emitted) - 1
    for name, text in emitted.items():
        first = next(line for line in text.splitlines() if not line.startswith("#!"))
        assert first.startswith("# Written by planner"), name


def test_a_target_that_does_not_fit_or_does_not_exist_is_refused() -> None:
    """By name, with the nearest one."""
    with pytest.raises(InvalidInputError, match="ec2 is for aws only"):
        emitted_files(plan_on("gcp"), ("ec2",))
    with pytest.raises(InvalidInputError, match="kubernetes"):
        emitted_files(plan_on("aws"), ("kubernets",))


def test_flags_about_files_need_files_and_bad_ones_are_said_before_anything_is_simulated(planner: Planner) -> None:
    """--target without --emit, an unknown target, a run id for several plans: exit 2 and one line."""
    job = ("recommend", "--instance", "p4d.24xlarge", "--work-hours", "1e9", "--checkpoint-gib", "50")
    for flags, field in (
        (("--target", "slurm"), "--target"),
        (("--remote", "s3://b/x"), "--remote"),
        (("--emit", "x", "--target", "slrum"), "did you mean 'slurm'"),
        (("--emit", "x", "--run-id", "../up"), "--run-id"),
        (("--emit-all", "x", "--run-id", "mine"), "--run-id"),
    ):
        outcome = planner(*job, *flags)
        assert (outcome.code, outcome.out) == (2, "")
        assert field in outcome.err


def test_a_folder_for_every_candidate(planner: Planner, tmp_path: Path) -> None:
    """compare --emit-all: as many folders as candidates, in the order of the ranking, each with its own place."""
    outcome = planner(
        "compare", "--instance", "p4d.24xlarge", "--region", "us-east-2", "--node-counts", "1,2", "--work-hours", "20",
        "--checkpoint-gib", "50", "--runs", "200", "--json", "--emit-all", str(tmp_path / "all"), "--emit",
        str(tmp_path / "best"),
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)["candidates"]
    folders = sorted((tmp_path / "all").iterdir())
    assert len(folders) == len(found) >= 4
    for folder, candidate in zip(folders, found, strict=True):
        config = yaml.safe_load((folder / "harness.yaml").read_text())
        assert (config["plan"]["zone"], config["plan"]["nodes"]) == (candidate["zone"], candidate["nodes"])
        assert (folder / "torchrun.env").is_file()
    assert (tmp_path / "best" / "harness.yaml").is_file()


# -- the plan's own hazard ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lifetime", "steps"),
    [
        (Exponential(0.2), 1),
        (Weibull(0.6, 5.0), 10),
        (Bathtub(0.45, 1.0, 24.0, 0.8, 24.0), 6),
    ],
)
def test_the_hazard_table_has_the_lifetimes_own_cumulative_hazard(lifetime: Lifetime, steps: int) -> None:
    """Summed over its steps it is the lifetime's, to the 10 % within which neighbours are merged."""
    table = hazard_steps(lifetime)
    assert len(table) >= steps
    assert [age for age, _ in table] == sorted({age for age, _ in table})
    for until in (1.0, 8.0, 20.0):
        ages = [*(age for age, _ in table if age < until), until]
        total = sum(rate * (b - a) for (_, rate), a, b in zip(table, ages, ages[1:], strict=False))
        assert total == pytest.approx(lifetime.cumulative_hazard(until), rel=0.11)
    assert hazard_steps(lifetime, 0.0) == ()


def test_precaution_follows_the_plan_and_keeps_to_an_interval_that_was_given() -> None:
    """Only missed notices count; half as many per node where events take several; none beside a given interval."""

    def risk(**sections: dict[str, Any]) -> Any:
        return parse(RunConfig, yaml.safe_load(emitted_files(plan(**sections), ())["harness.yaml"])).notices.risk

    market = {"lifetime": {"distribution": "exponential", "rate_per_hour": 0.2}}
    found = risk(market=market, notice={"success": 0.9})
    assert [step.rate_per_hour for step in found.hazard] == pytest.approx([0.02])
    assert found.minimum_seconds >= found.stall_seconds > 0.0
    no_notice = risk(market=market, notice={"seconds": 0})
    assert no_notice.hazard[0].rate_per_hour == pytest.approx(0.2)
    fleet = risk(market=market, notice={"seconds": 0}, fleet={"nodes": 3, "bulk": 0.5})
    assert fleet.hazard[0].rate_per_hour == pytest.approx(0.1)
    assert risk(market=market, checkpoint={"interval_seconds": 600}) is None


# -- torchrun and SkyPilot ------------------------------------------------------------------------------------------


def launched(script: str, commands: Commands, **variables: str) -> list[str]:
    """What the script gives to python3, once."""
    commands.add("python3")
    done = commands.run(script, **variables)
    assert done.returncode == 0, done.stderr
    (call,) = commands.calls("python3")
    return call


def accepted(files: dict[str, str], call: list[str], tmp_path: Path) -> tuple[str, ...]:
    """torchrun's arguments, from the launcher that such a call reaches."""
    (tmp_path / "harness.yaml").write_text(files["harness.yaml"])
    assert call[:3] == ["-m", "harness", "launch"]
    values = {flag: call[call.index(flag) + 1] if flag in call else None for flag in ("--nnodes", "--rdzv-endpoint")}
    options = LaunchOptions(node_rank=1, nnodes=values["--nnodes"], rdzv_endpoint=values["--rdzv-endpoint"])
    return plan_launch(tmp_path / "harness.yaml", options, Path("train.py"), ()).arguments


def test_skypilot_resumes_on_75_and_meets_on_the_head_node(commands: Commands, tmp_path: Path) -> None:
    """The task names the place; its run section finds the head node and gives each node its rank."""
    files = emitted_files(plan_on("aws", **FLEET), ("skypilot",))
    task = yaml.safe_load(files["skypilot.yaml"])
    assert task["num_nodes"] == 4
    assert task["resources"]["infra"] == "aws/us-east-1"
    assert task["resources"]["use_spot"] is True
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    assert "use1-az2" in files["skypilot.yaml"], "a zone id is no zone name, and the file says so"
    call = launched(task["run"], commands, SKYPILOT_NODE_IPS="10.0.0.7\n10.0.0.8", SKYPILOT_NODE_RANK="1")
    assert call[call.index("--node-rank") + 1] == "1"
    assert "--rdzv-endpoint=10.0.0.7:29400" in accepted(files, call, tmp_path)
    assert call[-1] == "train.py"


def test_skypilot_runs_one_node_as_it_is(commands: Commands) -> None:
    """No rendezvous to find; the script's own arguments reach it."""
    settings = EmitSettings(remote="s3://bucket/runs", script="train.py --lr 3e-4")
    task = yaml.safe_load(emitted_files(plan_on("aws", settings), ("skypilot",))["skypilot.yaml"])
    assert launched(task["run"], commands)[-3:] == ["train.py", "--lr", "3e-4"]


# -- Slurm ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (75, True), (1, False), (2, False)])
def test_slurm_requeues_itself_on_75_only(commands: Commands, tmp_path: Path, code: int, requeued: bool) -> None:
    """With a stand-in for srun that runs its command: the launcher's code decides, and is the job's code."""
    files = emitted_files(plan_on("aws", **FLEET), ("slurm",))
    commands.add("python3", f"exit {code}")
    commands.add("srun", 'while [[ "$1" == --* ]]; do shift; done; SLURM_NODEID=3 exec "$@"')
    commands.add("scontrol", 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; fi')
    done = commands.run(
        files["slurm.sbatch"], SLURM_SUBMIT_DIR=str(tmp_path), SLURM_JOB_ID="1234", SLURM_JOB_NODELIST="node[7-10]"
    )
    assert done.returncode == code, done.stderr
    assert commands.calls("scontrol")[0] == ["show", "hostnames", "node[7-10]"]
    assert commands.calls("scontrol")[1:] == ([["requeue", "1234"]] if requeued else [])
    (call,) = commands.calls("python3")
    assert call[call.index("--node-rank") + 1] == "3"
    assert "--rdzv-endpoint=node7:29634" in accepted(files, call, tmp_path)


def test_slurm_is_told_to_warn_early_enough() -> None:
    """--signal comes before the limit by the launcher's time and Slurm's own minute; options precede commands."""
    files = emitted_files(plan_on("aws", **FLEET), ("slurm",))
    text = files["slurm.sbatch"]
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", text, re.MULTILINE))
    shutdown = yaml.safe_load(files["harness.yaml"])["torchrun"]["shutdown_timeout_seconds"]
    name, seconds = options["signal"].split("@")
    assert name == "TERM"
    assert int(seconds) >= shutdown + 60
    assert (options["nodes"], options["ntasks-per-node"], options["gpus-per-node"]) == ("4", "1", "8")
    assert "requeue" in options
    assert "no-kill" not in options
    assert text.index("#SBATCH") < text.rindex("#SBATCH") < text.index("set -u")
    elastic = emitted_files(plan_on("aws", nodes=4, min_nodes=2), ("slurm",))["slurm.sbatch"]
    assert "#SBATCH --no-kill" in elastic


# -- Kubernetes -----------------------------------------------------------------------------------------------------


def manifest(emit_plan: EmitPlan) -> dict[str, Any]:
    """The manifest's documents by kind."""
    text = emitted_files(emit_plan, ("kubernetes",))["kubernetes.yaml"]
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.mark.parametrize("provider", list(PLACES))
def test_the_manifest_is_accepted_by_kubernetes_own_schemas(provider: str, tmp_path: Path) -> None:
    """Strictly (no unknown key), for an old and a recent version."""
    import kubernetes_validate

    for document in manifest(plan_on(provider, **FLEET)).values():
        for version in ("1.30", "1.35"):
            kubernetes_validate.validate(document, version, strict=True)


def test_the_job_replaces_what_is_resumable_and_ends_on_what_is_not() -> None:
    """Exit codes, grace period, one pod per node and machine, on spot; a fleet's store off spot, by name."""
    found = manifest(plan_on("aws", **FLEET))
    job = found["Job"]["spec"]
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (4, 4, "Indexed")
    rules = job["podFailurePolicy"]["rules"]
    codes = {code: rule["action"] for rule in rules for code in rule.get("onExitCodes", {}).get("values", ())}
    assert codes == {75: "Ignore", 1: "FailJob", 2: "FailJob"}
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert {rule["onExitCodes"]["containerName"] for rule in rules[1:]} == {container["name"]}
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert pod["nodeSelector"]["topology.k8s.aws/zone-id"] == "use1-az2"
    config = parse(RunConfig, yaml.safe_load(found["ConfigMap"]["data"]["harness.yaml"]))
    assert config.torchrun.shutdown_timeout_seconds <= pod["terminationGracePeriodSeconds"] <= 120
    assert config.torchrun.rdzv_conf.is_host is False
    name, port = config.torchrun.rdzv_endpoint.split(":")
    service, store = found["Service"], found["Deployment"]
    assert (service["metadata"]["name"], str(service["spec"]["ports"][0]["port"])) == (name, port)
    assert service["spec"]["selector"] == store["spec"]["template"]["metadata"]["labels"]
    (term,) = store["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    ((key, value),) = [item for item in pod["nodeSelector"].items() if item[0] == term["matchExpressions"][0]["key"]]
    assert term["matchExpressions"] == [{"key": key, "operator": "NotIn", "values": [value]}]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert any(str(config.checkpoint.directory).startswith(path) for path in mounted)
    assert any(str(config.telemetry.directory).startswith(path) for path in mounted)


def test_one_node_needs_no_store_and_a_given_store_is_used() -> None:
    """Neither Service nor Deployment."""
    assert set(manifest(plan_on("aws"))) == {"ConfigMap", "Job"}
    given = manifest(plan_on("aws", EmitSettings(remote="s3://b/x", rdzv_endpoint="head:29400"), **FLEET))
    assert set(given) == {"ConfigMap", "Job"}
    assert "head:29400" in given["ConfigMap"]["data"]["harness.yaml"]


# -- the clouds' own groups -----------------------------------------------------------------------------------------


def test_ec2_asks_for_what_the_api_knows(commands: Commands) -> None:
    """Both requests against the service models that botocore ships; the node's script inside the first."""
    import botocore.session
    from botocore.validate import ParamValidator

    keep = 'for a in "$@"; do case "$a" in file://*) cp "${a#file://}" "$(dirname "$0")/$2.json" ;; esac; done'
    commands.add("aws", keep)
    given = {"IMAGE_ID": "ami-1", "SUBNET_IDS": "subnet-1", "INSTANCE_PROFILE": "trainer", "CODE_URI": "s3://b/code"}
    script = emitted_files(plan_on("aws", **FLEET), ("ec2",))["ec2-auto-scaling-group.sh"]
    refused = commands.run(script, **given)
    assert refused.returncode != 0
    assert "RDZV_ENDPOINT" in refused.stderr
    done = commands.run(script, **given, RDZV_ENDPOINT="head:29400")
    assert done.returncode == 0, done.stderr
    session = botocore.session.get_session()
    requests = {}
    for service, operation in (("ec2", "CreateLaunchTemplate"), ("autoscaling", "CreateAutoScalingGroup")):
        name = re.sub(r"(?<!^)(?=[A-Z])", "-", operation).lower()
        requests[service] = json.loads((commands.folder / f"{name}.json").read_text())
        shape = session.get_service_model(service).operation_model(operation).input_shape
        report = ParamValidator().validate(requests[service], shape)
        assert not report.has_errors(), report.generate_report()
    group, template = requests["autoscaling"], requests["ec2"]["LaunchTemplateData"]
    assert (group["MaxSize"], group["DesiredCapacity"]) == (4, 4)
    specification = group["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]
    assert specification == {"LaunchTemplateName": requests["ec2"]["LaunchTemplateName"], "Version": "$Latest"}
    assert group["MixedInstancesPolicy"]["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 0
    node = base64.b64decode(template["UserData"])
    assert len(node) < 16_384, "the most that EC2 takes"
    check_node_script(commands, node.decode())


@pytest.mark.parametrize(
    ("provider", "command", "file", "variables"),
    [
        ("gcp", "gcloud", "gce-instance-group.sh", {"IMAGE": "i", "SERVICE_ACCOUNT": "a@b", "CODE_URI": "gs://b/code",
                                                    "ZONE": "us-central1-a"}),
        ("azure", "az", "azure-scale-set.sh", {"IMAGE": "i", "IDENTITY": "id", "CODE_URI": "https://a/code",
                                               "RESOURCE_GROUP": "group"}),
    ],
)  # fmt: skip
def test_the_other_clouds_groups_are_spot_and_as_large_as_planned(
    commands: Commands, provider: str, command: str, file: str, variables: dict[str, str]
) -> None:
    """Run with a stand-in for the cloud's command line: what it is asked for, and the node's script it is given."""
    keep = 'for a in "$@"; do case "$a" in *node.sh) cp "${a#*=}" "$(dirname "$0")/node.sh" ;; esac; done'
    commands.add(command, keep)
    script = emitted_files(plan_on(provider, **FLEET), (TARGETS[5 if provider == "gcp" else 6].name,))[file]
    done = commands.run(script, RDZV_ENDPOINT="head:29400", **variables)
    assert done.returncode == 0, done.stderr
    words = [word for call in commands.calls(command) for word in call]
    assert {"SPOT", "Spot"} & set(words)
    assert words[words.index("--size" if provider == "gcp" else "--instance-count") + 1] == "4"
    assert PLACES[provider]["fleet"]["instance"] in words
    node = (commands.folder / "node.sh").read_text()
    assert not re.search(r"@[A-Z_]+@", node), "every place is filled in"
    check_node_script(commands, node)


def check_node_script(commands: Commands, node: str) -> None:
    """The config in it is a config; systemd is told to start again after 75 and 3, and the end scales the group."""
    assert subprocess.run(["bash", "-n"], input=node, text=True, check=False).returncode == 0
    config = re.search(r"<<'HARNESS_YAML'\n(.*?)\nHARNESS_YAML\n", node, re.DOTALL)
    unit = re.search(r"<<'UNIT'\n(.*?)\nUNIT\n", node, re.DOTALL)
    finished = re.search(r"<<'FINISHED'\n(.*?)\nFINISHED\n", node, re.DOTALL)
    assert config
    assert unit
    assert finished
    loaded = parse(RunConfig, yaml.safe_load(config[1]))
    settings = dict(line.split("=", 1) for line in unit[1].splitlines() if "=" in line)
    assert settings["RestartForceExitStatus"] == "75 3"
    assert int(settings["TimeoutStopSec"]) >= loaded.torchrun.shutdown_timeout_seconds + 10
    assert "--rdzv-endpoint head:29400" in settings["ExecStart"]
    tool = next(name for name in ("aws", "gcloud", "az") if f"\n{name} " in finished[1])
    commands.add(tool)
    for code, reason, scales in (
        (75, "exited", False),
        (3, "exited", False),
        ("TERM", "killed", False),
        (0, "exited", True),
        (1, "exited", True),
    ):
        before = len(commands.calls(tool))
        commands.run(finished[1], EXIT_CODE=reason, EXIT_STATUS=str(code))
        assert (len(commands.calls(tool)) > before) is scales, code
