"""DistributedDataParallel and FSDP2 as the run uses them: buckets that never change, and gradients summed once a step.

DDP sums gradients bucket by bucket, and builds its buckets anew after the first backward pass, in the order in which
gradients arrived then.  Where a gradient lies in its bucket decides in which order a ring adds it up over three or more
ranks.  A resumed process begins with the first buckets again, so its next step differs in the last bits from that of a
process that never stopped.  Building them before the first step, from the model alone, removes the difference: the
buckets are then the same in every attempt.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_log = logging.getLogger("harness")


@runtime_checkable
class ShardedModule(Protocol):
    """The part of FSDP2's interface (`FSDPModule`) that gradient accumulation needs."""

    def set_requires_gradient_sync(self, requires_gradient_sync: bool, /) -> None: ...  # FSDP2's signature


def data_parallel(component: Any) -> DistributedDataParallel | None:
    """The DDP that `component` is, or that torch.compile has wrapped; None when it is neither."""
    while isinstance(component, nn.Module) and not isinstance(component, DistributedDataParallel):
        inner = getattr(component, "_orig_mod", None)
        if inner is None:
            return None
        component = inner
    return component if isinstance(component, DistributedDataParallel) else None


def why_buckets_stay_open(model: DistributedDataParallel) -> str | None:
    """Why `pin_buckets` must not touch this model; None when it may."""
    if model.static_graph:
        return "static_graph=True counts the gradients of its first pass"
    if getattr(model, "mixed_precision", None) is not None:
        return "mixed_precision keeps parameters of its own"
    if any(getattr(module, "sparse", False) is True for module in model.module.modules()):
        return "it has sparse gradients"
    return None


def pin_buckets(model: DistributedDataParallel) -> bool:
    """Give `model` its final buckets now, in the reverse order of its parameters; True when they are final.

    Collective: one all-reduce of zeros as large as the gradients.  Parameters, gradients and random states stay as they
    are.  The reverse of the order in which a model registers its parameters is what DDP itself starts from, and what
    lets communication overlap with the backward pass.
    """
    if model.find_unused_parameters:
        return True  # such a DDP never rebuilds
    reason = why_buckets_stay_open(model)
    if reason is not None:
        _log.warning("DDP's buckets stay open (%s): with 3 or more ranks a resume may differ in last bits", reason)
        return False
    ignored = set(model.parameters_to_ignore)
    parameters = [p for name, p in model.module.named_parameters() if p.requires_grad and name not in ignored]
    gradients = [parameter.grad for parameter in parameters]
    # One backward pass per parameter, in the wanted order: DDP takes them for the gradients of a single pass.
    with torch.enable_grad():
        model.reducer.prepare_for_backward([])
        for parameter in reversed(parameters):
            (parameter.sum() * 0.0).backward()
    pinned = bool(model.reducer._rebuild_buckets())
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    if not pinned:
        _log.warning("DDP did not take the pinned buckets: with 3 or more ranks a resume may differ in last bits")
    return pinned


@contextlib.contextmanager
def gradients_summed(components: Iterable[Any], *, now: bool) -> Iterator[None]:
    """Inside the block, backward passes sum gradients over the ranks (`now`), or only add them up on this rank.

    For forward and backward pass of a micro-batch; what is neither DDP nor FSDP2 is left alone.
    """
    with contextlib.ExitStack() as stack:
        for component in components:
            model = data_parallel(component)
            if model is not None:
                if not now:
                    stack.enter_context(model.no_sync())
            elif isinstance(component, nn.Module) and isinstance(component, ShardedModule):
                component.set_requires_gradient_sync(now)
                stack.callback(component.set_requires_gradient_sync, True)
        yield
