//! The matrix product: from its specification to a prepared kernel.
//!
//! Views become strides, which packing absorbs, so no transpose, slice or broadcast costs a pass of
//! its own. An epilogue runs on finished blocks of sums while they are in cache; where it only
//! stores the sums as they are, the kernel writes them to their place itself. Both give the same
//! bits, as an epilogue sees complete sums only.

mod whole;

use std::fmt::Debug;
use std::ops::Range;

use backprop_core::{
    Body, DType, Error, ErrorKind, Inst, MatMul as Spec, Primitive, Register, Result, Sink, Source,
};
use half::{bf16, f16};

use crate::Level;
use crate::gemm::{self, BatchAxis, Call, Finish, Gemm, Number, Problem, Strides};
use crate::memory::Operands;
use crate::pool::{Pool, Worker};
use crate::sweep::Elementwise;
use whole::Whole;

/// A prepared matrix product.
#[derive(Debug)]
pub(crate) struct MatMul {
    product: Box<dyn Product>,
    accumulator: DType,
    /// Bytes before the element at coordinate zero, of each operand.
    offsets: [usize; 2],
    /// What becomes of the sums; where it is absent they are stored.
    epilogue: Option<Elementwise>,
    /// Elements of the result.
    points: usize,
}

/// A product of matrices of some type, summed in some type.
trait Product: Debug + Send + Sync {
    /// Bytes of scratch memory for a run.
    fn scratch(&self) -> usize;

    /// How many workers the product keeps busy.
    fn workers(&self) -> usize;

    /// One worker's share.
    ///
    /// # Safety
    /// As for [`Gemm::run`].
    unsafe fn run(&self, worker: Worker<'_>, call: &Call<'_, u8, u8>);
}

impl<T: Number, E: gemm::Source<T>> Product for Gemm<T, E> {
    fn scratch(&self) -> usize {
        self.scratch()
    }

    fn workers(&self) -> usize {
        self.workers()
    }

    unsafe fn run(&self, worker: Worker<'_>, call: &Call<'_, u8, u8>) {
        let (left, right, scratch) = (call.left.cast(), call.right.cast(), call.scratch);
        let run = |sink| {
            let call = Call {
                left,
                right,
                scratch,
                sink,
            };
            // SAFETY: the same contract.
            unsafe { self.run(worker, &call) }
        };
        match call.sink {
            gemm::Sink::Store(c) => run(gemm::Sink::Store(c.cast())),
            gemm::Sink::Hand(hand) => {
                run(gemm::Sink::Hand(&|range, sums| hand(range, sums.cast())))
            }
        }
    }
}

/// Whether [`MatMul::new`] can prepare this.
pub(crate) fn supports(spec: &Spec, level: Level) -> bool {
    let Some((left, _)) = spec.plain_operands() else {
        return false;
    };
    let types = (left.tensor.dtype, spec.accumulator);
    let stores = stores_sums(&spec.epilogue, spec.accumulator);
    sums_as(types) && (stores || Elementwise::new(&spec.epilogue, spec.space, 1, level).is_ok())
}

/// Whether products of a type can be summed in another.
fn sums_as((operand, accumulator): (DType, DType)) -> bool {
    match operand {
        DType::F32 | DType::F16 | DType::BF16 => matches!(accumulator, DType::F32 | DType::F64),
        DType::F64 => accumulator == DType::F64,
        _ => !accumulator.is_float(),
    }
}

/// Whether the epilogue stores the sums as they are, and nothing else.
fn stores_sums(epilogue: &Body, accumulator: DType) -> bool {
    let [output] = epilogue.outputs.as_slice() else {
        return false;
    };
    epilogue.program.code() == [(Inst::Input(0), accumulator)]
        && (output.register, output.sink) == (Register(0), Sink::Store)
}

impl MatMul {
    /// Prepares a product for at most so many threads.
    pub(crate) fn new(spec: &Spec, level: Level, threads: usize) -> Result<MatMul> {
        MatMul::prepared(spec, level, threads).map_err(|what| {
            Error::new(ErrorKind::Unsupported {
                backend: format!("cpu ({what})"),
                primitive: Primitive::MatMul(spec.clone()).to_string(),
            })
        })
    }

    fn prepared(spec: &Spec, level: Level, threads: usize) -> Result<MatMul, String> {
        let (left, right) = spec.plain_operands().ok_or("a prologue")?;
        let dtype = left.tensor.dtype;
        if !sums_as((dtype, spec.accumulator)) {
            return Err(format!("{dtype} summed in {}", spec.accumulator));
        }
        let epilogue = if stores_sums(&spec.epilogue, spec.accumulator) {
            None
        } else {
            Some(Elementwise::new(&spec.epilogue, spec.space, 1, level)?)
        };
        let problem = Problem {
            finish: match epilogue {
                None => Finish::Store,
                Some(_) => Finish::Hand,
            },
            level,
            threads,
            ..problem(spec, left, right)
        };
        Ok(MatMul {
            product: product(&problem, dtype, spec.accumulator),
            accumulator: spec.accumulator,
            offsets: [left, right].map(|source| source.view.offset * dtype.size()),
            epilogue,
            points: spec.space.count(),
        })
    }

