"""Writes `cases.json` and `tensors.safetensors` beside itself: recurrent layers between given states, and
attention with dropout, by PyTorch in 64-bit floating point. `README.md` says what is in them.

Needs PyTorch alone: `python generate.py`. The output is a function of the seed and PyTorch's version.
"""

import importlib.util
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

FOLDER = Path(__file__).parent

# How cases are made and written is in the generator of their companions.
spec = importlib.util.spec_from_file_location("companion", FOLDER.parent / "more" / "generate.py")
companion = importlib.util.module_from_spec(spec)
spec.loader.exec_module(companion)
companion.FOLDER = FOLDER
companion.SEED = 20261126
companion.generator.manual_seed(companion.SEED)
case, normal, integers = companion.case, companion.normal, companion.integers


def recurrent(name, kind, *, layers=1, both=False, lengths=None, given=True):
    """From given states, or from none, to the last ones, over all steps or as many as `lengths` say."""
    time, batch, size, hidden = 5, 3, 3, 4
    module = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind]
    module = module(size, hidden, layers, bidirectional=both, dtype=torch.float64)
    weights = {k: normal(*x.shape) * 0.5 for k, x in module.named_parameters()}
    states = (["h0", "c0"] if kind == "lstm" else ["h0"]) if given else []

    def run(x, *rest):
        begin, named = rest[: len(states)], dict(zip(weights, rest[-len(weights) :]))
        begin = begin if kind == "lstm" else begin[0] if given else None
        packed = x if lengths is None else pack_padded_sequence(x, integers(lengths), enforce_sorted=False)
        y, last = torch.func.functional_call(module, named, (packed, begin) if given else (packed,))
        if lengths is not None:
            y, _ = pad_packed_sequence(y, total_length=time)
        return (y, *last) if kind == "lstm" else (y, last)

    inputs = {"x": normal(time, batch, size)}
    inputs |= {k: normal(layers * (2 if both else 1), batch, hidden) for k in states}
    if lengths is not None:
        inputs["lengths"] = integers(lengths)
    attrs = {"input": size, "hidden": hidden, "layers": layers, "bidirectional": both}
    case(name, kind, run, inputs | weights, attrs)


def layers():
    for kind in ("rnn", "lstm", "gru"):
        recurrent(f"{kind}_states", kind)
        recurrent(f"{kind}_lengths", kind, lengths=[2, 5, 3])
        recurrent(f"{kind}_both", kind, layers=2, both=True, lengths=[4, 1, 5])
        recurrent(f"{kind}_from_zero", kind, layers=2, both=True, given=False)


def philox(key, counter):
    """Philox 4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011)."""
    (k0, k1), (a, b, c, d), low = key, counter, 0xFFFFFFFF
    for _ in range(10):
        x, y = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (y >> 32) ^ b ^ k0, y & low, (x >> 32) ^ d ^ k1, x & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return a, b, c, d


def keeps(seed, shape, p):
    """What dropout under the key of a small seed multiplies by."""
    count = math.prod(shape)
    blocks = [philox((seed, 0), (i, 0, 0, 0)) for i in range((count + 3) // 4)]
    words = torch.tensor([word >> 8 for block in blocks for word in block][:count])
    kept = words.to(torch.float64) / 2**24 >= p
    return (kept.to(torch.float64) / (1 - p)).reshape(shape)


def attention():
    def dropped(q, k, v, factor, causal):
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if causal:
            scores = scores.masked_fill(~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(), -math.inf)
        return scores.softmax(-1) * factor @ v

    for seed, (p, causal) in enumerate([(0.25, False), (0.5, True)]):
        q, k, v = normal(2, 3, 5, 4), normal(2, 3, 5, 4), normal(2, 3, 5, 2)
        # What PyTorch's own does with the numbers that it draws.
        torch.manual_seed(seed)
        own = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=causal)
        torch.manual_seed(seed)
        factor = F.dropout(torch.ones(2, 3, 5, 5, dtype=torch.float64), p)
        torch.testing.assert_close(own, dropped(q, k, v, factor, causal))
        factor = keeps(seed, (2, 3, 5, 5), p)
        f = lambda q, k, v: dropped(q, k, v, factor, causal)
        attrs = {"p": p, "seed": seed, "causal": causal}
        case(f"attention_dropout_{seed}", "attention_dropout", f, {"q": q, "k": k, "v": v}, attrs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    layers()
    attention()
    assert all(math.isfinite(x) for tensor in companion.tensors.values() for x in tensor.flatten().tolist())
    companion.write()
