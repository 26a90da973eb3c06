//! Loops, conditionals, batches, names, other graphs, composites and derivatives.

use backprop::Left;
use backprop::prelude::*;

use crate::table::{Build, Row, check, row};

/// A loop that hands `next` on.
#[track_caller]
fn looped<'g>(x: Tensor<'g>, next: impl FnOnce(Tensor<'g>) -> Vec<Tensor<'g>>) -> Tensor<'g> {
    let body = |at: backprop::Iteration<'g>| Left {
        carried: next(at.carried[0]),
        stacked: vec![],
    };
    x.graph().scan(3, &[x], &[], body).carried[0]
}

static LOOPS: &[Row<Build>] = &[
    row("Shape", |_, x| looped(x, |x| vec![x.sum(0)])),
    row("DType", |_, x| looped(x, |x| vec![x.cast(F64)])),
    row("Attribute", |_, x| looped(x, |_| vec![])),
    row("Attribute", |_, x| looped(x, |x| vec![x, x])),
    row("Shape", |g, x| {
        g.scan(5, &[], &[x], |at| Left {
            carried: vec![],
            stacked: at.elements,
        })
        .stacked[0]
    }),
    row("Shape", |g, x| {
        g.scan(32, &[], &[x.sum(..)], |at| Left {
            carried: vec![],
            stacked: at.elements,
        })
        .stacked[0]
    }),
    row("Attribute", |g, x| {
        g.scan(usize::MAX, &[], &[], |_| Left {
            carried: vec![],
            stacked: vec![x],
        })
        .stacked[0]
    }),
    row("Region", |_, x| {
        let mut leaked = x;
        let _ = looped(x, |x| {
            leaked = x.exp();
            vec![leaked]
        });
        leaked + 1.0
    }),
    row("DType", |g, x| {
        g.scan_counted(x.sum(..), 3, &[x], &[], |at| Left {
            carried: at.carried,
            stacked: vec![],
        })
        .carried[0]
    }),
    row("Shape", |g, x| {
        let count = g.input("count", [2], I32);
        g.scan_counted(count, 3, &[x], &[], |at| Left {
            carried: at.carried,
            stacked: vec![],
        })
        .carried[0]
    }),
    row("DType", |g, x| g.cond(x.sum(..), || vec![x], || vec![x])[0]),
    row("Shape", |g, x| g.cond(x.gt(0.0), || vec![x], || vec![x])[0]),
    row("Shape", |g, x| {
        g.cond(x.sum(..).gt(0.0), || vec![x], || vec![x.t()])[0]
    }),
    row("Attribute", |g, x| {
        g.cond(x.sum(..).gt(0.0), || vec![x], || vec![x, x])[0]
    }),
    row("DType", |g, x| {
        g.cond(x.sum(..).gt(0.0), || vec![x], || vec![x.cast(F64)])[0]
    }),
    row("DType", |g, x| {
        g.while_loop(3, &[x], |x| x[0].sum(..), |x| x.to_vec())[0]
    }),
    row("Shape", |g, x| {
        g.while_loop(3, &[x], |x| x[0].gt(0.0), |x| x.to_vec())[0]
    }),
    row("Shape", |g, x| {
        g.while_loop(3, &[x], |x| x[0].sum(..).gt(0.0), |x| vec![x[0].sum(0)])[0]
    }),
    row("Shape", |g, x| {
        g.vmap(&[x, x.narrow(0, 0, 3)], |x| vec![x[0] + x[1]])[0]
    }),
    row("Shape", |g, x| g.vmap(&[x.sum(..)], |x| x.to_vec())[0]),
    row("Attribute", |g, x| g.vmap(&[], |_| vec![x])[0]),
];

static NAMES: &[Row<Build>] = &[
    row("DuplicateName", |g, _| g.input("x", [2], F32)),
    row("DuplicateName", |g, _| {
        let _ = g.parameter("w", [2], F32, Init::Zeros);
        g.read(g.parameter("w", [2], F32, Init::Zeros)).sum(..)
    }),
    row("Mismatch", |g, _| {
        g.read(g.parameter("w", [2], F32, Init::Values(vec![1.0])))
    }),
    row("Attribute", |g, _| {
        g.read(g.parameter(
            "w",
            [2],
            F32,
            Init::Normal {
                mean: 0.0,
                std: -1.0,
            },
        ))
    }),
    row("Attribute", |g, _| {
        g.read(g.parameter(
            "w",
            [2],
            F32,
            Init::Uniform {
                low: 1.0,
                high: 0.0,
            },
        ))
    }),
    row("Attribute", |g, _| {
        g.read(g.parameter(
            "w",
            [2],
            F32,
            Init::Uniform {
                low: f64::NAN,
                high: 0.0,
            },
        ))
    }),
    row("Attribute", |g, _| {
        g.read(g.parameter("w", [2], I32, Init::Constant(0.5)))
            .cast(F32)
    }),
    row("Attribute", |g, _| {
        g.read(g.parameter("w", [2], I32, Init::Values(vec![0.5, 1.0])))
            .cast(F32)
    }),
];

#[test]
fn loops_that_make_no_sense() {
    check(LOOPS);
}

#[test]
fn names_and_initial_values_that_make_no_sense() {
    check(NAMES);
}
