//! Reductions, cumulative ones and order statistics.

use crate::adapt::reduction;
use crate::call::Mapping;

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "sum" => |c| reduction(c, |x, r| x.sum(r)),
        "mean" => |c| reduction(c, |x, r| x.mean(r)),
        _ => return None,
    };
    Some(mapping)
}
