//! Convolutions and pools.

use backprop::{Convolution, Divisor, Pool, Rounding, Tensor};

use crate::cases::Case;

/// The output of a case, or `None` if it is of another family.
pub(crate) fn build<'g>(case: &Case, x: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    let a = x[0];
    Some(match case.op.as_str() {
        "conv1d" | "conv2d" | "conv3d" => a.conv(x[1], convolution(case)).bias(x[2], 1),
        "conv_transpose1d" | "conv_transpose2d" | "conv_transpose3d" => {
            let further = case.integer_or("output_padding", 0) as usize;
            let y = a.conv_transpose(x[1], convolution(case), further);
            x.get(2).map_or(y, |bias| y.bias(*bias, 1))
        }
        "max_pool2d" => a.max_pool(pool(case)),
        "avg_pool2d" => {
            let divisor = match case.truth("count_include_pad") {
                true => Divisor::Padded,
                false => Divisor::Inside,
            };
            a.avg_pool(pool(case), divisor)
        }
        "adaptive_max_pool1d" | "adaptive_max_pool2d" => {
            a.adaptive_max_pool(case.sizes("output_size"))
        }
        "adaptive_avg_pool1d" | "adaptive_avg_pool2d" => {
            a.adaptive_avg_pool(case.sizes("output_size"))
        }
        _ => return None,
    })
}

fn convolution(case: &Case) -> Convolution {
    let number = |key: &str, default: i64| case.integer_or(key, default) as usize;
    Convolution {
        stride: number("stride", 1).into(),
        padding: number("padding", 0).into(),
        dilation: number("dilation", 1).into(),
        groups: number("groups", 1),
    }
}

fn pool(case: &Case) -> Pool {
    let number = |key: &str, default: i64| case.integer_or(key, default) as usize;
    Pool {
        size: number("kernel_size", 1).into(),
        stride: Some(number("stride", 1).into()),
        padding: number("padding", 0).into(),
        dilation: number("dilation", 1).into(),
        rounding: match case.truth("ceil_mode") {
            true => Rounding::Up,
            false => Rounding::Down,
        },
    }
}
