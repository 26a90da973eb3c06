//! Rearrangements: views, joins, repeats.

use crate::adapt::unary;
use crate::call::Mapping;

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "ravel" => |c| unary(c, |x| x.reshape([-1])),
        _ => return None,
    };
    Some(mapping)
}
