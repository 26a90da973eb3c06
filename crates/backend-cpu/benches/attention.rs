//! How fast attention and its vjp are: layers of small transformers.
//!
//! Criterion's "elements per second" are floating-point operations of the products alone, of the
//! scores that a query sees: two products for attention, five for its vjp. What they could reach at
//! best is in the `gemm` bench.
//! `cargo bench -p backprop-cpu --bench attention -- "512 causal"` picks layers.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(missing_docs, reason = "criterion writes the entry point")]

mod harness;

use backprop_core::{
    Attention, AttentionVjp, Body, DType, Heads, KeyMask, Operand, Primitive, Shape, Source, View,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use harness::{Ready, config, tensor};

/// Self-attention of eight examples with eight heads.
struct Layer {
    name: &'static str,
    tokens: usize,
    depth: usize,
    mask: KeyMask,
}

const HEADS: [usize; 2] = [8, 8];

const fn layer(name: &'static str, tokens: usize, depth: usize, mask: KeyMask) -> Layer {
    Layer {
        name,
        tokens,
        depth,
        mask,
    }
}

const LAYERS: [Layer; 5] = [
    layer("64 causal, 32 deep", 64, 32, KeyMask::Causal),
    layer("128 causal", 128, 64, KeyMask::Causal),
    layer("128", 128, 64, KeyMask::None),
    layer("512 causal", 512, 64, KeyMask::Causal),
    layer("512", 512, 64, KeyMask::None),
];

impl Layer {
    /// Multiplications and additions of one product of all scores.
    fn operations(&self) -> usize {
        let seen = match self.mask {
            KeyMask::Causal => self.tokens * (self.tokens + 1) / 2,
            _ => self.tokens * self.tokens,
        };
        2 * HEADS.iter().product::<usize>() * seen * self.depth
    }

    /// Attention and its vjp; heads lie side by side, as a projection leaves them.
    fn primitives(&self) -> [(&'static str, usize, Primitive); 2] {
        let [examples, heads] = HEADS;
        let stored = tensor(&[examples, self.tokens, heads, self.depth]);
        let source = || Source {
            view: View::dense(stored.shape).permute(&[0, 2, 1, 3]),
            tensor: stored.clone(),
        };
        let result = tensor(&[examples, heads, self.tokens, self.depth]);
        let lse = tensor(&[examples, heads, self.tokens]);
        let operands = Heads {
            batch: Shape::new(&HEADS).unwrap(),
            queries: self.tokens,
            keys: self.tokens,
            depth: self.depth,
            width: self.depth,
            scale: (1.0 / (self.depth as f64).sqrt()).to_bits(),
            mask: self.mask.clone(),
            query: Operand::plain(source()),
            key: Operand::plain(source()),
            value: Operand::plain(source()),
        };
        let forward = Attention {
            heads: operands.clone(),
            accumulator: DType::F32,
            space: result.shape,
            epilogue: Body::store(result.clone()),
            lse: lse.clone(),
        };
        let vjp = AttentionVjp {
            heads: operands,
            out: Source::dense(result.clone()),
            lse: Source::dense(lse),
            cotangent: source(),
            results: [result.clone(), result.clone(), result],
        };
        [
            ("output", 2, Primitive::Attention(Box::new(forward))),
            ("vjp", 5, Primitive::AttentionVjp(Box::new(vjp))),
        ]
    }
}

fn layers(criterion: &mut Criterion) {
    for layer in &LAYERS {
        let mut group = criterion.benchmark_group(layer.name);
        for (name, products, primitive) in layer.primitives() {
            group.throughput(Throughput::Elements((products * layer.operations()) as u64));
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
