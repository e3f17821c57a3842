"""Checks before a launch: everything that can be known to fail later, said now, in one line.  No torch needed."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
import socket
from email.utils import parsedate_to_datetime
from pathlib import Path

from harness.checkpoint.targets import open_configured
from harness.clock import Clock, SystemClock
from harness.config import NoticesConfig, RunConfig
from harness.errors import ExternalServiceError, InvalidInputError
from harness.notices import aws, azure, gcp
from harness.notices.base import NoticeSourceError, http_request

_MARGIN_SECONDS = 5.0
LEAST_FREE_BYTES = 64 * 1024**2
CLOCK_SECONDS = 5.0
"""A clock that is off by more is worth a line."""

_METADATA = {"aws": aws.ADDRESS, "gcp": gcp.ADDRESS, "azure": azure.ADDRESS}

_log = logging.getLogger("harness")


def check_machine(config: RunConfig, *, script: Path, hosts_store: bool, node: int = 0) -> None:
    """Raise InvalidInputError (exit 2) or ExternalServiceError (exit 3) for the first thing that would fail.

    `config` has its directories resolved for this node; `hosts_store`: the rendezvous store is to run here.  A metadata
    service that does not answer, or whose clock is another, is logged: the run goes on without notices from there.
    """
    if not script.is_file():
        raise InvalidInputError("script", script, "an existing Python file")
    check_timeouts(config)
    check_directory("checkpoint.directory", config.checkpoint.directory)
    check_directory("telemetry.directory", config.telemetry.directory)
    check_space(config)
    check_target(config)
    for problem in notice_problems(config.notices, node=node, clock=SystemClock()):
        _log.warning("%s", problem)
    if hosts_store:
        check_port(config.torchrun.rdzv_endpoint)


def check_timeouts(config: RunConfig) -> None:
    """The time between SIGTERM and SIGKILL covers the emergency budget, and both fit into the notice."""
    budget = config.notices.emergency_budget_seconds
    shutdown = config.torchrun.shutdown_timeout_seconds
    notice = config.notices.notice_seconds
    if shutdown < budget:
        raise InvalidInputError(
            "torchrun.shutdown_timeout_seconds",
            shutdown,
            f"at least the emergency budget ({budget:g} s): torchrun kills what is not done by then",
            f"for example {int(budget + _MARGIN_SECONDS)}, or a smaller notices.emergency_budget_seconds",
        )
    if 0 < notice < budget:
        raise InvalidInputError("notices.emergency_budget_seconds", f"{budget:g}", f"at most the notice ({notice:g} s)")


def check_directory(field: str, directory: Path) -> None:
    """`directory` exists or can be made, and a file written there reads back."""
    probe = directory / f".probe-{secrets.token_hex(4)}"
    data = secrets.token_bytes(64)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(data)
            same = probe.read_bytes() == data
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInputError(field, directory, "a directory that can be written", error.strerror) from None
    if not same:
        raise InvalidInputError(field, directory, "a disk that gives back what was written")


def check_space(config: RunConfig) -> None:
    """The node's disk takes one more checkpoint: as large as the largest of this run that is there already."""
    directory = config.checkpoint.directory
    # A save is written beside those that are kept, and only then is the oldest one deleted.
    known = [_size_bytes(path) for path in (directory / config.run_id).glob("step-*")]
    needed = max([LEAST_FREE_BYTES, *known])
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise InvalidInputError(
            "checkpoint.directory",
            f"{free / 1024**2:,.0f} MiB free",
            f"at least {needed / 1024**2:,.0f} MiB"
            + (", as the largest checkpoint there takes" if needed > LEAST_FREE_BYTES else ""),
            f"make room on the disk of {directory}, use another, or lower checkpoint.keep_last_local",
        )


def _size_bytes(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):  # deleted meanwhile
            total += path.stat().st_size
    return total


def notice_problems(config: NoticesConfig, *, node: int, clock: Clock) -> list[str]:
    """What is wrong with the metadata services that are to announce a reclaim: one line each."""
    problems = []
    for source in config.sources:
        url = (source.address or _METADATA.get(source.kind, "")).replace("{node}", str(node))
        if source.kind not in _METADATA:
            continue
        try:
            answer = http_request(url, headers={"Metadata-Flavor": "Google", "Metadata": "true"})
        except NoticeSourceError as error:
            problems.append(
                f"notice source {source.kind}: {error}; no notice will be heard from it unless it answers later "
                f"(is this a machine of that provider? in a container on AWS the hop limit must be 2)"
            )
            continue
        try:
            ahead = clock.wall() - parsedate_to_datetime(answer.headers.get("Date") or "").timestamp()
        except ValueError:
            continue
        if abs(ahead) > CLOCK_SECONDS:
            problems.append(
                f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {url}: deadlines "
                "are corrected for it, but credentials and logs are not; synchronise it (chrony)"
            )
    return problems


def check_target(config: RunConfig) -> None:
    """The durable target stores a small object below the run's prefix, gives it back and deletes it."""
    checkpoint = config.checkpoint
    target = open_configured(checkpoint)
    key = f"{config.run_id}/preflight/{secrets.token_hex(8)}"
    data = secrets.token_bytes(64)
    target.put_bytes(key, data)
    found = target.get_bytes(key)
    target.delete([key])
    if found != data:
        raise ExternalServiceError(f"{checkpoint.remote}: an object read back differs from what was written")


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of ``host:port``; torchrun's default port 29400 when there is none."""
    host, _, port = endpoint.rpartition(":") if ":" in endpoint else (endpoint, "", "29400")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidInputError("torchrun.rdzv_endpoint", endpoint, "host:port", "for example localhost:29400")
    return host.strip("[]"), int(port)


def is_this_machine(host: str) -> bool:
    """Whether `host` is an address of this machine: a socket can be bound to it."""
    try:
        addresses = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
        except OSError:
            continue
        return True
    return False


def check_port(endpoint: str) -> None:
    """Nobody listens on the endpoint's port, if it is one of this machine."""
    host, port = split_endpoint(endpoint)
    if not is_this_machine(host):
        return
    for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):  # noqa: S104  what the store binds
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # As the store does: a port of a run that ended a moment ago (TIME_WAIT) is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InvalidInputError(
                    "torchrun.rdzv_endpoint",
                    endpoint,
                    f"a free port: something listens on {port} already",
                    "another run? choose another port; for a second node on this machine say --node-rank 1",
                ) from None
            if error.errno == errno.EACCES:
                raise InvalidInputError("torchrun.rdzv_endpoint", endpoint, "a port that may be bound") from None
            # No IPv6 on this machine, for example: the other family decides.


def environment_for(config_path: Path, *, node: int | None, launch_id: str, wall_time: float) -> dict[str, str]:
    """What the training processes find in their environment, on top of this process's own."""
    environment = dict(os.environ)
    environment["HARNESS_CONFIG"] = str(config_path.resolve())
    environment["HARNESS_LAUNCH_ID"] = launch_id
    environment["HARNESS_LAUNCH_WALL_TIME"] = f"{wall_time:.3f}"
    if node is not None:
        environment["HARNESS_NODE"] = str(node)
    # Growing a fleet fails at the default: a surviving rank 0 re-uses a store that newcomers do not know of.
    environment.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    return environment
