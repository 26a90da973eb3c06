"""Times the workloads on a GPU: this engine and its peers in turn, one workload after the other, so that
whatever the machine does meanwhile hits all alike. Prints a line of JSON for each row.

    gpu.py --data FOLDER [--own PROGRAM] [--engines a,b] [--workloads W1,W2] [--compile W2,W6]
           [--precisions f32,tf32] [--deep W9-3163] [--seconds 0.7] [--budget 150] [--device cuda|cpu]

A row that fails says why and leaves the others be. Strict f32 is IEEE arithmetic in products too; tf32
rounds their factors to ten bits after the point. Where nothing is multiplied by a matrix of any size, or
the memory alone decides, there is only the first.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from common import is_deep

HERE = Path(__file__).resolve().parent
ALL = ["W0", "W1", "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W9"]
ENGINES = ["backprop", "torch-eager", "torch-graphs", "jax"]
COMPILED = ["torch-compile", "torch-compile-graphs"]
F32_ONLY = ("W0", "W7")
# Where it is not known beforehand which order of the axes is the faster one.
LAYOUTS = {"W4": ("nhwc", "nchw"), "W8": ("nhwc", "nchw")}
START_LIMIT = 120  # seconds


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words = lambda text: [word for word in text.split(",") if word]
    parser.add_argument("--data", type=Path, required=True, help="folder with ID.safetensors")
    parser.add_argument("--own", type=Path, help="the program of this engine")
    parser.add_argument("--engines", type=words, default=ENGINES)
    parser.add_argument("--workloads", type=words, default=ALL)
    parser.add_argument("--compile", type=words, default=[], help="also torch.compile, on these")
    parser.add_argument("--precisions", type=words, default=["f32", "tf32"])
    parser.add_argument("--deep", help="a W9-N to add as the last; without a file its values are drawn")
    parser.add_argument("--seconds", type=float, default=0.7, help="of timing, for each row")
    parser.add_argument("--budget", type=float, default=150.0, help="no row begins after so many")
    parser.add_argument("--row-limit", type=float, default=90.0, help="seconds that a row may take")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    return parser.parse_args()


class Worker:
    """A process that serves one engine, started anew when it is needed after it has died."""

    def __init__(self, script, device):
        self.script, self.device, self.process = script, device, None

    def start(self):
        command = [sys.executable, str(HERE / self.script), self.device]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.answers = queue.Queue()
        threading.Thread(target=self.listen, args=(self.process, self.answers), daemon=True).start()
        self.is_ready = False

    @staticmethod
    def listen(process, answers):
        for line in process.stdout:
            answers.put(line)
        answers.put(None)

    def answer(self, limit):
        try:
            line = self.answers.get(timeout=limit)
        except queue.Empty:
            self.stop()
            return {"error": f"no answer within {limit:.0f} s"}
        if line is None:
            status = self.process.wait()
            self.process = None
            return {"error": f"the process ended with status {status}"}
        told = json.loads(line)
        if told.pop("broken", False):
            self.stop()
        return told

    def ask(self, what, limit):
        if self.process is None:
            self.start()
        if not self.is_ready:
            ready = self.answer(START_LIMIT)
            if "error" in ready:
                return ready
            self.is_ready = True
        try:
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # It has died; the answer says so.
        return self.answer(limit)

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def own(program, case, device):
    """A row of this engine, whose program runs one workload and ends."""
    command = [str(program), "run", case["workload"], case["file"]]
    command += ["--seconds", str(case["seconds"])]
    if device != "cpu":
        command += ["--device", device]
    if case["precision"] != "f32":
        command += ["--precision", case["precision"]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=case["limit"])
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {case['limit']:.0f} s"}
    except OSError as why:
        return {"error": str(why)}
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
        return {"error": f"status {done.returncode}: {said[0][:300]}"}
    told = json.loads(done.stdout.strip().splitlines()[-1])
    step = told["step"]
    row = {
        "step_us": step["median"] * 1e6,
        "min_us": step["min"] * 1e6,
        "spread": (step["p90"] - step["p10"]) / step["median"],
        "steps": step["count"],
    }
    # Its memory on the device is what it planned; the peak that it tells is the process's.
    row["peak_bytes"] = told.get("planned_bytes")
    kept = ("losses", "compile_seconds", "launches", "version")
    return row | {name: told[name] for name in kept if name in told}


def cases(options, workload):
    """The rows of a workload, engine after engine."""
    for precision in options.precisions:
        if precision != "f32" and (workload in F32_ONLY or is_deep(workload)):
            continue
        for engine in options.engines:
            layouts = LAYOUTS.get(workload, (None,)) if engine.startswith("torch") else (None,)
            for layout in layouts:
                yield engine, precision, layout
        if workload in options.compile:
            for engine in COMPILED:
                yield engine, precision, None


def main():
    asked = options()
    start = time.monotonic()
    workloads = asked.workloads + ([asked.deep] if asked.deep else [])

    def file(workload):
        path = asked.data / f"{workload}.safetensors"
        return "-" if workload == asked.deep and not path.exists() else str(path)

    workers = {
        "torch": Worker("gpu_torch.py", asked.device),
        "jax": Worker("gpu_jax.py", asked.device),
    }
    names = [*asked.engines, *(COMPILED if asked.compile else [])]
    used = [name for name in workers if any(engine.startswith(name) for engine in names)]
    for name in used:
        workers[name].start()
    if "jax" in used:
        each = [
            {"workload": workload, "precision": precision, "file": file(workload)}
            for workload in workloads
            for engine, precision, _ in cases(asked, workload)
            if engine == "jax"
        ]
        told = workers["jax"].ask({"prepare": each}, START_LIMIT)
        print(json.dumps({"prepared": told, "seconds": time.monotonic() - start}), flush=True)
    failed = 0
    for workload in workloads:
        for engine, precision, layout in cases(asked, workload):
            name, _, mode = engine.partition("-")
            case = {
                "workload": workload,
                "precision": precision,
                "mode": mode,
                "layout": layout,
                "file": file(workload),
                "seconds": asked.seconds,
                "limit": asked.row_limit,
            }
            began = time.monotonic()
            if began - start > asked.budget:
                row = {"error": "no time was left"}
            elif case["file"] != "-" and not os.path.exists(case["file"]):
                row = {"error": f"there is no {case['file']}"}
            elif name == "backprop":
                row = own(asked.own, case, asked.device)
            else:
                row = workers[name].ask(case, asked.row_limit)
            failed += "error" in row
            head = {"workload": workload, "engine": engine, "precision": precision}
            if layout is not None:
                head["layout"] = layout
            if case["file"] == "-":
                head["values"] = "drawn"
            row = head | row | {"row_seconds": round(time.monotonic() - began, 2)}
            print(json.dumps(row), flush=True)
    for worker in workers.values():
        worker.stop()
    print(json.dumps({"failed_rows": failed, "seconds": time.monotonic() - start}), flush=True)


main()
