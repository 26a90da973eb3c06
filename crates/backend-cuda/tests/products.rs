//! Large products, which cuBLASLt computes where it is there: of operands whose products and sums are
//! exact, so that whoever computes them gets the processor's bits.

mod emulator;
mod gpu;

use backprop_core::{Backend, Element};
use backprop_cpu::Cpu;
use backprop_cuda::{Builder, Precision, Products};
use backprop_graph::{Graph, Session};
use half::{bf16, f16};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Multiples of 1/8 up to 1.
fn numbers<T: Element>(count: usize, seed: usize) -> Vec<T> {
    let number = |i: usize| ((i * 7919 + seed * 31 + i / 13) % 17) as f64 / 8.0 - 1.0;
    (0..count).map(|i| T::from_f64(number(i))).collect()
}

/// The elements of several products of `[m, k]` and `[k, n]`, after the second of two steps.
fn products<B: Backend, T: Element>(
    backend: B,
    [m, n, k]: [usize; 3],
) -> Result<Vec<Vec<f64>>, Box<dyn std::error::Error>> {
    let g = Graph::new();
    let shapes = [
        vec![m, k],
        vec![k, n],
        vec![k, m],
        vec![n, k],
        vec![2, m, k],
        vec![2, k, n],
        vec![m, k + 20],
        vec![n],
    ];
    let inputs = shapes.iter().enumerate();
    let inputs = inputs.map(|(i, shape)| g.input(&format!("x{i}"), shape, T::DTYPE));
    let inputs: Vec<_> = inputs.collect();
    let [a, b, at, bt, many, more, wide, bias] = inputs[..] else {
        return Err("other inputs".into());
    };
    let results = [
        a.matmul(b),
        at.t().matmul(b),
        a.matmul(bt.t()),
        at.t().matmul(bt.t()),
        many.matmul(more),
        many.matmul(b),
        // Not at an address that is a multiple of 16.
        wide.narrow(1, 3, k + 3).matmul(b),
        (a.matmul(b) + bias).relu(),
        (a.matmul(b) + bias).relu().sum([0]),
    ];
    let keys = results.map(|result| result.key());
    let mut session = Session::compile(&g, backend, &keys, Default::default())?;
    for step in 0..2 {
        for (i, (input, shape)) in inputs.iter().zip(&shapes).enumerate() {
            session.feed(
                input.key(),
                &numbers::<T>(shape.iter().product(), i + 10 * step),
            )?;
        }
        session.step()?;
    }
    let fetched = keys.iter().map(|&key| {
        Ok(session
            .fetch::<T>(key)?
            .iter()
            .map(|x| x.to_f64())
            .collect())
    });
    fetched.collect()
}

fn agree<T: Element>(test: &str, precision: Precision, sizes: [usize; 3]) -> Outcome {
    let settings = |builder: Builder| builder.precision(precision).products(Products::CuBlas);
    let Some(cuda) = gpu::device_with(test, settings)? else {
        return Ok(());
    };
    let expected = products::<_, T>(Cpu::new()?, sizes)?;
    let got = products::<_, T>(cuda, sizes)?;
    for (number, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let wrong = got.iter().zip(expected).position(|(a, b)| a != b);
        let wrong = wrong.map(|i| (i, got[i], expected[i]));
        assert_eq!(wrong, None, "product {number} of {:?}", T::DTYPE);
    }
    Ok(())
}

/// Just large enough for 16-bit floats, and for the others.
const SMALL: [usize; 3] = [260, 264, 268];
const LARGE: [usize; 3] = [524, 520, 516];

/// Emulated devices have no cuBLASLt.
#[allow(clippy::print_stdout, reason = "a test that cannot run says so")]
fn on_a_gpu(test: &str, run: impl FnOnce() -> Outcome) -> Outcome {
    if gpu::is_required() {
        return run();
    }
    println!("skipped: {test}: cuBLASLt runs on GPUs only");
    Ok(())
}

#[test]
fn in_bf16() -> Outcome {
    let test = "in_bf16";
    on_a_gpu(test, || agree::<bf16>(test, Precision::Strict, SMALL))
}

#[test]
fn in_f16() -> Outcome {
    let test = "in_f16";
    on_a_gpu(test, || agree::<f16>(test, Precision::Strict, SMALL))
}

#[test]
fn in_tf32() -> Outcome {
    let test = "in_tf32";
    on_a_gpu(test, || agree::<f32>(test, Precision::Tf32, LARGE))
}

#[test]
fn in_f32() -> Outcome {
    let test = "in_f32";
    on_a_gpu(test, || agree::<f32>(test, Precision::Strict, LARGE))
}

#[test]
fn in_f64() -> Outcome {
    let test = "in_f64";
    on_a_gpu(test, || agree::<f64>(test, Precision::Strict, LARGE))
}