    /// Bytes of scratch.
    pub(crate) fn scratch(&self) -> usize {
        self.product.scratch()
    }

    /// # Safety
    /// The operands are those of a checked launch of the spec.
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &Operands<'_>) -> Result<()> {
        // SAFETY: handed on; a product for one worker gets one.
        let job = |worker: Worker<'_>| unsafe { self.share(worker, operands) };
        if self.product.workers() == 1 {
            job(Worker::alone());
            Ok(())
        } else {
            pool.run(&job)
        }
    }

    /// One worker's share.
    ///
    /// # Safety
    /// As for [`MatMul::run`], and all workers of the job come here.
    unsafe fn share(&self, worker: Worker<'_>, operands: &Operands<'_>) {
        let multiply = |sink: gemm::Sink<'_, u8>| {
            let call = Call {
                left: operands.read(0).wrapping_add(self.offsets[0]),
                right: operands.read(1).wrapping_add(self.offsets[1]),
                scratch: operands.scratch(),
                sink,
            };
            // SAFETY: by P1 and P4 views stay inside of the operands, and the scratch memory is as
            // large as asked for; by P3 nothing else touches it or the results.
            unsafe { self.product.run(worker, &call) };
        };
        let Some(epilogue) = &self.epilogue else {
            return multiply(gemm::Sink::Store(operands.write(0)));
        };
        // SAFETY: ranges are handed over once, to the worker that has them.
        unsafe {
            epilogue.enter(operands, (2, self.points), |running| {
                multiply(gemm::Sink::Hand(&|range: Range<usize>, sums| {
                    running.run(range, Some((sums, self.accumulator)));
                }));
            });
        }
    }
}

/// The kernel for a pair of types that [`sums_as`] allows.
fn product(problem: &Problem, operand: DType, accumulator: DType) -> Box<dyn Product> {
    match (operand, accumulator) {
        (DType::F32, DType::F32) => Box::new(Gemm::<f32, f32>::new(problem)),
        (DType::F16, DType::F32) => Box::new(Gemm::<f32, f16>::new(problem)),
        (DType::BF16, DType::F32) => Box::new(Gemm::<f32, bf16>::new(problem)),
        (DType::F32, _) => Box::new(Gemm::<f64, f32>::new(problem)),
        (DType::F16, _) => Box::new(Gemm::<f64, f16>::new(problem)),
        (DType::BF16, _) => Box::new(Gemm::<f64, bf16>::new(problem)),
        (DType::F64, _) => Box::new(Gemm::<f64, f64>::new(problem)),
        _ => Box::new(Whole::new(problem, operand, accumulator)),
    }
}

/// The sizes and strides of a product.
fn problem(spec: &Spec, left: &Source, right: &Source) -> Problem {
    let rank = spec.batch.rank();
    let strides = |source: &Source| Strides {
        row: source.view.strides[rank],
        column: source.view.strides[rank + 1],
    };
    let axis = |axis: usize| BatchAxis {
        size: spec.batch.size(axis),
        left: left.view.strides[axis],
        right: right.view.strides[axis],
    };
    let mut problem = Problem {
        batch: (0..rank).map(axis).filter(|axis| axis.size > 1).collect(),
        m: spec.m,
        k: spec.k,
        n: spec.n,
        left: strides(left),
        right: strides(right),
        finish: Finish::Store,
        level: Level::Scalar,
        threads: 1,
    };
    merge_rows(&mut problem);
    problem
}

/// A batch that shares its right operand, and whose left ones lie one below the other, is one
/// taller product.
fn merge_rows(problem: &mut Problem) {
    while let Some(&axis) = problem.batch.last() {
        if problem.m == 1 {
            problem.left.row = axis.left;
        }
        if axis.right != 0 || axis.left != problem.left.row * problem.m as isize {
            break;
        }
        problem.m *= axis.size;
        problem.batch.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(batch: &[(usize, isize, isize)], (m, row): (usize, isize), want: (usize, usize)) {
        let axis = |&(size, left, right): &(usize, isize, isize)| BatchAxis { size, left, right };
        let mut problem = Problem {
            batch: batch.iter().map(axis).collect(),
            m,
            k: 5,
            n: 6,
            left: Strides { row, column: 1 },
            right: Strides { row: 6, column: 1 },
            finish: Finish::Store,
            level: Level::Scalar,
            threads: 1,
        };
        merge_rows(&mut problem);
        assert_eq!((problem.batch.len(), problem.m), want);
    }

    #[test]
    fn batches_with_one_right_operand_are_merged() {
        check(&[(2, 15, 0)], (3, 5), (0, 6));
        check(&[(4, 30, 0), (2, 15, 0)], (3, 5), (0, 24));
        check(&[(4, 30, 7), (2, 15, 0)], (3, 5), (1, 6));
        check(&[(2, 15, 30)], (3, 5), (1, 3));
        check(&[(2, 40, 0)], (3, 5), (1, 3));
        check(&[(7, 40, 0)], (1, 5), (0, 7));
    }
}
