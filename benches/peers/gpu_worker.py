"""What the peers on a GPU share: a process that is told what to measure, a line of JSON each, and how a
step is timed there.

A process serves many workloads, since starting an engine takes longer than measuring it. Steps are
queued without waiting and the loss is not fetched meanwhile; the clock is read where a batch of them
is done.
"""

import gc
import json
import os
import sys
import time
import traceback

import numpy as np
from common import Values

LEAST_WARM = 10  # steps
WARM_SHARE = 0.2
BATCHES = 9


class Drawn(Values):
    """Values of a deep network, drawn on the spot: a file of the largest one takes longer than all that
    is done with it. Their losses are comparable to nobody's. Layers are slices of one matrix, each some
    rows further down: the very same one in all layers would take the values to infinity."""

    def __init__(self, width, layers=100):
        draw = np.random.default_rng(1234).standard_normal
        weight = draw((width, width), np.float32) * np.float32((2 / width) ** 0.5)
        twice = np.concatenate([weight, weight])
        starts = [31 * i % width for i in range(layers)]
        self.update({f"layers.{i}.weight": twice[s : s + width] for i, s in enumerate(starts)})
        self.update(x=draw((1, width), np.float32), y=draw((1, width), np.float32))


def values_of(asked):
    """The values of a workload: of its file, or for `-` drawn on the spot."""
    if asked["file"] == "-":
        return Drawn(int(asked["workload"].removeprefix("W9-")))
    return Values(asked["file"])


def batches(step, wait, seconds):
    """Times steps: quantiles of the microseconds that one takes, over batches of them."""
    clock = time.perf_counter

    def taken(count):
        start = clock()
        for _ in range(count):
            step()
        wait()
        return clock() - start

    wait()
    count, warmed, spent, fastest = 1, 0, 0.0, float("inf")
    while warmed < LEAST_WARM or spent < WARM_SHARE * seconds:
        last = taken(count)
        warmed, spent, fastest = warmed + count, spent + last, min(fastest, last / count)
        whole = max(1, round(seconds / BATCHES / max(fastest, 1e-9)))
        count = min(2 * count, whole)
    count = whole
    us = sorted(taken(count) / count * 1e6 for _ in range(BATCHES))
    return {
        "step_us": float(np.median(us)),
        "min_us": us[0],
        "spread": (us[-1] - us[0]) / float(np.median(us)),
        "batches": BATCHES,
        "steps": BATCHES * count,
        "loss_fetched": "once a batch or less",
    }


def serve(measure, prepare=lambda cases: {}):
    """Answers each line of the standard input with one line. What libraries print goes to the
    standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(what):
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    answer({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if "prepare" in asked:
                answer(prepare(asked["prepare"]))
            else:
                answer(measure(asked))
        except Exception as why:  # The next case may well work.
            traceback.print_exc()
            said = f"{type(why).__name__}: {why}"
            # What the device refuses once it may refuse from then on.
            is_broken = "CUDA" in said or "INTERNAL" in said
            answer({"error": said.splitlines()[0][:300], "broken": is_broken})
        gc.collect()
