//! Kernels against the reference backend, at every level of this machine.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use backprop_core::{
    Axes, Body, DType, Indexing, Inst, Output, Piece, Primitive, Program, Random, Reduction,
    Register, Relocate, Rows, Scalar, Shape, Sink, Source, Sweep, TensorType, View,
};
use harness::{check, check_in_place, random_bytes, run, tensor};

fn shape(sizes: &[usize]) -> Shape {
    Shape::new(sizes).unwrap()
}

/// A program under construction.
#[derive(Default)]
struct Code(Program);

impl Code {
    fn push(&mut self, inst: Inst, dtype: DType) -> Register {
        self.0.push(inst, dtype).unwrap()
    }
    fn input(&mut self, input: u16, dtype: DType) -> Register {
        self.push(Inst::Input(input), dtype)
    }
    fn constant(&mut self, value: f64, dtype: DType) -> Register {
        self.push(Inst::Constant(value.to_bits()), dtype)
    }
    /// A function of registers of one type (a choice by truth values apart).
    fn apply(&mut self, function: Scalar, operands: &[Register]) -> Register {
        let types: Vec<DType> = operands.iter().map(|&r| self.0.dtype(r).unwrap()).collect();
        let mut registers = [operands[0]; 3];
        registers[..operands.len()].copy_from_slice(operands);
        let dtype = function.result(&types).unwrap();
        self.push(Inst::Apply(function, registers), dtype)
    }
}

fn stored(register: Register, dtype: DType, sizes: &[usize]) -> Output {
    Output {
        register,
        sink: Sink::Store,
        tensor: tensor(dtype, sizes),
    }
}

fn reduced(
    register: Register,
    dtype: DType,
    reduction: Reduction,
    (space, axes): (Shape, Axes),
) -> Output {
    let tensor = TensorType::dense(dtype, space.without(axes));
    Output {
        register,
        sink: Sink::Reduce(reduction, axes),
        tensor,
    }
}

fn sweep(space: Shape, inputs: Vec<Source>, code: Code, outputs: Vec<Output>) -> Primitive {
    let body = Body {
        inputs,
        program: code.0,
        outputs,
    };
    Primitive::Sweep(Sweep { space, body })
}

