"""JAX: one jitted step with donated state. Images are channels-last, pools are maxima of reshapes, and
attention has explicit transposes: what was fastest of what was tried."""

import os
import time

from common import W9_RATE, Values, call, pin, report

call = call()
os.environ["JAX_PLATFORMS"] = "cpu"
if call.threads == 1:
    pin()

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

# Waiting for another thread costs more than a small step takes.
jax.config.update("jax_cpu_enable_async_dispatch", False)
values = Values(call.file)
workload = call.workload
DATA = ("x", "y", "labels", "targets", "tokens", "noise", "time")


def device(name):
    """Weights of products are [in, out] here, those of convolutions HWIO, images NHWC."""
    array = values.take(name)
    axes = {2: (1, 0), 4: (2, 3, 1, 0)}.get(array.ndim) if name.endswith("weight") else None
    if name in ("tokens.weight", "positions.weight"):
        axes = None
    if name.startswith("lstm.weight"):
        axes = (1, 0)
    if name in DATA and array.ndim == 4:
        axes = (0, 2, 3, 1)
    if axes is not None:
        array = np.ascontiguousarray(array.transpose(axes))
    return jax.device_put(jnp.asarray(array))


count = values.layers()
data = {name: device(name) for name in DATA if name in values}
if "lstm.weight_ih" in values:
    for part in ("ih", "hh"):
        values[f"lstm.{part}.weight"] = values.pop(f"lstm.weight_{part}")
params = {name: device(name) for name in list(values)}


def linear(p, name, x):
    y = x.reshape(-1, x.shape[-1]) @ p[f"{name}.weight"]
    bias = p.get(f"{name}.bias")
    y = y if bias is None else y + bias
    return y.reshape(*x.shape[:-1], -1)


def conv(p, name, x):
    layout = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(
        x, p[f"{name}.weight"], (1, 1), "SAME", dimension_numbers=layout
    )
    return y + p[f"{name}.bias"]


