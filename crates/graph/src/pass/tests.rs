//! Passes as text: a graph in, the rewritten nodes or the plan out.

use backprop_core::DType::{F32, I64};
use backprop_core::{Primitive, Reference};
use expect_test::{Expect, expect};

use super::{Work, fuse, launches, rewrite, schedule};
use crate::graph::Graph;
use crate::init::Init;
use crate::session::Session;
use crate::tensor::Tensor;
use crate::updates::Updates;

fn work(graph: &Graph, fetches: &[Tensor<'_>]) -> Work {
    Work {
        ir: graph.ir.snapshot(),
        fetches: fetches.iter().map(|x| x.id).collect(),
        updates: Vec::new(),
    }
}

/// The nodes that are left of `build`'s result.
#[track_caller]
fn check_rewrite(build: impl for<'g> Fn(&'g Graph) -> Tensor<'g>, expected: Expect) {
    let g = Graph::new();
    let y = build(&g);
    g.check().unwrap();
    expected.assert_eq(&rewrite(&work(&g, &[y]), &Reference).ir.to_string());
}

/// The launches that `build`'s results become on a backend that takes every form.
#[track_caller]
fn check_plan(build: impl for<'g> Fn(&'g Graph) -> Vec<Tensor<'g>>, expected: Expect) {
    let g = Graph::new();
    let keys: Vec<_> = build(&g).into_iter().map(Tensor::key).collect();
    let session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
    expected.assert_eq(&lines(&session));
}

/// The launches of a session's plan, a line each.
fn lines(session: &Session<Reference>) -> String {
    let text = session.plan_text();
    let launches = text.lines().skip(2);
    let launches = launches.map(|line| line.split("  //").next().unwrap_or(""));
    launches.map(|launch| format!("{launch}\n")).collect()
}

