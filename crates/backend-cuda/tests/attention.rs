//! Attention on tensor cores, for which operands are rounded to 11 bits, beside the processor's.

mod emulator;
mod gpu;

use backprop_core::{Backend, DType};
use backprop_cpu::Cpu;
use backprop_cuda::Precision;
use backprop_graph::{Graph, Mask, Session, Updates};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Queries, keys, heads, and how wide these are. No tile comes out even.
const QUERIES: usize = 180;
const KEYS: usize = 184;
const HEADS: usize = 4;
const DEPTH: usize = 72;
const WIDTH: usize = 60;

#[derive(Clone, Copy, Debug)]
enum Masked {
    No,
    Causal,
    Where,
}

/// Values between -1 and 1 that look like nothing.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The result and the gradients of queries, keys and values.
fn results<B: Backend>(
    backend: B,
    masked: Masked,
) -> Result<Vec<Vec<f32>>, Box<dyn std::error::Error>> {
    let g = Graph::new();
    let input = |name, rows, columns| g.input(name, [HEADS, rows, columns], DType::F32);
    let (q, k) = (input("q", QUERIES, DEPTH), input("k", KEYS, DEPTH));
    let (v, c) = (input("v", KEYS, WIDTH), input("c", QUERIES, WIDTH));
    let seen = g.input("seen", [QUERIES, KEYS], DType::Bool);
    let mask = match masked {
        Masked::No => Mask::None,
        Masked::Causal => Mask::Causal,
        Masked::Where => Mask::Where(seen),
    };
    let result = q.attention(k, v, mask);
    let loss = (result * c).sum([0, 1, 2]);
    let grads = g.grad(loss, &[q, k, v])?;
    let fetched = [result, grads[0], grads[1], grads[2]].map(|t| t.key());
    let [q, k, v, c, seen] = [q, k, v, c, seen].map(|t| t.key());
    let mut session = Session::compile(&g, backend, &fetched, Updates::none())?;
    session.feed(q, &noise(HEADS * QUERIES * DEPTH, 1))?;
    session.feed(k, &noise(HEADS * KEYS * DEPTH, 2))?;
    session.feed(v, &noise(HEADS * KEYS * WIDTH, 3))?;
    session.feed(c, &noise(HEADS * QUERIES * WIDTH, 4))?;
    if let Masked::Where = masked {
        let seen_by: Vec<bool> = (0..QUERIES * KEYS).map(|i| i * 7 % 11 < 6).collect();
        session.feed(seen, &seen_by)?;
    }
    session.step()?;
    let all = fetched.iter().map(|&key| session.fetch::<f32>(key));
    Ok(all.collect::<Result<_, _>>()?)
}

#[test]
fn tensor_cores_give_what_is_meant_to_eleven_bits() -> Outcome {
    let test = module_path!();
    let Some(cuda) = gpu::device_with(test, |builder| builder.precision(Precision::Tf32))? else {
        return Ok(());
    };
    for masked in [Masked::No, Masked::Causal, Masked::Where] {
        let got = results(cuda.clone(), masked)?;
        let expected = results(Cpu::new()?, masked)?;
        for (number, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let pairs = got.iter().zip(expected);
            let off: f64 = pairs.map(|(g, e)| f64::from(g - e).powi(2)).sum();
            let size: f64 = expected.iter().map(|e| f64::from(*e).powi(2)).sum();
            let off = (off / size).sqrt();
            // Not so near that nothing was rounded, nor further than rounding leads.
            let fits = 1e-5 < off && off < 1e-3;
            assert!(fits, "{masked:?}: result {number} is off by {off:e}");
        }
    }
    Ok(())
}
