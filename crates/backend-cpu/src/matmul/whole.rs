//! Products of integers and truth values: rare in training, so a plain loop.

use std::ops::Range;

use backprop_core::DType;

use crate::gemm::{Call, Problem, Product, Sink};
use crate::memory::LINE;
use crate::pool::Worker;

/// Multiply-adds of a plain loop that are worth another worker.
const GRAIN: usize = 1 << 15;

/// A prepared product. Sums wrap in 64 bits, and are cut to the accumulator's type at the end,
/// which comes to the same as wrapping in that type all along.
#[derive(Debug)]
pub(super) struct Whole {
    problem: Problem,
    operand: DType,
    accumulator: DType,
}

impl Whole {
    pub(super) fn new(problem: &Problem, operand: DType, accumulator: DType) -> Self {
        Self {
            problem: problem.clone(),
            operand,
            accumulator,
        }
    }

    fn rows(&self) -> usize {
        let batch = self.problem.batch.iter().map(|axis| axis.size);
        batch.product::<usize>() * self.problem.m
    }

    /// Bytes of scratch memory of a worker: sums, and the same in the accumulator's type.
    fn row_bytes(&self) -> usize {
        let n = self.problem.n;
        (n * size_of::<i64>()).next_multiple_of(LINE)
            + (n * self.accumulator.size()).next_multiple_of(LINE)
    }

    /// The elements where a row of the left operand and its right operand begin.
    fn origins(&self, row: usize) -> (isize, isize) {
        let (mut rest, row) = (row / self.problem.m, row % self.problem.m);
        let (mut left, mut right) = (row as isize * self.problem.left.row, 0);
        for axis in self.problem.batch.iter().rev() {
            let at = (rest % axis.size) as isize;
            rest /= axis.size;
            left += at * axis.left;
            right += at * axis.right;
        }
        (left, right)
    }
}

impl Product for Whole {
    fn scratch(&self) -> usize {
        self.problem.threads * self.row_bytes()
    }

    fn workers(&self) -> usize {
        let work = self.rows() * self.problem.k * self.problem.n;
        (work / GRAIN).clamp(1, self.problem.threads)
    }

    unsafe fn run(&self, worker: Worker<'_>, call: &Call<'_, u8, u8>) {
        let (k, n) = (self.problem.k, self.problem.n);
        let scratch = call.scratch.wrapping_add(worker.id() * self.row_bytes());
        let cut = scratch.wrapping_add((n * size_of::<i64>()).next_multiple_of(LINE));
        // SAFETY: every worker has room for its sums, at a multiple of a cache line.
        let sums = unsafe { std::slice::from_raw_parts_mut(scratch.cast::<i64>(), n) };
        for row in worker.share(self.rows()) {
            let (left, right) = self.origins(row);
            sums.fill(0);
            for step in 0..k as isize {
                // SAFETY: the caller's views stay inside of their operands.
                let at = |start, element| unsafe { read(self.operand, start, element) };
                let x = at(call.left, left + step * self.problem.left.column);
                let right = right + step * self.problem.right.row;
                for (j, sum) in sums.iter_mut().enumerate() {
                    let y = at(call.right, right + j as isize * self.problem.right.column);
                    *sum = sum.wrapping_add(x.wrapping_mul(y));
                }
            }
            let range = row * n..(row + 1) * n;
            // SAFETY: the row is this worker's alone.
            unsafe { self.finish(sums, cut, range, call.sink) };
        }
    }
}

impl Whole {
    unsafe fn finish(&self, sums: &[i64], cut: *mut u8, row: Range<usize>, sink: Sink<'_, u8>) {
        let size = self.accumulator.size();
        let to = match sink {
            Sink::Store(c) => c.wrapping_add(row.start * size),
            Sink::Hand(_) => cut,
        };
        for (j, &sum) in sums.iter().enumerate() {
            // SAFETY: a row of C, or as much scratch memory.
            unsafe { write(self.accumulator, to.add(j * size), sum) };
        }
        if let Sink::Hand(hand) = sink {
            hand(row, cut);
        }
    }
}

/// An element as a 64-bit integer.
#[inline]
unsafe fn read(dtype: DType, start: *const u8, element: isize) -> i64 {
    // SAFETY: the caller promises an element of this type; types are aligned to their size.
    unsafe {
        match dtype {
            DType::I64 => *start.cast::<i64>().offset(element),
            DType::I32 => i64::from(*start.cast::<i32>().offset(element)),
            _ => i64::from(*start.offset(element)),
        }
    }
}

/// Writes the low bits of a sum; of a truth value, whether it is not zero.
#[inline]
unsafe fn write(dtype: DType, to: *mut u8, sum: i64) {
    // SAFETY: the caller promises room for an element of this type.
    unsafe {
        match dtype {
            DType::I64 => to.cast::<i64>().write(sum),
            DType::I32 => to.cast::<i32>().write(sum as i32),
            DType::Bool => to.write(u8::from(sum != 0)),
            _ => to.write(sum as u8),
        }
    }
}
