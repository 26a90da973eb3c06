"""Writes `cases.json` and `tensors.safetensors` beside itself: values, gradients and Hessian-vector
products of operations, by PyTorch in 64-bit floating point. `README.md` says what is in them.

Needs PyTorch alone: `python generate.py`. The output is a function of the seed and PyTorch's version.
"""

import itertools
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F

SEED = 20261124
FOLDER = Path(__file__).parent

generator = torch.Generator().manual_seed(SEED)
cases = []
tensors = {}


def normal(*shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def regular(*shape):
    """Matrices far from singular ones, with rows in an order that makes pivoting exchange them."""
    eye = torch.eye(shape[-1], dtype=torch.float64)
    return (normal(*shape) + 4 * eye).roll(1, -2)


def positive(*shape):
    """Positive definite matrices."""
    x = normal(*shape)
    return x @ x.mT + torch.eye(shape[-1], dtype=torch.float64)


def integers(values):
    return torch.tensor(values, dtype=torch.int64)


def describe(name, tensor, grad):
    kind = str(tensor.dtype).removeprefix("torch.")
    return {"name": name, "dtype": kind, "shape": list(tensor.shape), "grad": grad}


def case(name, op, function, inputs, attrs=None, *, fixed=(), smooth=None, note=None):
    """Evaluates `function` of `inputs` (by name), and differentiates it by all that are floating-point
    and not `fixed`. The second derivatives are those of `smooth`, where PyTorch has none of its own:
    the same function, written otherwise, and checked here to be the same.
    """
    wrt = [k for k, x in inputs.items() if x.is_floating_point() and k not in fixed]
    variables = {k: x.clone().requires_grad_(k in wrt) for k, x in inputs.items()}
    outputs = function(*variables.values())
    outputs = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    cotangents = {i: normal(*y.shape) for i, y in enumerate(outputs) if y.requires_grad}

    def store(key, tensor):
        tensors[f"{name}/{key}"] = tensor.detach().contiguous()

    entry = {
        "name": name,
        "op": op,
        "attrs": attrs or {},
        "inputs": [describe(k, x, k in wrt) for k, x in inputs.items()],
        "outputs": [describe(f"out{i}", y, i in cotangents) for i, y in enumerate(outputs)],
    }
    if note:
        entry["note"] = note
    for k, x in inputs.items():
        store(k, x)
    for i, y in enumerate(outputs):
        store(f"out{i}", y)
    for i, cotangent in cotangents.items():
        store(f"cot{i}", cotangent)
    if cotangents:
        leaves = [variables[k] for k in wrt]
        gradients = slopes(outputs, cotangents, leaves)
        for k, gradient in zip(wrt, gradients):
            store(f"d_{k}", gradient)
        if smooth is not None:
            again = smooth(*variables.values())
            torch.testing.assert_close(again, outputs[0], rtol=1e-12, atol=1e-12)
            others = slopes([again], cotangents, leaves)
            torch.testing.assert_close(others, gradients, rtol=1e-11, atol=1e-12)
            gradients = others
        entry["hvp"] = curvature(gradients, leaves, wrt, store)
    cases.append(entry)


def slopes(outputs, cotangents, leaves):
    total = sum((outputs[i] * cotangent).sum() for i, cotangent in cotangents.items())
    return torch.autograd.grad(total, leaves, create_graph=True, materialize_grads=True)


def curvature(gradients, leaves, wrt, store):
    """Stores the product of the Hessian with a direction, and says whether there is one: not for a
    function that is linear in its inputs.
    """
    directions = [normal(*x.shape) for x in leaves]
    total = sum((d * v).sum() for d, v in zip(gradients, directions))
    if not total.requires_grad:
        return False
    products = torch.autograd.grad(total, leaves, materialize_grads=True)
    if not any(product.any() for product in products):
        return False
    for k, v, product in zip(wrt, directions, products):
        store(f"v_{k}", v)
        store(f"hvp_{k}", product)
    return True


def matrices():
    symmetric = lambda function: lambda a: function((a + a.mT) / 2)
    note = "of the symmetric part of the input"
    case("cholesky", "cholesky", symmetric(torch.linalg.cholesky), {"a": positive(5, 5)}, note=note)
    case("cholesky_batch", "cholesky", symmetric(torch.linalg.cholesky), {"a": positive(2, 3, 4, 4)}, note=note)
    case("solve", "solve", torch.linalg.solve, {"a": regular(5, 5), "b": normal(5, 3)})
    case("solve_broadcast", "solve", torch.linalg.solve, {"a": regular(4, 1, 4, 4), "b": normal(3, 4, 2)})
    case("solve_vector", "solve", torch.linalg.solve, {"a": regular(6, 6), "b": normal(6)})
    for k, (upper, unit, left) in enumerate(itertools.product([False, True], repeat=3)):
        attrs = {"upper": upper, "unit": unit, "left": left}
        b = normal(2, 4, 3) if left else normal(2, 3, 4)
        solve = lambda a, b: torch.linalg.solve_triangular(a, b, upper=upper, unitriangular=unit, left=left)
        a = normal(2, 4, 4) + 4 * torch.eye(4, dtype=torch.float64)
        case(f"solve_triangular_{k}", "solve_triangular", solve, {"a": a, "b": b}, attrs)
    case("inverse", "inverse", torch.linalg.inv, {"a": regular(2, 5, 5)})
    case("det", "det", torch.linalg.det, {"a": regular(2, 5, 5)})
    case("det_negative", "det", torch.linalg.det, {"a": regular(4, 4)[[1, 0, 2, 3]]})
    case("slogdet", "slogdet", torch.linalg.slogdet, {"a": regular(3, 4, 4)})
    for power in (5, -3):
        attrs = {"exponent": power}
        f = lambda a: torch.linalg.matrix_power(a, power)
        case(f"matrix_power_{power}".replace("-", "minus_"), "matrix_power", f, {"a": regular(2, 3, 3) / 3}, attrs)


def einsums():
    for k, (equation, *shapes) in enumerate(
        [
            ("ii", (4, 4)),
            ("ii->i", (4, 4)),
            ("iij->j", (3, 3, 4)),
            ("bii->b", (2, 3, 3)),
            ("iji,j->i", (3, 4, 3), (4,)),
            ("...ii->...i", (2, 3, 3)),
            ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
            ("b...,b...->b", (2, 3, 4), (2, 1, 4)),
            ("ij,kj", (2, 3), (4, 3)),
            ("ab,bc,cd,da->", (2, 3), (3, 4), (4, 5), (5, 2)),
            ("ij,jk->ik", (2, 1), (3, 4)),
            ("i,j,ij->ij", (3,), (4,), (3, 4)),
        ]
    ):
        inputs = {f"x{i}": normal(*shape) for i, shape in enumerate(shapes)}
        case(f"einsum_more_{k}", "einsum", lambda *x: torch.einsum(equation, *x), inputs, {"equation": equation})


def alignments(blank, reduction):
    """The connectionist temporal classification loss as the sum over all alignments, one by one."""

    def collapse(path):
        labels = [label for label, _ in itertools.groupby(path)]
        return [label for label in labels if label != blank]

    def loss(log_probs, targets, input_lengths, target_lengths):
        losses = []
        for n, (steps, count) in enumerate(zip(input_lengths.tolist(), target_lengths.tolist())):
            target = targets[n, :count].tolist()
            paths = itertools.product(range(log_probs.shape[2]), repeat=steps)
            good = torch.tensor([path for path in paths if collapse(path) == target])
            scores = log_probs[torch.arange(steps), n][torch.arange(steps), good].sum(-1)
            losses.append(-scores.logsumexp(0))
        losses = torch.stack(losses)
        match reduction:
            case "mean":
                return (losses / target_lengths.clamp(min=1)).mean()
            case "sum":
                return losses.sum()
            case _:
                return losses

    return loss


def ctc():
    for k, (blank, reduction) in enumerate([(0, "mean"), (3, "sum"), (1, "none")]):
        labels = [c for c in range(4) if c != blank]
        targets = [[labels[0], labels[0], labels[1]], [labels[2]] * 3, [labels[1], labels[2], labels[0]]]
        inputs = {
            "x": normal(6, 3, 4),
            "targets": integers(targets),
            "input_lengths": integers([6, 5, 4]),
            "target_lengths": integers([3, 1, 2]),
        }
        attrs = {"blank": blank, "reduction": reduction}

        def loss(x, *others):
            x = x.log_softmax(-1)
            return F.ctc_loss(x, *others, blank=blank, reduction=reduction)

        def slow(x, *others):
            return alignments(blank, reduction)(x.log_softmax(-1), *others)

        note = "of the logarithm of the softmax of x; second derivatives from the sum over all alignments"
        case(f"ctc_loss_{k}", "ctc_loss", loss, inputs, attrs, smooth=slow, note=note)


def rotary():
    def angles(x, base):
        time, half = x.shape[-2], x.shape[-1] // 2
        frequencies = base ** (-torch.arange(half, dtype=torch.float64) / half)
        return torch.outer(torch.arange(time, dtype=torch.float64), frequencies)

    def halves(x, base):
        angle = angles(x, base).repeat(1, 2)
        a, b = x.chunk(2, -1)
        return x * angle.cos() + torch.cat([-b, a], -1) * angle.sin()

    def neighbours(x, base):
        angle = angles(x, base)
        turns = torch.polar(torch.ones_like(angle), angle)
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * turns).flatten(-2)

    for name, function in [("halves", halves), ("neighbours", neighbours)]:
        for base in (10000.0, 100.0):
            attrs = {"pairing": name, "base": base}
            f = lambda x: function(x, base).square()
            note = "the square of the rotated x, so that there is a second derivative"
            case(f"rotary_{name}_{base:.0f}", "rotary", f, {"x": normal(2, 3, 5, 8)}, attrs, note=note)


