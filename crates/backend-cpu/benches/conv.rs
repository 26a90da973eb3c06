//! How fast convolutions and their vjps are: layers of image networks.
//!
//! Criterion's "elements per second" are floating-point operations. What the multiply-adds could
//! reach at best is in the `gemm` bench: its ceiling, and its products.
//! `cargo bench -p backprop-cpu --bench conv -- "3x3 64"` picks layers.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(missing_docs, reason = "criterion writes the entry point")]

mod harness;

use backprop_core::{Body, Conv, DType, Operand, Primitive, Source, Window};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use harness::{Ready, config, tensor};

/// A layer of square images and windows.
struct Layer {
    name: &'static str,
    batch: usize,
    channels: usize,
    out: usize,
    groups: usize,
    size: usize,
    taps: usize,
    stride: usize,
}

const fn layer(
    name: &'static str,
    [batch, channels, out, groups]: [usize; 4],
    [size, taps, stride]: [usize; 3],
) -> Layer {
    Layer {
        name,
        batch,
        channels,
        out,
        groups,
        size,
        taps,
        stride,
    }
}

/// The three convolutions of a small network, layers of residual networks from the first to the
/// last, and layers that look at each channel alone.
const LAYERS: [Layer; 11] = [
    layer("cnn 3x3 3-32 32x32", [64, 3, 32, 1], [32, 3, 1]),
    layer("cnn 3x3 32-64 32x32", [64, 32, 64, 1], [32, 3, 1]),
    layer("cnn 3x3 64-128 16x16", [64, 64, 128, 1], [16, 3, 1]),
    layer("7x7 3-64 224x224 by 2", [1, 3, 64, 1], [224, 7, 2]),
    layer("3x3 64-64 56x56", [8, 64, 64, 1], [56, 3, 1]),
    layer("3x3 64-128 56x56 by 2", [8, 64, 128, 1], [56, 3, 2]),
    layer("3x3 256-256 14x14", [8, 256, 256, 1], [14, 3, 1]),
    layer("3x3 512-512 7x7", [8, 512, 512, 1], [7, 3, 1]),
    layer("1x1 256-64 56x56", [8, 256, 64, 1], [56, 1, 1]),
    layer("3x3 of each of 128 56x56", [8, 128, 128, 128], [56, 3, 1]),
    layer(
        "3x3 of each of 128 56x56 by 2",
        [8, 128, 128, 128],
        [56, 3, 2],
    ),
];

impl Layer {
    fn places(&self) -> usize {
        self.size.div_ceil(self.stride)
    }

    /// Multiplications and additions.
    fn operations(&self) -> usize {
        let window = self.channels / self.groups * self.taps * self.taps;
        2 * self.batch * self.out * window * self.places() * self.places()
    }

    /// The layer and its two vjps.
    fn primitives(&self) -> [(&'static str, Primitive); 3] {
        let sizes = [
            [self.batch, self.channels, self.size, self.size],
            [self.out, self.channels / self.groups, self.taps, self.taps],
            [self.batch, self.out, self.places(), self.places()],
        ];
        let [x, w, y] = sizes.map(|sizes| tensor(&sizes));
        let window = Window {
            size: self.taps,
            stride: self.stride,
            dilation: 1,
            padding: self.taps / 2,
        };
        let spec = |left: &_, right: &_, result: &backprop_core::TensorType| Conv {
            input: x.shape,
            filter: w.shape,
            output: y.shape,
            windows: vec![window; 2],
            groups: self.groups,
            left: Operand::plain(Source::dense(Clone::clone(left))),
            right: Operand::plain(Source::dense(Clone::clone(right))),
            accumulator: DType::F32,
            space: result.shape,
            epilogue: Body::store(result.clone()),
        };
        [
            ("output", Primitive::Conv(spec(&x, &w, &y))),
            ("vjp by input", Primitive::ConvVjpInput(spec(&y, &w, &x))),
            ("vjp by filter", Primitive::ConvVjpFilter(spec(&x, &y, &w))),
        ]
    }
}

fn layers(criterion: &mut Criterion) {
    for layer in &LAYERS {
        let mut group = criterion.benchmark_group(layer.name);
        group.throughput(Throughput::Elements(layer.operations() as u64));
        for (name, primitive) in layer.primitives() {
            for threads in [1, 2] {
                let mut ready = Ready::new(threads, &primitive);
                let name = format!("{name}, {threads} threads");
                group.bench_function(name, |bencher| bencher.iter(|| ready.launch()));
            }
        }
    }
}

criterion_group!(name = benches; config = config(); targets = layers);
criterion_main!(benches);
