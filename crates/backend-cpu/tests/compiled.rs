//! Machine code against the interpreter: the same bits.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use backprop_core::{DType, Inst, Primitive, Register, Scalar, Source, View};
use backprop_cpu::{Cpu, Level, Programs};
use harness::program::{Code, dense, shape, stored, sweep};
use harness::{element, random_bytes, run, tensor};

/// Both ways to run programs, at every level for which there is machine code here.
fn backends() -> Vec<[Cpu; 2]> {
    let levels = [Level::Avx2, Level::Avx512];
    let available = levels.into_iter().filter(|level| level.is_available());
    let built = available.map(|level| {
        [Programs::Interpreted, Programs::Compiled].map(|programs| {
            let builder = Cpu::builder().level(level).programs(programs);
            builder.threads(1).build().unwrap()
        })
    });
    built.collect()
}

/// The bits of each element, all NaN taken for one.
fn bits(dtype: DType, bytes: &[u8]) -> Vec<u64> {
    let words = bytes.chunks(dtype.size()).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    let same = |bits: u64| match dtype {
        DType::F32 if f32::from_bits(bits as u32).is_nan() => u64::MAX,
        DType::F64 if f64::from_bits(bits).is_nan() => u64::MAX,
        _ => bits,
    };
    words.map(same).collect()
}

#[track_caller]
fn check(spec: &Primitive, reads: &[Vec<u8>], taken: &[(usize, usize)]) {
    for [interpreted, compiled] in backends() {
        let expected = run(&interpreted, spec, reads, taken);
        let got = run(&compiled, spec, reads, taken);
        for ((tensor, got), expected) in spec.writes().into_iter().zip(&got).zip(&expected) {
            let (got, expected) = (bits(tensor.dtype, got), bits(tensor.dtype, expected));
            for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
                assert_eq!(g, e, "{g:#x} for {e:#x}: element {i} of {spec}");
            }
        }
    }
}

/// Numbers that operations treat specially, then ordinary ones of all magnitudes.
fn numbers(dtype: DType, n: usize, seed: u64) -> Vec<u8> {
    let special = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        1e-42,
        -1e-42,
        1e-310,
        3e38,
        -3e38,
        1.0,
        -1.0,
        89.0,
        -104.0,
        0.5,
        -2.5,
        1e-38,
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(seed | 1);
        state >> 33
    };
    let number = |_| {
        let x = next();
        let size =
            (next() as f64 / (1u64 << 31) as f64 - 0.5) * if x % 3 == 0 { 120.0 } else { 6.0 };
        match x % 4 {
            0 => special[next() as usize % special.len()],
            1 => size.exp2() * if x % 8 < 4 { 1.0 } else { -1.0 },
            _ => size,
        }
    };
    (0..n).map(number).flat_map(|x| element(dtype, x)).collect()
}

/// Functions that take operands of a type, truth values apart.
fn functions(dtype: DType) -> impl Iterator<Item = Scalar> {
    let fits = move |&function: &Scalar| {
        function != Scalar::Where && function.result(&vec![dtype; function.arity()]).is_some()
    };
    Scalar::ALL.iter().copied().filter(fits)
}

/// A function of sums, so that there are at least two steps.
fn of_sums(function: Scalar, dtype: DType, n: usize) -> Primitive {
    let mut code = Code::default();
    let operands: Vec<Register> = (0..function.arity())
        .map(|i| {
            let (a, b) = (
                code.input(2 * i as u16, dtype),
                code.input(2 * i as u16 + 1, dtype),
            );
            let smaller = code.apply(Scalar::Min, &[a, b]);
            code.apply(Scalar::Neg, &[smaller])
        })
        .collect();
    let y = code.apply(function, &operands);
    let result = function.result(&vec![dtype; function.arity()]).unwrap();
    let inputs = (0..2 * function.arity())
        .map(|_| dense(dtype, &[n]))
        .collect();
    let outputs = vec![stored(y, result, &[n]), stored(operands[0], dtype, &[n])];
    sweep(shape(&[n]), inputs, code, outputs)
}

