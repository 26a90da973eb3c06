"""TensorFlow: `function` (graphs over oneDNN), or `xla` (`jit_compile=True`). Images are channels-last
and optimizers are the fused raw operations."""

import os

from common import W9_RATE, Values, call, pin, report

call = call()
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["OMP_NUM_THREADS"] = str(call.threads)
if call.threads == 1:
    pin()

import numpy as np
import tensorflow as tf
from tensorflow import nn

tf.config.threading.set_intra_op_parallelism_threads(call.threads)
tf.config.threading.set_inter_op_parallelism_threads(call.threads)
values = Values(call.file)
workload = call.workload
xla = call.mode == "xla"
DATA = ("x", "y", "labels", "targets", "tokens", "noise", "time")


def array(name):
    """Weights of products are [in, out] here, those of convolutions HWIO, images NHWC."""
    taken = values.take(name)
    is_table = name in ("tokens.weight", "positions.weight")
    if name in DATA and taken.ndim == 4:
        taken = taken.transpose(0, 2, 3, 1)
    elif "weight" in name and taken.ndim == 4:
        taken = taken.transpose(2, 3, 1, 0)
    elif "weight" in name and taken.ndim == 2 and not is_table:
        taken = taken.T
    return np.ascontiguousarray(taken)


count = values.layers()
data = {name: tf.constant(array(name)) for name in DATA if name in values}
p = {name: tf.Variable(array(name)) for name in list(values)}


def linear(name, x):
    flat = x if len(x.shape) == 2 else tf.reshape(x, (-1, x.shape[-1]))
    y = tf.matmul(flat, p[f"{name}.weight"])
    if f"{name}.bias" in p:
        y = nn.bias_add(y, p[f"{name}.bias"])
    return y if len(x.shape) == 2 else tf.reshape(y, (*x.shape[:-1], y.shape[-1]))


def conv(name, x):
    return nn.bias_add(nn.conv2d(x, p[f"{name}.weight"], 1, "SAME"), p[f"{name}.bias"])


def normed(x, axes):
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(x - mean), axes, keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5)


def layer_norm(name, x):
    return normed(x, -1) * p[f"{name}.weight"] + p[f"{name}.bias"]


