//! Functions of elements.

use crate::adapt::{binary, unary};
use crate::call::Mapping;

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "mul" => |c| binary(c, |a, b| a * b),
        "clamp" => |c| {
            let low = c.float(1, "min", f64::NEG_INFINITY)?;
            let high = c.float(2, "max", f64::INFINITY)?;
            unary(c, |x| x.clamp(low, high))
        },
        _ => return None,
    };
    Some(mapping)
}
