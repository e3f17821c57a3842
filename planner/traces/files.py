"""Trace files: from a path to what the simulator takes.  The files are read here and nowhere else."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InvalidInputError, did_you_mean
from planner.traces import parse
from simulator.lifetimes import Empirical, TraceReplay
from simulator.provision import EmpiricalProvision
from simulator.traces import CapacitySeries, LossStatistics, Observations, empirical_lifetime, pair_membership


@dataclass(frozen=True, slots=True)
class Trace:
    """What one file says; what its format cannot say is None."""

    name: str
    format: str
    observations: Observations | None
    capacity: CapacitySeries | None = None
    losses: LossStatistics | None = None
    waits_hours: tuple[float, ...] = ()


def load_trace(path: Path, *, format: str = "auto", nodes: int = 1, inverted: bool = False) -> Trace:  # noqa: A002 the flag's name
    """Read and check one trace (plain or .gz).

    `nodes`: a series of counts gives the lifetimes of a gang of that size.  `inverted`: 1 means no capacity.
    InvalidInputError names the file and the line of whatever is wrong.
    """
    choices = ("auto", *parse.FORMATS)
    if format not in choices:
        raise InvalidInputError("--format", format, f"one of {', '.join(choices)}", did_you_mean(format, choices))
    if nodes < 1:
        raise InvalidInputError("--nodes", nodes, "a whole number >= 1")
    name, text = str(path), _read(path)
    kind = parse.detect_format(name, text) if format == "auto" else format
    if inverted and kind != "counts":
        raise InvalidInputError("--inverted", kind, "a 0/1 series")
    if kind == "lifetimes":
        return Trace(name, kind, parse.parse_lifetimes(name, text))
    if kind == "waits":
        return Trace(name, kind, None, waits_hours=parse.parse_waits(name, text))
    if kind == "membership":
        log = pair_membership(parse.parse_membership(name, text))
        return Trace(name, kind, log.lifetimes, log.capacity, log.together, log.capacity.waits_hours(nodes))
    series = parse.parse_counts(name, text, inverted=inverted)
    started = any(start > 0.0 for start, _ in series.intervals(nodes))
    observations = series.lifetimes(nodes) if started else None
    losses = series.losses() if series.counts.max() > 1 else None
    return Trace(name, kind, observations, series, losses, series.waits_hours(nodes))


def load_empirical_lifetime(path: Path) -> Empirical:
    """The Kaplan–Meier lifetime of a trace in any format that holds lifetimes."""
    trace = load_trace(path)
    if trace.observations is None:
        raise InvalidInputError(str(path), f"a file of {trace.format}", "a trace that holds lifetimes")
    return empirical_lifetime(trace.observations)


def load_trace_replay(path: Path, *, nodes: int = 1) -> TraceReplay:
    """A trace of capacity to be replayed; `nodes`: capacity means at least that many."""
    trace = load_trace(path, nodes=nodes)
    if trace.capacity is None:
        raise InvalidInputError(str(path), f"a file of {trace.format}", "a trace of capacity over time")
    return trace.capacity.replay(nodes)


def load_empirical_provision(path: Path, *, nodes: int = 1) -> EmpiricalProvision:
    """Measured waits, or the absences of capacity in a trace."""
    trace = load_trace(path, nodes=nodes)
    if not trace.waits_hours:
        raise InvalidInputError(str(path), "no wait that began and ended", "a CSV of waits or a trace of capacity")
    return EmpiricalProvision.from_waits(trace.waits_hours)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise InvalidInputError("trace", path, "an existing file") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InvalidInputError("trace", path, "a readable UTF-8 text file", str(error)) from None
