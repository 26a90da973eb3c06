//! Sweeps without reductions against the reference, at every level of this machine.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use backprop_core::{DType, Inst, Primitive, Register, Scalar, Source, View};
use harness::program::{Code, dense, shape, stored, sweep};
use harness::{check, check_in_place, element, levels, random_bytes, run, tensor};

/// Types that a function takes.
fn types_of(function: Scalar) -> Vec<Vec<DType>> {
    let all = DType::ALL.into_iter().map(|dtype| {
        let mut types = vec![dtype; function.arity()];
        if function == Scalar::Where {
            types[0] = DType::Bool;
        }
        types
    });
    all.filter(|types| function.result(types).is_some())
        .collect()
}

#[test]
fn every_function_of_every_type_at_every_length() {
    for &function in Scalar::ALL {
        for types in types_of(function) {
            for n in [1, 5, 16, 31, 255, 256, 257, 600] {
                let mut code = Code::default();
                let operands: Vec<Register> = types
                    .iter()
                    .enumerate()
                    .map(|(i, &dtype)| code.input(i as u16, dtype))
                    .collect();
                let y = code.apply(function, &operands);
                let dtype = function.result(&types).unwrap();
                let inputs: Vec<Source> = types.iter().map(|&dtype| dense(dtype, &[n])).collect();
                let spec = sweep(shape(&[n]), inputs, code, vec![stored(y, dtype, &[n])]);
                let reads: Vec<Vec<u8>> = types
                    .iter()
                    .enumerate()
                    .map(|(i, &dtype)| random_bytes(dtype, n, function.domain(), i as u64))
                    .collect();
                check(&spec, &reads);
            }
        }
    }
}

#[test]
fn special_values_give_their_limits() {
    let special = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        1e-42,
        -1e-42,
        3e38,
        -3e38,
        1.0,
        -1.0,
        89.0,
        -104.0,
        0.5,
        -2.5,
        2.0,
    ];
    let n = special.len() * special.len();
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let bytes = |pick: &dyn Fn(usize) -> f64| -> Vec<u8> {
            (0..n).flat_map(|i| element(dtype, pick(i))).collect()
        };
        let reads = [
            bytes(&|i| special[i % special.len()]),
            bytes(&|i| special[i / special.len()]),
            bytes(&|i| special[(i + i / special.len()) % special.len()]),
        ];
        for &function in Scalar::ALL {
            if function != Scalar::Where
                && function.result(&vec![dtype; function.arity()]) == Some(dtype)
            {
                check(&single(function, dtype, n), &reads[..function.arity()]);
            }
        }
    }
}

#[test]
fn casts_between_all_types() {
    for from in DType::ALL {
        for to in DType::ALL {
            let mut code = Code::default();
            let x = code.input(0, from);
            let y = code.push(Inst::Cast(x), to);
            let spec = sweep(
                shape(&[300]),
                vec![dense(from, &[300])],
                code,
                vec![stored(y, to, &[300])],
            );
            check(&spec, &[random_bytes(from, 300, (-4.0, 300.0), 1)]);
        }
    }
}

/// `outer(inner(x, y), z)`, or `outer(z, inner(x, y))`, of tensors of one type.
fn pair(dtype: DType, n: usize, (inner, outer, swapped): (Scalar, Scalar, usize)) -> Primitive {
    let mut code = Code::default();
    let inputs: Vec<Register> = (0..3).map(|i| code.input(i, dtype)).collect();
    let first = code.apply(inner, &inputs[..inner.arity()]);
    let mut operands = [first, inputs[2]];
    operands[..outer.arity()].rotate_left(swapped % outer.arity());
    let y = code.apply(outer, &operands[..outer.arity()]);
    let outputs = vec![stored(y, dtype, &[n])];
    sweep(
        shape(&[n]),
        (0..3).map(|_| dense(dtype, &[n])).collect(),
        code,
        outputs,
    )
}

fn single(function: Scalar, dtype: DType, n: usize) -> Primitive {
    let mut code = Code::default();
    let inputs: Vec<Register> = (0..function.arity())
        .map(|i| code.input(i as u16, dtype))
        .collect();
    let y = code.apply(function, &inputs);
    let inputs = inputs.iter().map(|_| dense(dtype, &[n])).collect();
    sweep(shape(&[n]), inputs, code, vec![stored(y, dtype, &[n])])
}

#[test]
fn fused_programs_have_the_bits_of_separate_launches() {
    use Scalar::{Add, Div, Erf, Exp, Mul, Sigmoid, Square, Sub, Tanh};
    let n = 300;
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let reads: Vec<Vec<u8>> = (1..4)
            .map(|seed| random_bytes(dtype, n, (-2.0, 2.0), seed))
            .collect();
        for inner in [Add, Sub, Mul, Div, Square, Exp, Tanh, Sigmoid, Erf] {
            for outer in [Add, Sub, Mul, Div, Exp, Tanh, Sigmoid, Erf] {
                for swapped in [0, 1] {
                    for cpu in levels() {
                        let cpu = cpu(1);
                        let fused = pair(dtype, n, (inner, outer, swapped));
                        let first =
                            run(&cpu, &single(inner, dtype, n), &reads[..inner.arity()], &[]);
                        let mut operands = [first[0].clone(), reads[2].clone()];
                        operands[..outer.arity()].rotate_left(swapped % outer.arity());
                        let second = run(
                            &cpu,
                            &single(outer, dtype, n),
                            &operands[..outer.arity()],
                            &[],
                        );
                        assert_eq!(
                            run(&cpu, &fused, &reads, &[]),
                            second,
                            "{inner:?} in {outer:?} at {cpu:?}"
                        );
                        for taken in [(0, 0), (0, 2)] {
                            assert_eq!(run(&cpu, &fused, &reads, &[taken]), second, "in place");
                        }
                    }
                }
            }
        }
    }
}

