"""The workloads in PyTorch, for any device. Optimizers are fused."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from common import W9_RATE, is_deep, is_squared
from torch import nn


@dataclass(frozen=True)
class Setting:
    workload: str
    device: str = "cpu"
    images: torch.memory_format = torch.channels_last
    # Whether the weights of the deep network take their steps inside of the backward pass.
    in_place: bool = True
    # Whether the step is to be captured as a CUDA graph.
    capturable: bool = False


class Source:
    """Tensors by name on a device. A network takes each one once."""

    def __init__(self, values, device):
        self.values, self.device = values, device

    def __contains__(self, name):
        return name in self.values

    def tensor(self, name):
        if self.device == "cpu":
            return torch.from_numpy(self.values.take(name))
        return torch.from_numpy(self.values.look(name)).to(self.device)

    def parameter(self, name):
        return nn.Parameter(self.tensor(name))


class Linear(nn.Module):
    def __init__(self, source, name):
        super().__init__()
        self.weight = source.parameter(f"{name}.weight")
        self.bias = source.parameter(f"{name}.bias")

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
    def __init__(self, source, last=lambda x: x):
        super().__init__()
        count = source.values.layers()
        self.layers = nn.ModuleList(Linear(source, f"layers.{i}") for i in range(count))
        self.last = last

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.last(self.layers[-1](x))


class Deep(nn.Module):
    def __init__(self, source, in_place):
        super().__init__()
        count = source.values.layers()
        weights = (source.parameter(f"layers.{i}.weight") for i in range(count))
        self.weights = nn.ParameterList(weights)
        self.product = InPlace.apply if in_place else F.linear

    def forward(self, x):
        for weight in self.weights[:-1]:
            x = F.relu(self.product(x, weight))
        return self.product(x, self.weights[-1])


class Cnn(nn.Module):
    def __init__(self, source):
        super().__init__()
        self.convs = nn.ModuleList(Conv(source, f"convs.{i}") for i in range(3))
        self.linear = Linear(source, "linear")

    def forward(self, x):
        x = F.relu(self.convs[0](x))
        x = F.max_pool2d(F.relu(self.convs[1](x)), 2)
        x = F.max_pool2d(F.relu(self.convs[2](x)), 2)
        return self.linear(x.mean((2, 3)))


class Lstm(nn.Module):
    def __init__(self, source):
        super().__init__()
        self.lstm = nn.LSTM(64, 128)
        self.lstm.weight_ih_l0 = source.parameter("lstm.weight_ih")
        self.lstm.weight_hh_l0 = source.parameter("lstm.weight_hh")
        self.lstm.bias_ih_l0 = source.parameter("lstm.bias")
        zeros = torch.zeros(512, device=source.device)
        self.lstm.bias_hh_l0 = nn.Parameter(zeros, requires_grad=False)
        self.lstm.flatten_parameters()
        self.linear = Linear(source, "linear")

    def forward(self, x):
        _, (hidden, _) = self.lstm(x)
        return self.linear(hidden[-1])


class Block(nn.Module):
    def __init__(self, source, name):
        super().__init__()
        self.norm1, self.norm2 = (LayerNorm(source, f"{name}.norm{i}") for i in (1, 2))
        self.attention, self.projection, self.up, self.down = (
            Linear(source, f"{name}.{part}") for part in ("attention", "projection", "up", "down")
        )

    def forward(self, x):
        rows, time, width = x.shape
        heads = self.attention(self.norm1(x)).view(rows, time, 3, 4, width // 4)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(y.transpose(1, 2).reshape(rows, time, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Transformer(nn.Module):
    def __init__(self, source):
        super().__init__()
        self.tokens = source.parameter("tokens.weight")
        self.positions = source.parameter("positions.weight")
        self.blocks = nn.ModuleList(Block(source, f"blocks.{i}") for i in range(4))
        self.norm, self.head = LayerNorm(source, "norm"), Linear(source, "head")

    def forward(self, x):
        x = F.embedding(x, self.tokens) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Elementwise(nn.Module):
    def __init__(self, source):
        super().__init__()
        self.w, self.b = source.parameter("w"), source.parameter("b")

    def forward(self, x):
        return F.gelu(x * self.w + self.b, approximate="tanh") * torch.sigmoid(x)


class Unet(nn.Module):
    def __init__(self, source):
        super().__init__()
        self.convs = nn.ModuleList(Conv(source, f"convs.{i}") for i in range(4))
        self.times = nn.ModuleList(Linear(source, f"times.{i}") for i in range(3))
        self.norms = nn.ModuleList(GroupNorm(source, f"norms.{i}") for i in range(1, 4))

    def forward(self, x, time):
        first, second, third = (linear(time)[:, :, None, None] for linear in self.times)
        skip = self.convs[0](x) + first
        h = self.convs[1](F.silu(self.norms[0](F.avg_pool2d(skip, 2)))) + second
        h = torch.cat([F.interpolate(h, scale_factor=2, mode="nearest"), skip], 1)
        h = self.convs[2](F.silu(self.norms[1](h))) + third
        return self.convs[3](F.silu(self.norms[2](h)))


MODELS = {
    "W0": lambda source: Perceptron(source, torch.sigmoid),
    "W4": Cnn,
    "W5": Lstm,
    "W6": Transformer,
    "W7": Elementwise,
    "W8": Unet,
}


def squared(output, target):
    return F.mse_loss(output, target)


def entropy(output, target):
    return F.cross_entropy(output.flatten(0, -2), target.flatten())


def optimizer(workload, parameters, capturable):
    sgd = lambda rate, **more: torch.optim.SGD(parameters, rate, fused=True, **more)
    how = {"fused": True, "capturable": capturable}
    if workload in ("W0", "W1"):
        return sgd(0.1)
    if workload in ("W3", "W7"):
        return sgd(0.01)
    if workload == "W4":
        return sgd(0.01, momentum=0.9)
    if workload in ("W2", "W5"):
        return torch.optim.Adam(parameters, 1e-3, **how)
    if workload == "W8":
        return torch.optim.AdamW(parameters, 1e-3, weight_decay=0.01, **how)
    if workload == "W6":
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, 1e-3, **how)
    return None


class Training:
    """`forward()` gives the output and `loss()` the loss; either may be replaced by what computes the
    same faster. `step()` does a whole step and returns its loss."""

    def __init__(self, values, setting):
        workload = setting.workload
        source = Source(values, setting.device)
        build = lambda source: Deep(source, setting.in_place)
        if not is_deep(workload):
            build = MODELS.get(workload, Perceptron)
        model = build(source)
        inputs = [source.tensor("x")] if workload != "W6" else [source.tensor("tokens").long()]
        if workload == "W8":
            inputs.append(source.tensor("time"))
        names = ("y", "labels", "targets", "noise")
        target = next((source.tensor(name) for name in names if name in source), None)
        if target is not None and not target.is_floating_point():
            target = target.long()
        if workload in ("W4", "W8"):
            model = model.to(memory_format=setting.images)
            inputs[0] = inputs[0].contiguous(memory_format=setting.images)
        criterion = squared if is_squared(workload) else entropy
        self.forward = lambda: model(*inputs)
        if workload == "W7":
            self.loss = lambda: model(*inputs).square().mean()
        else:
            self.loss = lambda: criterion(model(*inputs), target)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = optimizer(workload, self.parameters, setting.capturable)
        if self.optimizer is None and not setting.in_place:
            for parameter in self.parameters:
                parameter.register_post_accumulate_grad_hook(descend)

    def compile(self):
        self.loss = torch.compile(self.loss, dynamic=False)
        self.forward = torch.compile(self.forward, dynamic=False)

    def clear(self):
        if self.optimizer is not None:
            self.optimizer.zero_grad(set_to_none=True)

    def update(self):
        value = self.loss()
        value.backward()
        if self.optimizer is not None:
            self.optimizer.step()
        return value

    def step(self):
        self.clear()
        return self.update()


@torch.no_grad()
def descend(parameter):
    parameter.add_(parameter.grad, alpha=-W9_RATE)
    parameter.grad = None
