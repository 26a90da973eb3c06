"""JAX: one jitted step with donated state."""

import os
import time

from common import Values, call, pin, report

call = call()
os.environ["JAX_PLATFORMS"] = "cpu"
if call.threads == 1:
    pin()

import jax
from jax_models import Training, on_host

# Waiting for another thread costs more than a small step takes.
jax.config.update("jax_cpu_enable_async_dispatch", False)
training = Training(Values(call.file), call.workload, on_host)
inputs, target = training.inputs, training.target
held = [training.params, training.state()]
training.params = None

start = time.perf_counter()
run = jax.jit(training.step, donate_argnums=(0, 1))
run.lower(*held, inputs, target).compile()
compiled = time.perf_counter() - start


def step():
    held[0], held[1], value = run(held[0], held[1], inputs, target)
    jax.block_until_ready((held, value))
    return value


forward = jax.jit(training.model)
infer = lambda: forward(held[0], *inputs).block_until_ready()
report(call, "jax", jax.__version__, step, float, infer, compiled)
