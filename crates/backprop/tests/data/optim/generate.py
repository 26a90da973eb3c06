"""Writes `cases.json` and `tensors.safetensors` beside itself: trajectories of optimizers on a small
least-squares problem, by PyTorch in 64-bit floating point. `README.md` says what is in them.

Needs PyTorch alone: `python generate.py`. The output is a function of the seed and PyTorch's version.
"""

import inspect
import json
import math
from pathlib import Path

import torch
from torch.optim import _muon

SEED = 20261125
STEPS = 14
FOLDER = Path(__file__).parent

generator = torch.Generator().manual_seed(SEED)
cases = []
tensors = {}


def normal(*shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


X, Y, W, B = normal(8, 3), normal(8, 2), normal(3, 2), normal(2)


def case(name, make, clip=lambda parameters: None, schedule=None):
    """A trajectory: the loss before each step, and the parameters after it."""
    w, b = (x.clone().requires_grad_() for x in (W, B))
    optimizers = make(w, b)
    optimizers = optimizers if isinstance(optimizers, tuple) else (optimizers,)
    scheduler = schedule and schedule(optimizers[0])
    losses, ws, bs = [], [], []
    for _ in range(STEPS):
        w.grad = b.grad = None
        loss = ((X @ w + b - Y) ** 2).mean()
        loss.backward()
        clip([w, b])
        for optimizer in optimizers:
            optimizer.step()
        if scheduler:
            scheduler.step()
        losses.append(loss.detach())
        ws.append(w.detach().clone())
        bs.append(b.detach().clone())
    record(name, {"losses": losses, "w": ws, "b": bs})


def record(name, results):
    """Values after (losses: before) each step."""
    for key, values in results.items():
        tensors[f"{name}/{key}"] = torch.stack(values).contiguous()
    outputs = [{"name": k, "dtype": "float64", "shape": list(torch.stack(v).shape)} for k, v in results.items()]
    cases.append({"name": name, "op": "optimizer", "attrs": {}, "inputs": [], "outputs": outputs})


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of arXiv:2302.06675."""

    def __init__(self, params, lr, betas, weight_decay):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                b1, b2 = group["betas"]
                c = b1 * m + (1 - b1) * p.grad
                p -= group["lr"] * (c.sign() + group["weight_decay"] * p)
                self.state[p]["m"] = b2 * m + (1 - b2) * p.grad


class Lamb(torch.optim.Optimizer):
    """Algorithm 2 of arXiv:1904.00962, a parameter being a layer and phi the identity."""

    def __init__(self, params, lr, betas, eps, weight_decay):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))
        self.t = 0

    @torch.no_grad()
    def step(self):
        self.t += 1
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                m = state["m"] = b1 * state.get("m", torch.zeros_like(p)) + (1 - b1) * p.grad
                v = state["v"] = b2 * state.get("v", torch.zeros_like(p)) + (1 - b2) * p.grad**2
                r = m / (1 - b1**self.t) / ((v / (1 - b2**self.t)).sqrt() + group["eps"])
                u = r + group["weight_decay"] * p
                p_norm, u_norm = p.norm(), u.norm()
                ratio = p_norm / u_norm if p_norm > 0 and u_norm > 0 else 1.0
                p -= group["lr"] * ratio * u


def muon_in_float64():
    """PyTorch's Muon rounds to bfloat16 before its iteration, and nowhere else: here it does not."""
    text = inspect.getsource(_muon._zeropower_via_newtonschulz)
    assert text.count("torch.bfloat16") == 1
    exec(text.replace("torch.bfloat16", "torch.float64"), _muon.__dict__)


def all_of(kind, **options):
    return lambda w, b: kind([w, b], **options)


def optimizers():
    o = torch.optim
    sgd = lambda **options: all_of(o.SGD, lr=0.05, **options)
    case("sgd", sgd())
    case("sgd_decay", sgd(weight_decay=0.1))
    case("sgd_momentum", sgd(momentum=0.9))
    case("sgd_dampening", sgd(momentum=0.9, dampening=0.3, weight_decay=0.05))
    case("sgd_nesterov", sgd(momentum=0.8, nesterov=True, weight_decay=0.05))
    case("adam_amsgrad", all_of(o.Adam, lr=0.1, betas=(0.8, 0.9), weight_decay=0.05, amsgrad=True))
    case("adamw_amsgrad", all_of(o.AdamW, lr=0.1, betas=(0.8, 0.9), weight_decay=0.05, amsgrad=True))
    case("adadelta", all_of(o.Adadelta))
    case("adadelta_decay", all_of(o.Adadelta, lr=0.5, rho=0.8, eps=1e-3, weight_decay=0.1))
    case("nadam", all_of(o.NAdam))
    case("nadam_decay", all_of(o.NAdam, lr=0.05, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1, momentum_decay=0.02))
    case("lion", all_of(Lion, lr=0.02, betas=(0.9, 0.99), weight_decay=0.0))
    case("lion_decay", all_of(Lion, lr=0.05, betas=(0.7, 0.9), weight_decay=0.1))
    case("lamb", all_of(Lamb, lr=0.02, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01))
    case("lamb_plain", all_of(Lamb, lr=0.05, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.0))
    muon_in_float64()
    both = lambda **options: lambda w, b: (o.Muon([w], **options), o.SGD([b], lr=0.05))
    case("muon", both(lr=0.05))
    case("muon_heavy", both(lr=0.1, weight_decay=0.0, momentum=0.8, nesterov=False, ns_steps=3, adjust_lr_fn="match_rms_adamw"))
    wide = lambda w, b: o.Muon([w], lr=0.05)
    case("frozen_b", wide)
    groups = lambda w, b: o.AdamW([{"params": [w], "lr": 0.1, "weight_decay": 0.2}, {"params": [b], "lr": 0.05, "weight_decay": 0.0}])
    case("groups", groups)


def clips():
    sgd = all_of(torch.optim.SGD, lr=0.05, momentum=0.9)
    for name, bound in (("clip_norm", 0.7), ("clip_norm_loose", 1e3)):
        case(name, sgd, lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, bound))
    case("clip_value", sgd, lambda parameters: torch.nn.utils.clip_grad_value_(parameters, 0.2))


