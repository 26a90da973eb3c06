//! Padding, resampling and rearranging of images.

use backprop::{Align, GridSample, Interpolate, Outside, Padding, Patches, Resample, Tensor};

use crate::adapt::unary;
use crate::call::{Call, Mapping, Outputs, unsupported};
use crate::conv::per_axis;

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "nn.functional.pad" => pad,
        "nn.functional.interpolate" => interpolate,
        "nn.functional.grid_sample" => grid_sample,
        "nn.functional.unfold" => im2col,
        "nn.functional.pixel_shuffle" => |c| {
            let factor = c.int(1, "upscale_factor", 1)? as usize;
            unary(c, |x| x.pixel_shuffle(factor))
        },
        "nn.functional.pixel_unshuffle" => |c| {
            let factor = c.int(1, "downscale_factor", 1)? as usize;
            unary(c, |x| x.pixel_unshuffle(factor))
        },
        "nn.functional.channel_shuffle" => |c| {
            let groups = c.int(1, "groups", 1)? as usize;
            unary(c, |x| x.channel_shuffle(groups))
        },
        _ => return None,
    };
    Some(mapping)
}

/// Pairs of sizes before and after, of the last axis first; negative ones cut off. Replicated
/// elements are those of the border before the cut, all others of what is left.
fn pad<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let sizes = c.ints(1, "pad")?.unwrap_or_default();
    let padding = match c.text(2, "mode", "constant")? {
        "constant" => Padding::Constant(c.float(3, "value", 0.0)?),
        "reflect" => Padding::Reflect,
        "replicate" => Padding::Replicate,
        "circular" => Padding::Circular,
        other => return unsupported(format!("mode {other}")),
    };
    let mut ends = vec![[0, 0]; x.rank()];
    for (pair, ends) in sizes.chunks(2).zip(ends.iter_mut().rev()) {
        *ends = [pair[0], pair[1]];
    }
    let added = |x: Tensor<'g>| {
        let [low, high] = [0, 1].map(|k| ends.iter().map(move |ends| ends[k].max(0) as usize));
        x.pad(low.collect::<Vec<_>>(), high.collect::<Vec<_>>(), padding)
    };
    let cut = |mut x: Tensor<'g>| {
        for (axis, ends) in ends.iter().enumerate() {
            let [low, high] = ends.map(|end| (-end).max(0) as usize);
            if low + high > 0 {
                x = x.narrow(axis as i32, low, x.shape().size(axis) - high);
            }
        }
        x
    };
    match padding {
        Padding::Replicate => Ok(vec![cut(added(x))]),
        _ => Ok(vec![added(cut(x))]),
    }
}

fn interpolate<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let by = match c.text(3, "mode", "nearest")? {
        "nearest" => Resample::Nearest,
        "nearest-exact" => Resample::NearestCentre,
        "linear" | "bilinear" | "trilinear" => Resample::Linear,
        "bicubic" => Resample::Cubic,
        "area" => Resample::Area,
        other => return unsupported(format!("mode {other}")),
    };
    let align = align(c, 4)?;
    let old = &x.shape().sizes()[2..].to_vec();
    let all = |list: &[f64]| match list {
        &[one] => vec![one; old.len()],
        list => list.to_vec(),
    };
    let (sizes, mut scales) = match (c.floats(1, "size")?, c.floats(2, "scale_factor")?) {
        (Some(sizes), _) => (all(&sizes), None),
        (None, Some(scales)) => {
            let scales = all(&scales);
            let pairs = old.iter().zip(&scales);
            let sizes = pairs.map(|(&size, scale)| (size as f64 * scale).floor());
            (sizes.collect(), Some(scales))
        }
        (None, None) => return unsupported("neither size nor scale"),
    };
    if c.flag(5, "recompute_scale_factor", false)? {
        scales = None;
    }
    let sizes: Vec<usize> = sizes.iter().map(|&size| size as usize).collect();
    if let (Resample::Linear, Some(scales)) = (by, &mut scales) {
        // PyTorch copies along an axis that keeps its size, whatever the scale.
        let kept = sizes
            .iter()
            .zip(old)
            .zip(scales)
            .filter(|((new, old), _)| new == old);
        kept.for_each(|(_, scale)| *scale = 1.0);
    }
    Ok(vec![
        x.interpolate(sizes, Interpolate { by, align, scales }),
    ])
}

fn align(c: &Call<'_, '_>, at: usize) -> Result<Align, crate::call::Unsupported> {
    Ok(match c.flag(at, "align_corners", false)? {
        true => Align::Corners,
        false => Align::Edges,
    })
}

fn grid_sample<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let how = GridSample {
        by: match c.text(2, "mode", "bilinear")? {
            "bilinear" => Resample::Linear,
            "nearest" => Resample::NearestCentre,
            "bicubic" => Resample::Cubic,
            other => return unsupported(format!("mode {other}")),
        },
        outside: match c.text(3, "padding_mode", "zeros")? {
            "zeros" => Outside::Zeros,
            "border" => Outside::Border,
            "reflection" => Outside::Reflect,
            other => return unsupported(format!("padding_mode {other}")),
        },
        align: align(c, 4)?,
    };
    let (x, grid) = (c.tensor(0, "input")?, c.tensor(1, "grid")?);
    Ok(vec![x.grid_sample(grid, how)])
}

fn im2col<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "input")?;
    let both = |at, name, default| per_axis(c, at, name, default);
    let patches = Patches {
        size: both(1, "kernel_size", 1)?,
        dilation: both(2, "dilation", 1)?,
        padding: both(3, "padding", 0)?,
        stride: both(4, "stride", 1)?,
    };
    match x.rank() {
        3 => Ok(vec![x.unsqueeze(0).im2col(patches).squeeze(0)]),
        _ => Ok(vec![x.im2col(patches)]),
    }
}