fn dense(dtype: DType, sizes: &[usize]) -> Source {
    Source::dense(tensor(dtype, sizes))
}

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
                    for cpu in harness::levels() {
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

/// Subsets of the axes of a space.
fn subsets(rank: usize) -> impl Iterator<Item = Axes> {
    (0..1usize << rank).map(move |bits| (0..rank).filter(|axis| bits >> axis & 1 == 1).collect())
}

#[test]
fn reductions_over_any_axes() {
    let spaces: [&[usize]; 8] = [
        &[1],
        &[7],
        &[3, 5],
        &[130, 9],
        &[9, 300],
        &[2, 70, 33],
        &[3, 1, 5, 4],
        &[70, 3, 70, 2],
    ];
    for dtype in DType::ALL {
        for sizes in spaces {
            let space = shape(sizes);
            for axes in subsets(sizes.len()) {
                for reduction in [Reduction::Sum, Reduction::Max, Reduction::Min] {
                    let mut code = Code::default();
                    let x = code.input(0, dtype);
                    let outputs = vec![reduced(x, dtype, reduction, (space, axes))];
                    let spec = sweep(space, vec![dense(dtype, sizes)], code, outputs);
                    check(&spec, &[random_bytes(dtype, space.count(), (-1.0, 3.0), 1)]);
                }
            }
        }
    }
}

#[test]
fn long_reductions_have_the_same_bits_for_any_number_of_threads_and_fused() {
    for (sizes, axes) in [
        (vec![100_003], Axes::all(1)),
        (vec![3, 40_000], [1].into_iter().collect()),
        (vec![500, 300], [0].into_iter().collect()),
        (vec![500, 300], [1].into_iter().collect()),
        (vec![20, 30, 200], [0, 2].into_iter().collect()),
        (vec![30, 200, 20], [1].into_iter().collect()),
    ] {
        let space = shape(&sizes);
        let x = random_bytes(DType::F32, space.count(), (-1.0, 1.0), 3);
        let sum = |code: &mut Code| {
            let x = code.input(0, DType::F32);
            code.apply(Scalar::Exp, &[x])
        };
        let mut alone = Code::default();
        let y = sum(&mut alone);
        let out = reduced(y, DType::F32, Reduction::Sum, (space, axes));
        let alone = sweep(
            space,
            vec![dense(DType::F32, &sizes)],
            alone,
            vec![out.clone()],
        );
        let mut fused = Code::default();
        let y = sum(&mut fused);
        let bias = fused.input(1, DType::F32);
        let z = fused.apply(Scalar::Mul, &[y, bias]);
        let last = *sizes.last().unwrap();
        let bias = Source {
            tensor: tensor(DType::F32, &[last]),
            view: View::dense(shape(&[last])).broadcast(space),
        };
        let most = reduced(z, DType::F32, Reduction::Max, (space, axes));
        let outputs = vec![out, stored(z, DType::F32, &sizes), most];
        let fused = sweep(space, vec![dense(DType::F32, &sizes), bias], fused, outputs);
        let reads = [x, random_bytes(DType::F32, last, (0.0, 1.0), 4)];
        for cpu in harness::levels() {
            let one = run(&cpu(1), &alone, &reads[..1], &[]);
            let both = run(&cpu(1), &fused, &reads, &[]);
            assert_eq!(one[0], both[0], "fused over {axes} of {space}");
            for threads in [2, 3] {
                assert_eq!(
                    run(&cpu(threads), &alone, &reads[..1], &[]),
                    one,
                    "{threads} threads"
                );
                assert_eq!(
                    run(&cpu(threads), &fused, &reads, &[]),
                    both,
                    "{threads} threads"
                );
            }
        }
        check(&fused, &reads);
    }
}

/// Softmax by rows with its largest value, and a scaled copy.
fn softmax(dtype: DType, space: Shape, axes: Axes) -> Primitive {
    let sizes = space.sizes();
    let mut code = Code::default();
    let x = code.input(0, dtype);
    let top = code.push(Inst::Reduce(Reduction::Max, x), dtype);
    let shifted = code.apply(Scalar::Sub, &[x, top]);
    let e = code.apply(Scalar::Exp, &[shifted]);
    let sum = code.push(Inst::Reduce(Reduction::Sum, e), dtype);
    let log = code.apply(Scalar::Log, &[sum]);
    let y = code.apply(Scalar::Div, &[e, sum]);
    let scale = code.input(1, dtype);
    let scaled = code.apply(Scalar::Mul, &[y, scale]);
    let rows = space.without(axes);
    let outputs = vec![
        stored(y, dtype, sizes),
        stored(log, dtype, rows.sizes()),
        stored(scaled, dtype, sizes),
        stored(sum, dtype, rows.sizes()),
    ];
    // One factor a row, in reverse order.
    let mut strides = [0; backprop_core::MAX_RANK];
    let mut stride = -1;
    for axis in (0..rows.rank()).rev() {
        strides[axis] = stride;
        stride *= rows.size(axis) as isize;
    }
    let view = View {
        shape: space,
        offset: rows.count() - 1,
        strides,
    };
    let factor = Source {
        tensor: TensorType::dense(dtype, rows),
        view,
    };
    let inputs = vec![dense(dtype, sizes), factor];
    let body = Body {
        inputs,
        program: code.0,
        outputs,
    };
    Primitive::Rows(Rows { space, axes, body })
}

#[test]
fn row_programs_of_every_width() {
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        for sizes in [
            &[3, 4, 10][..],
            &[5, 33],
            &[1, 256],
            &[40, 2],
            &[7, 257],
            &[2, 2, 3, 3000],
            &[3, 1, 9000],
        ] {
            let space = shape(sizes);
            for trailing in 1..sizes.len() {
                let axes: Axes = (trailing..sizes.len()).collect();
                if space.filter(|axis| axes.contains(axis)).count() == 1 {
                    continue;
                }
                let reads = [
                    random_bytes(dtype, space.count(), (-3.0, 3.0), 1),
                    random_bytes(dtype, space.without(axes).count(), (0.5, 2.0), 2),
                ];
                check(&softmax(dtype, space, axes), &reads);
            }
        }
    }
}

