//! What a step costs besides its arithmetic: nothing is allocated, copied or prepared in it.

use backprop_core::{DType::F32, DType::I64, Reference, Result};
use backprop_graph::{CrossEntropy, Graph, Init, Session, optim};
use backprop_testkit::{Counting, Counts, Unfused};

#[test]
fn a_step_only_launches() -> Result<()> {
    let g = Graph::new();
    let (x, labels) = (g.input("x", [4, 6], F32), g.input("labels", [4], I64));
    let w = g.parameter("w", [6, 3], F32, Init::Kaiming);
    let b = g.parameter("b", [3], F32, Init::Zeros);
    let loss = (x.matmul(w) + b).cross_entropy(labels, CrossEntropy::default());
    let gradients = g.grad(loss, &[w, b])?;
    let updates = optim::adamw(&g, &[w, b], &gradients, optim::AdamW::default());
    let backend = Counting::new(Reference);
    let mut session = Session::compile(&g, backend.clone(), &[loss.key()], updates)?;
    assert!(backend.counts().allocations > 0 && backend.counts().kernels > 0);

    let spent = |before: Counts| backend.counts() - before;
    let before = backend.counts();
    session.feed(x, &[0.5f32; 24])?;
    session.feed(labels, &[0i64, 1, 2, 0])?;
    let fed = Counts {
        uploads: 2,
        ..Counts::default()
    };
    assert_eq!(spent(before), fed);

    for _ in 0..3 {
        let before = backend.counts();
        session.step()?;
        let launches = session.step_plan().launches();
        let stepped = Counts {
            launches,
            ..Counts::default()
        };
        assert_eq!(spent(before), stepped);
    }

    let before = backend.counts();
    session.scalar(loss)?;
    let fetched = Counts {
        downloads: 1,
        ..Counts::default()
    };
    assert_eq!(spent(before), fetched);
    Ok(())
}

#[test]
fn plain_forms_take_more_launches() -> Result<()> {
    let g = Graph::new();
    let x = g.input("x", [4, 6], F32);
    let w = g.parameter("w", [6, 3], F32, Init::Ones);
    let y = (x.matmul(w) + 1.0).relu().key();
    let fused = Session::compile(&g, Reference, &[y], backprop_graph::Updates::none())?;
    let plain = Unfused::new(Reference);
    let plain = Session::compile(&g, plain, &[y], backprop_graph::Updates::none())?;
    assert_eq!(fused.step_plan().launches(), 1);
    assert_eq!(plain.step_plan().launches(), 2);
    Ok(())
}
