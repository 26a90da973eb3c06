//! Large products by a BLAS library of the system, through the C interface that all of them have: for
//! machines whose library knows instructions that this crate does not. The bits of a sum, and on how
//! many threads it is made, are the library's affair then.

use std::ffi::c_int;

use backprop_core::DType;

use crate::gemm::{Call, Finish, Problem, Product, Sink, Strides};
use crate::pool::Worker;

/// Multiply-adds from which a product is handed to the library.
const LARGE: usize = 1 << 22;

// The values of `CBLAS_ORDER` and `CBLAS_TRANSPOSE`.
const ROW_MAJOR: c_int = 101;
const AS_STORED: c_int = 111;
const TRANSPOSED: c_int = 112;

/// `C = alpha A B + beta C`: order, transposes of A and B, m, n, k, alpha, A and its pitch, B and its
/// pitch, beta, C and its pitch.
type Multiply<T> = unsafe extern "C" fn(
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    T,
    *const T,
    c_int,
    *const T,
    c_int,
    T,
    *mut T,
    c_int,
);

mod library {
    use super::c_int;

    #[cfg_attr(not(target_vendor = "apple"), link(name = "blas"))]
    #[cfg_attr(target_vendor = "apple", link(name = "Accelerate", kind = "framework"))]
    #[rustfmt::skip]
    unsafe extern "C" {
        pub(super) fn cblas_sgemm(
            order: c_int, turn_a: c_int, turn_b: c_int, m: c_int, n: c_int, k: c_int,
            alpha: f32, a: *const f32, lda: c_int, b: *const f32, ldb: c_int,
            beta: f32, c: *mut f32, ldc: c_int,
        );
        pub(super) fn cblas_dgemm(
            order: c_int, turn_a: c_int, turn_b: c_int, m: c_int, n: c_int, k: c_int,
            alpha: f64, a: *const f64, lda: c_int, b: *const f64, ldb: c_int,
            beta: f64, c: *mut f64, ldc: c_int,
        );
    }
}

/// A product that the library computes; the epilogue runs here.
#[derive(Debug)]
pub(super) struct Blas {
    problem: Problem,
    dtype: DType,
    operands: [Stored; 2],
    sizes: [c_int; 3],
}

/// How an operand lies in memory.
#[derive(Debug, Clone, Copy)]
struct Stored {
    turn: c_int,
    pitch: c_int,
}

impl Stored {
    /// Rows or columns that lie one after the other, without overlap.
    fn of(strides: Strides, [rows, columns]: [usize; 2]) -> Option<Stored> {
        let (turn, pitch, length) = match strides {
            Strides { row, column: 1 } => (AS_STORED, row, columns),
            Strides { row: 1, column } => (TRANSPOSED, column, rows),
            _ => return None,
        };
        let pitch = c_int::try_from(pitch).ok()?;
        let fits = usize::try_from(pitch).is_ok_and(|pitch| pitch >= length.max(1));
        fits.then_some(Stored { turn, pitch })
    }
}

impl Blas {
    /// A product of one large matrix by another, of a type that the library knows.
    pub(super) fn new(problem: &Problem, operand: DType, accumulator: DType) -> Option<Blas> {
        let Problem { m, k, n, .. } = *problem;
        let known = operand == accumulator && matches!(operand, DType::F32 | DType::F64);
        if !known || !problem.batch.is_empty() || m * k * n < LARGE {
            return None;
        }
        let size = |size| c_int::try_from(size).ok();
        Some(Blas {
            operands: [
                Stored::of(problem.left, [m, k])?,
                Stored::of(problem.right, [k, n])?,
            ],
            sizes: [size(m)?, size(n)?, size(k)?],
            problem: problem.clone(),
            dtype: operand,
        })
    }

    /// # Safety
    /// The operands are those of the problem, and C has room for the sums.
    unsafe fn multiply<T: From<u8>>(
        &self,
        multiply: Multiply<T>,
        call: &Call<'_, u8, u8>,
        c: *mut u8,
    ) {
        let [m, n, k] = self.sizes;
        let [a, b] = self.operands;
        let (one, zero) = (T::from(1), T::from(0));
        let (left, right) = (call.left.cast(), call.right.cast());
        // SAFETY: sizes and pitches are those of the operands, which the caller promises; with a beta
        // of 0 the library does not read C.
        unsafe {
            multiply(
                ROW_MAJOR,
                a.turn,
                b.turn,
                m,
                n,
                k,
                one,
                left,
                a.pitch,
                right,
                b.pitch,
                zero,
                c.cast(),
                n,
            );
        }
    }
}

impl Product for Blas {
    fn scratch(&self) -> usize {
        match self.problem.finish {
            Finish::Store => 0,
            Finish::Hand => self.problem.m * self.problem.n * self.dtype.size(),
        }
    }

    /// More than one for the epilogue only: the library has threads of its own.
    fn workers(&self) -> usize {
        match self.problem.finish {
            Finish::Store => 1,
            Finish::Hand => self.problem.threads,
        }
    }

    unsafe fn run(&self, worker: Worker<'_>, call: &Call<'_, u8, u8>) {
        let c = match call.sink {
            Sink::Store(c) => c,
            Sink::Hand(_) => call.scratch,
        };
        if worker.id() == 0 {
            // SAFETY: by the caller's promise the operands are the problem's, and C is the result or
            // scratch memory, which no other worker touches before the barrier.
            unsafe {
                match self.dtype {
                    DType::F32 => self.multiply(library::cblas_sgemm, call, c),
                    _ => self.multiply(library::cblas_dgemm, call, c),
                }
            }
        }
        worker.barrier();
        if let Sink::Hand(hand) = call.sink {
            let range = worker.share(self.problem.m * self.problem.n);
            let from = c.wrapping_add(range.start * self.dtype.size());
            if !range.is_empty() {
                hand(range, from);
            }
        }
    }
}