def arrays():
    def products(axis):
        def each(x):
            pieces = [x.narrow(axis, 0, k + 1).prod(axis) for k in range(x.shape[axis])]
            return torch.stack(pieces, axis)

        return each

    zeros = normal(4, 5)
    zeros[0, 1] = zeros[1, 0] = zeros[1, 3] = zeros[2, 4] = 0
    zeros[3] = 0
    for k, (axis, x) in enumerate([(1, zeros), (0, zeros), (1, normal(2, 6, 3))]):
        case(f"cumprod_{k}", "cumprod", lambda x: x.cumprod(axis), {"x": x}, {"axis": axis}, smooth=products(axis))
    case("log_add_exp", "log_add_exp", torch.logaddexp, {"x": 5 * normal(3, 4), "y": 5 * normal(4)})
    for axis in (-1, 1):
        attrs = {"axis": axis, "eps": 1e-8}
        f = lambda x, y: F.cosine_similarity(x, y, dim=axis, eps=1e-8)
        case(f"cosine_similarity_{axis % 3}", "cosine_similarity", f, {"x": normal(2, 4, 5), "y": normal(2, 4, 5)}, attrs)
    for shift, axis in [(2, 1), (-3, 0), (7, 2)]:
        attrs = {"shift": shift, "axis": axis}
        case(f"roll_{axis}", "roll", lambda x: x.roll(shift, axis), {"x": normal(4, 3, 5)}, attrs)
    case("one_hot", "one_hot", lambda i: F.one_hot(i, 5), {"i": integers([[0, 4, 2], [1, 1, 3]])}, {"classes": 5})


