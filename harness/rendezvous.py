"""`python -m harness rendezvous`: the store of the rendezvous, on a machine that stays.

The store of a trainer dies with it and takes every agent along.  This process holds nothing but the store: launches of
any number of runs may share it (their ids differ), and the death of any trainer leaves it alone.
"""

from __future__ import annotations

import signal
import socket
import threading

import click
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from harness.errors import EXIT_CTRL_C, EXIT_DONE, InvalidInputError


def host_store(port: int) -> int:
    """Serve until SIGTERM (0) or SIGINT (130); InvalidInputError when the port cannot be had."""
    ended = threading.Event()
    received: list[int] = []

    def end(number: int, _frame: object) -> None:
        received.append(number)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        store = TCPStore("0.0.0.0", port, is_master=True, wait_for_workers=False)  # noqa: S104  trainers come from elsewhere
    except (dist.DistError, RuntimeError) as error:
        raise InvalidInputError("--port", port, "a free port", " ".join(str(error).split())[:120]) from None
    name = socket.gethostname()
    click.echo(f"rendezvous store on port {store.port}")
    click.echo(f"trainers: torchrun.rdzv_endpoint: {name}:{store.port}, torchrun.rdzv_conf.is_host: false")
    ended.wait()
    return EXIT_CTRL_C if received[0] == signal.SIGINT else EXIT_DONE
