//! The training step of the digits network, read off its plan.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics is a test that fails"
)]

use backprop::Level;
use backprop::core::{Inst, Primitive, Program};
use backprop::prelude::*;
use expect_test::expect;

/// 64-128-64-10 with AdamW, as in the example.
fn digits() -> Session<Cpu> {
    let g = Graph::with_seed(1);
    let (x, labels) = (g.input("x", [32, 64], F32), g.input("labels", [32], I32));
    let mut parameters = Vec::new();
    let mut h = x;
    for (i, sizes) in [64, 128, 64, 10].windows(2).enumerate() {
        let name = format!("layer{}", i + 1);
        let (w, b) = g.scope(&name, |g| {
            let w = g.parameter("weight", [sizes[0], sizes[1]], F32, Init::Kaiming);
            (w, g.parameter("bias", [sizes[1]], F32, Init::Zeros))
        });
        parameters.extend([w, b]);
        let y = h.matmul(w) + b;
        h = if i < 2 { y.relu() } else { y };
    }
    let loss = h.cross_entropy(labels, CrossEntropy::default());
    let grads = g.grad(loss, &parameters).unwrap();
    let options = AdamW {
        lr: Rate::one_cycle(3e-3, 1000),
        ..AdamW::default()
    };
    let updates = optim::adamw(&g, &parameters, &grads, options);
    let cpu = Cpu::builder()
        .threads(2)
        .level(Level::Scalar)
        .build()
        .unwrap();
    Session::compile(&g, cpu, &[loss.key()], updates).unwrap()
}

/// How many functions a program applies.
fn length(program: &Program) -> usize {
    let applied = program
        .code()
        .iter()
        .filter(|(inst, _)| matches!(inst, Inst::Apply(..) | Inst::Cast(_)));
    applied.count()
}

#[test]
fn elementwise_work_is_fused() {
    let session = digits();
    let plan = session.step_plan();
    assert!(plan.launches() < 30, "{plan}");
    for primitive in plan.primitives() {
        if let Primitive::Sweep(sweep) = primitive {
            let reduces = sweep
                .body
                .outputs
                .iter()
                .any(|o| o.sink != backprop::core::Sink::Store);
            assert!(
                reduces || length(&sweep.body.program) > 1,
                "{primitive} stands alone"
            );
        }
    }
}

#[test]
fn the_plan_fits_on_a_screen() {
    let text = digits().plan_text();
    // Totals depend on the scratch memory that this machine's kernels ask for.
    let mut lines: Vec<&str> = text.lines().skip(2).collect();
    // The scalars of the schedule, in one launch.
    for line in &mut lines {
        *line = line.split("  //").next().unwrap_or(line);
        if line.len() > 150 {
            *line = &line[..150];
        }
    }
    expect![[r#"
        layer1.weight.adamw.step' %2 %3 %4 = sweep [] add to_f64 pow neg add sub min sub div max min mul cos add fma div max min mul cos add fma le where div 
        %8 = matmul [32, 64]x[64, 128] then add relu (x layer1.weight layer1.bias)
        %11 = matmul [32, 128]x[128, 64] then add relu (%8 layer2.weight layer2.bias)
        %13 = matmul [32, 64]x[64, 10] (%11 layer3.weight)
        %16 %17 %18 = rows [32, 10] by [1] add row_max sub exp row_sum to_i64 eq where row_sum log where sub exp sub mul (%13 layer3.bias labels)
        div = rows [32, 1] by [0, 1] sub row_sum div (%17 %16)
        %20 = sweep [32, 10] sum over [0] (%18)
        layer3.bias.adamw.m' layer3.bias.adamw.v' layer3.bias' = sweep [10] mul fma square mul fma sqrt fma div mul mul sub (layer3.bias.adamw.m %20 layer3.bi
        %21 = matmul [32, 10]x[10, 64] then le where (%18 layer3.weight %11)
        layer3.weight.adamw.m' layer3.weight.adamw.v' layer3.weight' = matmul [64, 32]x[32, 10] then mul fma square mul fma sqrt fma div mul mul sub (%11 %18 
        %27 = sweep [32, 64] sum over [0] (%21)
        layer2.bias.adamw.m' layer2.bias.adamw.v' layer2.bias' = sweep [64] mul fma square mul fma sqrt fma div mul mul sub (layer2.bias.adamw.m %27 layer2.bi
        %28 = matmul [32, 64]x[64, 128] then le where (%21 layer2.weight %8)
        layer2.weight.adamw.m' layer2.weight.adamw.v' layer2.weight' = matmul [128, 32]x[32, 64] then mul fma square mul fma sqrt fma div mul mul sub (%8 %21 
        layer1.weight.adamw.m' layer1.weight.adamw.v' layer1.weight' = matmul [64, 32]x[32, 128] then mul fma square mul fma sqrt fma div mul mul sub (x %28 l
        %39 = sweep [32, 128] sum over [0] (%28)
        layer1.bias.adamw.m' layer1.bias.adamw.v' layer1.bias' = sweep [128] mul fma square mul fma sqrt fma div mul mul sub (layer1.bias.adamw.m %39 layer1.b
    "#]].assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn every_line_names_operation_and_place() {
    let text = digits().plan_text();
    for line in text.lines().skip(2) {
        assert!(line.contains("// digits_plan.rs:"), "{line}");
    }
    assert!(
        text.contains("cross_entropy") && text.contains("adamw"),
        "{text}"
    );
}

fn is_send<T: Send + 'static>(_: &T) {}

/// A session borrows nothing and can go to another thread.
#[test]
fn a_session_is_on_its_own() {
    let session = digits();
    is_send(&session);
    std::thread::spawn(move || session.summary())
        .join()
        .unwrap();
}

#[test]
fn a_loss_and_the_updates_by_its_gradient_are_one_pass() {
    const COUNT: usize = 200_000;
    let g = Graph::new();
    let x = g.input("x", [COUNT], F32);
    let parameters = ["w", "b"].map(|name| g.parameter(name, [COUNT], F32, Init::Ones));
    let [w, b] = parameters;
    let y = (x * w + b).gelu_tanh() * x.sigmoid();
    let loss = y.square().mean(..);
    let grads = g.grad(loss, &parameters).unwrap();
    let updates = optim::sgd(&g, &parameters, &grads, Sgd::default());
    let session = Session::compile(&g, Cpu::new().unwrap(), &[loss.key()], updates).unwrap();
    let plan = session.step_plan();
    let over_all = |primitive: &&Primitive| match primitive {
        Primitive::Sweep(sweep) => sweep.space.count() == COUNT,
        _ => false,
    };
    assert_eq!(
        plan.primitives().iter().filter(over_all).count(),
        1,
        "{plan}"
    );
    assert_eq!(plan.launches(), 2, "{plan}"); // the other one divides the sum
}
