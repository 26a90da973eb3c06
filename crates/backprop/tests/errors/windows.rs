//! Convolutions, pools and other windows.

use backprop::prelude::*;
use backprop::{Align, Convolution, Divisor, GridSample, Interpolate, Patches, Pool, Resample};

use crate::table::{Build, Row, check, row};

pub(crate) fn image<'g>(x: Tensor<'g>) -> Tensor<'g> {
    x.reshape([2, 4, 16, 16])
}

/// Two groups, as the filter of [`convolved`] has them.
fn grouped() -> Convolution {
    Convolution {
        groups: 2,
        ..Default::default()
    }
}

#[track_caller]
fn convolved<'g>(x: Tensor<'g>, how: Convolution) -> Tensor<'g> {
    image(x).conv(x.graph().full([6, 2, 3, 3], 1.0, F32), how)
}

#[track_caller]
fn spread<'g>(x: Tensor<'g>, how: Convolution, more: usize) -> Tensor<'g> {
    image(x).conv_transpose(x.reshape([4, 2, 16, 16]), how, more)
}

static CONVOLUTIONS: &[Row<Build>] = &[
    row("Attribute", |_, x| {
        convolved(
            x,
            Convolution {
                stride: 0.into(),
                ..grouped()
            },
        )
    }),
    row("Attribute", |_, x| {
        convolved(
            x,
            Convolution {
                stride: [1, 1, 1].into(),
                ..grouped()
            },
        )
    }),
    row("Attribute", |_, x| {
        convolved(
            x,
            Convolution {
                dilation: 0.into(),
                ..grouped()
            },
        )
    }),
    row("Attribute", |_, x| {
        convolved(
            x,
            Convolution {
                groups: 0,
                ..grouped()
            },
        )
    }),
    row("Shape", |_, x| {
        convolved(
            x,
            Convolution {
                groups: 4,
                ..grouped()
            },
        )
    }),
    row("Shape", |_, x| {
        convolved(
            x,
            Convolution {
                groups: 1,
                ..grouped()
            },
        )
    }),
    row("Shape", |_, x| {
        convolved(
            x,
            Convolution {
                dilation: 8.into(),
                ..grouped()
            },
        )
    }),
    row("Attribute", |_, x| {
        convolved(
            x,
            Convolution {
                dilation: usize::MAX.into(),
                ..grouped()
            },
        )
    }),
    row("Attribute", |_, x| {
        convolved(
            x,
            Convolution {
                padding: usize::MAX.into(),
                ..grouped()
            },
        )
    }),
    row("Attribute", |_, x| {
        convolved(
            x,
            Convolution {
                padding: (1 << 62).into(),
                ..grouped()
            },
        )
    }),
    row("Shape", |_, x| {
        convolved(
            x,
            Convolution {
                groups: usize::MAX,
                ..grouped()
            },
        )
    }),
    row("Shape", |g, x| {
        x.conv(g.full([6, 2, 3, 3], 1.0, F32), grouped())
    }),
    row("Attribute", |g, x| {
        image(x).conv(g.full([6, 2, 3, 0], 1.0, F32), grouped())
    }),
    row("DType", |g, x| {
        image(x).conv(g.full([6, 2, 3, 3], 1.0, F64), grouped())
    }),
    row("Shape", |_, x| {
        spread(
            x,
            Convolution {
                padding: 16.into(),
                ..grouped()
            },
            0,
        )
    }),
    row("Attribute", |_, x| spread(x, grouped(), 1)),
    row("Attribute", |_, x| {
        spread(
            x,
            Convolution {
                stride: usize::MAX.into(),
                ..grouped()
            },
            0,
        )
    }),
    row("Attribute", |_, x| {
        spread(
            x,
            Convolution {
                dilation: usize::MAX.into(),
                ..grouped()
            },
            0,
        )
    }),
    row("Attribute", |_, x| {
        spread(
            x,
            Convolution {
                padding: usize::MAX.into(),
                ..grouped()
            },
            0,
        )
    }),
    row("Attribute", |_, x| {
        spread(
            x,
            Convolution {
                stride: 0.into(),
                ..grouped()
            },
            0,
        )
    }),
    row("Shape", |g, x| x.bias(g.full([5], 1.0, F32), 1)),
    row("Axis", |g, x| x.bias(g.full([5], 1.0, F32), 2)),
    row("Attribute", |_, x| {
        image(x).im2col(Patches {
            size: 0.into(),
            ..Default::default()
        })
    }),
    row("Shape", |_, x| {
        image(x).im2col(Patches {
            size: 17.into(),
            ..Default::default()
        })
    }),
    row("Attribute", |_, x| {
        image(x).im2col(Patches {
            padding: usize::MAX.into(),
            ..Default::default()
        })
    }),
    row("Shape", |_, x| x.col2im([4, 4], Patches::default())),
    row("Shape", |_, x| {
        x.reshape([2, 4, 256]).col2im(
            [usize::MAX, usize::MAX],
            Patches {
                padding: 3.into(),
                ..Default::default()
            },
        )
    }),
    row("Attribute", |_, x| {
        x.reshape([2, 4, 256]).col2im(
            [usize::MAX, 4],
            Patches {
                stride: 0.into(),
                ..Default::default()
            },
        )
    }),
];

