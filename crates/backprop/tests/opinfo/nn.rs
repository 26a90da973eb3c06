//! Layers, norms, losses and attention.

use crate::adapt::unary;
use crate::call::Mapping;

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "nn.functional.silu" => |c| unary(c, |x| x.silu()),
        _ => return None,
    };
    Some(mapping)
}
