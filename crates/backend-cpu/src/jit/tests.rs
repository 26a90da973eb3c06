//! Loops made from records, against the same functions of plain numbers.

use super::{Encoding, Executable, Op, Tape, Traced, Value, Width, compile};
use crate::Level;
use crate::math;
use crate::simd::{Float, Float32};

/// What this machine has code for.
fn encodings() -> Vec<Encoding> {
    let available = Level::ALL.into_iter().filter(|level| level.is_available());
    let available = available.filter(|_| cfg!(unix));
    available.filter_map(Encoding::of).collect()
}

/// A record of a function of some numbers.
fn record<const N: usize>(
    encoding: Encoding,
    function: impl for<'a> Fn([Traced<'a, f32>; N]) -> Traced<'a, f32>,
) -> Tape {
    let tape = Tape::new(encoding, Width::Single);
    let values: [Value; N] = std::array::from_fn(|i| tape.push(Op::Load(i as u32)));
    let result = function(values.map(|value| Traced::new(&tape, value)));
    tape.push(Op::Store(N as u32, result.value()));
    assert!(!tape.take_refused());
    tape
}

/// The function of some numbers by code of each kind that this machine runs.
fn results<const N: usize>(
    function: impl for<'a> Fn([Traced<'a, f32>; N]) -> Traced<'a, f32>,
    operands: [&[f32]; N],
) -> Vec<Vec<f32>> {
    let codes = encodings().into_iter().map(|encoding| {
        let code = compile(&record(encoding, &function));
        code.expect("the system refuses")
    });
    codes.map(|code| run(&code, operands)).collect()
}

/// Runs code on as many numbers for each operand.
fn run<const N: usize>(code: &Executable, operands: [&[f32]; N]) -> Vec<f32> {
    let n = operands[0].len();
    assert!(n > 0 && n.is_multiple_of(16) && operands.iter().all(|x| x.len() == n));
    let mut result = vec![0.0f32; n];
    let mut table: Vec<*mut u8> = Vec::new();
    table.extend(operands.iter().map(|x| x.as_ptr().cast_mut().cast::<u8>()));
    table.push(result.as_mut_ptr().cast());
    // SAFETY: the level is available, or there were no code; each stream has `n` elements, and only
    // the result is written.
    unsafe { code.run(table.as_ptr(), n) };
    result
}

fn samples() -> Vec<f32> {
    let ordinary = (0..280).map(|i| (i - 136) as f32 * 0.173);
    let special = [
        0.0,
        -0.0,
        1e-42,
        3e38,
        -3e38,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    ordinary.chain(special).collect()
}

#[test]
fn recorded_functions_are_those_of_single_lanes() {
    macro_rules! check {
        ($($function:expr),*) => { $({
            let x = samples();
            for y in results(|[x]: [Traced<'_, f32>; 1]| $function(x), [&x]) {
                for (x, y) in x.iter().zip(y) {
                    let expected: f32 = $function(*x);
                    let same = y.to_bits() == expected.to_bits() || y.is_nan() && expected.is_nan();
                    assert!(same, "{} of {x} is {y}, not {expected}", stringify!($function));
                }
            }
        })* };
    }
    check!(
        math::exp,
        math::log,
        math::tanh,
        math::sigmoid,
        math::erf,
        math::softplus,
        math::log1p
    );
    check!(math::exp2, math::expm1, math::log2, math::log10);
}

/// More values at a time than there are registers: each is wanted again after all have been made.
fn crowd<V: Float32>(x: V) -> V {
    let all: Vec<V> = (1..40).map(|i| x.mul_add(x.like(i as f32), x)).collect();
    let forth = all.iter().fold(x, |sum, &y| sum.mul_add(x.like(0.5), y));
    let back = all.iter().rev().fold(x, |sum, &y| y.mul_add(x, sum));
    all.iter().fold(forth.div(back), |sum, &y| y.sub(sum))
}

#[test]
fn values_without_a_register_wait_in_the_frame() {
    let x = &samples()[..272];
    for got in results(|[x]: [Traced<'_, f32>; 1]| crowd(x), [x]) {
        for (&x, got) in x.iter().zip(got) {
            assert_eq!(crowd(x).to_bits(), got.to_bits(), "{x}");
        }
    }
}

/// Each operand of a fused multiply-add may be the one that is overwritten, or none.
#[test]
fn fused_products_overwrite_only_what_is_not_wanted() {
    fn keep<V: Float>(kept: u32, [a, b, c]: [V; 3]) -> V {
        let sum = a.mul_add(b, c);
        [a, b, c].into_iter().enumerate().fold(sum, |sum, (i, x)| {
            if kept >> i & 1 == 1 { sum.sub(x) } else { sum }
        })
    }
    let x: Vec<f32> = (0..64).map(|i| (i - 30) as f32 * 0.7).collect();
    let [y, z] = [1.3, -0.2].map(|by| x.iter().map(|x| x * by + 1.0).collect::<Vec<f32>>());
    for kept in 0..8 {
        for got in results(|x: [Traced<'_, f32>; 3]| keep(kept, x), [&x, &y, &z]) {
            for (i, got) in got.into_iter().enumerate() {
                assert_eq!(got, keep(kept, [x[i], y[i], z[i]]), "{kept:b}, {i}");
            }
        }
    }
}

#[test]
fn what_looks_at_values_is_not_recorded() {
    let tape = Tape::new(Encoding::Vex, Width::Single);
    let x = Traced::<f32>::new(&tape, tape.push(Op::Load(0)));
    math::sin(x);
    assert!(tape.take_refused());
    math::exp(x);
    assert!(!tape.take_refused());
    let len = tape.len();
    assert_eq!(math::exp(x).value(), math::exp(x).value());
    assert_eq!(tape.len(), len, "what is the same is written once");
    tape.truncate(1);
    assert_eq!(tape.len(), 1);
}
