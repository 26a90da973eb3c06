//! Programs over points and rows, and matrix products.

use super::Number;
use super::number::points;
use crate::{Body, DType, Inst, MatMul, Operand, Program, Reduction, Rows, Shape, Sink, Source};

/// Runs a program at one point. `input` gives the value of an input there.
fn evaluate(program: &Program, at: &[usize], input: impl Fn(usize) -> Number) -> Vec<Number> {
    let mut registers: Vec<Number> = Vec::with_capacity(program.len());
    for &(inst, dtype) in program.code() {
        let value = match inst {
            Inst::Input(i) => input(usize::from(i)),
            Inst::Constant(bits) => Number::Real(f64::from_bits(bits)),
            Inst::Coordinate(axis) => Number::Whole(at[usize::from(axis)] as i64),
            Inst::Cast(operand) | Inst::Reduce(_, operand) => registers[operand.index()],
            Inst::Apply(function, _) => {
                let operands: Vec<Number> = inst
                    .operands()
                    .iter()
                    .map(|r| registers[r.index()])
                    .collect();
                Number::apply(function, &operands, dtype)
            }
        };
        registers.push(value.round(dtype));
    }
    registers
}

/// A reduction in progress: in `f64`, or in wrapping integers.
pub(super) fn start(reduction: Reduction, dtype: DType) -> Number {
    let (low, high) = match dtype {
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DType::I64 => (i64::MIN, i64::MAX),
        DType::U8 => (0, 255),
        DType::Bool => (0, 1),
        _ => {
            return Number::Real(match reduction {
                Reduction::Sum => 0.0,
                Reduction::Max => f64::NEG_INFINITY,
                Reduction::Min => f64::INFINITY,
            });
        }
    };
    Number::Whole(match reduction {
        Reduction::Sum => 0,
        Reduction::Max => low,
        Reduction::Min => high,
    })
}

pub(super) fn combine(reduction: Reduction, total: Number, value: Number) -> Number {
    match (total, value) {
        (Number::Whole(a), Number::Whole(b)) => Number::Whole(match reduction {
            Reduction::Sum => a.wrapping_add(b),
            Reduction::Max => a.max(b),
            Reduction::Min => a.min(b),
        }),
        (a, b) => {
            let (a, b) = (a.real(), b.real());
            Number::Real(match reduction {
                Reduction::Sum => a + b,
                _ if a.is_nan() => a,
                Reduction::Max => {
                    if a > b {
                        a
                    } else {
                        b
                    }
                }
                Reduction::Min => {
                    if a < b {
                        a
                    } else {
                        b
                    }
                }
            })
        }
    }
}

/// Where each output's value at a point goes, and how it is combined there.
pub(super) fn sweep(
    space: Shape,
    body: &Body,
    reads: &[Vec<Number>],
    accumulator: Option<&[Number]>,
) -> Vec<Vec<Number>> {
    let external = usize::from(accumulator.is_some());
    let mut results: Vec<Vec<Number>> = body
        .outputs
        .iter()
        .map(|output| match output.sink {
            Sink::Store => Vec::with_capacity(space.count()),
            Sink::Concat(_) => vec![Number::Whole(0); output.tensor.shape.count()],
            Sink::Reduce(reduction, _) => {
                vec![start(reduction, output.tensor.dtype); output.tensor.shape.count()]
            }
        })
        .collect();
    for (p, at) in points(space).enumerate() {
        let registers = evaluate(&body.program, &at, |i| match (accumulator, i) {
            (Some(sums), 0) => sums[p],
            _ => reads[i - external][body.inputs[i - external].view.element(&at)],
        });
        for (output, result) in body.outputs.iter().zip(&mut results) {
            let value = registers[output.register.index()];
            match output.sink {
                Sink::Store => result.push(value),
                Sink::Concat(_) => {
                    for (number, register) in output.registers().enumerate() {
                        let place = output.place(space, number).element(&at);
                        result[place] = registers[register.index()];
                    }
                }
                Sink::Reduce(reduction, axes) => {
                    let kept = space.without(axes);
                    let place = (0..space.rank())
                        .filter(|&axis| !axes.contains(axis))
                        .zip(kept.strides())
                        .map(|(axis, stride)| at[axis] * stride as usize)
                        .sum::<usize>();
                    result[place] = combine(reduction, result[place], value);
                }
            }
        }
    }
    for (output, result) in body.outputs.iter().zip(&mut results) {
        for value in result {
            *value = value.round(output.tensor.dtype);
        }
    }
    results
}