def schedules():
    s = torch.optim.lr_scheduler
    sgd = all_of(torch.optim.SGD, lr=0.2)
    case("rate_step", sgd, schedule=lambda o: s.StepLR(o, 4, 0.3))
    case("rate_exponential", sgd, schedule=lambda o: s.ExponentialLR(o, 0.9))
    case("rate_linear", sgd, schedule=lambda o: s.LinearLR(o, 0.25, 1.0, 5))
    case("rate_cosine", sgd, schedule=lambda o: s.CosineAnnealingLR(o, STEPS))
    parts = lambda o: [s.LinearLR(o, 0.25, 1.0, 3), s.CosineAnnealingLR(o, STEPS - 4)]
    case("rate_warm_cosine", sgd, schedule=lambda o: s.SequentialLR(o, parts(o), [4]))
    case("rate_one_cycle", sgd, schedule=lambda o: s.OneCycleLR(o, 0.3, STEPS + 1, cycle_momentum=False))


    case("rate_warm_constant", sgd, schedule=lambda o: s.LinearLR(o, 1 / 5, 1.0, 4))
    case("rate_multi_step", sgd, schedule=lambda o: s.MultiStepLR(o, [2, 5, 6, 11], 0.4))
    case("rate_polynomial", sgd, schedule=lambda o: s.PolynomialLR(o, 10, 2.5))
    warm = lambda o: s.LinearLR(o, 1 / 3, 1.0, 2)
    drops = lambda o: [warm(o), s.MultiStepLR(o, [2, 7], 0.3)]
    case("rate_warm_multi_step", sgd, schedule=lambda o: s.SequentialLR(o, drops(o), [3]))
    case("rate_restarts", sgd, schedule=lambda o: s.CosineAnnealingWarmRestarts(o, 4, eta_min=0.01))
    case("rate_restarts_stretched", sgd, schedule=lambda o: s.CosineAnnealingWarmRestarts(o, 2, 2))
    case("rate_restarts_stretched_by_3", sgd, schedule=lambda o: s.CosineAnnealingWarmRestarts(o, 1, 3))
    cycle = lambda **options: lambda o: s.OneCycleLR(o, 0.3, STEPS + 1, cycle_momentum=False, **options)
    wide = {"div_factor": 4.0, "final_div_factor": 10.0}
    case("rate_one_cycle_linear", sgd, schedule=cycle(pct_start=0.5, anneal_strategy="linear", **wide))
    case("rate_one_cycle_three", sgd, schedule=cycle(pct_start=0.4, three_phase=True, **wide))
    case("rate_one_cycle_three_linear", sgd, schedule=cycle(three_phase=True, anneal_strategy="linear"))
    case("rate_one_cycle_falling", sgd, schedule=cycle(pct_start=0.0))


