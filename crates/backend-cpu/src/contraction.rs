//! Contractions: a product whose finished sums go through an epilogue.

use std::ops::Range;

use backprop_core::{Body, DType, Inst, Register, Result, Shape, Sink, Source};

use crate::Level;
use crate::gemm::{self, Call, Finish, Product};
use crate::memory::Operands;
use crate::pool::{Pool, Worker};
use crate::sweep::Elementwise;
use crate::tile::Code;

/// A prepared contraction.
#[derive(Debug)]
pub(crate) struct Contraction {
    pub(crate) product: Box<dyn Product>,
    /// The product's left and right operand.
    pub(crate) operands: [Place; 2],
    pub(crate) fate: Fate,
}

/// Where an operand is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its number among what is read.
    pub(crate) read: usize,
    /// Bytes before the element at coordinate zero.
    pub(crate) offset: usize,
}

/// What becomes of the sums.
#[derive(Debug)]
pub(crate) struct Fate {
    accumulator: DType,
    /// Where it is absent the sums are stored as they are.
    epilogue: Option<Elementwise>,
    /// Elements of the result.
    points: usize,
}

impl Place {
    /// The place of read number `read`.
    pub(crate) fn of((read, source): (usize, &Source)) -> Place {
        Place {
            read,
            offset: source.view.offset * source.tensor.dtype.size(),
        }
    }

    pub(crate) fn start(self, operands: &Operands<'_>) -> *const u8 {
        operands.read(self.read).wrapping_add(self.offset)
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

impl Fate {
    /// Lowers an epilogue over a space.
    ///
    /// # Errors
    /// What tiles cannot do.
    pub(crate) fn new(
        epilogue: &Body,
        (space, accumulator): (Shape, DType),
        level: Level,
    ) -> Result<Fate, String> {
        let epilogue = if stores_sums(epilogue, accumulator) {
            None
        } else {
            Some(Elementwise::new(epilogue, space, 1, level)?)
        };
        Ok(Fate {
            accumulator,
            epilogue,
            points: space.count(),
        })
    }

    /// The program of the epilogue, if there is one.
    pub(crate) fn program(&mut self) -> Option<&mut Code> {
        self.epilogue.as_mut().map(Elementwise::program)
    }

    pub(crate) fn finish(&self) -> Finish {
        match self.epilogue {
            None => Finish::Store,
            Some(_) => Finish::Hand,
        }
    }

    /// Calls `work` with what takes finished sums.
    ///
    /// # Safety
    /// The operands are those of a checked launch, of which the first two are the product's, and
    /// `work` hands over every range once, by the worker that has it.
    pub(crate) unsafe fn take(
        &self,
        operands: &Operands<'_>,
        work: impl FnOnce(gemm::Sink<'_, u8>),
    ) {
        let Some(epilogue) = &self.epilogue else {
            return work(gemm::Sink::Store(operands.write(0)));
        };
        // SAFETY: handed on.
        unsafe {
            epilogue.enter(operands, (2, self.points), |running| {
                let hand = |range: Range<usize>, sums| {
                    running.run(range, Some((sums, self.accumulator)));
                };
                work(gemm::Sink::Hand(&hand));
            });
        }
    }
}

impl Contraction {
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
    /// As for [`Contraction::run`], and all workers of the job come here.
    unsafe fn share(&self, worker: Worker<'_>, operands: &Operands<'_>) {
        let multiply = |sink: gemm::Sink<'_, u8>| {
            let [left, right] = self.operands.map(|place| place.start(operands));
            let call = Call {
                left,
                right,
                scratch: operands.scratch(),
                sink,
            };
            // SAFETY: by P1 and P4 views stay inside of the operands, and the scratch memory is as
            // large as asked for; by P3 nothing else touches it or the results.
            unsafe { self.product.run(worker, &call) };
        };
        // SAFETY: ranges are handed over once, to the worker that has them.
        unsafe { self.fate.take(operands, multiply) };
    }
}
