//! Every operation that takes numbers, with numbers that make no sense: it gives a result or an
//! error, and never panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use backprop_core::DType::{self, F64, I64};
use backprop_core::{Order, Reference};
use backprop_graph::*;

/// An operation of a tensor and a number.
type Operation<N> = (&'static str, for<'g> fn(Tensor<'g>, N) -> Tensor<'g>);

const SHAPES: &[&[usize]] = &[
    &[],
    &[0],
    &[3],
    &[2, 3],
    &[3, 3],
    &[2, 4, 3],
    &[1, 4, 5, 6],
    &[1; 8],
];
const SIZES: &[usize] = &[
    0,
    1,
    2,
    3,
    1 << 32,
    1 << 40,
    usize::MAX / 2,
    usize::MAX / 2 + 1,
    usize::MAX,
];
const AXES: &[i32] = &[i32::MIN, -9, -8, -2, -1, 0, 1, 7, 8, i32::MAX];
const SHIFTS: &[isize] = &[isize::MIN, -7, -1, 0, 1, 7, isize::MAX];
const REALS: &[f64] = &[
    f64::NEG_INFINITY,
    -1.0,
    0.0,
    0.5,
    1e300,
    f64::INFINITY,
    f64::NAN,
];

/// The operations named by the calls that make them.
macro_rules! calls {
    ($type:ty: |$x:ident, $n:ident| $($call:expr;)*) => {
        &[$((stringify!($call), |$x: Tensor<'_>, $n: $type| $call)),*]
    };
}

fn first<'g>(pieces: Vec<Tensor<'g>>, x: Tensor<'g>) -> Tensor<'g> {
    pieces.first().copied().unwrap_or(x)
}

fn indices(x: Tensor<'_>) -> Tensor<'_> {
    x.graph().full([2], 0.0, I64)
}

fn filter(x: Tensor<'_>, sizes: [usize; 4]) -> Tensor<'_> {
    x.graph().full(sizes, 0.5, x.dtype())
}

const OF_A_SIZE: &[Operation<usize>] = calls! { usize: |x, n|
    first(x.split([n, 1], 0), x);
    first(x.split([n, n], -1), x);
    first(x.chunk(n, 0), x);
    x.repeat([n, n]);
    x.repeat([n]);
    x.repeat_interleave(n, -1);
    x.windows(-1, n, 1);
    x.windows(-1, 1, n);
    x.windows(-1, n, n);
    x.narrow(-1, n, n);
    x.narrow(0, 0, n);
    x.narrow(-1, n, 1);
    x.slice([n, 0], [2, 3], [1, 1]);
    x.slice([0, 0], [n, n], [1, 1]);
    x.slice([0, 0], [2, 3], [n, n]);
    x.slice_scatter([n, 0], [2, 3], [1, 1], x);
    x.slice_scatter([0, 0], [n, 3], [n, 1], x);
    x.pad([n, 0], [0, n], 0.0);
    x.pad([n], [n], Padding::Reflect);
    x.pad([n], [n], Padding::Replicate);
    x.pad([n], [n], Padding::Circular);
    x.flatten_from(n);
    x.broadcast_to([n, 3]);
    x.reshape([n as isize, -1]);
    x.reshape([n as isize, n as isize]);
    x.topk(n, -1, Order::Descending).0;
    x.pixel_shuffle(n);
    x.pixel_unshuffle(n);
    x.channel_shuffle(n);
    x.group_norm(n, 1e-5);
    x.gt(0.0).cast(I64).one_hot(n, F64);
    x.scatter_rows(indices(x), 0, n);
    x.conv(filter(x, [4, 4, 2, 2]), Convolution { stride: n.into(), ..Default::default() });
    x.conv(filter(x, [4, 4, 2, 2]), Convolution { padding: n.into(), ..Default::default() });
    x.conv(filter(x, [4, 4, 2, 2]), Convolution { dilation: n.into(), ..Default::default() });
    x.conv(filter(x, [4, 1, 2, 2]), Convolution { groups: n, ..Default::default() });
    x.conv_transpose(filter(x, [4, 4, 2, 2]), Convolution { stride: n.into(), ..Default::default() }, 0);
    x.conv_transpose(filter(x, [4, 4, 2, 2]), Convolution { padding: n.into(), ..Default::default() }, 0);
    x.conv_transpose(filter(x, [4, 4, 2, 2]), Convolution { dilation: n.into(), ..Default::default() }, 0);
    x.conv_transpose(filter(x, [4, 1, 2, 2]), Convolution { groups: n, ..Default::default() }, 0);
    x.conv_transpose(filter(x, [4, 4, 2, 2]), Convolution::default(), n);
    x.max_pool(Pool { size: n.into(), ..Default::default() });
    x.max_pool(Pool { stride: Some(n.into()), ..Default::default() });
    x.max_pool(Pool { padding: n.into(), ..Default::default() });
    x.max_pool(Pool { dilation: n.into(), ..Default::default() });
    x.max_pool(Pool { size: n.into(), padding: (n / 2).into(), ..Default::default() });
    x.max_pool(Pool { size: n.into(), rounding: Rounding::Up, ..Default::default() });
    x.max_pool(Pool { stride: Some(n.into()), rounding: Rounding::Up, ..Default::default() });
    x.max_pool_positions(Pool { dilation: n.into(), ..Default::default() });
    x.avg_pool(Pool { size: n.into(), ..Default::default() }, Divisor::Inside);
    x.avg_pool(Pool { size: n.into(), padding: (n / 2).into(), ..Default::default() }, Divisor::Inside);
    x.avg_pool(Pool::default(), Divisor::Fixed(n));
    x.adaptive_max_pool(n);
    x.adaptive_avg_pool(n);
    x.im2col(Patches { size: n.into(), ..Default::default() });
    x.im2col(Patches { stride: n.into(), ..Default::default() });
    x.im2col(Patches { padding: n.into(), ..Default::default() });
    x.im2col(Patches { dilation: n.into(), ..Default::default() });
    x.col2im([n, n], Patches::default());
    x.col2im([2, 2], Patches { padding: n.into(), ..Default::default() });
    x.interpolate([n, 2], Resample::Nearest);
    x.interpolate([2, n], Resample::Linear);
    x.interpolate([n], Resample::Cubic);
    x.interpolate([n], Resample::Area);
    x.local_response_norm(LocalResponse { channels: n, alpha: 1.0, beta: 1.0, k: 1.0 });
    x.polygamma(n as u32);
    x.multi_margin_loss(indices(x), n as u32, 1.0, Reduce::Mean);
    x.graph().full([n, n], 1.0, F64);
    x.graph().coordinate([n, 2], 0);
    x.graph().permutation(x.graph().random_key(1), n);
    x.graph().standard_normal(x.graph().random_key(1), [n], F64);
    x.graph().uniform(x.graph().random_key(1), [n, n], F64);
};

const ALONG_AN_AXIS: &[Operation<i32>] = calls! { i32: |x, a|
    x.sum(a);
    x.sum(Keep([a, 0]));
    x.argmax(a);
    x.var(a);
    x.prod(a);
    x.norm(3.0, a);
    x.median(a);
    x.quantile(0.3, a, Between::Linear);
    x.softmax(a);
    x.log_softmax(a);
    x.logsumexp(a);
    x.cumsum(a);
    x.cumprod(a);
    x.logcumsumexp(a);
    x.cummax(a).0;
    x.sort(a, Order::Ascending).0;
    x.topk(1, a, Order::Ascending).0;
    x.glu(a);
    first(x.split([1, 2], a), x);
    first(x.chunk(2, a), x);
    first(x.unstack(a), x);
    x.move_axes([a], [0]);
    x.move_axes([0], [a]);
    x.repeat_interleave(2, a);
    x.roll(1, a);
    x.rot90(a, 0, 1);
    x.rot90(1, a, 0);
    x.windows(a, 1, 1);
    x.take(indices(x), a);
    x.gather(a, x.cast(I64));
    x.scatter(a, x.cast(I64), x);
    x.scatter_reduce(a, x.cast(I64), x, Scatter::default());
    x.index_add(a, indices(x), x);
    x.index_fill(a, indices(x), 1.0);
    x.scatter_rows(indices(x), a, 3);
    x.unsqueeze(a);
    x.squeeze(a);
    x.permute([a, 0]);
    x.transpose(a, 0);
    x.narrow(a, 0, 1);
    x.flip(a);
    x.graph().concat(&[x, x], a);
    x.graph().stack(&[x, x], a);
    x.normalize(2.0, a, 1e-5);
    x.cosine_similarity(x, a, 1e-8);
    x.cross(x, a);
    x.layer_norm(a, 1e-5);
    x.rms_norm(a, 1e-5);
    x.affine(1.0, 0.0, a);
    x.bias(x, a);
    x.diagonal(0, a, 0);
    x.matrix_power(a);
    x.categorical(a, x.graph().random_key(1));
};

const BY_A_SHIFT: &[Operation<isize>] = calls! { isize: |x, n|
    x.roll(n, -1);
    x.tril(n as i64);
    x.triu(n as i64);
    x.diagonal(n as i64, -2, -1);
    x.diag_embed(n as i64);
    x.reshape([n]);
    x.reshape([n, n]);
};

const BY_A_REAL: &[Operation<f64>] = calls! { f64: |x, r|
    x.norm(r, -1);
    x.norm(r, ..);
    x.cdist(x, r);
    x.normalize(r, -1, r);
    x.pairwise_distance(x, r, r);
    x.clamp(r, 1.0);
    x.quantile(r, -1, Between::Lower);
    x.nanquantile(r, .., Between::Nearest);
    x.elu(r);
    x.celu(r);
    x.soft_shrink(r);
    x.hard_shrink(r);
    x.pinv(r);
    x.pow(r);
    x.layer_norm(-1, r);
    x.dropout(r, x.graph().random_key(1));
    x.huber_loss(x, r, Reduce::Mean);
    x.smooth_l1_loss(x, r, Reduce::Mean);
    x.cross_entropy(indices(x), CrossEntropy { label_smoothing: r, ..Default::default() });
    x.graph().full([2], r, DType::I32);
    x.cast(DType::U8).eq(r).cast(F64);
};

/// Builds, differentiates and, unless it is large, compiles.
fn attempt<N: Copy>(shape: &[usize], operation: Operation<N>, number: N) {
    let g = Graph::new();
    let x = g.input("x", shape, F64);
    let y = operation.1(x, number);
    if g.check().is_err() {
        return;
    }
    let mut keys = vec![y.key()];
    if let Ok(gradients) = g.vjp(&[(y, y)], &[x]) {
        keys.extend(gradients.into_iter().map(Tensor::key));
    }
    if y.shape().count() < 1 << 16 {
        drop(Session::compile(&g, Reference, &keys, Updates::none()));
    }
}

fn panics<N: Copy + std::fmt::Debug>(operations: &[Operation<N>], numbers: &[N]) -> Vec<String> {
    let mut found = Vec::new();
    for &operation in operations {
        for shape in SHAPES {
            for &number in numbers {
                let run = AssertUnwindSafe(|| attempt(shape, operation, number));
                if catch_unwind(run).is_err() {
                    found.push(format!("{} of {shape:?} by {number:?}", operation.0));
                }
            }
        }
    }
    found
}

#[test]
fn no_size_makes_an_operation_panic() {
    let found = panics(OF_A_SIZE, SIZES);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_axis_makes_an_operation_panic() {
    let found = panics(ALONG_AN_AXIS, AXES);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_shift_makes_an_operation_panic() {
    let found = panics(BY_A_SHIFT, SHIFTS);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_real_number_makes_an_operation_panic() {
    let found = panics(BY_A_REAL, REALS);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
