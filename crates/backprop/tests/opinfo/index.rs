//! Reading and writing by index.

use crate::call::Mapping;

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "index_select" => |c| {
            let (x, indices) = (c.tensor(0, "input")?, c.tensor(2, "index")?);
            Ok(vec![x.take(indices, c.axis(1, "dim", 0)?)])
        },
        _ => return None,
    };
    Some(mapping)
}