#[test]
fn every_function_has_the_bits_of_the_interpreter() {
    for dtype in [DType::F32, DType::F64] {
        for function in functions(dtype) {
            for n in [64, 67, 255, 256, 2000] {
                let reads: Vec<Vec<u8>> = (0..2 * function.arity() as u64)
                    .map(|seed| numbers(dtype, n, 7 * seed + n as u64))
                    .collect();
                check(&of_sums(function, dtype, n), &reads, &[]);
            }
        }
    }
}

#[test]
fn every_length_ends_where_it_should() {
    for dtype in [DType::F32, DType::F64] {
        for n in 64..=140 {
            let reads = [numbers(dtype, n, 1), numbers(dtype, n, 2)];
            check(&of_sums(Scalar::Sqrt, dtype, n), &reads, &[]);
            check(&of_sums(Scalar::Abs, dtype, n), &reads, &[(0, 0), (1, 1)]);
            check(&of_sums(Scalar::Abs, dtype, n), &reads, &[(0, 1), (1, 0)]);
        }
    }
}

/// Draws indices.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % n
    }
}

/// A program of numbers and truth values over views of three tensors.
fn random_program(seed: u64, dtype: DType) -> (Primitive, Vec<Vec<u8>>) {
    let mut draw = Draw(seed);
    let sizes = [3 + draw.below(4), 30 + draw.below(60)];
    let (space, n) = (shape(&sizes), sizes[0] * sizes[1]);
    let row = View::dense(shape(&sizes[1..])).broadcast(space);
    let source = |sizes: &[usize], view| Source {
        tensor: tensor(dtype, sizes),
        view,
    };
    let inputs = vec![
        dense(dtype, &sizes),
        dense(dtype, &sizes),
        source(&sizes[1..], row),
        source(&[1], View::splat(space)),
        dense(DType::Bool, &sizes),
    ];
    let reads = vec![
        numbers(dtype, n, seed),
        numbers(dtype, n, seed + 1),
        numbers(dtype, sizes[1], seed + 2),
        numbers(dtype, 1, seed + 3),
        random_bytes(DType::Bool, n, (0.0, 1.0), seed),
    ];
    let mut code = Code::default();
    let mut known: Vec<Register> = (0..4).map(|i| code.input(i, dtype)).collect();
    known.push(code.constant(1.5, dtype));
    let mut truths = vec![code.input(4, DType::Bool)];
    let of_numbers: Vec<Scalar> = functions(dtype).collect();
    for _ in 0..5 + draw.below(60) {
        let mut any = |from: &[Register]| from[draw.below(from.len())];
        let operands = [any(&known), any(&known), any(&known)];
        let truth = [any(&truths), any(&truths)];
        match draw.below(8) {
            0 => known.push(code.apply(Scalar::Where, &[truth[0], operands[0], operands[1]])),
            1 => truths.push(code.apply(Scalar::Or, &truth)),
            2 => truths.push(code.apply(Scalar::Not, &truth[..1])),
            3 => known.push(code.push(Inst::Cast(truth[0]), dtype)),
            4 => truths.push(code.push(Inst::Cast(operands[0]), DType::Bool)),
            _ => {
                let function = of_numbers[draw.below(of_numbers.len())];
                let y = code.apply(function, &operands[..function.arity()]);
                let is_truth = code.0.dtype(y) == Some(DType::Bool);
                if is_truth { &mut truths } else { &mut known }.push(y);
            }
        }
    }
    let last = |of: &[Register]| of[of.len() - 1];
    let outputs = vec![
        stored(last(&known), dtype, &sizes),
        stored(known[known.len() / 2], dtype, &sizes),
        stored(last(&truths), DType::Bool, &sizes),
    ];
    (sweep(space, inputs, code, outputs), reads)
}

#[test]
fn random_programs_have_the_bits_of_the_interpreter() {
    for dtype in [DType::F32, DType::F64] {
        for seed in 0..300 {
            let (spec, reads) = random_program(seed, dtype);
            check(&spec, &reads, &[]);
        }
    }
}
