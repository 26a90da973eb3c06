"""PyTorch: `eager`, or `compile` (inductor). Images are channels-last."""

import os

from common import Values, call, report

call = call()
os.environ["OMP_NUM_THREADS"] = str(call.threads)

import torch
from torch_models import Setting, Training

torch.set_num_threads(call.threads)
compiled = call.mode == "compile"
training = Training(Values(call.file), Setting(call.workload, in_place=not compiled))
if compiled:
    training.compile()


def infer():
    # A compiled function is guarded by the mode, and recompiles for another.
    with torch.no_grad() if compiled else torch.inference_mode():
        return training.forward()


engine = "torch-compile" if compiled else "torch"
seconds = None if compiled else 0.0
report(call, engine, torch.__version__, training.step, lambda value: value.item(), infer, seconds)
