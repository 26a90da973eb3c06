//! Matrix products and linear algebra.

use crate::adapt::binary;
use crate::call::Mapping;

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "mm" | "bmm" | "matmul" | "mv" | "dot" => |c| binary(c, |a, b| a.matmul(b)),
        _ => return None,
    };
    Some(mapping)
}
