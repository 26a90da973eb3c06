//! The backend without a device: what it plans can be looked at, and not run.

use backprop_core::plan::Iteration;
use backprop_core::{
    Args, Attention, AttentionVjp, Backend, Conv, Error, ErrorKind, Indexing, MatMul, Memory, Plan,
    Pool, Primitive, Random, Reference, Relocate, Result, Rows, Sort, Sweep,
};

use crate::contraction::Options;
use crate::loops;
use crate::lowered::Lowered;

/// Compiles to the plans of [`Cuda`](crate::Cuda) on any machine. Sessions hold their values in host
/// memory and cannot take a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paper;

/// What a primitive would become.
#[derive(Debug)]
pub struct Sheet(Lowered);

impl Paper {
    /// The launches of a step on the device: those of the plan, some of which take two,
    /// and some of whose loops take one.
    ///
    /// # Errors
    /// If a primitive is none of this backend's.
    pub fn launches(&self, plan: &Plan) -> Result<usize> {
        let each = plan.primitives().iter().map(|p| self.prepare(p));
        let sheets: Vec<Sheet> = each.collect::<Result<_>>()?;
        let commands = plan.commands();
        let of = |(command, times): &(&backprop_core::plan::Command, usize)| {
            sheets[command.kernel()].0.works.len() * times
        };
        let all: usize = commands.iter().map(of).sum();
        let loops = loops::fuse(plan, Options::default());
        Ok(all - loops.iter().map(|fused| fused.saved).sum::<usize>())
    }

    fn sheet(&self, primitive: &Primitive) -> Result<Sheet> {
        let lowered = crate::lower(primitive, Options::default());
        lowered.map(Sheet).ok_or_else(|| self.declined(primitive))
    }
}

impl Backend for Paper {
    type Buffer = Vec<u64>;
    type Kernel = Sheet;

    fn name(&self) -> String {
        "cuda (on paper)".into()
    }

    fn alloc(&self, bytes: usize) -> Result<Vec<u64>> {
        Reference.alloc(bytes)
    }

    fn upload(&self, to: &mut Vec<u64>, at: usize, bytes: &[u8]) -> Result<()> {
        Reference.upload(to, at, bytes)
    }

    fn download(&self, from: &Vec<u64>, at: usize, bytes: &mut [u8]) -> Result<()> {
        Reference.download(from, at, bytes)
    }

    crate::prepared! { sheet, Sheet }

    fn supports(&self, candidate: &Primitive) -> bool {
        crate::supports(candidate)
    }

    fn scratch(&self, sheet: &Sheet) -> usize {
        sheet.0.scratch
    }

    fn launch(&self, _: &Sheet, _: &mut Memory<Vec<u64>>, _: &Args, _: Iteration) -> Result<()> {
        Err(Error::new(ErrorKind::Device {
            what: "a step was asked of the CUDA backend on paper".into(),
        }))
    }
}
