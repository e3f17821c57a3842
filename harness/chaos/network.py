"""How the nodes of a chaos run reach each other, and how a link goes silent.

Namespaces (as root): this process moves into a network of its own and gives every node another one, joined by a bridge.
A cut takes the node's end off the bridge: nothing is refused or closed, packets just go nowhere, as on a broken link.
All of it is gone with this process, whatever ends it: nothing has a name outside.

Processes (anybody): all nodes share the machine's loopback, which cannot be cut.  A cut stops every process of the node
instead (SIGSTOP): the others see the same silence, but the node itself does nothing until the link is back.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

from harness.errors import SpotPlannerError
from harness.fakes import FakeAwsMetadata
from harness.processes import descendants, die_with_parent

NetworkKind = Literal["auto", "namespaces", "processes"]

_CLONE_NEWNET = 0x40000000
_SUBNET = "10.213.87"
_METADATA_PORT = 8111


class ChaosError(SpotPlannerError):
    """The run did not come to where it could be interrupted, or did not end."""


class Network(Protocol):
    """What a chaos run needs of either kind."""

    kind: str
    store_host: str
    """Where every node reaches a store that runs beside the nodes."""
    metadata_address: str
    """Of the node's own metadata service; ``{node}`` is the node's number."""
    metadata: list[FakeAwsMetadata]

    def node_host(self, node: int) -> str:
        """Where the others reach `node`."""

    def command(self, node: int, command: list[str]) -> list[str]:
        """`command` as it is run on `node`."""

    def flags(self, node: int) -> list[str]:
        """Of `harness launch`, on `node`."""

    def environment(self, node: int) -> dict[str, str]:
        """Of a launch on `node`."""

    def cut(self, node: int, pid: int | None) -> None:
        """Silence the link of `node`, whose launch is `pid`."""

    def heal(self, node: int, pid: int | None) -> None:
        """The link is back."""

    def close(self) -> None:
        """Take everything down."""


def open_network(kind: NetworkKind, nodes: int) -> Network:
    """Namespaces where this process may make them, else processes; ChaosError where they were asked for in vain."""
    if kind == "processes":
        return SharedLoopback(nodes)
    why = why_no_namespaces()
    if why is None:
        return Namespaces(nodes)
    if kind == "namespaces":
        raise ChaosError(f"network namespaces: {why}")
    return SharedLoopback(nodes)


def why_no_namespaces() -> str | None:
    """What stands in the way of network namespaces; None: nothing."""
    if os.geteuid() != 0:
        return "they need root"
    missing = [name for name in ("ip", "nsenter", "unshare") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} not found (Debian: iproute2, util-linux)"
    trial = ["unshare", "--net", "ip", "link", "add", "probe", "type", "bridge"]
    tried = subprocess.run(trial, check=False, capture_output=True, text=True)
    return None if tried.returncode == 0 else f"this machine refuses them: {tried.stderr.strip()[:120]}"


class SharedLoopback:
    """All nodes on this machine's loopback."""

    kind = "processes"
    store_host = "localhost"

    def __init__(self, nodes: int) -> None:
        self.metadata_address, self.metadata = _neighbouring_ports(nodes)
        self._frozen: dict[int, list[int]] = {}

    def node_host(self, node: int) -> str:
        """Loopback."""
        del node
        return "localhost"

    def command(self, node: int, command: list[str]) -> list[str]:
        """As it is."""
        del node
        return command

    def flags(self, node: int) -> list[str]:
        """None."""
        del node
        return []

    def environment(self, node: int) -> dict[str, str]:
        """Nothing."""
        del node
        return {}

    def cut(self, node: int, pid: int | None) -> None:
        """Stop the node's processes, parents first, until no new one is found."""
        stopped: dict[int, None] = {}
        while pid is not None:
            fresh = [p for p in (pid, *descendants(pid)) if p not in stopped]
            if not fresh:
                break
            for process in fresh:
                stopped[process] = None
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGSTOP)
        self._frozen[node] = list(stopped)

    def heal(self, node: int, pid: int | None) -> None:
        """Let them run again."""
        del pid
        for process in self._frozen.pop(node, []):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    def close(self) -> None:
        """The metadata services."""
        for service in self.metadata:
            service.close()


