"""The oracle: one run of a spec, event by event, in the words of docs/model.md; clarity beats speed.

`simulate_run(spec, seed, run)` is a pure function.  The room has one idea per module, and comments cite the rules:

    fates.py      rules 1, 4, 8   when nodes arrive, get their notice, are reclaimed; who goes with whom
    copies.py     rules 6, 7      durable checkpoints: which one is newest, which is bad, what they cost
    accounts.py   rule 7, Parts   where each hour and each dollar went
    job.py        rules 3, 4, 5   progress, checkpoints, the upload in flight, the finish: what rigid and elastic share
    rigid.py      rules 1-8       a fleet that stops when a node goes (one node is the smallest such fleet)
    elastic.py    rule 8          a fleet that shrinks and grows, and waits below `min_nodes`
    policy.py     rule 9          spot, on-demand or nothing, as a deadline policy decides
    timeline.py                   one run told as spans of time and marks, on request
    history.py                    one run whose interruptions are not drawn but known

**The loop.**  Two things make time pass: the job (the end of its phase, a checkpoint that is due, an upload that
becomes durable) and the nodes (arrival, acted-on notice, reclaim).  The earlier of the two happens; at the same moment
(within 1 µs, or rounding would decide) the job comes first, so that what is durable exactly at the reclaim is durable
(docs/model.md, "Ties").  Between two events nothing changes, and `Job.advance` books that time to exactly one part
(training: to progress and slowdown).

**The phases of the job**, and the part that their time goes to:

    WAITING      nodes are missing                                                        waiting
    STARTUP      boot, image, restore; once more for every bad checkpoint (rule 6)        startup
    TRAINING     progress; the only phase in which a checkpoint becomes due               work, slowdown, reduced fleet
    STALL        training stands still while the state is captured (rule 3)               checkpoint
    IDLE_NOTICE  an acted-on notice has stopped training; the node idles to its reclaim   notice idle
                 (elastic: `emergency`, then the others go on)
    DETECT       elastic: a node went without warning and nobody knows it yet             outage
    RENDEZVOUS   elastic: the group forms anew                                            outage
    FINISHING    progress = work: the final checkpoint (rule 5)                           checkpoint
    ENDING       acted-on notice while finishing: the first durable copy ends the run     checkpoint
"""

from __future__ import annotations

from simulator.reference.elastic import ElasticJob
from simulator.reference.job import Job
from simulator.reference.policy import OnDemandJob, PolicyJob
from simulator.reference.rigid import RigidJob
from simulator.reference.timeline import Mark, Span, Timeline
from simulator.runs import RunResult
from simulator.spec import Spec

__all__ = ["Mark", "Span", "Timeline", "simulate_run", "simulate_timeline"]


def simulate_run(spec: Spec, seed: int, run: int) -> RunResult:
    """Run number `run` of `seed`; InvalidInputError when it passes the horizon (`simulator.horizon`)."""
    return _job(spec, seed, run).simulate()


def simulate_timeline(spec: Spec, seed: int, run: int) -> tuple[RunResult, Timeline]:
    """The same run, with what it did when."""
    job = _job(spec, seed, run)
    job.timeline = Timeline()
    return job.simulate(), job.timeline


def _job(spec: Spec, seed: int, run: int) -> Job:
    if spec.policy == "on-demand":
        return OnDemandJob(spec, seed, run)
    if spec.policy != "spot-only":
        return PolicyJob(spec, seed, run)
    return (ElasticJob if spec.is_elastic else RigidJob)(spec, seed, run)
