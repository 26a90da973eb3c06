//! Operations, windows and attributes that make no sense: errors of building.

use std::panic::Location;

use backprop::prelude::*;
use backprop::{
    Convolution, Divisor, ErrorKind, Mask, Order, PerAxis, Pool, Reference, WeightDropout,
};

use crate::{Kind, kind};

/// Builds something wrong on the caller's line, or the one below.
#[track_caller]
fn check_build(expected: Kind, build: impl for<'g> FnOnce(&'g Graph, Tensor<'g>) -> Tensor<'g>) {
    let (file, line) = (Location::caller().file(), Location::caller().line());
    let g = Graph::new();
    let x = g.input("x", [32, 64], F32);
    let bad = build(&g, x);
    // What follows is silent.
    let follows = bad.relu().exp() + x.sum(..);
    let error = g.check().unwrap_err();
    assert!(expected(error.kind()), "{error}");
    assert_eq!(error.all().count(), 1, "{error}");
    let place = error.place().unwrap();
    assert_eq!(place.file(), file, "{error}");
    assert!(
        (line..=line + 2).contains(&place.line()),
        "line {line}: {error}"
    );
    assert!(
        error.notes().iter().any(|note| note.place.is_some()),
        "{error}"
    );
    let compiled = Session::compile(&g, Reference, &[follows.key()], Updates::none());
    assert_eq!(
        compiled.map(|_| ()).unwrap_err().to_string(),
        error.to_string()
    );
}

#[test]
fn operations_that_make_no_sense() {
    let shape: Kind = kind!(ErrorKind::Shape { .. });
    let dtype: Kind = kind!(ErrorKind::DType { .. });
    let axis: Kind = kind!(ErrorKind::Axis { .. });
    let attribute: Kind = kind!(ErrorKind::Attribute { .. });
    check_build(shape, |g, x| x.matmul(g.input("w", [128, 10], F32)));
    check_build(shape, |g, x| x.matmul(g.input("w", [10, 64], F32)));
    check_build(shape, |g, x| x + g.input("y", [3], F32));
    check_build(shape, |_, x| x.det());
    check_build(shape, |_, x| x.cholesky());
    check_build(shape, |_, x| x.matmul(x.t()).solve(x.t()));
    check_build(attribute, |g, x| g.einsum("ij,jk->il", &[x, x.t()]));
    check_build(attribute, |g, x| g.einsum("ij,ij->ij", &[x, x.t()]));
    check_build(shape, |g, x| x.lt(g.input("y", [32, 3], F32)));
    check_build(dtype, |g, x| x * g.input("i", [64], I32));
    check_build(dtype, |g, x| x.matmul(g.input("w", [64, 10], F64)));
    check_build(dtype, |g, _| g.input("i", [64], I32).exp());
    check_build(dtype, |g, x| x.take(g.input("i", [4], F32), 0));
    check_build(dtype, |_, x| x.logical_not());
    check_build(axis, |_, x| x.sum(2));
    check_build(axis, |_, x| x.max([0, -3]));
    check_build(axis, |_, x| x.argmax(5));
    check_build(axis, |_, x| x.squeeze(7));
    check_build(axis, |g, x| g.concat(&[x, x], 2));
    check_build(attribute, |_, x| x.sum([0, 0]));
    check_build(attribute, |_, x| x.permute([0, 0]));
    check_build(attribute, |_, x| x.slice([0, 10], [32, 5], [1, 1]));
    check_build(attribute, |_, x| x.slice([0, 0], [32, 64], [1, 0]));
    check_build(shape, |_, x| x.reshape([5, -1]));
    check_build(shape, |_, x| x.reshape([-1, -1]));
    check_build(shape, |_, x| x.broadcast_to([32, 65]));
    check_build(shape, |g, x| g.concat(&[x, g.input("y", [3, 3], F32)], 0));
    check_build(shape, |g, _| g.input("empty", [3, 0], F32).max(1));
    check_build(shape, |g, _| g.input("empty", [3, 0], F32).argmin(1));
    check_build(shape, |_, x| x.squeeze(0));
}

