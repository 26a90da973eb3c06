"""JAX on a GPU: one jitted step with donated state."""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait

DEVICE = sys.argv[1]
IS_GPU = DEVICE != "cpu"
if not IS_GPU:
    os.environ["JAX_PLATFORMS"] = "cpu"
# Other engines use the same GPU in turn.
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

import jax
from common import LOSSES
from gpu_worker import batches, serve, values_of
from jax_models import GPU_MODELS, Training, described, on_device

PRECISIONS = {"f32": "highest", "tf32": "tensorfloat32"}
PREPARE_LIMIT = 90  # seconds
pool = ThreadPoolExecutor(6 if IS_GPU else 2)
compiled = {}  # Futures of steps.


def key(case):
    return case["workload"], case["precision"]


def compile_step(case):
    """Compiles a step from shapes alone, and notes the seconds that this takes."""
    training = Training(values_of(case), case["workload"], described, GPU_MODELS)
    state = jax.eval_shape(training.optimizer()[1], training.params)
    start = time.perf_counter()
    with jax.default_matmul_precision(PRECISIONS[case["precision"]]):
        run = jax.jit(training.step, donate_argnums=(0, 1))
        lowered = run.lower(training.params, state, training.inputs, training.target)
        return lowered.compile(), time.perf_counter() - start


def prepare(cases):
    """Compiles many steps at a time. What is not done in time, or fails, is awaited, or fails again,
    when it is measured."""
    for case in cases:
        compiled[key(case)] = pool.submit(compile_step, case)
    done, late = wait(compiled.values(), PREPARE_LIMIT)
    failed = [str(future.exception())[:300] for future in done if future.exception()]
    return {"compiled": len(done), "late": len(late), "failed": failed}


def planned_bytes(run):
    """Of the device's memory: what goes in, what comes out anew, and what is needed meanwhile."""
    memory = run.memory_analysis()
    if memory is None:
        return None
    out = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return memory.argument_size_in_bytes + out + memory.temp_size_in_bytes


def measure(asked):
    future = compiled.pop(key(asked), None) or pool.submit(compile_step, asked)
    run, seconds = future.result()
    training = Training(values_of(asked), asked["workload"], on_device, GPU_MODELS)
    inputs, target = training.inputs, training.target
    held = [training.params, training.state(), None]
    training.params = None

    def step():
        held[:] = run(held[0], held[1], inputs, target)

    losses = []
    for _ in range(LOSSES):
        step()
        losses.append(float(held[2]))
    measured = batches(step, lambda: jax.block_until_ready(held), asked["seconds"])
    return {
        **measured,
        "losses": losses,
        "last_loss": float(held[2]),
        "compile_seconds": seconds,
        "peak_bytes": planned_bytes(run),
        "device": jax.devices()[0].device_kind,
        "version": jax.__version__,
    }


if IS_GPU and jax.devices()[0].platform != "gpu":
    sys.exit("JAX sees no GPU")
serve(measure, prepare)