#[test]
fn a_row_is_summed_as_a_sweep_sums_it() {
    for width in [10, 300, 9001] {
        let (space, axes) = (shape(&[3, width]), Axes::NONE.with(1));
        let x = random_bytes(DType::F32, 3 * width, (-1.0, 1.0), 5);
        let out = |r| Output {
            sink: Sink::Store,
            ..reduced(r, DType::F32, Reduction::Sum, (space, axes))
        };
        let mut code = Code::default();
        let input = code.input(0, DType::F32);
        let sum = code.push(Inst::Reduce(Reduction::Sum, input), DType::F32);
        let body = Body {
            inputs: vec![dense(DType::F32, &[3, width])],
            program: code.0,
            outputs: vec![out(sum)],
        };
        let rows = Primitive::Rows(Rows { space, axes, body });
        let mut code = Code::default();
        let input = code.input(0, DType::F32);
        let outputs = vec![reduced(input, DType::F32, Reduction::Sum, (space, axes))];
        let spec = sweep(space, vec![dense(DType::F32, &[3, width])], code, outputs);
        for cpu in harness::levels() {
            let reads = [x.clone()];
            assert_eq!(
                run(&cpu(2), &rows, &reads, &[]),
                run(&cpu(1), &spec, &reads, &[])
            );
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

fn relocate(pieces: Vec<Piece>, fill: Option<f64>, output: TensorType) -> Primitive {
    Primitive::Relocate(Relocate {
        pieces,
        fill: fill.map(f64::to_bits),
        output,
    })
}

#[test]
fn relocations() {
    for (from, to) in [
        (DType::F32, DType::F32),
        (DType::F64, DType::F64),
        (DType::BF16, DType::BF16),
        (DType::Bool, DType::Bool),
        (DType::F32, DType::F16),
        (DType::I64, DType::F32),
        (DType::F32, DType::I32),
    ] {
        let x = View::dense(shape(&[4, 37, 50]));
        for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2], [2, 0, 1]] {
            let view = x.permute(&order);
            let piece = Piece {
                from: Source {
                    tensor: tensor(from, &[4, 37, 50]),
                    view,
                },
                into: View::dense(view.shape),
            };
            let spec = relocate(vec![piece], None, TensorType::dense(to, view.shape));
            check(
                &spec,
                &[random_bytes(from, x.shape.count(), (-3.0, 9.0), 1)],
            );
        }
        // Two boxes in a frame, one of them reversed.
        let output = View::dense(shape(&[11, 300]));
        let boxed = shape(&[9, 140]);
        let piece = |start: usize, view: View| Piece {
            from: Source {
                tensor: tensor(from, &[9, 140]),
                view,
            },
            into: output.slice(&[1, start], &[1, 1], boxed),
        };
        let plain = View::dense(boxed);
        let reversed = plain.slice(&[8, 139], &[-1, -1], boxed);
        let spec = relocate(
            vec![piece(1, plain), piece(145, reversed)],
            Some(1.0),
            tensor(to, &[11, 300]),
        );
        let reads = [
            random_bytes(from, 1260, (-3.0, 9.0), 1),
            random_bytes(from, 1260, (-3.0, 9.0), 2),
        ];
        check(&spec, &reads);
    }
}

#[test]
fn lookups_in_both_directions() {
    for dtype in DType::ALL {
        for index in [DType::I32, DType::I64] {
            for (outer, rows, inner, count) in [(1, 10, 1, 100), (3, 7, 5, 40), (2, 3, 300, 9)] {
                let spec = Indexing {
                    table: tensor(dtype, &[outer, rows, inner]),
                    indices: tensor(index, &[count]),
                    picked: tensor(dtype, &[outer, count, inner]),
                    outer,
                    rows,
                    inner,
                };
                // Some indices are out of range.
                let indices = random_bytes(index, count, (-2.0, rows as f64 + 1.0), 1);
                let table = random_bytes(dtype, outer * rows * inner, (0.0, 2.0), 2);
                let picked = random_bytes(dtype, outer * count * inner, (0.0, 2.0), 3);
                check(&Primitive::Gather(spec.clone()), &[table, indices.clone()]);
                check(&Primitive::ScatterAdd(spec), &[picked, indices]);
            }
        }
    }
}

#[test]
fn random_numbers_are_those_of_the_reference() {
    for dtype in [DType::F32, DType::F64] {
        for n in [1, 63, 64, 65, 20_000] {
            let spec = Random {
                key: tensor(DType::I64, &[2]),
                output: tensor(dtype, &[n]),
            };
            check(
                &Primitive::Random(spec),
                &[random_bytes(DType::I64, 2, (-1e9, 1e9), n as u64)],
            );
        }
    }
}