#[test]
fn constants_fold_and_identities_vanish() {
    check_rewrite(
        |g| {
            let x = g.input("x", [3], F32);
            let two = g.full([3], 1.0, F32) + 1.0;
            (x * 1.0 - 0.0) * two
        },
        expect![[r#"
            %0 = input x : f32[3]
            %1 = 2 : f32[3]
            %2 = mul %0 %1 : f32[3]
        "#]],
    );
}

#[test]
fn adding_zero_stays_because_it_changes_a_negative_zero() {
    check_rewrite(
        |g| g.input("x", [3], F32) + 0.0,
        expect![[r#"
        %0 = input x : f32[3]
        %1 = 0 : f32[3]
        %2 = add %0 %1 : f32[3]
    "#]],
    );
}

#[test]
fn a_product_with_one_user_becomes_a_fused_multiply_add() {
    check_rewrite(
        |g| {
            let (x, y) = (g.input("x", [3], F32), g.input("y", [3], F32));
            let shared = x * y;
            (x * 2.0 + y) * (shared + shared)
        },
        expect![[r#"
            %0 = input x : f32[3]
            %1 = input y : f32[3]
            %2 = mul %0 %1 : f32[3]
            %3 = 2 : f32[3]
            %4 = fma %0 %3 %1 : f32[3]
            %5 = add %2 %2 : f32[3]
            %6 = mul %4 %5 : f32[3]
        "#]],
    );
}

#[test]
fn rearrangements_of_rearrangements_are_one() {
    check_rewrite(
        |g| {
            let x = g.input("x", [2, 3, 4], F32);
            x.permute([1, 0, 2])
                .permute([1, 0, 2])
                .reshape([6, 4])
                .reshape([4, -1])
        },
        expect![[r#"
            %0 = input x : f32[2, 3, 4]
            %1 = reshape %0 : f32[4, 6]
        "#]],
    );
}

#[test]
fn what_differentiation_needed_is_gone() {
    check_rewrite(
        |g| {
            let x = g.input("x", [3], F32);
            let y = x.exp().custom_vjp(&[x], |cx| vec![cx.cotangents[0]]);
            y.stop_gradient() * x
        },
        expect![[r#"
            %0 = input x : f32[3]
            %1 = exp %0 : f32[3]
            %2 = mul %1 %0 : f32[3]
        "#]],
    );
}

#[test]
fn a_layer_is_one_launch() {
    check_plan(
        |g| {
            let x = g.input("x", [8, 4], F32);
            let (w, b) = (
                g.parameter("w", [4, 3], F32, Init::Ones),
                g.parameter("b", [3], F32, Init::Zeros),
            );
            vec![(x.matmul(w) + b).relu()]
        },
        expect![[r#"
            relu = matmul [8, 4]x[4, 3] then add relu (x w b)
        "#]],
    );
}

#[test]
fn a_softmax_by_hand_is_one_row_program() {
    check_plan(
        |g| {
            let x = g.input("x", [8, 4], F32);
            let e = (x - x.max(crate::Keep(-1))).exp();
            vec![e / e.sum(crate::Keep(-1))]
        },
        expect![[r#"
            div = rows [8, 4] by [1] row_max sub exp row_sum div (x)
        "#]],
    );
}

#[test]
fn views_cost_nothing_until_strides_cannot_say_it() {
    check_plan(
        |g| {
            let x = g.input("x", [2, 3, 4], F32);
            let moved = x.permute([2, 0, 1]);
            let mixed = x.permute([1, 0, 2]).reshape([6, 4]);
            vec![
                moved.narrow(0, 1, 3).exp(),
                moved.reshape([4, 6]).exp(),
                mixed.exp(),
            ]
        },
        expect![[r#"
            %1 = relocate f32[2, 3, 4] as [3, 2, 4]/[4, 12, 1] into f32[3, 2, 4] (x)
            exp = sweep [2, 2, 3] exp (x)
            exp = sweep [4, 6] exp (x)
            exp = sweep [6, 4] exp (%1)
        "#]],
    );
}

#[test]
fn one_pass_makes_all_results_of_one_space() {
    check_plan(
        |g| {
            let (x, y) = (g.input("x", [100], F32), g.input("y", [100], F32));
            let d = x - y;
            vec![d, d.square().sum(..), x.sigmoid() * d]
        },
        expect![[r#"
            sub sum over [0] mul = sweep [100] sub square sigmoid mul sum over [0] (x y)
        "#]],
    );
}

#[test]
fn lookups_and_copies_are_launches_of_their_own() {
    check_plan(
        |g| {
            let (table, i) = (g.input("table", [5, 2], F32), g.input("i", [3], I64));
            let rows = table.take(i, 0);
            vec![g.concat(&[rows.relu(), table], 0).pad([0, 1], [0, 0], 0.0)]
        },
        expect![[r#"
            %2 = gather f32[5, 2] by i64[3] of f32[3, 2] (table i)
            %3 = sweep [3, 2] relu (%2)
            %4 = relocate f32[3, 2], f32[5, 2] into f32[8, 2] (%3 table)
            pad = relocate f32[8, 2] and 0 into f32[8, 3] (%4)
        "#]],
    );
}

/// What a backend declines is clustered again into plain forms.
#[test]
fn a_backend_of_plain_forms_gets_plain_forms() {
    let g = Graph::new();
    let x = g.input("x", [8, 4], F32);
    let w = g.parameter("w", [4, 3], F32, Init::Ones);
    let y = x.matmul(w).relu();
    let e = (y - y.max(crate::Keep(-1))).exp();
    let work = rewrite(&work(&g, &[e / e.sum(crate::Keep(-1)), y]), &Reference);
    let launches = schedule::schedule(fuse::fuse(&work, &|_| false)).unwrap();
    let list = launches::flat(&launches.list);
    assert!(list.iter().all(|launch| launch.primitive.is_plain()));
    let kinds: Vec<&str> = list.iter().map(|launch| launch.primitive.name()).collect();
    assert_eq!(kinds, ["matmul", "sweep", "sweep", "sweep", "sweep"]);
    assert!(
        list.iter()
            .all(|l| !matches!(*l.primitive, Primitive::Rows(_)))
    );
}

/// What follows a convolution is computed in its launch, as after a matrix product.
#[test]
fn bias_and_activation_join_a_convolution() {
    check_plan(
        |g| {
            let x = g.input("x", [2, 3, 8, 8], F32);
            let w = g.parameter("w", [4, 3, 3, 3], F32, Init::Ones);
            let b = g.parameter("b", [4], F32, Init::Ones);
            let how = crate::Convolution {
                padding: 1.into(),
                ..Default::default()
            };
            let y = x.conv(w, how).bias(b, 1).relu();
            let loss = y.square().sum(..);
            let mut fetches = g.grad(loss, &[w, b]).unwrap();
            fetches.push(y);
            fetches
        },
        expect![[r#"
            relu %4 = conv [2, 3, 8, 8] by [4, 3, 3, 3] into [2, 4, 8, 8] then add relu mul le where (x w b)
            sum over [0, 2, 3] = sweep [2, 4, 8, 8] sum over [0, 2, 3] (%4)
            conv_vjp_filter = conv_vjp_filter [2, 3, 8, 8] by [4, 3, 3, 3] into [2, 4, 8, 8] (x %4)
        "#]],
    );
}

/// A sum that many launches need is made once, where its last operand is made, instead of being
/// added up from all its operands by each.
#[test]
fn a_residual_stream_is_stored() {
    check_plan(
        |g| {
            let mut x = g.input("x", [64, 32], F32);
            let w = g.parameter("w", [32, 32], F32, Init::Ones);
            for _ in 0..3 {
                x = x + x.layer_norm(1, 1e-5).matmul(w);
            }
            vec![x.layer_norm(1, 1e-5)]
        },
        expect![[r#"
            %1 = rows [64, 32] by [1] row_sum div sub square row_sum div add rsqrt mul (x)
            %3 = matmul [64, 32]x[32, 32] then add (%1 w x)
            %4 = rows [64, 32] by [1] row_sum div sub square row_sum div add rsqrt mul (%3)
            %5 = matmul [64, 32]x[32, 32] then add (%4 w %3)
            %6 = rows [64, 32] by [1] row_sum div sub square row_sum div add rsqrt mul (%5)
            %7 = matmul [64, 32]x[32, 32] (%6 w)
            mul = rows [64, 32] by [1] add row_sum div sub square row_sum div add rsqrt mul (%5 %7)
        "#]],
    );
}

/// What fits in the reading of one operand is computed again.
#[test]
fn a_function_of_one_value_is_not_stored() {
    check_plan(
        |g| {
            let x = g.input("x", [64, 32], F32);
            let y = x * 2.0 + 1.0;
            vec![y.sum(0), y.sum(1)]
        },
        expect![[r#"
            sum over [0] = sweep [64, 32] fma sum over [0] (x)
            sum over [1] = sweep [64, 32] fma sum over [1] (x)
        "#]],
    );
}

/// Two reductions meet although one of their operands also belongs to another launch.
#[test]
fn reductions_of_the_same_operands_are_one_launch() {
    check_plan(
        |g| {
            let x = g.input("x", [64, 32], F32);
            let w = g.parameter("w", [32, 32], F32, Init::Ones);
            let y = x.matmul(w);
            vec![y.sum(0), (y * x).exp(), (y * x).sum(0)]
        },
        expect![[r#"
            %2 exp = matmul [64, 32]x[32, 32] then mul exp (x w x)
            sum over [0] sum over [0] = sweep [64, 32] mul sum over [0] sum over [0] (%2 x)
        "#]],
    );
}

/// Axes of size 1 keep nobody out.
#[test]
fn launches_over_the_same_points_are_one() {
    check_plan(
        |g| {
            let x = g.input("x", [1, 8], F32);
            let (w, b) = (
                g.parameter("w", [8, 3], F32, Init::Ones),
                g.parameter("b", [3], F32, Init::Zeros),
            );
            let y = x.matmul(w);
            let z = y.exp();
            vec![z, b - y.reshape([3]), z.reshape([3, 1]) * 2.0]
        },
        expect![[r#"
            exp sub mul = matmul [1, 8]x[8, 3] then exp sub mul (x w b)
        "#]],
    );
}

/// A product with one term in each sum is elementwise.
#[test]
fn an_outer_product_is_a_sweep() {
    check_plan(
        |g| {
            let (x, y) = (g.input("x", [8, 1], F32), g.input("y", [1, 4], F32));
            vec![x.matmul(y) + 1.0]
        },
        expect![[r#"
            fma = sweep [8, 4] fma (x y)
        "#]],
    );
}

/// A vector's product with a parameter whose update is ready reads it in the same pass.
#[test]
fn a_step_on_one_sample_visits_a_matrix_once_backwards() {
    let g = Graph::new();
    let x = g.input("x", [1, 8], F32);
    let (v, w) = (
        g.parameter("v", [8, 8], F32, Init::Ones),
        g.parameter("w", [8, 4], F32, Init::Ones),
    );
    let loss = x.matmul(v).relu().matmul(w).square().sum(..);
    let grads = g.grad(loss, &[v, w]).unwrap();
    let updates = crate::optim::sgd(&g, &[v, w], &grads, crate::optim::Sgd::default());
    let session = Session::compile(&g, Reference, &[loss.key()], updates).unwrap();
    expect![[r#"
        %2 = matmul [1, 8]x[8, 8] then relu (x v)
        %4 %5 = matmul [1, 8]x[8, 4] then mul (%2 w)
        sum over [0, 1] = sweep [1, 4] square sum over [0, 1] (%4)
        w' %8 = rows [8, 4] by [1] mul row_sum mul mul sub le where (%5 w %2)
        v' = sweep [8, 8] mul mul sub (v x %8)
    "#]]
    .assert_eq(&lines(&session));
}

/// Within a budget the first layers keep what crosses a cut, and compute the rest again right before
/// it is needed.
#[test]
fn a_budget_runs_launches_again() {
    let g = Graph::new();
    let mut x = g.input("x", [64, 8], F32);
    let w = g.parameter("w", [8, 8], F32, Init::Ones);
    let v = g.parameter("v", [8, 8], F32, Init::Ones);
    for _ in 0..3 {
        x = x + x.matmul(w).tanh().matmul(v).sigmoid();
    }
    let dv = g.grad(x.square().sum(..), &[v]).unwrap()[0].key();
    let free = Session::compile(&g, Reference, &[dv], Updates::none()).unwrap();
    let options = crate::CompileOptions {
        budget: Some(free.memory_bytes() - 2048),
    };
    let session = Session::compile_with(&g, Reference, &[dv], Updates::none(), options).unwrap();
    expect![[r#"
        %2 = matmul [64, 8]x[8, 8] then tanh (x w)
        %4 %5 = matmul [64, 8]x[8, 8] then sigmoid add (%2 v x)
        %6 = matmul [64, 8]x[8, 8] then tanh (%5 w)
        %7 %8 = matmul [64, 8]x[8, 8] then sigmoid add (%6 v %5)
        %9 = matmul [64, 8]x[8, 8] then tanh (%8 w)
        %10 %11 = matmul [64, 8]x[8, 8] then sigmoid add mul neg add mul mul (%9 v %8)
        %12 = matmul [64, 8]x[8, 8] then mul neg add mul (%11 v %9)
        %13 = matmul [8, 64]x[64, 8] (%9 %11)
        %14 %15 = matmul [64, 8]x[8, 8] then sigmoid neg add mul add mul (%12 w %7 %10)
        %16 = matmul [64, 8]x[8, 8] then mul neg add mul (%15 v %6)
        %17 = matmul [8, 64]x[64, 8] (%6 %15)
        %18 = matmul [64, 8]x[8, 8] then sigmoid neg add mul add add mul (%16 w %4 %10 %14)
        add = matmul [8, 64]x[64, 8] then add add (%2 %18 %13 %17)
    "#]]
    .assert_eq(&lines(&free));
    expect![[r#"
        %2 = matmul [64, 8]x[8, 8] then tanh (x w)
        %4 %5 = matmul [64, 8]x[8, 8] then sigmoid add (%2 v x)
        %6 = matmul [64, 8]x[8, 8] then tanh (%5 w)
        %7 %8 = matmul [64, 8]x[8, 8] then sigmoid add (%6 v %5)
        %9 = matmul [64, 8]x[8, 8] then tanh (%8 w)
        %10 %11 = matmul [64, 8]x[8, 8] then sigmoid add mul neg add mul mul (%9 v %8)
        %12 = matmul [64, 8]x[8, 8] then mul neg add mul (%11 v %9)
        %13 = matmul [8, 64]x[64, 8] (%9 %11)
        %14 %15 = matmul [64, 8]x[8, 8] then sigmoid neg add mul add mul (%12 w %7 %10)
        %16 = matmul [64, 8]x[8, 8] then mul neg add mul (%15 v %6)
        %17 = matmul [8, 64]x[64, 8] (%6 %15)
        %20 %21 = matmul [64, 8]x[8, 8] then sigmoid add (%2 v x), again
        %18 = matmul [64, 8]x[8, 8] then sigmoid neg add mul add add mul (%16 w %20 %10 %14)
        add = matmul [8, 64]x[64, 8] then add add (%2 %18 %13 %17)
    "#]]
    .assert_eq(&lines(&session));
}
