//! A training that goes on and on keeps to the memory it began with: 1000 steps as a part of the tests,
//! and as many as `BACKPROP_SOAK_STEPS` says for `cargo xtask soak`.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that panics is a test that fails; this one tells how it goes"
)]

use backprop::Batches;
use backprop::nn::{Features, Layer, Linear};
use backprop::prelude::*;

const BATCH: usize = 32;
const WIDTHS: [usize; 3] = [64, 128, 10];
const SAMPLES: usize = 1000;
/// What resident memory may grow by once it is warm, in KiB: pages that the allocator comes to touch.
/// A leak of 14 bytes a step is more than that over 100,000 steps.
const SLACK: u64 = 1024;

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.unwrap().split_whitespace();
    words.rev().nth(1).unwrap().parse().unwrap()
}

struct Run {
    session: Session<Cpu>,
    evaluation: backprop::PlanId,
    keys: [Key; 3],
}

/// A step with dropout, and a plan that evaluates.
fn compile(cpu: Cpu) -> Run {
    let g = Graph::with_seed(1);
    let random = g.random_state("random", 1);
    let x = g.input("x", [BATCH, WIDTHS[0]], F32);
    let y = g.input("y", [BATCH], I32);
    let layer = |name, input, output| Linear::new(&g, name, Features { input, output }, F32);
    let first = layer("first", WIDTHS[0], WIDTHS[1]);
    let last = layer("last", WIDTHS[1], WIDTHS[2]);
    let hidden = first.forward(x).gelu();
    let read = |hidden: Tensor<'_>| last.forward(hidden).argmax(-1).key();
    let classes = read(hidden);
    let logits = last.forward(hidden.dropout(0.1, random.next_key()));
    let loss = logits.cross_entropy(y, CrossEntropy::default());
    let parameters = [first.parameters(), last.parameters()].concat();
    let gradients = g.grad(loss, &parameters).unwrap();
    let options = AdamW {
        lr: optim::Rate::cosine(1e-3, 100, 100_000),
        ..AdamW::default()
    };
    let updates = optim::adamw(&g, &parameters, &gradients, options);
    let updates = optim::ema(&g, &parameters, updates, 0.999).updates;
    let mut session =
        Session::compile(&g, cpu, &[loss.key()], updates.and(random.updates())).unwrap();
    let evaluation = session.plan(&[classes], Updates::none()).unwrap();
    Run {
        session,
        evaluation,
        keys: [x.key(), y.key(), loss.key()],
    }
}

#[test]
fn memory_stays_flat() {
    let steps = std::env::var("BACKPROP_SOAK_STEPS").map_or(1000, |steps| steps.parse().unwrap());
    let pixels: Vec<f32> = (0..SAMPLES * WIDTHS[0])
        .map(|i| (i * 7919 % 1009) as f32 / 1009.0)
        .collect();
    let labels: Vec<i32> = (0..SAMPLES).map(|i| (i * 13 % 10) as i32).collect();
    let file = std::env::temp_dir().join(format!("backprop-soak-{}", std::process::id()));
    let cpu = Cpu::builder().threads(2).build().unwrap();
    let mut run = compile(cpu.clone());
    let mut loader = Loader::new(SAMPLES, Batches::shuffled(BATCH, 1)).unwrap();
    let (mut xs, mut ys) = (Vec::new(), Vec::new());
    let (mut warm, started) = (0, std::time::Instant::now());
    for step in 1..=steps {
        let [x, y, loss] = run.keys;
        let batch = loader.next_batch();
        batch.gather(&pixels, &mut xs).unwrap();
        batch.gather(&labels, &mut ys).unwrap();
        run.session.feed(x, &xs).unwrap().feed(y, &ys).unwrap();
        run.session.step().unwrap();
        assert!(run.session.scalar(loss).unwrap().is_finite());
        if step % 10 == 0 {
            // An error costs nothing that stays, either.
            assert!(run.session.feed(y, &[99i32; BATCH]).is_err());
            run.session.run(run.evaluation).unwrap();
        }
        if step % (steps / 50) == 0 {
            let made = Checkpoint::of(&run.session).unwrap();
            let made = made.with("loader", loader.position());
            made.write(&file).unwrap();
        }
        // Sessions come and go.
        if step % (steps / 10) == 0 {
            run = compile(cpu.clone());
            let saved = Checkpoint::read(&file).unwrap();
            loader.seek(saved.get("loader").unwrap()).unwrap();
            saved.restore(&mut run.session).unwrap();
        }
        if step == steps / 5 {
            warm = resident();
        }
        if step % (steps / 10) == 0 {
            let seconds = started.elapsed().as_secs_f64();
            println!(
                "{step} steps in {seconds:.1} s: {} KiB resident",
                resident()
            );
        }
    }
    std::fs::remove_file(&file).unwrap();
    let end = resident();
    println!("{warm} KiB after a fifth of {steps} steps, {end} KiB in the end");
    assert!(end <= warm + SLACK, "{warm} KiB grew to {end} KiB");
}
