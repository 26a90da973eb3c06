//! The same bits for any number of threads, on every run, after saving and resuming at any step, and
//! beside any number of other sessions.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics is a test that fails"
)]

use backprop::nn::{BatchNorm, Features, Layer, Linear};
use backprop::optim::{DynamicScale, LossScale, MicroBatches, Rate};
use backprop::prelude::*;
use backprop::{Batches, Partial, Position};

const CLASSES: usize = 10;

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    features: usize,
    width: usize,
}

/// Wide enough for matrix products, sweeps and rows to be split over threads.
const WIDE: Sizes = Sizes {
    batch: 192,
    features: 300,
    width: 257,
};

const SMALL: Sizes = Sizes {
    batch: 9,
    features: 12,
    width: 20,
};

/// A training with everything that keeps state: moments, step counts and means of weights, dropout, a
/// schedule, a loss scale that moves, gradients of two steps added up, running statistics, and the order
/// of the samples.
struct Run {
    session: Session<Cpu>,
    loader: Loader,
    data: (Vec<f32>, Vec<i32>),
    inputs: [Key; 2],
    loss: Key,
    scale: Param,
}

impl Run {
    fn new(sizes: Sizes, seed: u64, cpu: Cpu) -> Run {
        let Sizes {
            batch, features, ..
        } = sizes;
        let g = Graph::with_seed(seed);
        let x = g.input("x", [batch, features], F32);
        let labels = g.input("labels", [batch], I32);
        let scale = DynamicScale::new(
            &g,
            "scale",
            LossScale {
                initial: 2f64.powi(19),
                interval: 2,
                ..LossScale::default()
            },
        );
        let (loss, updates) = step(&g, [x, labels], sizes, scale);
        let samples = 3 * batch + 5;
        let pixel = |i: usize| ((i * 7919 % 1009) as f32 / 504.5) - 1.0;
        let batches = Batches {
            partial: Partial::Wrap,
            ..Batches::shuffled(batch, 7)
        };
        Run {
            session: Session::compile(&g, cpu, &[loss.key()], updates).unwrap(),
            loader: Loader::new(samples, batches).unwrap(),
            data: (
                (0..samples * features).map(pixel).collect(),
                (0..samples).map(|i| (i * 13 % CLASSES) as i32).collect(),
            ),
            inputs: [x.key(), labels.key()],
            loss: loss.key(),
            scale: scale.scale,
        }
    }

    /// The bits of the loss of one step.
    fn step(&mut self) -> u64 {
        let batch = self.loader.next_batch();
        let (mut xs, mut ys) = (Vec::new(), Vec::new());
        batch.gather(&self.data.0, &mut xs).unwrap();
        batch.gather(&self.data.1, &mut ys).unwrap();
        self.session.feed(self.inputs[0], &xs).unwrap();
        self.session.feed(self.inputs[1], &ys).unwrap();
        self.session.step().unwrap();
        let loss = self.session.scalar(self.loss).unwrap();
        assert!(loss.is_finite());
        loss.to_bits()
    }

    /// All that a run is, as the bytes of a file.
    fn save(&self) -> Vec<u8> {
        let made = Checkpoint::of(&self.session).unwrap();
        let made = made.with("loader", self.loader.position());
        made.to_bytes().unwrap()
    }

    fn resume(&mut self, bytes: &[u8]) {
        let saved = Checkpoint::from_bytes(bytes).unwrap();
        let position: Position = saved.get("loader").unwrap();
        self.loader.seek(position).unwrap();
        saved.restore(&mut self.session).unwrap();
    }
}

