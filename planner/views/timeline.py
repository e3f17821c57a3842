"""One simulated run as a person would look at it: what the job did when, what was in flight, what happened to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from planner.evaluate import Candidate
from simulator.reference import Mark, Timeline, simulate_timeline
from simulator.runs import RunResult

PHASES = {
    "waiting": "waiting for capacity",
    "startup": "startup",
    "training": "training",
    "stall": "checkpoint stall",
    "idle_notice": "idle after notice",
    "detect": "loss not noticed yet",
    "rendezvous": "regrouping",
    "finishing": "final checkpoint",
    "ending": "final checkpoint",
}
UPLOAD = "upload in flight"
TYPICAL = "Typical (P50)"
MARKS = {
    "arrival": "node arrives",
    "notice": "notice acted on",
    "reclaim": "node reclaimed",
    "durable": "checkpoint durable",
    "rolled_back": "work lost",
    "finished": "finished",
}
_SAME = 1e-6
"""Hours within which two moments are one."""


@dataclass(frozen=True, slots=True)
class RunView:
    """Run `run` of the plan's seed: numbers, spans of time, marks, and progress against time."""

    run: int
    result: RunResult
    spans: pd.DataFrame
    """start_hours, end_hours, lane (job, upload), phase."""
    marks: pd.DataFrame
    """at_hours, what, progress_hours, nodes, lost_hours."""
    progress: pd.DataFrame
    """at_hours, progress_hours: straight lines between the rows."""


def view_run(candidate: Candidate, run: int) -> RunView:
    """Run number `run`; InvalidInputError where it cannot finish."""
    result, timeline = simulate_timeline(candidate.spec, candidate.completed.seed, run)
    return RunView(run, result, _spans(timeline), _marks(timeline), _progress(timeline))


def notable_runs(candidate: Candidate) -> dict[str, int]:
    """Numbers of the runs at the median and at P95 of cost, of the cheapest and of the dearest."""
    order = np.argsort(candidate.costs, kind="stable")
    last = order.size - 1
    picks = {"Cheapest": 0.0, TYPICAL: 0.5, "Expensive (P95)": 0.95, "Dearest": 1.0}
    return {name: int(order[round(share * last)]) + candidate.runs.first_run for name, share in picks.items()}


def _spans(timeline: Timeline) -> pd.DataFrame:
    rows = [
        {
            "start_hours": span.start_hours,
            "end_hours": span.end_hours,
            "lane": "job",
            "phase": PHASES.get(span.phase, span.phase.replace("_", " ")),
        }
        for span in timeline.spans
    ]
    rows += [
        {"start_hours": start, "end_hours": end, "lane": "upload", "phase": UPLOAD} for start, end in _uploads(timeline)
    ]
    return pd.DataFrame(rows, columns=["start_hours", "end_hours", "lane", "phase"])


def _uploads(timeline: Timeline) -> list[tuple[float, float]]:
    """(start, end) of each upload: from the end of a stall to durable, or to the reclaim that took it away.

    A stall that a notice cut short starts none.
    """
    notices = np.array([mark.at_hours for mark in timeline.marks if mark.kind == "notice"])
    ends = sorted((m.at_hours, m.kind) for m in timeline.marks if m.kind in {"durable", "reclaim"})
    found: list[tuple[float, float]] = []
    for span in timeline.spans:
        if span.phase == "stall" and not (np.abs(notices - span.end_hours) < _SAME).any():
            end = next((at for at, _ in ends if at > span.end_hours - _SAME), None)
            if end is not None and end > span.end_hours:
                found.append((span.end_hours, end))
    return found


def _marks(timeline: Timeline) -> pd.DataFrame:
    rows = [
        {
            "at_hours": mark.at_hours,
            "what": MARKS.get(mark.kind, mark.kind.replace("_", " ")),
            "progress_hours": mark.progress_hours,
            "nodes": ", ".join(str(node) for node in mark.nodes),
            "lost_hours": _lost(timeline, mark) if mark.kind == "rolled_back" else None,
        }
        for mark in timeline.marks
    ]
    return pd.DataFrame(rows, columns=["at_hours", "what", "progress_hours", "nodes", "lost_hours"])


def _lost(timeline: Timeline, mark: Mark) -> float:
    """What was rolled back: progress at the mark less progress in the phase without progress that follows."""
    following = (span for span in timeline.spans if span.end_hours > mark.at_hours + _SAME)
    return max(0.0, mark.progress_hours - next((s.progress_hours for s in following), mark.progress_hours))


def _progress(timeline: Timeline) -> pd.DataFrame:
    """Progress rises in training and falls, at once, where work is lost."""
    rows = [{"at_hours": 0.0, "progress_hours": 0.0}]
    for span in timeline.spans:
        before = rows[-1]["progress_hours"]
        start = before if span.phase == "training" else span.progress_hours
        for at, progress in ((span.start_hours, start), (span.end_hours, span.progress_hours)):
            if rows[-1] != {"at_hours": at, "progress_hours": progress}:
                rows.append({"at_hours": at, "progress_hours": progress})
    return pd.DataFrame(rows)


def first_window(view: RunView, hours: float = 8.0) -> tuple[float, float]:
    """A stretch worth looking at: around the first loss of work, else around the first reclaim, else the beginning."""
    end = view.result.makespan_hours
    for what in (MARKS["rolled_back"], MARKS["reclaim"]):
        at = view.marks.loc[view.marks["what"] == what, "at_hours"]
        if not at.empty:
            low = min(max(0.0, float(at.iloc[0]) - 0.5 * hours), max(0.0, end - hours))
            return low, min(end, low + hours)
    return 0.0, min(end, hours)