class Namespaces:
    """A network namespace per node.  For a process of its own: it leaves the machine's network for good."""

    kind = "namespaces"
    store_host = f"{_SUBNET}.1"
    metadata_address = f"http://127.0.0.1:{_METADATA_PORT}"

    def __init__(self, nodes: int) -> None:
        self._holders: list[subprocess.Popen[bytes]] = []
        self.metadata: list[FakeAwsMetadata] = []
        _libc_call("unshare", _CLONE_NEWNET)
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "hub", "type", "bridge")
        _ip("addr", "add", f"{self.store_host}/24", "dev", "hub")
        _ip("link", "set", "hub", "up")
        try:
            for node in range(nodes):
                self._add(node)
        except BaseException:
            self.close()
            raise

    def _add(self, node: int) -> None:
        # A process that waits keeps the namespace alive between launches; it ends with this one.
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo up; exec sleep infinity"],
            stdout=subprocess.PIPE,
            preexec_fn=_end_with_this,  # noqa: PLW1509  no other thread holds a lock that the child needs
        )
        self._holders.append(holder)
        assert holder.stdout is not None
        if holder.stdout.readline() != b"up\n":
            raise ChaosError("a network namespace could not be made")
        holder.stdout.close()
        _ip("link", "add", f"node{node}", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        _ip("link", "set", f"node{node}", "master", "hub", "up")
        for arguments in (
            ["link", "set", "lo", "up"],
            ["addr", "add", f"{self.node_host(node)}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
        ):
            _run([*self._enter(node), "ip", *arguments])
        with _inside(holder.pid):
            # A socket belongs to the namespace in which it was made, whoever serves it.
            self.metadata.append(FakeAwsMetadata(_METADATA_PORT))

    def node_host(self, node: int) -> str:
        """Its address on the bridge."""
        return f"{_SUBNET}.{node + 10}"

    def _enter(self, node: int) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._holders[node].pid}/ns/net", "--"]

    def command(self, node: int, command: list[str]) -> list[str]:
        """Inside the node's namespace (nsenter replaces itself: the pid is the command's)."""
        return [*self._enter(node), *command]

    def flags(self, node: int) -> list[str]:
        """torchrun would give the others a name that means loopback to them."""
        return ["--local-addr", self.node_host(node)]

    def environment(self, node: int) -> dict[str, str]:
        """gloo, too."""
        del node
        return {"GLOO_SOCKET_IFNAME": "eth0"}

    def cut(self, node: int, pid: int | None) -> None:
        """Off the bridge; the node's own end stays up, so that nothing tells it."""
        del pid
        _ip("link", "set", f"node{node}", "nomaster")

    def heal(self, node: int, pid: int | None) -> None:
        """On the bridge again."""
        del pid
        _ip("link", "set", f"node{node}", "master", "hub")

    def close(self) -> None:
        """Metadata services and namespaces."""
        for service in self.metadata:
            service.close()
        for holder in self._holders:
            holder.kill()
            holder.wait()


@contextlib.contextmanager
def _inside(pid: int) -> Iterator[None]:
    """This thread in the network namespace of `pid`."""
    with Path("/proc/thread-self/ns/net").open("rb") as home, Path(f"/proc/{pid}/ns/net").open("rb") as there:
        _libc_call("setns", there.fileno(), _CLONE_NEWNET)
        try:
            yield
        finally:
            _libc_call("setns", home.fileno(), _CLONE_NEWNET)


def _libc_call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise ChaosError(f"{name}: {os.strerror(ctypes.get_errno())}")


def _end_with_this() -> None:
    die_with_parent(signal.SIGKILL)


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ChaosError(f"{' '.join(command)}: {done.stderr.strip()[:200]}")


def free_port() -> int:
    """A port on loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def can_bind(port: int) -> bool:
    """Whether nobody listens on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _neighbouring_ports(nodes: int) -> tuple[str, list[FakeAwsMetadata]]:
    """A service per node, and the address that ``{node}`` completes (one digit of the port)."""
    for _ in range(200):
        prefix = 1100 + secrets.randbelow(1800)
        services: list[FakeAwsMetadata] = []
        try:
            for node in range(nodes):
                services.append(FakeAwsMetadata(prefix * 10 + node))  # noqa: PERF401  each one opened must be closed
        except SpotPlannerError:  # somebody has that port
            for service in services:
                service.close()
            continue
        return f"http://127.0.0.1:{prefix}{{node}}", services
    raise ChaosError("no neighbouring free ports on this machine")
