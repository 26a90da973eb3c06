//! Elementwise functions, shapes, indices, reductions, products and linear algebra.

use backprop::prelude::*;
use backprop::{Order, Scatter, Triangle};

use crate::table::{Build, Row, check, row};

/// The first of several tensors.
fn first<'g>(tensors: impl IntoIterator<Item = Tensor<'g>>) -> Tensor<'g> {
    tensors.into_iter().next().unwrap()
}

fn integers<'g>(g: &'g Graph, shape: &[usize]) -> Tensor<'g> {
    g.input("i", shape, I64)
}

const HUGE: usize = 1 << 40;

static SHAPES: &[Row<Build>] = &[
    row("Shape", |g, _| g.input("y", [usize::MAX, 2], F32)),
    row("Shape", |g, _| g.input("y", [1; 9], F32)),
    row("Shape", |g, _| {
        g.read(g.parameter("w", [1 << 62, 4], F32, Init::Zeros))
    }),
    row("Shape", |g, _| {
        g.read(g.parameter("w", [1 << 61], F64, Init::Zeros))
            .cast(F32)
    }),
    row("Shape", |g, _| g.input("y", [1 << 61], F64)),
    row("Shape", |g, _| g.full([1 << 61], 0.0, F32).cast(F64)),
    row("Shape", |g, _| g.full([usize::MAX, usize::MAX], 0.0, F32)),
    row("Shape", |g, _| g.data([3], &[1.0f32; 2])),
    row("Shape", |g, _| g.data([usize::MAX, 3], &[1.0f32; 2])),
    row("Axis", |g, _| g.coordinate([3, 4], 2)),
    row("Shape", |g, _| g.coordinate([usize::MAX, 2], 0)),
    row("Shape", |_, x| x.broadcast_to([32, 65])),
    row("Shape", |_, x| x.broadcast_to([64])),
    row("Shape", |_, x| {
        x.broadcast_to([1, 1, 1, 1, 1, 1, 1, 32, 64])
    }),
    row("Shape", |g, _| {
        g.input("y", [HUGE, 1], F32).broadcast_to([HUGE, HUGE])
    }),
    row("Shape", |g, _| {
        g.input("y", [HUGE, 1], F32) + g.input("z", [HUGE], F32)
    }),
    row("Shape", |g, x| x + g.input("y", [3], F32)),
    row("Shape", |g, x| x.lt(g.input("y", [32, 3], F32))),
    row("Shape", |g, x| x.gt(0.0).select(x, g.input("y", [5], F32))),
    row("Shape", |g, x| x.clamp(g.input("y", [5], F32), 1.0)),
    row("Shape", |g, x| x.lerp(g.input("y", [5], F32), 0.5)),
    row("Shape", |_, x| x.reshape([5, -1])),
    row("Shape", |_, x| x.reshape([-1, -1])),
    row("Shape", |_, x| x.reshape([-2, 64])),
    row("Shape", |_, x| x.reshape([0, -1])),
    row("Shape", |_, x| x.reshape([isize::MAX, 4])),
    row("Shape", |_, x| x.reshape([isize::MIN, isize::MIN])),
    row("Shape", |_, x| x.reshape([1, 1, 1, 1, 1, 1, 1, 1, -1])),
    row("Axis", |_, x| x.flatten_from(3)),
    row("Shape", |_, x| {
        x.reshape([1, 1, 1, 1, 1, 1, 32, 64]).unsqueeze(0)
    }),
    row("Axis", |_, x| x.unsqueeze(4)),
    row("Axis", |_, x| x.unsqueeze(i32::MIN)),
    row("Shape", |_, x| x.squeeze(0)),
    row("Axis", |_, x| x.squeeze(7)),
    row("Attribute", |_, x| x.permute([0, 0])),
    row("Attribute", |_, x| x.permute([0])),
    row("Axis", |_, x| x.permute([0, 2])),
    row("Axis", |_, x| x.transpose(0, 2)),
    row("Axis", |_, x| x.sum(..).t()),
    row("Attribute", |_, x| x.narrow(0, 5, 3)),
    row("Attribute", |_, x| x.narrow(0, 5, 33)),
    row("Attribute", |_, x| x.narrow(0, usize::MAX, usize::MAX)),
    row("Axis", |_, x| x.narrow(-3, 0, 1)),
    row("Attribute", |_, x| x.slice([0, 10], [32, 5], [1, 1])),
    row("Attribute", |_, x| x.slice([0, 0], [32, 64], [1, 0])),
    row("Attribute", |_, x| x.slice([0], [32], [1])),
    row("Attribute", |_, x| {
        x.slice([0, 0], [32, usize::MAX], [1, 2])
    }),
    row("Axis", |_, x| x.flip(2)),
    row("Attribute", |_, x| x.flip([0, 0])),
    row("Attribute", |_, x| x.pad([1], [1], 0.0)),
    row("Shape", |_, x| x.pad([usize::MAX, 0], [1, 0], 0.0)),
    row("Shape", |_, x| x.pad([usize::MAX, 0], [usize::MAX, 0], 0.0)),
    row("Shape", |_, x| x.pad([1 << 62, 0], [1 << 62, 0], 0.0)),
    row("DType", |g, _| integers(g, &[2]).pad([1], [1], 0.5)),
    row("Axis", |g, x| g.concat(&[x, x], 2)),
    row("Shape", |g, _| g.concat(&[], 0)),
    row("Shape", |g, x| g.concat(&[x, g.input("y", [3, 3], F32)], 0)),
    row("Shape", |g, x| g.concat(&[x, g.input("y", [3], F32)], 0)),
    row("DType", |g, x| g.concat(&[x, x.cast(F64)], 0)),
    row("Shape", |g, _| {
        let y = g.input("y", [1 << 62], U8);
        g.concat(&[y, y, y], 0)
    }),
    row("Axis", |g, x| g.stack(&[x, x], 3)),
    row("Shape", |g, _| g.stack(&[], 0)),
    row("Shape", |g, x| g.stack(&[x, x.t()], 0)),
    row("Attribute", |_, x| first(x.split([30, 3], 0))),
    row("Attribute", |_, x| first(x.split([usize::MAX, 33], 0))),
    row("Axis", |_, x| first(x.split([32], 2))),
    row("Attribute", |_, x| first(x.chunk(0, 0))),
    row("Axis", |_, x| first(x.unstack(2))),
    row("Attribute", |_, x| x.move_axes([0, 1], [0])),
    row("Attribute", |_, x| x.move_axes([0, 0], [0, 1])),
    row("Axis", |_, x| x.move_axes([5], [0])),
    row("Attribute", |_, x| x.repeat([2])),
    row("Shape", |_, x| x.repeat([usize::MAX, 2])),
    row("Axis", |_, x| x.repeat_interleave(2, 2)),
    row("Shape", |_, x| x.repeat_interleave(usize::MAX, 0)),
    row("Axis", |_, x| x.roll(1, 2)),
    row("Shape", |g, _| {
        g.full([1, 4, 0, 0], 0.0, F32).pixel_unshuffle(1 << 40)
    }),
    row("Shape", |g, _| {
        g.full([1, 0, 4, 4], 0.0, F32).pixel_shuffle(1 << 31)
    }),
    row("Attribute", |_, x| x.rot90(1, 0, 0)),
    row("Axis", |_, x| x.rot90(1, 0, 2)),
    row("Attribute", |_, x| x.windows(0, 33, 1)),
    row("Attribute", |_, x| x.windows(0, 3, 0)),
    row("Axis", |_, x| x.windows(2, 3, 1)),
    row("Shape", |g, x| first(g.meshgrid(&[x]))),
    row("Shape", |_, x| x.reshape([2, 4, 16, 16]).pixel_shuffle(0)),
    row("Shape", |_, x| x.reshape([2, 4, 16, 16]).pixel_shuffle(3)),
    row("Shape", |_, x| {
        x.reshape([2, 4, 16, 16]).pixel_shuffle(usize::MAX)
    }),
    row("Shape", |_, x| x.reshape([2, 4, 16, 16]).pixel_unshuffle(3)),
    row("Shape", |_, x| x.reshape([2, 4, 16, 16]).channel_shuffle(3)),
    row("Shape", |_, x| x.reshape([2, 4, 16, 16]).channel_shuffle(0)),
];