def windows(x):
    rows, height, width, channels = x.shape
    return x.reshape(rows, height // 2, 2, width // 2, 2, channels)


def normed(x, axes):
    mean = x.mean(axes, keepdims=True)
    variance = jnp.square(x - mean).mean(axes, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5)


def affine(p, name, x):
    return x * p[f"{name}.weight"] + p[f"{name}.bias"]


def layer_norm(p, name, x):
    return affine(p, name, normed(x, -1))


def group_norm(p, name, x):
    groups = x.reshape(x.shape[0], -1, 8, x.shape[-1] // 8)
    return affine(p, name, normed(groups, (1, 3)).reshape(x.shape))


def perceptron(p, x):
    for i in range(count - 1):
        x = nn.relu(linear(p, f"layers.{i}", x))
    return linear(p, f"layers.{count - 1}", x)


def cnn(p, x):
    x = nn.relu(conv(p, "convs.0", x))
    for i in (1, 2):
        x = windows(nn.relu(conv(p, f"convs.{i}", x))).max((2, 4))
    return linear(p, "linear", x.mean((1, 2)))


def lstm(p, x):
    projected = x @ p["lstm.ih.weight"] + p["lstm.bias"]

    def cell(state, z):
        h, c = state
        i, f, g, o = jnp.split(z + h @ p["lstm.hh.weight"], 4, -1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        return (nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((x.shape[1], 128))
    (h, _), _ = lax.scan(cell, (zeros, zeros), projected)
    return linear(p, "linear", h)


def attention(x):
    rows, time, width = x.shape
    heads = x.reshape(rows, time, 3, 4, width // 12).transpose(2, 0, 3, 1, 4)
    q, k, v = heads.reshape(3, rows * 4, time, width // 12)
    scores = jnp.einsum("zqd,zkd->zqk", q, k) / np.float32(np.sqrt(width // 12))
    seen = jnp.tril(jnp.ones((time, time), bool))
    weights = nn.softmax(jnp.where(seen, scores, -jnp.inf), -1)
    mixed = jnp.einsum("zqk,zkd->zqd", weights, v).reshape(rows, 4, time, width // 12)
    return mixed.transpose(0, 2, 1, 3).reshape(rows, time, width // 3)


def transformer(p, tokens):
    x = nn.one_hot(tokens, 65) @ p["tokens.weight"] + p["positions.weight"]
    for i in range(4):
        name = f"blocks.{i}"
        heads = linear(p, f"{name}.attention", layer_norm(p, f"{name}.norm1", x))
        x = x + linear(p, f"{name}.projection", attention(heads))
        up = linear(p, f"{name}.up", layer_norm(p, f"{name}.norm2", x))
        x = x + linear(p, f"{name}.down", nn.gelu(up, approximate=True))
    return linear(p, "head", layer_norm(p, "norm", x))


def unet(p, x):
    time = [linear(p, f"times.{i}", data["time"])[:, None, None, :] for i in range(3)]
    block = lambda i, x: conv(p, f"convs.{i}", nn.silu(group_norm(p, f"norms.{i}", x)))
    skip = conv(p, "convs.0", x) + time[0]
    h = block(1, windows(skip).mean((2, 4))) + time[1]
    h = jnp.repeat(jnp.repeat(h, 2, 1), 2, 2)
    h = block(2, jnp.concatenate([h, skip], 3)) + time[2]
    return block(3, h)


MODELS = {
    "W0": lambda p, x: nn.sigmoid(perceptron(p, x)),
    "W4": cnn,
    "W5": lstm,
    "W6": transformer,
    "W7": lambda p, x: nn.gelu(x * p["w"] + p["b"], approximate=True) * nn.sigmoid(x),
    "W8": unet,
}
model = MODELS.get(workload, perceptron)
x = data["tokens" if workload == "W6" else "x"]
target = next((data[n] for n in ("y", "labels", "targets", "noise") if n in data), jnp.zeros(()))


def loss(p, x, target):
    output = model(p, x)
    if workload == "W7":
        return jnp.square(output).mean()
    if workload in ("W0", "W8", "W9", "W9-3163"):
        return jnp.square(output - target).mean()
    wanted = nn.one_hot(target, output.shape[-1])
    return -(nn.log_softmax(output) * wanted).sum(-1).mean()


over = jax.tree.map
RATES = {"W0": 0.1, "W1": 0.1, "W3": 0.01, "W4": 0.01, "W7": 0.01, "W9": W9_RATE, "W9-3163": W9_RATE}
rate = RATES.get(workload, 1e-3)
decay = {"W6": 0.1, "W8": 0.01}.get(workload, 0.0)

if workload == "W4":
    state = over(jnp.zeros_like, params)

    def update(p, g, m):
        m = over(lambda m, g: 0.9 * m + g, m, g)
        return over(lambda p, m: p - rate * m, p, m), m

elif workload in ("W2", "W5", "W6", "W8"):
    state = (over(jnp.zeros_like, params), over(jnp.zeros_like, params), jnp.zeros(()))

    def update(p, g, state):
        m, v, t = state
        t = t + 1
        m = over(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = over(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        first, second = 1 / (1 - 0.9**t), 1 / (1 - 0.999**t)

        def one(p, m, v):
            decayed = decay if workload == "W8" or p.ndim > 1 else 0.0
            return p * (1 - rate * decayed) - rate * (m * first) / (jnp.sqrt(v * second) + 1e-8)

        return over(one, p, m, v), (m, v, t)

else:
    state = ()

    def update(p, g, state):
        return over(lambda p, g: p - rate * g, p, g), state


def whole(p, state, x, target):
    value, gradient = jax.value_and_grad(loss)(p, x, target)
    p, state = update(p, gradient, state)
    return p, state, value


start = time.perf_counter()
run = jax.jit(whole, donate_argnums=(0, 1))
run.lower(params, state, x, target).compile()
compiled = time.perf_counter() - start
held = [params, state]
del params, state


def step():
    held[0], held[1], value = run(held[0], held[1], x, target)
    jax.block_until_ready((held, value))
    return value


forward = jax.jit(model)
infer = lambda: forward(held[0], x).block_until_ready()
report(call, "jax", jax.__version__, step, float, infer, compiled)
