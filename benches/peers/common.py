"""What the Python peers share: the values that all engines start from, and how a step is timed.

Every program here is called as `PROGRAM MODE WORKLOAD FILE THREADS SECONDS`, runs one workload in a
process of its own, and prints what was measured as one line of JSON, with the names that the engine's
own program uses.
"""

import json
import os
import resource
import sys
import time
from dataclasses import dataclass

import numpy as np

LOSSES = 11  # before the first step, and after each of ten
W9_RATE = 1e-3
DTYPES = {"F32": np.float32, "I32": np.int32}


def is_deep(workload):
    """Whether it is W9 or, for another width, W9-WIDTH."""
    return workload.split("-")[0] == "W9"


def is_squared(workload):
    """Whether the loss is a squared error. Others have cross-entropy, or a loss of their own."""
    return workload in ("W0", "W8") or is_deep(workload)


@dataclass(frozen=True)
class Call:
    mode: str
    workload: str
    file: str
    threads: int
    seconds: float


def call():
    mode, workload, file, threads, seconds = sys.argv[1:6]
    return Call(mode, workload, file, int(threads), float(seconds))


def pin():
    """To one processor, for engines whose thread count cannot be told."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])


class Values(dict):
    """The tensors of a safetensors file by name. They are read when they are touched."""

    def __init__(self, file):
        with open(file, "rb") as f:
            length = int.from_bytes(f.read(8), "little")
            header = json.loads(f.read(length))
        for name, entry in header.items():
            start = 8 + length + entry["data_offsets"][0]
            shape = tuple(entry["shape"])
            self[name] = np.memmap(file, DTYPES[entry["dtype"]], "r", start, shape)

    def take(self, name):
        """The only copy of a tensor."""
        return np.array(self.pop(name))

    def look(self, name):
        """A tensor as it lies in the file, to be copied and never written."""
        return np.asarray(self.pop(name))

    def layers(self):
        return sum(name.startswith("layers.") and name.endswith(".weight") for name in self)


def times(run, seconds):
    """Quantiles of the seconds that `run` takes."""
    clock = time.perf_counter
    start = clock()
    warmed = 0
    while warmed < 3 or clock() - start < seconds / 4:
        run()
        warmed += 1
    taken = []
    spent = time.process_time()
    start = last = clock()
    while len(taken) < 5 or last - start < seconds:
        run()
        now = clock()
        taken.append(now - last)
        last = now
    spent = time.process_time() - spent
    p10, median, p90 = np.percentile(taken, [10, 50, 90])
    return {
        "median": median,
        "min": min(taken),
        "p10": p10,
        "p90": p90,
        "count": len(taken),
        "processor": spent / len(taken),
    }


def report(call, engine, version, step, loss_of, infer, compile_seconds=None):
    """Runs and times a workload. `step()` does a step and returns its loss, however the engine holds
    it; `loss_of` makes a number of it; `infer()` runs the network forward. The first step compiles,
    unless the time of that is given."""
    start = time.perf_counter()
    losses = [loss_of(step())]
    first = time.perf_counter() - start
    losses += [loss_of(step()) for _ in range(LOSSES - 1)]
    measured = times(step, call.seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    inference = times(infer, call.seconds / 4)
    result = {
        "engine": engine,
        "version": version,
        "workload": call.workload,
        "threads": call.threads,
        "step": measured,
        "inference": inference,
        "peak_bytes": peak,
        "compile_seconds": first if compile_seconds is None else compile_seconds,
        "losses": losses,
    }
    print(json.dumps(result), flush=True)
