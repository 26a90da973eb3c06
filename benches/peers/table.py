"""A Markdown table of the lines that `gpu.py` printed: `table.py FILE`.

Times are medians, in microseconds. Of an engine that was measured in several ways, the fastest counts.
The ratio is of the best peer's time to this engine's: above 1, this engine is the faster one.
"""

import json
import sys

COLUMNS = [
    ("backprop", "backprop"),
    ("torch-eager", "PyTorch"),
    ("torch-graphs", "PyTorch, CUDA graphs"),
    ("torch-compile", "PyTorch, compiled"),
    ("torch-compile-graphs", "PyTorch, compiled, CUDA graphs"),
    ("jax", "JAX"),
]
# How far losses may lie apart, relative to their size: the first, and those that follow. Rounding grows
# from step to step, and TF32 has ten bits after the point.
TOLERANCES = {"f32": (1e-4, 1e-2), "tf32": (1e-2, 1e-1)}


def read(file):
    rows = []
    with open(file) as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # A line that was cut off.
            if isinstance(row, dict) and "engine" in row:
                rows.append(row)
    return rows


def shown(us):
    return f"{us:.3g}" if us < 100 else f"{us:.0f}"


def agree(precision, losses, others):
    first, later = TOLERANCES[precision]
    for i, (a, b) in enumerate(zip(losses, others)):
        # Written so that what is no number never agrees.
        if not abs(a - b) <= (first if i == 0 else later) * max(abs(a), 1e-3):
            return False
    return len(losses) == len(others) > 0


def main(file):
    rows = read(file)
    measured = {}
    for row in rows:
        if "error" not in row:
            measured.setdefault((row["workload"], row["precision"]), []).append(row)
    present = [column for column in COLUMNS if any(row["engine"] == column[0] for row in rows)]
    print("| Workload | Precision | " + " | ".join(name for _, name in present) + " | Ratio | Losses |")
    print("|---|---|" + "---:|" * len(present) + "---:|---|")
    order = list(dict.fromkeys((row["workload"], row["precision"]) for row in rows))
    for case in order:
        best = {}
        for row in measured.get(case, []):
            engine = row["engine"]
            if engine not in best or row["step_us"] < best[engine]["step_us"]:
                best[engine] = row
        print(line(case, best, present))
    devices = sorted({row["device"] for row in rows if row.get("device")})
    versions = sorted({f"{row['engine']} {row['version']}" for row in rows if row.get("version")})
    print("\nMicroseconds a step, medians; ratio of the best peer to this engine.")
    print(f"Device: {', '.join(devices) or 'unknown'}. Versions: {', '.join(versions)}.")
    failures = [row for row in rows if "error" in row]
    if failures:
        print("\nFailed:")
    for row in failures:
        layout = f" {row['layout']}" if row.get("layout") else ""
        print(f"- {row['workload']} {row['precision']} {row['engine']}{layout}: {row['error']}")


def line(case, best, present):
    cells = [shown(best[engine]["step_us"]) if engine in best else "-" for engine, _ in present]
    peers = [row["step_us"] for engine, row in best.items() if engine != "backprop"]
    own = best.get("backprop")
    ratio = f"{min(peers) / own['step_us']:.2f}" if own and peers else "-"
    reference = own or next(iter(best.values()), None)
    apart = [
        name
        for engine, name in present
        if engine in best and not agree(case[1], reference["losses"], best[engine]["losses"])
    ]
    if any(row.get("values") == "drawn" for row in best.values()):
        apart, reference = [], None
    told = "" if reference is None else "agree" if not apart else "differ: " + ", ".join(apart)
    return f"| {case[0]} | {case[1]} | " + " | ".join(cells) + f" | {ratio} | {told} |"


if len(sys.argv) != 2:
    sys.exit("usage: table.py FILE")
main(sys.argv[1])
