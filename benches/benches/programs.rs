//! Elementwise work in machine code beside the same interpreted.
//!
//! The two take turns in one process, so that whatever else the machine does falls on both. Medians
//! are printed, and their ratio.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measures")]

use std::time::{Duration, Instant};

use backprop::Programs;
use backprop::prelude::*;
use backprop_benches::fsrs::{self, Reviews, Sequences};
use backprop_benches::lstm;

/// Elements of the tensors of the sweeps.
const COUNT: usize = 1 << 22;
/// What a round lasts at least, so that short steps are timed many at a time.
const ROUND: Duration = Duration::from_millis(5);
const ROUNDS: usize = 41;

/// A workload: compiles the step to be timed.
type Workload = fn(Cpu) -> Result<Session<Cpu>>;

const WORKLOADS: [(&str, Workload); 4] = [
    (
        "gelu_tanh(x * w + b) * sigmoid(x), gradients, SGD",
        activations,
    ),
    ("AdamW", adamw),
    ("LSTM", |cpu| Ok(lstm::compile(cpu)?.session)),
    ("scalar recurrence", recurrence),
];

fn activations(cpu: Cpu) -> Result<Session<Cpu>> {
    let g = Graph::with_seed(1);
    let x = g.input("x", [COUNT], F32);
    let w = g.parameter(
        "w",
        [COUNT],
        F32,
        Init::Uniform {
            low: -1.0,
            high: 1.0,
        },
    );
    let b = g.parameter("b", [COUNT], F32, Init::Zeros);
    let loss = ((x * w + b).gelu_tanh() * x.sigmoid()).square().mean(..);
    let gradients = g.grad(loss, &[w, b])?;
    let updates = optim::sgd(
        &g,
        &[w, b],
        &gradients,
        Sgd {
            lr: 0.01.into(),
            ..Sgd::default()
        },
    );
    step(&g, cpu, (x, loss), updates)
}

fn adamw(cpu: Cpu) -> Result<Session<Cpu>> {
    let g = Graph::with_seed(1);
    let x = g.input("x", [COUNT], F32);
    let w = g.parameter(
        "w",
        [COUNT],
        F32,
        Init::Uniform {
            low: -1.0,
            high: 1.0,
        },
    );
    let loss = (x * w).mean(..);
    let gradients = g.grad(loss, &[w])?;
    let updates = optim::adamw(&g, &[w], &gradients, AdamW::default());
    step(&g, cpu, (x, loss), updates)
}

fn step(
    g: &Graph,
    cpu: Cpu,
    (x, loss): (Tensor<'_>, Tensor<'_>),
    updates: Updates,
) -> Result<Session<Cpu>> {
    let mut session = Session::compile(g, cpu, &[loss.key()], updates)?;
    let values: Vec<f32> = (0..COUNT)
        .map(|i| (i % 1999) as f32 / 400.0 - 2.5)
        .collect();
    session.feed(x, &values)?;
    Ok(session)
}

fn recurrence(cpu: Cpu) -> Result<Session<Cpu>> {
    let size = Sequences {
        count: 512,
        reviews: 64,
    };
    Ok(fsrs::compile(&Reviews::synthetic(size, 1), cpu)?.session)
}

fn main() -> Result<()> {
    for (name, workload) in WORKLOADS {
        let mut sides = Vec::new();
        let mut compile_times = Vec::new();
        for programs in [Programs::Interpreted, Programs::Compiled] {
            let cpu = Cpu::builder().threads(1).programs(programs).build()?;
            let start = Instant::now();
            sides.push(workload(cpu)?);
            compile_times.push(start.elapsed());
        }
        let start = Instant::now();
        sides[0].step()?;
        let steps = (ROUND.as_nanos() / start.elapsed().as_nanos().max(1)).max(1) as u32;
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            for (session, times) in sides.iter_mut().zip(&mut times) {
                let start = Instant::now();
                for _ in 0..steps {
                    session.step()?;
                }
                times.push(start.elapsed() / steps);
            }
        }
        let [interpreted, compiled] = times.map(median);
        println!(
            "{name}: {:.1} us interpreted, {:.1} us in machine code: {:.2} times as fast \
             (made in {:.1} and {:.1} ms)",
            micros(interpreted),
            micros(compiled),
            interpreted.as_secs_f64() / compiled.as_secs_f64(),
            micros(compile_times[0]) / 1e3,
            micros(compile_times[1]) / 1e3,
        );
    }
    Ok(())
}

/// The middle one of times.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
