//! Convolution, pooling, interpolation and padding.

use crate::call::Mapping;

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "nn.functional.pixel_shuffle" => |c| {
            let (x, factor) = (c.tensor(0, "input")?, c.int(1, "upscale_factor", 1)?);
            Ok(vec![x.pixel_shuffle(factor as usize)])
        },
        _ => return None,
    };
    Some(mapping)
}
