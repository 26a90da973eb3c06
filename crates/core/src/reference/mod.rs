//! A backend in safe, obviously right, slow Rust: the oracle for every other backend, the folder of
//! constants, and a worked example for those who write one.
//!
//! Operands are unpacked into numbers, computed on one point after the other in `f64` (each
//! instruction's result rounded to its type, sums accumulated in `f64`) and packed again.

mod attention;
mod fused;
mod moves;
mod number;
mod sorted;
mod windows;

use bytemuck::{cast_slice, cast_slice_mut};

pub use number::Number;

use crate::plan::{Iteration, Slot};
use crate::{
    Args, Attention, AttentionVjp, Backend, Conv, Error, ErrorKind, Indexing, MatMul, Memory, Pool,
    Primitive, Random, Relocate, Result, Rows, Sort, Sweep,
};

/// A backend in safe, obviously right, slow Rust: the oracle for every other backend, and a worked
/// example for those who write one. Sums are accumulated in `f64`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl Reference {
    /// Computes what a primitive writes from what it reads, on unpacked operands.
    #[must_use]
    pub fn compute(primitive: &Primitive, reads: &[Vec<Number>]) -> Vec<Vec<Number>> {
        match primitive {
            Primitive::Sweep(spec) => fused::sweep(spec.space, &spec.body, reads, None),
            Primitive::Rows(spec) => fused::rows(spec, reads),
            Primitive::MatMul(spec) => fused::matmul(spec, reads),
            Primitive::Relocate(spec) => vec![moves::relocate(spec, reads)],
            Primitive::Gather(spec) => vec![moves::gather(spec, &reads[0], &reads[1])],
            Primitive::ScatterAdd(spec) => vec![moves::scatter_add(spec, &reads[0], &reads[1])],
            Primitive::Random(spec) => vec![moves::random(spec, &reads[0])],
            Primitive::Conv(spec)
            | Primitive::ConvVjpInput(spec)
            | Primitive::ConvVjpFilter(spec) => windows::conv(primitive, spec, reads),
            Primitive::Pool(spec) => vec![windows::pool(spec, reads)],
            Primitive::PoolVjp(spec) => vec![windows::pool_vjp(spec, reads)],
            Primitive::Attention(spec) => attention::attention(spec, reads),
            Primitive::AttentionVjp(spec) => attention::attention_vjp(spec, reads),
            Primitive::Sort(spec) => vec![sorted::sort(spec, &reads[0])],
        }
    }
}

fn range(slot: &Slot, at: Iteration) -> std::ops::Range<usize> {
    let offset = slot.offset(at);
    offset..offset + slot.bytes()
}

fn outside() -> Error {
    Error::new(ErrorKind::Device {
        what: "a copy leaves its buffer".into(),
    })
}

/// Methods whose kernel is the primitive itself.
macro_rules! keep {
    ($($method:ident($Spec:ty) $variant:ident;)*) => {
        $(fn $method(&self, spec: &$Spec) -> Result<Primitive> {
            Ok(Primitive::$variant(spec.clone().into()))
        })*
    };
}

impl Backend for Reference {
    type Buffer = Vec<u64>;
    type Kernel = Primitive;

    fn name(&self) -> String {
        "reference".into()
    }

    fn alloc(&self, bytes: usize) -> Result<Vec<u64>> {
        let words = bytes.div_ceil(8);
        let mut buffer = Vec::new();
        let reserved = buffer.try_reserve_exact(words);
        reserved.map_err(|_| Error::new(ErrorKind::OutOfMemory { bytes }))?;
        buffer.resize(words, 0);
        Ok(buffer)
    }

    fn upload(&self, to: &mut Vec<u64>, at: usize, bytes: &[u8]) -> Result<()> {
        let end = at.checked_add(bytes.len()).ok_or_else(outside)?;
        let target = cast_slice_mut::<u64, u8>(to).get_mut(at..end);
        target.ok_or_else(outside)?.copy_from_slice(bytes);
        Ok(())
    }

    fn download(&self, from: &Vec<u64>, at: usize, bytes: &mut [u8]) -> Result<()> {
        let end = at.checked_add(bytes.len()).ok_or_else(outside)?;
        let source = cast_slice::<u64, u8>(from).get(at..end);
        bytes.copy_from_slice(source.ok_or_else(outside)?);
        Ok(())
    }

    keep! {
        sweep(Sweep) Sweep;
        matmul(MatMul) MatMul;
        relocate(Relocate) Relocate;
        gather(Indexing) Gather;
        scatter_add(Indexing) ScatterAdd;
        random(Random) Random;
        rows(Rows) Rows;
        conv(Conv) Conv;
        conv_vjp_input(Conv) ConvVjpInput;
        conv_vjp_filter(Conv) ConvVjpFilter;
        pool(Pool) Pool;
        pool_vjp(Pool) PoolVjp;
        attention(Attention) Attention;
        attention_vjp(AttentionVjp) AttentionVjp;
        sort(Sort) Sort;
    }

    fn supports(&self, _: &Primitive) -> bool {
        true
    }

    fn launch(
        &self,
        kernel: &Primitive,
        memory: &mut Memory<Vec<u64>>,
        args: &Args,
        at: Iteration,
    ) -> Result<()> {
        let reads: Vec<Vec<Number>> = kernel
            .reads()
            .into_iter()
            .zip(args.reads())
            .map(|(tensor, slot)| {
                let bytes: &[u8] = cast_slice(memory.buffer(slot.buffer()));
                number::unpack(tensor, &bytes[range(slot, at)])
            })
            .collect();
        let results = Reference::compute(kernel, &reads);
        for ((tensor, slot), numbers) in kernel.writes().into_iter().zip(args.writes()).zip(results)
        {
            let bytes: &mut [u8] = cast_slice_mut(memory.buffer_mut(slot.buffer()));
            number::pack(tensor, &numbers, &mut bytes[range(slot, at)]);
        }
        Ok(())
    }
}