/// Views of a tensor of the given type from a space of `[3, 40, 17]`.
fn views(dtype: DType) -> Vec<Source> {
    let space = shape(&[3, 40, 17]);
    let of = |sizes: &[usize], view: View| Source {
        tensor: tensor(dtype, sizes),
        view,
    };
    let dense = |sizes: &[usize]| View::dense(shape(sizes));
    vec![
        of(&[3, 40, 17], dense(&[3, 40, 17])),
        of(&[17], dense(&[17]).broadcast(space)),
        of(&[40, 1], dense(&[40, 1]).broadcast(space)),
        of(&[3, 1, 17], dense(&[3, 1, 17]).broadcast(space)),
        of(&[1], View::splat(space)),
        of(&[17, 40, 3], dense(&[17, 40, 3]).permute(&[2, 1, 0])),
        of(&[3, 17, 40], dense(&[3, 17, 40]).permute(&[0, 2, 1])),
        of(
            &[4, 41, 40],
            dense(&[4, 41, 40]).slice(&[1, 0, 36], &[1, 1, -2], space),
        ),
        of(
            &[5, 40, 17],
            dense(&[5, 40, 17]).slice(&[2, 0, 0], &[1, 1, 1], space),
        ),
    ]
}

#[test]
fn every_kind_of_view() {
    let space = shape(&[3, 40, 17]);
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::I32, DType::U8] {
        for source in views(dtype) {
            let mut code = Code::default();
            let (a, b) = (code.input(0, dtype), code.input(1, dtype));
            let two = code.constant(2.0, dtype);
            let sum = code.apply(Scalar::Add, &[a, b]);
            let product = code.apply(Scalar::Mul, &[sum, two]);
            let outputs = vec![
                stored(product, dtype, &[3, 40, 17]),
                stored(a, dtype, &[3, 40, 17]),
            ];
            let elements = source.tensor.shape.count();
            let reads = [
                random_bytes(dtype, elements, (0.0, 9.0), 1),
                random_bytes(dtype, space.count(), (0.0, 9.0), 2),
            ];
            check(
                &sweep(
                    space,
                    vec![source, dense(dtype, &[3, 40, 17])],
                    code,
                    outputs,
                ),
                &reads,
            );
        }
    }
}

#[test]
fn coordinates_make_masks_and_one_hot_rows() {
    let space = shape(&[5, 67]);
    let mut code = Code::default();
    let (row, column) = (
        code.push(Inst::Coordinate(0), DType::I64),
        code.push(Inst::Coordinate(1), DType::I64),
    );
    let label = code.input(0, DType::I32);
    let label = code.push(Inst::Cast(label), DType::I64);
    let hot = code.apply(Scalar::Eq, &[label, column]);
    let causal = code.apply(Scalar::Le, &[column, row]);
    let either = code.apply(Scalar::Or, &[hot, causal]);
    let neither = code.apply(Scalar::Not, &[either]);
    let (x, low) = (code.input(1, DType::F32), code.constant(-1e30, DType::F32));
    let masked = code.apply(Scalar::Where, &[causal, x, low]);
    let outputs = vec![
        stored(neither, DType::Bool, &[5, 67]),
        stored(masked, DType::F32, &[5, 67]),
        stored(row, DType::I64, &[5, 67]),
    ];
    let labels = Source {
        tensor: tensor(DType::I32, &[5, 1]),
        view: View::dense(shape(&[5, 1])).broadcast(space),
    };
    let spec = sweep(
        space,
        vec![labels, dense(DType::F32, &[5, 67])],
        code,
        outputs,
    );
    check(
        &spec,
        &[
            random_bytes(DType::I32, 5, (0.0, 66.0), 1),
            random_bytes(DType::F32, 335, (-1.0, 1.0), 2),
        ],
    );
}

#[test]
fn results_may_take_the_place_of_inputs() {
    for dtype in [DType::F32, DType::F64, DType::F16, DType::I64, DType::U8] {
        for n in [1, 300, 1000] {
            let mut code = Code::default();
            let (a, b) = (code.input(0, dtype), code.input(1, dtype));
            let sum = code.apply(Scalar::Add, &[a, b]);
            let difference = code.apply(Scalar::Sub, &[a, b]);
            let outputs = vec![stored(sum, dtype, &[n]), stored(difference, dtype, &[n])];
            let inputs = vec![dense(dtype, &[n]), dense(dtype, &[n])];
            let spec = sweep(shape(&[n]), inputs, code, outputs);
            let reads = [
                random_bytes(dtype, n, (0.0, 9.0), 1),
                random_bytes(dtype, n, (0.0, 9.0), 2),
            ];
            check_in_place(&spec, &reads, &[(0, 0), (1, 1)]);
            check_in_place(&spec, &reads, &[(0, 1), (1, 0)]);
        }
    }
}

#[test]
fn programs_of_many_values_use_scratch_memory() {
    let mut code = Code::default();
    let n = 1000;
    let x = code.input(0, DType::F64);
    let mut powers = vec![x];
    for _ in 0..60 {
        let next = code.apply(Scalar::Sin, &[powers[powers.len() - 1]]);
        powers.push(next);
    }
    let mut sum = powers[0];
    for power in &powers[1..] {
        sum = code.apply(Scalar::Add, &[sum, *power]);
    }
    let spec = sweep(
        shape(&[n]),
        vec![dense(DType::F64, &[n])],
        code,
        vec![stored(sum, DType::F64, &[n])],
    );
    check(&spec, &[random_bytes(DType::F64, n, (-1.0, 1.0), 1)]);
}