fn step<'g>(
    g: &'g Graph,
    [x, labels]: [Tensor<'g>; 2],
    sizes: Sizes,
    scale: DynamicScale<'g>,
) -> (Tensor<'g>, Updates) {
    let random = g.random_state("random", 3);
    let linear = |name, input, output| Linear::new(g, name, Features { input, output }, F32);
    let first = linear("first", sizes.features, sizes.width);
    let norm = BatchNorm::new(g, "norm", sizes.width, F32);
    let last = linear("last", sizes.width, CLASSES);
    let middle = g.parameter("middle", [sizes.width; 2], F32, Init::Kaiming);
    let (h, moved) = norm.train(first.forward(x));
    let h = h.gelu().dropout(0.2, random.next_key());
    let h = h.cast(F16).matmul(g.read(middle).cast(F16)).cast(F32);
    let logits = last.forward(h.layer_norm(-1, 1e-5));
    let loss = logits.cross_entropy(labels, CrossEntropy::default());

    let mut all = vec![middle];
    for layer in [first.parameters(), norm.parameters(), last.parameters()] {
        let learnt = |p: &Param| !g.name(*p).contains("running") && !g.name(*p).contains("num_");
        all.extend(layer.into_iter().filter(learnt));
    }
    let grads = g.grad(scale.of(loss), &all).unwrap();
    let updates = optim::accumulate(g, &all, &grads, MicroBatches::mean(2), |grads| {
        scale.updates(grads, |grads| {
            let clipped = optim::clip_by_norm(g, grads, 1.0);
            let options = AdamW {
                lr: Rate::one_cycle(1e-2, 12),
                ..AdamW::default()
            };
            optim::adamw(g, &all, &clipped.gradients, options)
        })
    });
    let averaged = optim::ema(g, &all, updates, 0.9);
    (loss, averaged.updates.and(moved).and(random.updates()))
}

fn cpu(threads: usize) -> Cpu {
    Cpu::builder().threads(threads).build().unwrap()
}

#[test]
fn threads_change_no_bit() {
    let train = |threads| {
        let mut run = Run::new(WIDE, 3, cpu(threads));
        let losses: Vec<u64> = (0..4).map(|_| run.step()).collect();
        (losses, run.save())
    };
    let one = train(1);
    for threads in [1, 2, 3, 4] {
        assert!(train(threads) == one, "{threads} threads");
    }
}

/// Each step is done by a session of its own, that has other initial values and another number of
/// threads, from what the one before it saved.
#[test]
fn a_run_resumed_at_every_step_is_the_run_that_never_stopped() {
    const STEPS: usize = 12;
    let mut whole = Run::new(SMALL, 1, cpu(1));
    let mut saved = whole.save();
    let mut scales = Vec::new();
    for step in 0..STEPS {
        let mut resumed = Run::new(SMALL, 2, cpu(1 + step % 4));
        assert_ne!(resumed.save(), saved);
        resumed.resume(&saved);
        assert!(resumed.save() == saved, "before step {step}");
        assert_eq!(resumed.step(), whole.step(), "step {step}");
        saved = resumed.save();
        assert!(saved == whole.save(), "after step {step}");
        scales.push(whole.session.parameter::<f32>(whole.scale).unwrap()[0]);
    }
    // The run had all that it was to have: a scale that fell and grew, and more than an epoch.
    let moves = |grows: bool| {
        scales
            .windows(2)
            .any(|s| s[0] != s[1] && (s[1] > s[0]) == grows)
    };
    assert!(moves(false) && moves(true), "{scales:?}");
    assert!(whole.loader.position().epoch >= 3);
}

/// Sessions of eight threads, on processors of their own and on one that they share.
#[test]
fn sessions_beside_each_other_are_as_they_are_alone() {
    let shared = cpu(2);
    let train = |i: usize, cpu: Cpu| {
        let sizes = Sizes {
            width: 16 + 3 * i,
            batch: 5 + i,
            ..SMALL
        };
        let mut run = Run::new(sizes, i as u64, cpu);
        let mut seen = Vec::new();
        for _ in 0..4 {
            run.step();
            seen.push(run.save());
        }
        let file = format!("backprop-beside-{i}-{}", std::process::id());
        let file = std::env::temp_dir().join(file);
        run.session.save(&file).unwrap();
        run.session.load(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        run.step();
        seen.push(run.save());
        seen
    };
    let alone: Vec<_> = (0..8).map(|i| train(i, cpu(1))).collect();
    let together = std::thread::scope(|scope| {
        let begin = |i: usize| {
            let own = if i.is_multiple_of(2) {
                shared.clone()
            } else {
                cpu(1 + i % 3)
            };
            scope.spawn(move || train(i, own))
        };
        let begun: Vec<_> = (0..8).map(begin).collect();
        begun
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(together == alone);
}