static POOLS: &[Row<Build>] = &[
    row("Attribute", |_, x| {
        image(x).max_pool(Pool {
            size: 0.into(),
            ..Default::default()
        })
    }),
    row("Attribute", |_, x| {
        image(x).max_pool(Pool {
            padding: 2.into(),
            ..Default::default()
        })
    }),
    row("Attribute", |_, x| {
        image(x).max_pool(Pool {
            stride: Some(0.into()),
            ..Default::default()
        })
    }),
    row("Shape", |_, x| {
        image(x).max_pool(Pool {
            size: 17.into(),
            ..Default::default()
        })
    }),
    row("Attribute", |_, x| {
        image(x).max_pool(Pool {
            size: usize::MAX.into(),
            ..Default::default()
        })
    }),
    row("Attribute", |_, x| {
        image(x).max_pool(Pool {
            dilation: usize::MAX.into(),
            ..Default::default()
        })
    }),
    row("Attribute", |_, x| {
        image(x).max_pool(Pool {
            size: [2, 2, 2].into(),
            ..Default::default()
        })
    }),
    row("Attribute", |_, x| {
        image(x).avg_pool(Pool::default(), Divisor::Fixed(0))
    }),
    row("Attribute", |_, x| image(x).adaptive_avg_pool([0, 1])),
    row("Attribute", |_, x| image(x).adaptive_avg_pool([1, 1, 1])),
    row("Shape", |_, x| x.adaptive_max_pool(1)),
    row("DType", |_, x| image(x).cast(I32).max_pool(Pool::default())),
    row("Shape", |_, x| x.max_pool(Pool::default())),
    row("Shape", |_, x| {
        image(x).interpolate([0, 4], Resample::Linear)
    }),
    row("Shape", |_, x| {
        image(x).interpolate([1, 1, 1, 1, 1], Resample::Linear)
    }),
    row("Shape", |_, x| {
        image(x).interpolate([usize::MAX, 4], Resample::Nearest)
    }),
    row("Attribute", |_, x| {
        image(x).interpolate(
            [4, 4],
            Interpolate {
                align: Align::Corners,
                ..Default::default()
            },
        )
    }),
    row("Attribute", |_, x| {
        image(x).interpolate(
            [4, 4],
            Interpolate {
                scales: Some(vec![f64::NAN; 2]),
                ..Default::default()
            },
        )
    }),
    row("Attribute", |_, x| {
        image(x).interpolate(
            [4, 4],
            Interpolate {
                scales: Some(vec![0.0; 2]),
                ..Default::default()
            },
        )
    }),
    row("Attribute", |_, x| {
        image(x).interpolate(
            [4, 4],
            Interpolate {
                scales: Some(vec![2.0]),
                ..Default::default()
            },
        )
    }),
    row("Shape", |_, x| {
        image(x).grid_sample(x, GridSample::default())
    }),
    row("Attribute", |g, x| {
        image(x).grid_sample(
            g.full([2, 3, 3, 2], 0.0, F32),
            GridSample {
                by: Resample::Area,
                ..Default::default()
            },
        )
    }),
    row("DType", |g, x| {
        image(x).grid_sample(g.full([2, 3, 3, 2], 0.0, F64), GridSample::default())
    }),
];

#[test]
fn convolutions_that_make_no_sense() {
    check(CONVOLUTIONS);
}

#[test]
fn pools_that_make_no_sense() {
    check(POOLS);
}
