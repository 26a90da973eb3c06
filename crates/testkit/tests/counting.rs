//! What a step costs besides its arithmetic: nothing is allocated, copied or prepared in it.

use backprop_core::{DType::F32, DType::I64, Reference, Result};
use backprop_graph::{CrossEntropy, Graph, Init, Left, Session, Updates, optim};
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
    let planned = session.step_plan().memory().total();
    assert_eq!(backend.counts().allocated_bytes, planned);
    assert_eq!(session.memory_bytes(), planned);

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
fn only_what_is_chosen_and_counted_runs() -> Result<()> {
    let g = Graph::new();
    let (x, count) = (g.input("x", [6, 6], F32), g.input("count", [], I64));
    let chosen = g.cond(
        count.gt(2),
        || vec![(0..20).fold(x, |y, _| y.matmul(x).tanh())],
        || vec![x],
    );
    let scanned = g.scan_counted(count, 50, &chosen, &[], |at| Left {
        carried: vec![at.carried[0].matmul(x)],
        stacked: vec![],
    });
    let dx = g.grad(scanned.carried[0].sum(..), &[x])?[0];
    let backend = Counting::new(Reference);
    let mut session = Session::compile(&g, backend.clone(), &[dx.key()], Updates::none())?;
    session.feed(x, &[0.01f32; 36])?;
    let mut launches = |many: i64| -> Result<usize> {
        session.feed(count, &[many])?;
        let before = backend.counts();
        session.step()?;
        Ok((backend.counts() - before).launches)
    };
    let [none, two, three, four] = [launches(0)?, launches(2)?, launches(3)?, launches(4)?];
    let an_iteration = four - three;
    assert_eq!(two - none, 2 * an_iteration);
    // Twenty products there, and two for each on the way back.
    assert!(three - two >= an_iteration + 60, "{two}, {three}");
    assert!(three < session.step_plan().launches());
    Ok(())
}

#[test]
fn plain_forms_take_more_launches() -> Result<()> {
    let g = Graph::new();
    let x = g.input("x", [4, 6], F32);
    let w = g.parameter("w", [6, 3], F32, Init::Ones);
    let y = (x.matmul(w) + 1.0).relu().key();
    let fused = Session::compile(&g, Reference, &[y], Updates::none())?;
    let plain = Unfused::new(Reference);
    let plain = Session::compile(&g, plain, &[y], Updates::none())?;
    assert_eq!(fused.step_plan().launches(), 1);
    assert_eq!(plain.step_plan().launches(), 2);
    Ok(())
}
