"""PyTorch on a GPU: `eager`, `graphs` (the whole step is one CUDA graph), `compile` (inductor), or
`compile-graphs`, which is both."""

import gc
import sys
import time
import warnings

import torch
from common import LOSSES
from gpu_worker import batches, serve, values_of
from torch_models import Setting, Training

DEVICE = sys.argv[1]
IS_GPU = DEVICE != "cpu"
IMAGES = {None: torch.channels_last, "nhwc": torch.channels_last, "nchw": torch.contiguous_format}
WARM = 3  # steps before a capture

# The weights in files are only ever copied.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
torch.backends.cudnn.benchmark = True


def wait():
    if IS_GPU:
        torch.cuda.synchronize()


def set_precision(precision):
    allowed = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


class Captured:
    """A whole step that is replayed. Without a GPU it is run again instead, so that all but the
    capture is tested."""

    def __init__(self, training):
        training.clear()
        if not IS_GPU:
            self.replay = lambda: setattr(self, "value", training.step())
            return
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.value = training.update()
        self.replay = graph.replay


def warmed(training, count):
    """The losses of steps on a stream of their own, as a capture needs."""
    if not IS_GPU:
        return [training.step().item() for _ in range(count)]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        losses = [training.step().item() for _ in range(count)]
    torch.cuda.current_stream().wait_stream(side)
    return losses


def run(asked):
    mode = asked["mode"]
    compiled, captured = mode.startswith("compile"), mode.endswith("graphs")
    values = values_of(asked)
    setting = Setting(
        asked["workload"],
        DEVICE,
        IMAGES[asked.get("layout")],
        in_place=not compiled,
        capturable=captured and IS_GPU,
    )
    training = Training(values, setting)
    wait()
    start = time.perf_counter()
    if compiled:
        torch._dynamo.reset()
        training.compile()
    if captured:
        losses = warmed(training, WARM)
        replayed = Captured(training)
        step = replayed.replay
        ready = time.perf_counter() - start
        value = lambda: replayed.value
    else:
        kept = [training.step()]
        wait()
        ready = time.perf_counter() - start
        losses = [kept[0].item()]

        def step():
            kept[0] = training.step()

        value = lambda: kept[0]
    while len(losses) < LOSSES:
        step()
        losses.append(value().item())
    measured = batches(step, wait, asked["seconds"])
    return {
        **measured,
        "losses": losses,
        "last_loss": value().item(),
        "compile_seconds": ready if mode != "eager" else 0.0,
    }


def measure(asked):
    set_precision(asked["precision"])
    gc.collect()
    if IS_GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    result = run(asked)
    peak = torch.cuda.max_memory_allocated() if IS_GPU else None
    name = torch.cuda.get_device_name() if IS_GPU else "cpu"
    return {**result, "peak_bytes": peak, "device": name, "version": torch.__version__}


if IS_GPU:
    torch.zeros(1, device=DEVICE)
serve(measure)
