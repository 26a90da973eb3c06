"""Makes `run.tfevents` with TensorBoard's own package, and reads it back as TensorBoard does.

    python3 -m venv target/tensorboard
    target/tensorboard/bin/pip install tensorboard
    target/tensorboard/bin/python crates/record/tests/check.py [FOLDER WITH EVENT FILES]

With a folder, prints what TensorBoard finds in it. Without one, writes the events that the test in
`formats.rs` records to `run.tfevents` beside this script: the test compares bytes.
"""

import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.summary.writer.record_writer import RecordWriter

STORED = pathlib.Path(__file__).with_name("run.tfevents")


def events():
    """What the test records, a quarter of a second apart."""
    time = iter(1.7e9 + 0.25 * i for i in range(100))
    yield Event(wall_time=next(time), file_version="brain.Event:2")
    for step, name, value in [
        (0, "loss/train", 2.5),
        (1, "loss/train", 0.0),
        (300, "größe", float("-inf")),
        (2**40, "loss/train", 1e-30),
    ]:
        yield Event(
            wall_time=next(time),
            step=step,
            summary=Summary(value=[Summary.Value(tag=name, simple_value=value)]),
        )
    width = 4.0 / 64
    counts = [0.0] * 64
    for number in [-1.0, 0.5, 0.5, 3.0]:
        counts[min(int((number + 1.0) / width), 63)] += 1
    distribution = HistogramProto(
        min=-1.0,
        max=3.0,
        num=4.0,
        sum=3.0,
        sum_squares=10.5,
        bucket_limit=[-1.0 + width * (i + 1) for i in range(64)],
        bucket=counts,
    )
    yield Event(
        wall_time=next(time),
        step=7,
        summary=Summary(value=[Summary.Value(tag="weights", histo=distribution)]),
    )


def show(path):
    found = EventAccumulator(str(path), size_guidance={"scalars": 0, "histograms": 0})
    found.Reload()
    for tag in found.Tags()["scalars"]:
        print(tag, [(e.step, e.value) for e in found.Scalars(tag)])
    for tag in found.Tags()["histograms"]:
        for e in found.Histograms(tag):
            h = e.histogram_value
            print(tag, e.step, h.min, h.max, h.num, h.sum, h.sum_squares, sum(h.bucket))


if len(sys.argv) > 1:
    show(sys.argv[1])
else:
    with STORED.open("wb") as file:
        writer = RecordWriter(file)
        for event in events():
            writer.write(event.SerializeToString())
        writer.flush()
    print(f"{STORED.name}: {STORED.stat().st_size} bytes")
    show(STORED)