static TYPES: &[Row<Build>] = &[
    row("DType", |g, x| x * g.input("y", [64], I32)),
    row("DType", |g, x| x.matmul(g.input("w", [64, 10], F64))),
    row("DType", |g, _| g.input("y", [64], I32).exp()),
    row("DType", |g, x| x.take(g.input("y", [4], F32), 0)),
    row("DType", |_, x| x.logical_not()),
    row("DType", |_, x| x.select(1.0, 0.0)),
    row("DType", |_, x| x.gt(0.0).select(x, x.cast(F64))),
    row("DType", |g, _| integers(g, &[2]) + 0.5),
    row("DType", |g, _| integers(g, &[2]) + f64::INFINITY),
    row("DType", |g, _| g.full([2], f64::NAN, I32)),
    row("DType", |g, _| g.full([2], 2.0, Bool)),
    row("DType", |g, _| g.full([2], 256.0, U8)),
    row("DType", |g, _| g.full([2], -1.0, U8)),
    row("DType", |g, _| g.full([2], 3e9, I32)),
    row("DType", |_, x| -x.gt(0.0)),
    row("DType", |_, x| x.gt(0.0).sum(..)),
    row("DType", |g, _| integers(g, &[3]).mean(..)),
    row("DType", |g, _| integers(g, &[3]).var(..)),
    row("DType", |g, _| integers(g, &[3]).softmax(0)),
    row("DType", |g, _| integers(g, &[3]).sigmoid()),
    row("DType", |g, _| integers(g, &[3, 3]).inverse()),
    row("DType", |_, x| x.require(x.sum(..), "no truth value")),
    row("DType", |g, x| x.take(g.input("y", [2], Bool), 0)),
    row("Shape", |g, x| {
        x.scatter_add(0, integers(g, &[2, 64]), x.cast(F64))
    }),
];