def resampling():
    for mode, align, size in itertools.product(["bilinear", "bicubic"], [False, True], [(7, 4), (3, 9)]):
        attrs = {"size": list(size), "mode": mode, "align_corners": align}
        f = lambda x: F.interpolate(x, size=size, mode=mode, align_corners=align)
        name = f"interpolate_{mode}_{'corners' if align else 'edges'}_{size[0]}"
        case(name, "interpolate", f, {"x": normal(2, 2, 5, 6)}, attrs)
    for size in (4, 11):
        f = lambda x: F.interpolate(x, size=size, mode="linear")
        attrs = {"size": [size], "mode": "linear", "align_corners": False}
        case(f"interpolate_linear_{size}", "interpolate", f, {"x": normal(2, 3, 7)}, attrs)


def norms():
    for groups in (1, 2, 6):
        f = lambda x, w, b: F.group_norm(x, groups, w, b, 1e-5)
        inputs = {"x": normal(2, 6, 3, 2), "w": normal(6), "b": normal(6)}
        case(f"group_norm_{groups}", "group_norm", f, inputs, {"groups": groups, "eps": 1e-5})

    def running(x, w, b, m, v):
        m, v = m.clone(), v.clone()
        y = F.batch_norm(x, m, v, w, b, training=True, momentum=0.2, eps=1e-5)
        return y, m, v

    def statistics():
        return {"w": normal(3), "b": normal(3), "m": normal(3), "v": normal(3).square() + 0.5}

    attrs = {"training": True, "eps": 1e-5, "momentum": 0.2}
    note = "out1 and out2 are the running mean and variance afterwards"
    inputs = {"x": normal(4, 3, 2, 3), **statistics()}
    case("batch_norm_running", "batch_norm", running, inputs, attrs, fixed=("m", "v"), note=note)
    by = lambda x, w, b, m, v: F.batch_norm(x, m, v, w, b, eps=1e-3)
    inputs = {"x": normal(4, 3, 2, 3), **statistics()}
    case("batch_norm_by", "batch_norm", by, inputs, {"training": False, "eps": 1e-3}, fixed=("m", "v"))


