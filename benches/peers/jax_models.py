"""The workloads in JAX, for any device. Images are channels-last, pools are maxima of reshapes, and
attention has explicit transposes: what was fastest of what was tried."""

import jax
import jax.numpy as jnp
import numpy as np
from common import W9_RATE, is_deep, is_squared
from jax import lax, nn

DATA = ("x", "y", "labels", "targets", "tokens", "noise", "time")
TARGETS = ("y", "labels", "targets", "noise")
TABLES = ("tokens.weight", "positions.weight")


def axes_of(name, dimensions):
    """Weights of products are [in, out] here, those of convolutions HWIO, images NHWC."""
    if name in TABLES:
        return None
    if name.endswith("weight"):
        return {2: (1, 0), 4: (2, 3, 1, 0)}.get(dimensions)
    return (0, 2, 3, 1) if name in DATA and dimensions == 4 else None


def on_host(array, axes):
    """Orders an array before it goes to the device."""
    ordered = np.array(array if axes is None else array.transpose(axes), order="C")
    return jax.device_put(jnp.asarray(ordered))


def on_device(array, axes):
    """Orders an array after it came to the device."""
    array = jax.device_put(array)
    return array if axes is None else jnp.transpose(array, axes)


def described(array, axes):
    """The shape of an array alone."""
    shape = array.shape if axes is None else [array.shape[axis] for axis in axes]
    return jax.ShapeDtypeStruct(tuple(shape), array.dtype)


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
    count = sum(name.endswith(".weight") for name in p)
    for i in range(count - 1):
        x = nn.relu(linear(p, f"layers.{i}", x))
    return linear(p, f"layers.{count - 1}", x)


def cnn(p, x):
    x = nn.relu(conv(p, "convs.0", x))
    for i in (1, 2):
        x = windows(nn.relu(conv(p, f"convs.{i}", x))).max((2, 4))
    return linear(p, "linear", x.mean((1, 2)))


