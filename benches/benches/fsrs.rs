//! Loss and gradient of a scalar recurrence: the engine beside the same written by hand.
//!
//! The two take turns in one process, so that whatever else the machine does falls on both. Medians
//! are printed, and their ratio.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::print_stdout, reason = "a bench prints what it measures")]

use std::time::{Duration, Instant};

use backprop::prelude::*;
use backprop_benches::fsrs::by_hand::ByHand;
use backprop_benches::fsrs::{self, INITIAL, Reviews, Sequences};

const SIZE: Sequences = Sequences {
    count: 512,
    reviews: 64,
};
/// Rounds, in each of which everybody computes once.
const ROUNDS: usize = 400;

fn main() -> Result<()> {
    let log = Reviews::synthetic(SIZE, 1);
    let mut by_hand = ByHand::new(&log);
    let p = INITIAL.map(|value| value as f32);
    let mut engines = Vec::new();
    let alone = std::env::args().any(|argument| argument == "--alone");
    for threads in if alone { 1..=1 } else { 1..=2 } {
        let cpu = Cpu::builder().threads(threads).build()?;
        engines.push((threads, fsrs::compile(&log, cpu)?));
    }
    if std::env::args().any(|argument| argument == "--plan") {
        println!("{}", engines[0].1.session.plan_text());
    }
    let mut hand_times = Vec::with_capacity(ROUNDS);
    let mut engine_times = vec![Vec::with_capacity(ROUNDS); engines.len()];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        std::hint::black_box(by_hand.gradient(std::hint::black_box(&p)));
        hand_times.push(start.elapsed());
        for ((_, engine), times) in engines.iter_mut().zip(&mut engine_times) {
            let start = Instant::now();
            engine.session.step()?;
            times.push(start.elapsed());
        }
    }
    hand_times.sort_unstable();
    engine_times
        .iter_mut()
        .for_each(|times| times.sort_unstable());
    let hand = median(&hand_times);
    println!("{} reviews of {} sequences", log.scored(), SIZE.count);
    println!(
        "by hand:             {:8.1} us (best {:.1})",
        micros(hand),
        micros(hand_times[0])
    );
    for ((threads, _), times) in engines.iter().zip(&engine_times) {
        let time = median(times);
        let ratios = [(time, hand), (times[0], hand_times[0])];
        let [ratio, best] = ratios.map(|(a, b)| a.as_secs_f64() / b.as_secs_f64());
        println!(
            "engine, {threads} thread(s): {:8.1} us (best {:.1}), {ratio:.2} of that (best {best:.2})",
            micros(time),
            micros(times[0]),
        );
    }
    Ok(())
}

/// The middle one of sorted times.
fn median(times: &[Duration]) -> Duration {
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
