"""PyTorch: `eager`, or `compile` (inductor). Optimizers are fused, images are channels-last."""

import os

from common import W9_RATE, Values, call, report

call = call()
os.environ["OMP_NUM_THREADS"] = str(call.threads)

import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(call.threads)
values = Values(call.file)
compiled = call.mode == "compile"
LAST = torch.channels_last


def tensor(name):
    return torch.from_numpy(values.take(name))


def parameter(name):
    return nn.Parameter(tensor(name))


class Linear(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.weight, self.bias = parameter(f"{name}.weight"), parameter(f"{name}.bias")

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Conv(Linear):
    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias, padding=1)


class LayerNorm(Linear):
    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias)


class GroupNorm(Linear):
    def forward(self, x):
        return F.group_norm(x, 8, self.weight, self.bias)


class InPlace(torch.autograd.Function):
    """A product with a weight that takes its own step, without an array for the gradient."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x)
        ctx.weight = weight.detach()
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        dx = dy @ ctx.weight
        with torch.no_grad():
            ctx.weight.addr_(dy[0], x[0], alpha=-W9_RATE)
        return dx, None


class Perceptron(nn.Module):
    def __init__(self, last=lambda x: x):
        super().__init__()
        self.layers = nn.ModuleList(Linear(f"layers.{i}") for i in range(values.layers()))
        self.last = last

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.last(self.layers[-1](x))


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        count = values.layers()
        self.weights = nn.ParameterList(parameter(f"layers.{i}.weight") for i in range(count))

    def forward(self, x):
        product = F.linear if compiled else InPlace.apply
        for weight in self.weights[:-1]:
            x = F.relu(product(x, weight))
        return product(x, self.weights[-1])


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(Conv(f"convs.{i}") for i in range(3))
        self.linear = Linear("linear")

    def forward(self, x):
        x = F.relu(self.convs[0](x))
        x = F.max_pool2d(F.relu(self.convs[1](x)), 2)
        x = F.max_pool2d(F.relu(self.convs[2](x)), 2)
        return self.linear(x.mean((2, 3)))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(64, 128)
        self.lstm.weight_ih_l0 = parameter("lstm.weight_ih")
        self.lstm.weight_hh_l0 = parameter("lstm.weight_hh")
        self.lstm.bias_ih_l0 = parameter("lstm.bias")
        self.lstm.bias_hh_l0 = nn.Parameter(torch.zeros(512), requires_grad=False)
        self.linear = Linear("linear")

    def forward(self, x):
        _, (hidden, _) = self.lstm(x)
        return self.linear(hidden[-1])


class Block(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.norm1, self.norm2 = (LayerNorm(f"{name}.norm{i}") for i in (1, 2))
        self.attention, self.projection, self.up, self.down = (
            Linear(f"{name}.{part}") for part in ("attention", "projection", "up", "down")
        )

    def forward(self, x):
        rows, time, width = x.shape
        heads = self.attention(self.norm1(x)).view(rows, time, 3, 4, width // 4)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(y.transpose(1, 2).reshape(rows, time, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = parameter("tokens.weight"), parameter("positions.weight")
        self.blocks = nn.ModuleList(Block(f"blocks.{i}") for i in range(4))
        self.norm, self.head = LayerNorm("norm"), Linear("head")

    def forward(self, x):
        x = F.embedding(x, self.tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Elementwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.b = parameter("w"), parameter("b")

    def forward(self, x):
        return F.gelu(x * self.w + self.b, approximate="tanh") * torch.sigmoid(x)


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(Conv(f"convs.{i}") for i in range(4))
        self.times = nn.ModuleList(Linear(f"times.{i}") for i in range(3))
        self.norms = nn.ModuleList(GroupNorm(f"norms.{i}") for i in range(1, 4))

    def forward(self, x, time):
        first, second, third = (linear(time)[:, :, None, None] for linear in self.times)
        skip = self.convs[0](x) + first
        h = self.convs[1](F.silu(self.norms[0](F.avg_pool2d(skip, 2)))) + second
        h = torch.cat([F.interpolate(h, scale_factor=2, mode="nearest"), skip], 1)
        h = self.convs[2](F.silu(self.norms[1](h))) + third
        return self.convs[3](F.silu(self.norms[2](h)))


def squared(output, target):
    return F.mse_loss(output, target)


def entropy(output, target):
    return F.cross_entropy(output.flatten(0, -2), target.flatten())


MODELS = {
    "W0": lambda: Perceptron(torch.sigmoid),
    "W4": Cnn,
    "W5": Lstm,
    "W6": Transformer,
    "W7": Elementwise,
    "W8": Unet,
    "W9": Deep,
    "W9-3163": Deep,
}
workload = call.workload
model = MODELS.get(workload, Perceptron)()
inputs = [tensor("tokens").long()] if workload == "W6" else [tensor("x")]
if workload == "W8":
    inputs.append(tensor("time"))
target = next((tensor(n) for n in ("y", "labels", "targets", "noise") if n in values), None)
if target is not None and not target.is_floating_point():
    target = target.long()
if workload in ("W4", "W8"):
    model = model.to(memory_format=LAST)
    inputs[0] = inputs[0].contiguous(memory_format=LAST)

if workload == "W7":
    loss = lambda: model(*inputs).square().mean()
else:
    criterion = squared if workload in ("W0", "W8", "W9", "W9-3163") else entropy
    loss = lambda: criterion(model(*inputs), target)
forward = lambda: model(*inputs)
if compiled:
    loss = torch.compile(loss, dynamic=False)
    forward = torch.compile(forward, dynamic=False)

parameters = [p for p in model.parameters() if p.requires_grad]


def optimizer():
    if workload in ("W0", "W1"):
        return torch.optim.SGD(parameters, 0.1, fused=True)
    if workload in ("W3", "W7"):
        return torch.optim.SGD(parameters, 0.01, fused=True)
    if workload == "W4":
        return torch.optim.SGD(parameters, 0.01, momentum=0.9, fused=True)
    if workload in ("W2", "W5"):
        return torch.optim.Adam(parameters, 1e-3, fused=True)
    if workload == "W8":
        return torch.optim.AdamW(parameters, 1e-3, weight_decay=0.01, fused=True)
    if workload == "W6":
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, 1e-3, fused=True)
    return None


optimizer = optimizer()
if optimizer is None and compiled:

    @torch.no_grad()
    def update(p):
        p.add_(p.grad, alpha=-W9_RATE)
        p.grad = None

    for p in parameters:
        p.register_post_accumulate_grad_hook(update)


def step():
    if optimizer is not None:
        optimizer.zero_grad(set_to_none=True)
    value = loss()
    value.backward()
    if optimizer is not None:
        optimizer.step()
    return value


def infer():
    # A compiled function is guarded by the mode, and recompiles for another.
    with torch.no_grad() if compiled else torch.inference_mode():
        return forward()


engine = "torch-compile" if compiled else "torch"
seconds = None if compiled else 0.0
report(call, engine, torch.__version__, step, lambda value: value.item(), infer, seconds)
