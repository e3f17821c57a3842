"""`python -m benchmarks [NAME [ARGUMENTS]]`: one benchmark, or without a name those that need no data of yours."""

from __future__ import annotations

import importlib
import sys

NAMES = {
    "simulator": "speed of the engines against C, NumPy, SimPy and the reference; what control variates buy",
    "exactness": "simulated against exact results",
    "checkpoint": "what checkpoints cost",
    "harness_step": "what the harness costs in every step",
    "outage": "a node goes: seconds until the others train again, against torchrun's defaults (some minutes)",
    "chaos_soak": "many short real jobs under schedules of interruptions, each proven (an hour; can be stopped)",
    "hashes": "weights of interrupted runs against uninterrupted ones, by sizes and rule (some minutes)",
    "resume": "going on in the middle of an epoch, by size of the dataset",
    "dashboard": "the dashboard in a real browser: first answer, slider to the next one, each page (needs chromium)",
    "planner": "how long recommend and compare take, and how much of it is not the simulator's",
    "policies": "deadline policies on recorded markets (needs --shared DIR)",
}
BY_DEFAULT = ("simulator", "exactness", "checkpoint", "harness_step", "planner")


def main(arguments: list[str]) -> int:
    """Exit code of the benchmark; 2 for a name that there is not."""
    if not arguments:
        for name in BY_DEFAULT:
            print(f"== {name}: {NAMES[name]}\n", flush=True)
            importlib.import_module(f"benchmarks.{name}").main([])
            print(flush=True)
        return 0
    name, *rest = arguments
    if name not in NAMES:
        print(__doc__, *(f"  {known:12} {what}" for known, what in NAMES.items()), sep="\n", file=sys.stderr)
        return 0 if name in {"-h", "--help"} else 2
    return int(importlib.import_module(f"benchmarks.{name}").main(rest) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