def parts(name, make, count, total, steps, *, scale=None, broken=(), bound=None, schedule=None, outputs=None):
    """Gradients of `count` micro-batches added up before each update, perhaps under a loss scale. The loss
    of step `t` is multiplied by `1 + t % 3`, and by infinity in the steps that are `broken`."""
    w, b = (x.clone().requires_grad_() for x in (W, B))
    optimizer = make(w, b)
    scheduler = schedule and schedule(optimizer)
    scaler = torch.amp.GradScaler("cpu", enabled=scale is not None, **(scale or {}))
    results = {"losses": [], "w": [], "b": [], "scaler.scale": []}
    for step in range(steps):
        loss = ((X @ w + b - Y) ** 2).mean()
        part = loss * (1 + step % 3) * (math.inf if step in broken else 1.0)
        scaler.scale(part / count if total == "mean" else part).backward()
        if step % count == count - 1:
            scaler.unscale_(optimizer)
            if bound:
                torch.nn.utils.clip_grad_norm_([w, b], bound)
            scaler.step(optimizer)
            scaler.update()
            if scheduler:
                scheduler.step()
            optimizer.zero_grad()
        results["losses"].append(loss.detach())
        results["w"].append(w.detach().clone())
        results["b"].append(b.detach().clone())
        results["scaler.scale"].append(torch.tensor(scaler.get_scale()))
    if scale is None:
        del results["scaler.scale"]
    record(name, {key: results[key] for key in outputs or results})


def micro_batches():
    o, s = torch.optim, torch.optim.lr_scheduler
    sgd = all_of(o.SGD, lr=0.02, momentum=0.9)
    adamw = all_of(o.AdamW, lr=0.1, weight_decay=0.1)
    falling = lambda o: s.ExponentialLR(o, 0.9)
    parts("accumulate_sgd", sgd, 3, "mean", 36)
    parts("accumulate_adamw", adamw, 2, "sum", 26, schedule=falling)
    parts("accumulate_one", adamw, 1, "mean", 12)
    options = lambda *values: dict(zip(("init_scale", "growth_factor", "backoff_factor", "growth_interval"), values))
    parts("scaled_sgd", sgd, 1, "mean", 14, scale=options(1024.0, 2.0, 0.5, 3), broken=(3, 4, 9))
    parts("scaled_adamw", adamw, 1, "mean", 16, scale=options(2.0**16, 4.0, 0.125, 2), broken=(0, 7))
    odd = options(1000.0, 1.7, 0.3, 2)
    parts("scaled_oddly", sgd, 1, "mean", 14, scale=odd, broken=(5, 6), outputs=("scaler.scale",))
    largest = options(2.0**125, 2.0, 0.5, 1)
    parts("scaled_to_the_end", sgd, 1, "mean", 12, scale=largest, outputs=("scaler.scale",))
    both = options(512.0, 2.0, 0.5, 2)
    parts("accumulate_scaled", adamw, 2, "mean", 28, scale=both, broken=(5, 14), bound=0.5)


def averages():
    """The same trajectory as `sgd`, with the running means of its parameters after the last step."""
    swa = torch.optim.swa_utils
    model = torch.nn.ParameterList([W.clone(), B.clone()])
    mean = swa.AveragedModel(model, multi_avg_fn=swa.get_ema_multi_avg_fn(0.8))
    values = [tensors[f"sgd/{key}"] for key in ("w", "b")]
    for step in range(STEPS):
        for parameter, value in zip(model, values):
            parameter.data.copy_(value[step])
        mean.update_parameters(model)
    for key, parameter in zip(("mean_w", "mean_b"), mean.module):
        tensors[f"start/{key}"] = parameter.detach().clone()


def write():
    """The safetensors format: the length of a JSON header, the header, and the bytes of all tensors."""
    header, start = {}, 0
    kinds = {torch.float64: "F64", torch.int64: "I64"}
    for name, tensor in sorted(tensors.items()):
        end = start + 8 * tensor.numel()
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(tensor.numpy().tobytes() for _, tensor in sorted(tensors.items()))
    (FOLDER / "tensors.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    lines = ",\n  ".join(json.dumps(entry) for entry in cases)
    head = f'"generator": "PyTorch {torch.__version__} float64", "seed": {SEED}'
    (FOLDER / "cases.json").write_text(f'{{{head}, "cases": [\n  {lines}\n]}}\n')


if __name__ == "__main__":
    torch.set_num_threads(1)
    # NAdam keeps its product in the default type.
    torch.set_default_dtype(torch.float64)
    start = {"x": X, "y": Y, "w": W, "b": B}
    tensors.update({f"start/{k}": v for k, v in start.items()})
    inputs = [{"name": k, "dtype": "float64", "shape": list(v.shape)} for k, v in start.items()]
    cases.append({"name": "start", "op": "start", "attrs": {}, "inputs": inputs, "outputs": []})
    optimizers()
    clips()
    schedules()
    micro_batches()
    averages()
    assert all(math.isfinite(x) for tensor in tensors.values() for x in tensor.flatten().tolist())
    assert len({entry["name"] for entry in cases}) == len(cases)
    write()