static INDICES: &[Row<Build>] = &[
    row("Axis", |g, x| x.take(integers(g, &[2]), 2)),
    row("Shape", |g, x| {
        x.reshape([2, 2, 2, 2, 2, 64]).take(integers(g, &[1; 4]), 0)
    }),
    row("Attribute", |g, x| x.take(g.data([2], &[3i64, 64]), 1)),
    row("Attribute", |g, x| x.take(g.data([1], &[i64::MIN]), 1)),
    row("Attribute", |g, _| g.data([1], &[-1i32]).one_hot(5, F32)),
    row("DType", |_, x| x.one_hot(5, F32)),
    row("Shape", |g, _| integers(g, &[4]).one_hot(usize::MAX, F32)),
    row("Axis", |g, x| x.gather(2, integers(g, &[32, 64]))),
    row("Shape", |g, x| x.gather(0, integers(g, &[32]))),
    row("Shape", |g, x| x.gather(0, integers(g, &[32, 65]))),
    row("Shape", |g, x| x.scatter(0, integers(g, &[2, 64]), x)),
    row("Axis", |g, x| x.scatter_add(2, integers(g, &[32, 64]), x)),
    row("Shape", |g, x| {
        x.scatter_add(0, integers(g, &[2, 65]), g.input("y", [2, 65], F32))
    }),
    row("DType", |_, x| {
        x.scatter_reduce(
            0,
            x,
            x,
            Scatter {
                combine: Default::default(),
                include_self: true,
            },
        )
    }),
    row("Shape", |g, x| x.index_add(0, integers(g, &[3]), x)),
    row("Shape", |g, x| x.index_copy(0, integers(g, &[32, 1]), x)),
    row("Axis", |g, x| x.index_fill(-3, integers(g, &[3]), 0.0)),
    row("Shape", |g, x| x.scatter_rows(integers(g, &[3]), 0, 5)),
    row("Axis", |g, x| x.scatter_rows(integers(g, &[32]), 2, 5)),
    row("Shape", |g, x| {
        x.scatter_rows(integers(g, &[32]), 0, usize::MAX)
    }),
    row("DType", |_, x| x.embedding(x)),
    row("Attribute", |_, x| x.topk(65, 1, Order::Descending).0),
    row("Axis", |_, x| x.argsort(2, Order::Ascending)),
    row("Axis", |_, x| x.sort(-3, Order::Ascending).0),
    row("Axis", |_, x| x.sum(..).sort(0, Order::Ascending).0),
];

static REDUCTIONS: &[Row<Build>] = &[
    row("Axis", |_, x| x.sum(2)),
    row("Axis", |_, x| x.max([0, -3])),
    row("Axis", |_, x| x.argmax(5)),
    row("Axis", |_, x| x.sum(..).sum(0)),
    row("Axis", |_, x| x.mean(Keep(2))),
    row("Axis", |_, x| x.prod(i32::MAX)),
    row("Axis", |_, x| x.any(i32::MIN)),
    row("Attribute", |_, x| x.sum([0, 0])),
    row("Attribute", |_, x| x.sum([0, -2])),
    row("Shape", |g, _| g.input("y", [3, 0], F32).max(1)),
    row("Shape", |g, _| g.input("y", [3, 0], F32).argmin(1)),
    row("Axis", |_, x| x.softmax(2)),
    row("Axis", |_, x| x.log_softmax(-3)),
    row("Axis", |_, x| x.logsumexp([0, 2])),
    row("Axis", |_, x| x.cumsum(2)),
    row("Axis", |_, x| x.cumprod(2)),
    row("Axis", |_, x| x.logcumsumexp(2)),
    row("Axis", |_, x| x.cummax(2).0),
    row("Attribute", |_, x| x.norm(f64::NAN, ..)),
    row("Axis", |_, x| x.norm(2.0, 2)),
    row("Attribute", |_, x| x.quantile(1.5, .., Default::default())),
    row("Attribute", |_, x| {
        x.quantile(f64::NAN, .., Default::default())
    }),
    row("Axis", |_, x| x.median(3)),
    row("Axis", |_, x| x.std(2)),
    row("Axis", |_, x| x.glu(2)),
    row("Shape", |_, x| x.narrow(1, 0, 63).glu(1)),
    row("Axis", |_, x| x.normalize(2.0, 2, 1e-12)),
    row("Axis", |_, x| x.cosine_similarity(x, 2, 1e-8)),
    row("Attribute", |_, x| x.cdist(x, f64::NAN)),
    row("Shape", |_, x| x.cdist(x.t(), 2.0)),
];