def lstm(unroll):
    def model(p, x):
        projected = x @ p["lstm.ih.weight"] + p["lstm.bias"]

        def cell(state, z):
            h, c = state
            i, f, g, o = jnp.split(z + h @ p["lstm.hh.weight"], 4, -1)
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            return (nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((x.shape[1], 128))
        (h, _), _ = lax.scan(cell, (zeros, zeros), projected, unroll=unroll)
        return linear(p, "linear", h)

    return model


def attention(x):
    rows, time, width = x.shape
    heads = x.reshape(rows, time, 3, 4, width // 12).transpose(2, 0, 3, 1, 4)
    q, k, v = heads.reshape(3, rows * 4, time, width // 12)
    scores = jnp.einsum("zqd,zkd->zqk", q, k) / np.float32(np.sqrt(width // 12))
    seen = jnp.tril(jnp.ones((time, time), bool))
    weights = nn.softmax(jnp.where(seen, scores, -jnp.inf), -1)
    mixed = jnp.einsum("zqk,zkd->zqd", weights, v).reshape(rows, 4, time, width // 12)
    return mixed.transpose(0, 2, 1, 3).reshape(rows, time, width // 3)


def transformer(rows_of):
    def model(p, tokens):
        x = rows_of(p["tokens.weight"], tokens) + p["positions.weight"]
        for i in range(4):
            name = f"blocks.{i}"
            heads = linear(p, f"{name}.attention", layer_norm(p, f"{name}.norm1", x))
            x = x + linear(p, f"{name}.projection", attention(heads))
            up = linear(p, f"{name}.up", layer_norm(p, f"{name}.norm2", x))
            x = x + linear(p, f"{name}.down", nn.gelu(up, approximate=True))
        return linear(p, "head", layer_norm(p, "norm", x))

    return model


def unet(p, x, steps):
    time = [linear(p, f"times.{i}", steps)[:, None, None, :] for i in range(3)]
    block = lambda i, x: conv(p, f"convs.{i}", nn.silu(group_norm(p, f"norms.{i}", x)))
    skip = conv(p, "convs.0", x) + time[0]
    h = block(1, windows(skip).mean((2, 4))) + time[1]
    h = jnp.repeat(jnp.repeat(h, 2, 1), 2, 2)
    h = block(2, jnp.concatenate([h, skip], 3)) + time[2]
    return block(3, h)


def one_hot_rows(table, tokens):
    return nn.one_hot(tokens, table.shape[0]) @ table


def gathered_rows(table, tokens):
    return table[tokens]


MODELS = {
    "W0": lambda p, x: nn.sigmoid(perceptron(p, x)),
    "W4": cnn,
    "W5": lstm(1),
    "W6": transformer(one_hot_rows),
    "W7": lambda p, x: nn.gelu(x * p["w"] + p["b"], approximate=True) * nn.sigmoid(x),
    "W8": unet,
}
# What suits GPUs better: every pass of a loop costs a few launches, and gathers are cheap.
GPU_MODELS = MODELS | {"W5": lstm(8), "W6": transformer(gathered_rows)}

over = jax.tree.map
RATES = {"W0": 0.1, "W1": 0.1, "W3": 0.01, "W4": 0.01, "W7": 0.01}


def momentum(rate):
    def update(p, g, m):
        m = over(lambda m, g: 0.9 * m + g, m, g)
        return over(lambda p, m: p - rate * m, p, m), m

    return update


def adam(rate, decay_of):
    def update(p, g, state):
        m, v, t = state
        t = t + 1
        m = over(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = over(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        first, second = 1 / (1 - 0.9**t), 1 / (1 - 0.999**t)

        def one(p, m, v):
            return p * (1 - rate * decay_of(p)) - rate * (m * first) / (jnp.sqrt(v * second) + 1e-8)

        return over(one, p, m, v), (m, v, t)

    return update


def descent(rate):
    def update(p, g, state):
        return over(lambda p, g: p - rate * g, p, g), state

    return update


DECAYS = {"W6": lambda p: 0.1 if p.ndim > 1 else 0.0, "W8": lambda p: 0.01}


class Training:
    """The parameters, the data and the functions of a workload; `place` puts an array on the device,
    with its axes in the order given."""

    def __init__(self, values, workload, place, models=MODELS):
        self.workload = workload
        self.model = models.get(workload, perceptron)
        put = lambda name, array: place(array, axes_of(name, array.ndim))
        data = {name: put(name, values.pop(name)) for name in DATA if name in values}
        for part in ("ih", "hh"):
            if f"lstm.weight_{part}" in values:
                values[f"lstm.{part}.weight"] = values.pop(f"lstm.weight_{part}")
        self.params = {name: put(name, values.pop(name)) for name in list(values)}
        names = ("tokens",) if workload == "W6" else ("x", "time")
        self.inputs = tuple(data[name] for name in names if name in data)
        self.target = next((data[name] for name in TARGETS if name in data), jnp.zeros(()))

    def optimizer(self):
        """The function that updates, and one that makes its first state from the parameters."""
        zeros = lambda p: over(jnp.zeros_like, p)
        rate = W9_RATE if is_deep(self.workload) else RATES.get(self.workload, 1e-3)
        if self.workload == "W4":
            return momentum(rate), zeros
        if self.workload in ("W2", "W5", "W6", "W8"):
            decay_of = DECAYS.get(self.workload, lambda p: 0.0)
            return adam(rate, decay_of), lambda p: (zeros(p), zeros(p), jnp.zeros(()))
        return descent(rate), lambda p: ()

    def state(self):
        return self.optimizer()[1](self.params)

    def loss(self, p, inputs, target):
        output = self.model(p, *inputs)
        if self.workload == "W7":
            return jnp.square(output).mean()
        if is_squared(self.workload):
            return jnp.square(output - target).mean()
        wanted = nn.one_hot(target, output.shape[-1])
        return -(nn.log_softmax(output) * wanted).sum(-1).mean()

    def step(self, p, state, inputs, target):
        value, gradient = jax.value_and_grad(self.loss)(p, inputs, target)
        p, state = self.optimizer()[0](p, gradient, state)
        return p, state, value