pub(super) fn rows(spec: &Rows, reads: &[Vec<Number>]) -> Vec<Vec<Number>> {
    let row_valued = spec.row_valued();
    let place = |at: &[usize]| crate::View::dense(spec.space).element(at);
    let mut results: Vec<Vec<Number>> = spec
        .body
        .outputs
        .iter()
        .map(|o| vec![Number::Whole(0); spec.stored(o.register, &row_valued)])
        .collect();
    let outer = spec.space.without(spec.axes);
    let inner = spec.space.filter(|axis| spec.axes.contains(axis));
    for (r, row) in points(outer).enumerate() {
        let points: Vec<Vec<usize>> = points(inner).map(|at| merge(spec, &row, &at)).collect();
        let registers = evaluate_row(spec, &points, reads);
        for (output, result) in spec.body.outputs.iter().zip(&mut results) {
            let values = &registers[output.register.index()];
            if row_valued[output.register.index()] {
                for (at, value) in points.iter().zip(values) {
                    result[place(at)] = *value;
                }
            } else {
                result[r] = values[0];
            }
        }
    }
    results
}

/// The coordinates of a point from those of its row and those within the row.
fn merge(spec: &Rows, row: &[usize], within: &[usize]) -> Vec<usize> {
    let (mut row, mut within) = (row.iter(), within.iter());
    (0..spec.space.rank())
        .map(|axis| {
            let side = if spec.axes.contains(axis) {
                &mut within
            } else {
                &mut row
            };
            side.next().copied().unwrap_or(0)
        })
        .collect()
}

/// All registers at all points of a row (values that are one a row are repeated).
fn evaluate_row(spec: &Rows, points: &[Vec<usize>], reads: &[Vec<Number>]) -> Vec<Vec<Number>> {
    let mut registers: Vec<Vec<Number>> = Vec::new();
    for &(inst, dtype) in spec.body.program.code() {
        let column = match inst {
            Inst::Reduce(reduction, operand) => {
                let values = registers[operand.index()].iter();
                let total = values.fold(start(reduction, dtype), |t, &v| combine(reduction, t, v));
                vec![total.round(dtype); points.len()]
            }
            _ => (0..points.len())
                .map(|p| {
                    let value = match inst {
                        Inst::Input(i) => {
                            let i = usize::from(i);
                            reads[i][spec.body.inputs[i].view.element(&points[p])]
                        }
                        Inst::Constant(bits) => Number::Real(f64::from_bits(bits)),
                        Inst::Coordinate(axis) => {
                            Number::Whole(points[p][usize::from(axis)] as i64)
                        }
                        Inst::Cast(r) | Inst::Reduce(_, r) => registers[r.index()][p],
                        Inst::Apply(function, _) => {
                            let operands = inst.operands().iter();
                            let operands: Vec<Number> =
                                operands.map(|r| registers[r.index()][p]).collect();
                            Number::apply(function, &operands, dtype)
                        }
                    };
                    value.round(dtype)
                })
                .collect(),
        };
        registers.push(column);
    }
    registers
}

pub(super) fn matmul(spec: &MatMul, reads: &[Vec<Number>]) -> Vec<Vec<Number>> {
    let (left_reads, rest) = reads.split_at(spec.left.inputs.len());
    let (right_reads, epilogue_reads) = rest.split_at(spec.right.inputs.len());
    let operand_space = |rows, columns| -> Shape {
        spec.batch
            .sizes()
            .iter()
            .copied()
            .chain([rows, columns])
            .collect()
    };
    let left = operand(&spec.left, operand_space(spec.m, spec.k), left_reads);
    let right = operand(&spec.right, operand_space(spec.k, spec.n), right_reads);
    let mut sums = Vec::with_capacity(spec.space.count());
    for b in 0..spec.batch.count() {
        for i in 0..spec.m {
            for j in 0..spec.n {
                let mut total = start(Reduction::Sum, spec.accumulator);
                for p in 0..spec.k {
                    let x = left[(b * spec.m + i) * spec.k + p];
                    let y = right[(b * spec.k + p) * spec.n + j];
                    total = combine(Reduction::Sum, total, x.product(y));
                }
                sums.push(total.round(spec.accumulator));
            }
        }
    }
    sweep(spec.space, &spec.epilogue, epilogue_reads, Some(&sums))
}

/// The values of an operand at all points of its space.
pub(super) fn operand(operand: &Operand, space: Shape, reads: &[Vec<Number>]) -> Vec<Number> {
    let visit = |source: &Source, values: &[Number], at: &[usize]| values[source.view.element(at)];
    points(space)
        .filter_map(|at| {
            let input = |i: usize| visit(&operand.inputs[i], &reads[i], &at);
            evaluate(&operand.program, &at, input).last().copied()
        })
        .collect()
}