def group_norm(name, x):
    rows, height, width, channels = x.shape
    groups = tf.reshape(x, (rows, height * width, 8, channels // 8))
    y = tf.reshape(normed(groups, (1, 3)), x.shape)
    return y * p[f"{name}.weight"] + p[f"{name}.bias"]


def perceptron(x):
    for i in range(count - 1):
        x = nn.relu(linear(f"layers.{i}", x))
    return linear(f"layers.{count - 1}", x)


def cnn(x):
    x = nn.relu(conv("convs.0", x))
    x = nn.max_pool2d(nn.relu(conv("convs.1", x)), 2, 2, "VALID")
    x = nn.max_pool2d(nn.relu(conv("convs.2", x)), 2, 2, "VALID")
    return linear("linear", tf.reduce_mean(x, (1, 2)))


def lstm(x):
    time, rows, width = x.shape
    flat = tf.matmul(tf.reshape(x, (-1, width)), p["lstm.weight_ih"]) + p["lstm.bias"]
    projected = tf.reshape(flat, (time, rows, 512))

    def cell(t, h, c):
        z = projected[t] + tf.matmul(h, p["lstm.weight_hh"])
        i, f, g, o = tf.split(z, 4, -1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return t + 1, tf.sigmoid(o) * tf.tanh(c), c

    zeros = tf.zeros((rows, 128))
    _, h, _ = tf.while_loop(
        lambda t, h, c: t < time,
        cell,
        (0, zeros, zeros),
        maximum_iterations=time,
        parallel_iterations=1,
    )
    return linear("linear", h)


def transformer(tokens):
    rows, time = tokens.shape
    x = tf.gather(p["tokens.weight"], tokens) + p["positions.weight"]
    hidden = np.where(np.tril(np.ones((time, time))) > 0, 0, -1e9).astype(np.float32)
    for i in range(4):
        name = f"blocks.{i}"
        heads = linear(f"{name}.attention", layer_norm(f"{name}.norm1", x))
        parts = (tf.reshape(part, (rows, time, 4, 32)) for part in tf.split(heads, 3, -1))
        q, k, v = (tf.transpose(part, (0, 2, 1, 3)) for part in parts)
        weights = nn.softmax(tf.matmul(q, k, transpose_b=True) * 32**-0.5 + hidden)
        mixed = tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3))
        x = x + linear(f"{name}.projection", tf.reshape(mixed, (rows, time, 128)))
        up = linear(f"{name}.up", layer_norm(f"{name}.norm2", x))
        x = x + linear(f"{name}.down", nn.gelu(up, approximate=True))
    return linear("head", layer_norm("norm", x))


def unet(x):
    time = [linear(f"times.{i}", data["time"])[:, None, None, :] for i in range(3)]
    block = lambda i, x: conv(f"convs.{i}", nn.silu(group_norm(f"norms.{i}", x)))
    skip = conv("convs.0", x) + time[0]
    h = block(1, nn.avg_pool2d(skip, 2, 2, "VALID")) + time[1]
    h = tf.repeat(tf.repeat(h, 2, 1), 2, 2)
    h = block(2, tf.concat([h, skip], 3)) + time[2]
    return block(3, h)


def elementwise(x):
    return nn.gelu(x * p["w"] + p["b"], approximate=True) * tf.sigmoid(x)


MODELS = {
    "W0": lambda x: tf.sigmoid(perceptron(x)),
    "W4": cnn,
    "W5": lstm,
    "W6": transformer,
    "W7": elementwise,
    "W8": unet,
}
model = MODELS.get(workload, perceptron)
x = data["tokens" if workload == "W6" else "x"]
named = (data[name] for name in ("y", "labels", "targets", "noise") if name in data)
target = next(named, tf.constant(0.0))


def loss(x, target):
    output = model(x)
    if workload == "W7":
        return tf.reduce_mean(tf.square(output))
    if workload in ("W0", "W8", "W9", "W9-3163"):
        return tf.reduce_mean(tf.square(output - target))
    entropy = nn.sparse_softmax_cross_entropy_with_logits(target, output)
    return tf.reduce_mean(entropy)


RATES = {"W0": 0.1, "W1": 0.1, "W3": 0.01, "W4": 0.01, "W7": 0.01, "W9": W9_RATE, "W9-3163": W9_RATE}
rate = RATES.get(workload, 1e-3)
decay = {"W6": 0.1, "W8": 0.01}.get(workload, 0.0)
variables = list(p.values())
zeros = lambda: [tf.Variable(tf.zeros_like(v)) for v in variables]
adam = workload in ("W2", "W5", "W6", "W8")
first = zeros() if adam or workload == "W4" else []
second = zeros() if adam else []
powers = [tf.Variable(0.9), tf.Variable(0.999)]
raw = tf.raw_ops


def apply_adam(gradients):
    for v, g, m, q in zip(variables, gradients, first, second):
        if decay and (workload == "W8" or len(v.shape) > 1):
            v.assign(v * (1 - rate * decay))
        raw.ResourceApplyAdam(
            var=v.handle,
            m=m.handle,
            v=q.handle,
            beta1_power=powers[0],
            beta2_power=powers[1],
            lr=rate,
            beta1=0.9,
            beta2=0.999,
            epsilon=1e-8,
            grad=tf.convert_to_tensor(g),
        )
    powers[0].assign(powers[0] * 0.9)
    powers[1].assign(powers[1] * 0.999)


def apply_momentum(gradients):
    for v, g, m in zip(variables, gradients, first):
        raw.ResourceApplyMomentum(var=v.handle, accum=m.handle, lr=rate, grad=g, momentum=0.9)


def apply_descent(gradients):
    for v, g in zip(variables, gradients):
        raw.ResourceApplyGradientDescent(var=v.handle, alpha=rate, delta=g)


apply = apply_adam if adam else apply_momentum if workload == "W4" else apply_descent


def whole(x, target):
    with tf.GradientTape() as tape:
        value = loss(x, target)
    apply(tape.gradient(value, variables))
    return value


run = tf.function(whole, jit_compile=xla, autograph=False)
forward = tf.function(model, jit_compile=xla, autograph=False)
engine = "tensorflow-xla" if xla else "tensorflow"
step = lambda: run(x, target).numpy()
report(call, engine, tf.__version__, step, float, lambda: forward(x)[0].numpy())