static PRODUCTS: &[Row<Build>] = &[
    row("Shape", |g, x| x.matmul(g.input("w", [128, 10], F32))),
    row("Shape", |g, x| x.matmul(g.input("w", [10, 64], F32))),
    row("Shape", |_, x| x.matmul(x.sum(..))),
    row("Shape", |g, x| {
        x.reshape([2, 16, 64]).matmul(g.input("w", [3, 64, 2], F32))
    }),
    row("DType", |_, x| x.gt(0.0).matmul(x.t().gt(0.0))),
    row("Shape", |g, _| {
        g.input("y", [1 << 40, 1], F32)
            .matmul(g.input("z", [1, 1 << 40], F32))
    }),
    row("Shape", |_, x| x.outer(x)),
    row("Shape", |g, _| {
        g.input("y", [1 << 40], F32)
            .outer(g.input("z", [1 << 40], F32))
    }),
    row("Shape", |g, _| {
        g.input("y", [1 << 20, 1 << 12], F32)
            .kron(g.input("z", [1 << 20, 1 << 12], F32))
    }),
    row("Attribute", |g, x| g.einsum("ij,jk->il", &[x, x.t()])),
    row("Attribute", |g, x| g.einsum("ij,ij->ij", &[x, x.t()])),
    row("Attribute", |g, x| g.einsum("", &[x])),
    row("Attribute", |g, _| g.einsum("->", &[])),
    row("Attribute", |g, x| g.einsum("ij", &[x, x])),
    row("Attribute", |g, x| g.einsum("ij,jk", &[x])),
    row("Attribute", |g, x| g.einsum("ijk->i", &[x])),
    row("Attribute", |g, x| g.einsum("ij->ii", &[x])),
    row("Attribute", |g, x| g.einsum("ii->i", &[x])),
    row("Attribute", |g, x| g.einsum("ij->i->j", &[x])),
    row("Attribute", |g, x| g.einsum("i1->i", &[x])),
    row("Attribute", |g, x| g.einsum("iä->i", &[x])),
    row("Attribute", |g, x| g.einsum("...ij...->ij", &[x])),
    row("Attribute", |g, x| g.einsum("i..j->ij", &[x])),
    row("Attribute", |g, x| g.einsum("abcdefghijkl->a", &[x])),
    row("Shape", |_, x| x.det()),
    row("Shape", |_, x| x.cholesky()),
    row("Shape", |_, x| x.inverse()),
    row("Shape", |_, x| x.lu().det()),
    row("Shape", |_, x| x.slogdet().1),
    row("Shape", |_, x| x.matrix_exp()),
    row("Shape", |_, x| x.matrix_power(2)),
    row("Shape", |_, x| x.eigh().0),
    row("Shape", |_, x| x.sum(..).svd().0),
    row("Axis", |_, x| x.sum(..).trace()),
    row("Attribute", |_, x| x.pinv(f64::NAN)),
    row("Shape", |_, x| x.matmul(x.t()).solve(x.t())),
    row("Shape", |_, x| x.solve_triangular(x, Triangle::Lower)),
    row("Axis", |_, x| x.diagonal(0, 0, 2)),
    row("Attribute", |_, x| x.diagonal(0, 1, 1)),
    row("Shape", |_, x| x.sum(..).tril(0)),
    row("Attribute", |_, x| x.diag_embed(i64::MAX)),
    row("Attribute", |_, x| x.diag_embed(i64::MIN)),
    row("Axis", |_, x| x.cross(x, 2)),
    row("Shape", |_, x| x.cross(x, 1)),
];

#[test]
fn shapes_that_make_no_sense() {
    check(SHAPES);
}

#[test]
fn types_that_make_no_sense() {
    check(TYPES);
}

#[test]
fn indices_that_make_no_sense() {
    check(INDICES);
}

#[test]
fn reductions_that_make_no_sense() {
    check(REDUCTIONS);
}

#[test]
fn products_that_make_no_sense() {
    check(PRODUCTS);
}