#[test]
fn windows_that_make_no_sense() {
    let shape: Kind = kind!(ErrorKind::Shape { .. });
    let dtype: Kind = kind!(ErrorKind::DType { .. });
    let attribute: Kind = kind!(ErrorKind::Attribute { .. });
    fn image<'g>(x: Tensor<'g>) -> Tensor<'g> {
        x.reshape([2, 4, 16, 16])
    }
    fn filter(g: &Graph) -> Tensor<'_> {
        g.full([6, 2, 3, 3], 1.0, F32)
    }
    let grouped = || Convolution {
        groups: 2,
        ..Default::default()
    };
    let strided = |stride: PerAxis| Convolution {
        stride,
        ..grouped()
    };
    check_build(attribute, |g, x| {
        image(x).conv(filter(g), strided(0.into()))
    });
    check_build(attribute, |g, x| {
        image(x).conv(filter(g), strided([1, 1, 1].into()))
    });
    let dilation = 0.into();
    check_build(attribute, |g, x| {
        image(x).conv(
            filter(g),
            Convolution {
                dilation,
                ..grouped()
            },
        )
    });
    check_build(attribute, |g, x| {
        image(x).conv(
            filter(g),
            Convolution {
                groups: 0,
                ..grouped()
            },
        )
    });
    check_build(shape, |g, x| {
        image(x).conv(
            filter(g),
            Convolution {
                groups: 4,
                ..grouped()
            },
        )
    });
    check_build(shape, |g, x| {
        image(x).conv(
            filter(g),
            Convolution {
                groups: 1,
                ..grouped()
            },
        )
    });
    let dilation = 8.into();
    check_build(shape, |g, x| {
        image(x).conv(
            filter(g),
            Convolution {
                dilation,
                ..grouped()
            },
        )
    });
    check_build(shape, |g, x| x.conv(filter(g), grouped()));
    check_build(dtype, |g, x| image(x).conv(filter(g).cast(F64), grouped()));
    let padding = 16.into();
    check_build(shape, |_, x| {
        image(x).conv_transpose(
            x.reshape([4, 2, 16, 16]),
            Convolution {
                padding,
                ..grouped()
            },
            0,
        )
    });
    check_build(attribute, |_, x| {
        image(x).conv_transpose(x.reshape([4, 2, 16, 16]), grouped(), 1)
    });
    check_build(attribute, |_, x| {
        image(x).max_pool(Pool {
            size: 0.into(),
            ..Default::default()
        })
    });
    check_build(attribute, |_, x| {
        image(x).max_pool(Pool {
            padding: 2.into(),
            ..Default::default()
        })
    });
    check_build(shape, |_, x| {
        image(x).max_pool(Pool {
            size: 17.into(),
            ..Default::default()
        })
    });
    check_build(attribute, |_, x| {
        image(x).avg_pool(Pool::default(), Divisor::Fixed(0))
    });
    check_build(attribute, |_, x| image(x).adaptive_avg_pool([0, 1]));
    check_build(shape, |_, x| x.adaptive_max_pool(1));
    check_build(dtype, |_, x| image(x).cast(I32).max_pool(Pool::default()));
}

#[test]
fn attributes_that_make_no_sense() {
    let shape: Kind = kind!(ErrorKind::Shape { .. });
    let dtype: Kind = kind!(ErrorKind::DType { .. });
    let axis: Kind = kind!(ErrorKind::Axis { .. });
    let attribute: Kind = kind!(ErrorKind::Attribute { .. });
    check_build(attribute, |_, x| x.topk(65, 1, Order::Descending).0);
    check_build(axis, |_, x| x.argsort(2, Order::Ascending));
    check_build(shape, |_, x| x.attention(x.t(), x, Mask::None));
    check_build(dtype, |_, x| {
        x.attention(x, x, Mask::Where(x.matmul(x.t())))
    });
    fn dropping(g: &Graph, p: f64) -> WeightDropout<'_> {
        let key = g.random_key(1);
        WeightDropout { p, key }
    }
    check_build(attribute, |g, x| {
        x.attention_with_dropout(x, x, Mask::None, dropping(g, 1.0))
    });
    check_build(attribute, |g, x| {
        x.attention_with_dropout(x, x, Mask::None, dropping(g, -0.1))
    });
    check_build(shape, |g, x| {
        x.attention_with_dropout(x.t(), x, Mask::None, dropping(g, 0.1))
    });
    check_build(attribute, |g, x| x.take(g.data([2], &[3i64, 64]), 1));
    check_build(attribute, |g, _| g.data([1], &[-1i32]).one_hot(5, F32));
    check_build(dtype, |_, x| x.require(x.sum(..), "no truth value"));
}
