"""Checks before a launch: everything that can be known to fail later, said now, in one line.  No torch needed."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from pathlib import Path

from harness.checkpoint.targets import open_configured
from harness.config import RunConfig
from harness.errors import ExternalServiceError, InvalidInputError

_MARGIN_SECONDS = 5.0


def check_machine(config: RunConfig, *, script: Path, hosts_store: bool) -> None:
    """Raise InvalidInputError (exit 2) or ExternalServiceError (exit 3) for the first thing that would fail.

    `config` has its directories resolved for this node; `hosts_store`: the rendezvous store is to run here.
    """
    if not script.is_file():
        raise InvalidInputError("script", script, "an existing Python file")
    check_timeouts(config)
    check_directory("checkpoint.directory", config.checkpoint.directory)
    check_directory("telemetry.directory", config.telemetry.directory)
    check_target(config)
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
