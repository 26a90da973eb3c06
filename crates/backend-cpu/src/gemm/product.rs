//! Products of any types behind one trait.

use std::fmt::Debug;

use backprop_core::DType;
use half::{bf16, f16};

use super::{Call, Gemm, Number, Sink, Source};
use crate::pool::Worker;

/// A prepared product of operands of some type, summed in some type.
pub(crate) trait Product: Debug + Send + Sync {
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

impl<T: Number, E: Source<T>> Product for Gemm<T, E> {
    fn scratch(&self) -> usize {
        self.scratch()
    }

    fn workers(&self) -> usize {
        self.workers()
    }

    unsafe fn run(&self, worker: Worker<'_>, call: &Call<'_, u8, u8>) {
        // SAFETY: the same contract.
        unsafe { typed(call, |call| self.run(worker, call)) }
    }
}

/// Calls `run` with a call that knows its types.
pub(crate) fn typed<T, E>(call: &Call<'_, u8, u8>, run: impl Fn(&Call<'_, T, E>)) {
    let (left, right, scratch) = (call.left.cast(), call.right.cast(), call.scratch);
    let run = |sink| {
        run(&Call {
            left,
            right,
            scratch,
            sink,
        })
    };
    match call.sink {
        Sink::Store(c) => run(Sink::Store(c.cast())),
        Sink::Hand(hand) => run(Sink::Hand(&|range, sums| hand(range, sums.cast()))),
    }
}

/// Whether products of floats of a type can be summed in another.
pub(crate) fn sums_as(operand: DType, accumulator: DType) -> bool {
    match operand {
        DType::F32 | DType::F16 | DType::BF16 => matches!(accumulator, DType::F32 | DType::F64),
        DType::F64 => accumulator == DType::F64,
        _ => false,
    }
}

/// What makes products of any types.
pub(crate) trait Make {
    fn make<T: Number + Source<T>, E: Source<T>>(self) -> Box<dyn Product>;
}

/// A product of floating-point operands, if there is one of these types.
pub(crate) fn make(
    operand: DType,
    accumulator: DType,
    maker: impl Make,
) -> Option<Box<dyn Product>> {
    Some(match (operand, accumulator) {
        (DType::F32, DType::F32) => maker.make::<f32, f32>(),
        (DType::F16, DType::F32) => maker.make::<f32, f16>(),
        (DType::BF16, DType::F32) => maker.make::<f32, bf16>(),
        (DType::F32, DType::F64) => maker.make::<f64, f32>(),
        (DType::F16, DType::F64) => maker.make::<f64, f16>(),
        (DType::BF16, DType::F64) => maker.make::<f64, bf16>(),
        (DType::F64, DType::F64) => maker.make::<f64, f64>(),
        _ => return None,
    })
}