def convolutions():
    kinds = {1: F.conv_transpose1d, 3: F.conv_transpose3d}
    plain = {"stride": 1, "padding": 0, "output_padding": 0, "groups": 1, "dilation": 1}
    for k, (sizes, taps, attrs) in enumerate(
        [
            ((7,), (3,), {"stride": 2, "padding": 1, "output_padding": 1}),
            ((6,), (4,), {"stride": 3, "groups": 2, "dilation": 2}),
            ((8,), (2,), {"padding": 2, "dilation": 3, "groups": 4}),
            ((3, 2, 4), (2, 3, 2), {"stride": 2, "padding": 1}),
            ((2, 3, 3), (2, 2, 3), {"stride": 2, "groups": 2, "dilation": 2, "output_padding": 1}),
        ]
    ):
        how = plain | attrs
        f = lambda x, w, b: kinds[len(sizes)](x, w, b, **how)
        channels = 3 * how["groups"]
        inputs = {
            "x": normal(2, 4, *sizes),
            "w": normal(4, channels // how["groups"], *taps),
            "b": normal(channels),
        }
        case(f"conv_transpose{len(sizes)}d_more_{k}", f"conv_transpose{len(sizes)}d", f, inputs, how)


def pools():
    for k, (size, stride, padding, dilation, ceil) in enumerate(
        [(2, 2, 0, 2, False), (3, 2, 1, 1, True), (2, 3, 1, 2, True), (3, 1, 1, 3, False)]
    ):
        how = {"kernel_size": size, "stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil}
        f = lambda x: F.max_pool2d(x, **how)
        case(f"max_pool2d_more_{k}", "max_pool2d", f, {"x": normal(2, 2, 8, 7)}, how)
    for k, (size, stride, padding, ceil, inside) in enumerate(
        [(3, 2, 1, True, True), (3, 2, 1, True, False), (2, 3, 1, True, True), (2, 2, 0, True, False)]
    ):
        how = {"kernel_size": size, "stride": stride, "padding": padding, "ceil_mode": ceil, "count_include_pad": inside}
        f = lambda x: F.avg_pool2d(x, **how)
        case(f"avg_pool2d_more_{k}", "avg_pool2d", f, {"x": normal(2, 2, 8, 7)}, how)
    for kind, sizes in itertools.product(["avg", "max"], [(3,), (5,), (3, 2), (4, 7), (1, 1)]):
        rank = len(sizes)
        f = lambda x: getattr(F, f"adaptive_{kind}_pool{rank}d")(x, sizes)
        op = f"adaptive_{kind}_pool{rank}d"
        name = "_".join([op, *map(str, sizes)])
        case(name, op, f, {"x": normal(2, 3, *(7, 6)[:rank])}, {"output_size": list(sizes)})


def spectra():
    """Of eigenvectors and singular vectors only what does not depend on their signs."""

    def spectral(a):
        values, vectors = torch.linalg.eigh((a + a.mT) / 2)
        return vectors * values.exp().unsqueeze(-2) @ vectors.mT

    def squares(a):
        u, s, v = torch.linalg.svd(a, full_matrices=False)
        return u * s.square().unsqueeze(-2) @ v

    case("eigvalsh", "eigvalsh", lambda a: torch.linalg.eigvalsh((a + a.mT) / 2), {"a": normal(2, 5, 5)})
    case("eigh", "eigh", spectral, {"a": normal(2, 4, 4)}, note="v diagonal(exp(values)) v^T")
    for rows, columns in [(5, 3), (3, 5), (4, 4)]:
        size = f"{rows}x{columns}"
        case(f"svdvals_{size}", "svdvals", torch.linalg.svdvals, {"a": normal(2, rows, columns)})
        case(f"svd_{size}", "svd", squares, {"a": normal(2, rows, columns)}, note="u diagonal(s^2) v^T")
        case(f"pinv_{size}", "pinv", lambda x: torch.linalg.pinv(x), {"a": normal(2, rows, columns)})
    product = lambda a, b: torch.linalg.pinv(a @ b, rtol=1e-9)
    case("pinv_of_product", "pinv_of_product", product, {"a": normal(5, 2), "b": normal(2, 4)}, note="rank 2")
    for k, scale in enumerate([0.1, 1.0, 6.0]):
        case(f"matrix_exp_{k}", "matrix_exp", torch.linalg.matrix_exp, {"a": scale * normal(2, 4, 4)})
    case("logdet", "logdet", torch.logdet, {"a": positive(2, 4, 4)})
    f = lambda a, b: torch.linalg.cross(a, b, dim=1)
    case("cross", "cross", f, {"a": normal(2, 3, 4), "b": normal(2, 3, 1)}, {"axis": 1})


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
    for part in (matrices, einsums, ctc, rotary, arrays, resampling, norms, convolutions, pools, spectra):
        part()
    assert all(math.isfinite(x) for tensor in tensors.values() for x in tensor.flatten().tolist())
    assert len({entry["name"] for entry in cases}) == len(cases)
    write()
