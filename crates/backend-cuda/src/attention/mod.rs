//! Attention and its vjp. A block takes some rows of queries (in the vjp also of keys) and goes over
//! tiles of the others, which it copies to shared memory. Scores are never in the device's memory.

mod epilogue;
mod forward;
mod tile;
mod tiling;
mod vjp;

pub(crate) use forward::{lower, supports};
pub(crate) use vjp::{lower_vjp, supports_vjp};

use backprop_core::{DType, Heads, KeyMask, Source};

use crate::contraction::Engine;
use crate::lowered::ENTRY;
use crate::source::constant;
use tile::Sources;
use tiling::Tiling;

/// Registers that a thread may have: fewer are too few for the sums that it keeps, which the compiler
/// does not see when it weighs registers against blocks at once. Tensor cores have a thread keep more.
const REGISTERS: [usize; 2] = [128, 168];

/// The head of a kernel.
fn head(parameters: &[String], tiling: Tiling, kept_in: DType) -> String {
    let threads = tiling.threads();
    let at_once = match (kept_in, tiling.engine) {
        (DType::F64, _) => 1,
        (_, Engine::Lanes) => (1 << 16) / (threads * REGISTERS[0]),
        (_, Engine::Tensor) => (1 << 16) / (threads * REGISTERS[1]),
    };
    let parameters = parameters.join(", ");
    format!(
        "extern \"C\" __global__ void __launch_bounds__({threads}, {at_once}) {ENTRY}({parameters}) {{\nBP_BEGIN();\n"
    )
}

/// Queries, keys, values and the mask, if it is in memory.
fn operands(heads: &Heads) -> Option<Vec<&Source>> {
    let mut sources = heads.as_plain()?.to_vec();
    match &heads.mask {
        KeyMask::Where(mask) | KeyMask::Add(mask) => sources.push(mask),
        KeyMask::None | KeyMask::Causal => {}
    }
    Some(sources)
}

/// Statements that make `x`, the product of query `query` and key `key`, the score. Neither has to
/// be one that there is.
fn scored(heads: &Heads, sources: &Sources<'_>, kept_in: DType) -> String {
    let Heads { queries, keys, .. } = heads;
    let scale = constant(heads.scale(), kept_in);
    let hidden = constant(f64::NEG_INFINITY, kept_in);
    let mask = || sources.value(3, "query", "key");
    let inside = format!("query < {queries} && key < {keys}");
    let masked = match heads.mask {
        KeyMask::Add(_) => format!("if ({inside}) x += {};\n", mask()),
        KeyMask::Where(_) => format!("if ({inside} && !{}) x = {hidden};\n", mask()),
        KeyMask::None | KeyMask::Causal => String::new(),
    };
    format!("x *= {scale};\n{masked}")
}

/// The type in which operands of these types are multiplied and added up.
fn kept_in(sources: &[&Source]) -> DType {
    let double = sources
        .iter()
        .any(|source| source.tensor.dtype == DType::F64);
    if double { DType::F64 } else { DType::F32 }
}

/// A function of the device, in the spelling of a type.
fn function(name: &str, kept_in: DType) -> String {
    match kept_in {
        DType::F64 => name.to_owned(),
        _ => format!("{name}f"),
    }
}
