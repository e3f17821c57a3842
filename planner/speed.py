"""How long the same job takes on another fleet, and whether its state fits there.

Work hours hold for one reference fleet.  Another fleet is faster or slower by measured throughputs where they are given
(``--throughput``), else by peak dense 16-bit TFLOP/s: an estimate that knows nothing of memory bandwidth, interconnect
or kernels, and is marked as one.  More nodes are faster by (n / reference n)^scaling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import InvalidInputError
from planner.catalogue import Catalogue, Instance
from planner.completion import find_instance
from planner.layers import Layered

ESTIMATED_SPEED = "estimated-speed"
FLAG_TEXT = "speed estimated from peak dense TFLOP/s and node count, not measured"


@dataclass(frozen=True, slots=True)
class Reference:
    """The fleet on which the job takes its stated work hours."""

    instance: Instance
    nodes: int
    assumed: bool
    """True: the user did not name it."""

    @property
    def text(self) -> str:
        """Such as ``2 x p4d.24xlarge``."""
        return f"{self.nodes} x {self.instance.name}"


@dataclass(frozen=True, slots=True)
class Workload:
    """The job as something that can be moved between fleets.  `throughputs`: per node, in one unit of any kind."""

    work_hours: float
    checkpoint_gib: float | None
    reference: Reference
    throughputs: Mapping[str, float]
    scaling: float = 1.0
    usable_memory_fraction: float = 1.0

    def on(self, catalogue: Catalogue, instance: Instance, nodes: int) -> tuple[float, bool] | str:
        """(work hours on that fleet, whether they are estimated), or the reason why they are not known."""
        ratio, estimated = self._node_ratio(catalogue, instance)
        if ratio is None:
            return f"speed unknown: no peak TFLOP/s for {instance.accelerator}; give --throughput"
        if nodes != self.reference.nodes:
            estimated = True
        return self.work_hours / (ratio * (nodes / self.reference.nodes) ** self.scaling), estimated

    def _node_ratio(self, catalogue: Catalogue, instance: Instance) -> tuple[float | None, bool]:
        """Speed of one node relative to one reference node."""
        base = self.reference.instance
        if instance == base:
            return 1.0, False
        if instance.name in self.throughputs and base.name in self.throughputs:
            return self.throughputs[instance.name] / self.throughputs[base.name], False
        tflops = [node_tflops(catalogue, row) for row in (instance, base)]
        if tflops[0] is None or tflops[1] is None:
            return None, True
        return tflops[0] / tflops[1], True

    def memory_refusal(self, catalogue: Catalogue, instance: Instance, nodes: int) -> str | None:
        """Why the state cannot be held there; None when it can, or when sizes are not known.

        `nodes`: the fewest of an elastic fleet.  The checkpoint (weights and optimizer state) sharded over all their
        accelerators is the least that must fit; activations and gradients come on top.
        """
        each = catalogue.accelerator_memory_gib(instance)
        if each is None or self.checkpoint_gib is None:
            return None
        total = each * instance.accelerator_count * nodes
        if self.checkpoint_gib <= total * self.usable_memory_fraction:
            return None
        fleet = f"{nodes * instance.accelerator_count} x {each:g} GiB"
        enough = math.ceil(self.checkpoint_gib / (total / nodes * self.usable_memory_fraction))
        return (
            f"state of {self.checkpoint_gib:g} GiB does not fit into {fleet} = {total:g} GiB: it takes {enough} nodes"
        )


def node_tflops(catalogue: Catalogue, instance: Instance) -> float | None:
    """Peak dense 16-bit TFLOP/s of one node; None when the accelerator's is not known."""
    model = catalogue.accelerators.get(instance.accelerator)
    each = model.peak_dense_tflops if model else None
    return None if each is None else each * instance.accelerator_count


def reference_of(
    text: str | None, layered: Layered, catalogue: Catalogue, instances: tuple[Instance, ...], nodes: int
) -> Reference:
    """The fleet that ``--reference TYPE[:NODES]`` names; without it the only type, else the fastest of `instances`.

    Raises InvalidInputError for an unknown type or a bad count.
    """
    if text is not None:
        name, _, count = text.partition(":")
        if count and not (count.isdigit() and int(count) >= 1):
            raise InvalidInputError("--reference", text, "TYPE or TYPE:NODES, e.g. p4d.24xlarge:2")
        try:
            return Reference(find_instance(layered, catalogue, name), int(count or 1), assumed=False)
        except InvalidInputError as error:
            raise InvalidInputError("--reference", name, error.expected, error.hint) from None
    if len(instances) == 1:
        return Reference(instances[0], nodes, assumed=False)
    fastest = max(instances, key=lambda row: (node_tflops(catalogue, row) or 0.0, row.name))
    return Reference(fastest, nodes, assumed=True)


def read_throughputs(texts: tuple[str, ...], layered: Layered, catalogue: Catalogue) -> dict[str, float]:
    """``TYPE=FIGURE`` flags; InvalidInputError for anything else."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, figure = text.partition("=")
        try:
            value = float(figure)
        except ValueError:
            value = 0.0
        if not 0.0 < value < float("inf"):
            raise InvalidInputError("--throughput", text, "TYPE=FIGURE with a number > 0, e.g. p4d.24xlarge=1200")
        try:
            found[find_instance(layered, catalogue, name.strip()).name] = value
        except InvalidInputError as error:
            raise InvalidInputError("--throughput", name, error.expected, error.hint) from None
    return found
