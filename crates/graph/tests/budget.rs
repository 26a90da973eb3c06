//! Memory within a budget, and what is marked to be computed again: the same bits in fewer bytes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that panics is a test that fails"
)]

use backprop_core::plan::{Stay, Use};
use backprop_core::{DType::F32, DType::F64, ErrorKind, Plan, Reference, Result};
use backprop_graph::{
    CompileOptions, Graph, Init, Keep, Left, Param, Session, Tensor, Updates, optim,
};

const NORMAL: Init = Init::Normal {
    mean: 0.0,
    std: 0.3,
};

/// A residual block with a norm and an activation.
fn block<'g>(g: &'g Graph, x: Tensor<'g>, name: &str) -> Tensor<'g> {
    let up = g.parameter(&format!("{name}.up"), [8, 24], F32, NORMAL);
    let down = g.parameter(&format!("{name}.down"), [24, 8], F32, NORMAL);
    x + x.layer_norm(1, 1e-5).matmul(up).gelu().matmul(down)
}

/// A training step of so many blocks, each of which `apply` builds.
fn train(
    blocks: usize,
    options: CompileOptions,
    apply: impl for<'g> Fn(&'g Graph, Tensor<'g>, &str) -> Tensor<'g>,
) -> Result<Session<Reference>> {
    let g = Graph::new();
    let x = g.input("x", [32, 8], F32);
    let y = (0..blocks).fold(x, |y, i| apply(&g, y, &format!("block{i}")));
    let loss = y.square().mean(..);
    let parameters = g.parameters();
    let gradients = g.grad(loss, &parameters)?;
    let updates = optim::adamw(&g, &parameters, &gradients, optim::AdamW::default());
    let mut session = Session::compile_with(&g, Reference, &[loss.key()], updates, options)?;
    let numbers: Vec<f32> = (0..256).map(|i| (i as f32 * 0.37).sin()).collect();
    session.feed(x, &numbers)?;
    Ok(session)
}

fn within(budget: usize) -> CompileOptions {
    CompileOptions {
        budget: Some(budget),
    }
}

/// The bytes of all parameters after some steps.
fn trained(mut session: Session<Reference>) -> Result<Vec<Vec<u8>>> {
    (0..3).try_for_each(|_| session.step())?;
    let known = session.parameters().into_iter();
    known
        .map(|p| session.parameter_bytes(p.parameter))
        .collect()
}

#[test]
fn half_and_a_quarter_of_the_activations_give_the_same_bits() -> Result<()> {
    let free = train(8, CompileOptions::default(), block)?;
    let (all, saved) = (free.memory_bytes(), free.step_plan().saved_activations());
    let expected = trained(free)?;
    for kept in [2, 4] {
        let budget = all - (saved - saved / kept);
        let bounded = train(8, within(budget), block)?;
        let plan = bounded.step_plan();
        assert!(bounded.memory_bytes() <= budget);
        assert!(plan.saved_activations() <= saved / kept);
        assert!(plan.recomputation().share > 0.0 && plan.recomputation().share < 0.34);
        assert_eq!(trained(bounded)?, expected, "1/{kept}");
    }
    Ok(())
}

#[test]
fn what_fits_is_left_as_it_is() -> Result<()> {
    let free = train(3, CompileOptions::default(), block)?;
    let bounded = train(3, within(free.memory_bytes()), block)?;
    assert_eq!(bounded.plan_text(), free.plan_text());
    Ok(())
}

/// The figure of the error is one that suffices, and what is less does not.
#[test]
fn a_budget_that_does_not_suffice_says_what_does() -> Result<()> {
    let without = train(8, CompileOptions::default(), block)?.memory_bytes();
    let error = train(8, within(1000), block).unwrap_err();
    let ErrorKind::OverBudget {
        budget: 1000,
        smallest,
        without: stated,
    } = *error.kind()
    else {
        panic!("{error}");
    };
    assert_eq!(stated, without);
    assert!(smallest < without * 3 / 4, "{smallest} of {without}");
    let session = train(8, within(smallest), block)?;
    assert_eq!(session.memory_bytes(), smallest);
    let error = train(8, within(smallest - 1), block).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("= at the least: "), "{text}");
    assert!(error.place().unwrap().file().ends_with("budget.rs"));
    let placed = error.notes().iter().filter(|note| note.label == "holds");
    assert_eq!(placed.filter(|note| note.place.is_some()).count(), 5);
    Ok(())
}

#[test]
fn what_is_marked_is_computed_again() -> Result<()> {
    let plain = train(6, CompileOptions::default(), block)?;
    let marked = train(6, CompileOptions::default(), |g, x, name| {
        g.checkpoint(|g| block(g, x, name))
    })?;
    let [before, after] = [&plain, &marked].map(|session| session.step_plan());
    assert_eq!(before.recomputation().launches, 0);
    // A norm and the way up, but in the last block: its results are used at once.
    assert!(after.recomputation().launches >= 2 * 6);
    assert!(after.saved_activations() * 3 < before.saved_activations());
    assert!(marked.memory_bytes() < plain.memory_bytes());
    assert_eq!(trained(marked)?, trained(plain)?);
    Ok(())
}

#[test]
fn a_mark_in_a_mark_is_the_outer_one() -> Result<()> {
    let launches = |inner: bool| -> Result<usize> {
        let session = train(4, CompileOptions::default(), |g, x, name| {
            g.checkpoint(|g| match inner {
                true => g.checkpoint(|g| block(g, x, name)),
                false => block(g, x, name),
            })
        })?;
        Ok(session.step_plan().recomputation().launches)
    };
    assert_eq!(launches(true)?, launches(false)?);
    Ok(())
}

fn rows(x: Tensor<'_>, w: Param) -> Tensor<'_> {
    (x.matmul(w).tanh() * x).softmax(1)
}

/// Values of everything that can be built of a function, with and without marks.
fn everything(marked: bool) -> Result<Vec<f64>> {
    let g = Graph::new();
    let x = g.input("x", [4, 3], F64);
    let w = g.parameter("w", [3, 3], F64, NORMAL);
    let f = |x| match marked {
        true => g.checkpoint(|g| rows(g.read(x), w)),
        false => rows(x, w),
    };
    let y = f(f(x));
    let loss = y.square().sum(..);
    let dw = g.grad(loss, &[w])?[0];
    let second = g.grad(dw.square().sum(..), &[w])?[0];
    let along = g.jvp(&[y], &[(x, x.cos())])?[0];
    let each = g.vmap(&[x], |row| vec![f(row[0].reshape([1, 3])).sum(Keep(1))])[0];
    let of_each = g.grad(each.square().sum(..), &[w])?[0];
    let scanned = g.scan(3, &[x], &[], |at| Left {
        carried: vec![f(at.carried[0])],
        stacked: vec![],
    });
    let through = g.grad(scanned.carried[0].square().sum(..), &[w])?[0];
    let fetches = [y, dw, second, along, each, of_each, through];
    let keys: Vec<_> = fetches.iter().map(|x| x.key()).collect();
    let mut session = Session::compile(&g, Reference, &keys, Updates::none())?;
    let numbers: Vec<f64> = (0..12).map(|i| (f64::from(i) * 0.7).sin()).collect();
    session.feed(x, &numbers)?.step()?;
    let values = keys.iter().map(|&key| session.fetch::<f64>(key));
    Ok(values.collect::<Result<Vec<_>>>()?.concat())
}

#[test]
fn marks_change_no_derivative_of_any_kind() -> Result<()> {
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(everything(true)?), bits(everything(false)?));
    Ok(())
}

fn noisy<'g>(y: Tensor<'g>, w: Param, key: Tensor<'g>) -> Tensor<'g> {
    let hidden = y.matmul(w).tanh().dropout(0.4, key);
    hidden.matmul(w).tanh()
}

/// Random numbers are drawn again under the same key.
#[test]
fn dropout_is_the_same_when_it_is_computed_again() -> Result<()> {
    let gradients = |marked: bool| -> Result<Vec<f32>> {
        let g = Graph::new();
        let x = g.input("x", [16, 8], F32);
        let random = g.random_state("random", 7);
        let w = g.parameter("w", [8, 8], F32, NORMAL);
        let y = (0..4).fold(x, |y, _| {
            let key = random.next_key();
            match marked {
                true => g.checkpoint(|g| noisy(g.read(y), w, key)),
                false => noisy(y, w, key),
            }
        });
        let dw = g.grad(y.square().sum(..), &[w])?[0];
        let mut session = Session::compile(&g, Reference, &[dw.key()], random.updates())?;
        assert_eq!(session.step_plan().recomputation().launches > 0, marked);
        session.feed(x, &[0.5f32; 128])?.step()?;
        let first = session.fetch::<f32>(dw)?;
        session.step()?;
        Ok([first, session.fetch::<f32>(dw)?].concat())
    };
    let [marked, plain] = [gradients(true)?, gradients(false)?];
    assert!(
        plain[..64] != plain[64..],
        "the two steps draw other numbers"
    );
    assert_eq!(marked, plain);
    Ok(())
}

/// No two values share a byte at any line, all lie in the arena, and the fullest line is the one that
/// the plan speaks of.
fn check_stays(plan: &Plan) {
    let stays = plan.stays();
    let lines = plan.lines().len();
    let arena = plan.bytes(backprop_core::plan::Buffer::Arena);
    for (i, a) in stays.iter().enumerate() {
        assert!(a.first <= a.last && a.last < lines);
        assert!(a.span.offset + a.span.bytes <= arena);
        let beside = |b: &&Stay| b.first <= a.last && a.first <= b.last;
        for b in stays[i + 1..].iter().filter(beside) {
            assert!(!a.span.overlaps(&b.span), "{a:?} and {b:?}");
        }
    }
    let of_line = |line: usize, only: Option<Use>| -> usize {
        let there = stays
            .iter()
            .filter(|stay| (stay.first..=stay.last).contains(&line));
        let there = there.filter(|stay| only.is_none_or(|only| stay.holds == only));
        there.map(|stay| stay.span.bytes).sum()
    };
    let most = |only| {
        (0..lines)
            .map(|line| of_line(line, only))
            .max()
            .unwrap_or(0)
    };
    let memory = plan.memory();
    let named = memory.gradients + memory.saved + memory.temporaries + memory.scratch;
    assert_eq!(named, most(None));
    assert_eq!(plan.saved_activations(), most(Some(Use::Saved)));
}

/// A number of an attribute.
fn attribute(tag: &str, name: &str) -> usize {
    let (_, rest) = tag.split_once(&format!(" {name}=\"")).unwrap();
    rest.split_once('"').unwrap().0.parse().unwrap()
}

#[test]
fn the_drawing_shows_the_plan() -> Result<()> {
    let plain = train(3, CompileOptions::default(), block)?;
    let error = train(3, within(0), block).unwrap_err();
    let ErrorKind::OverBudget { smallest, .. } = *error.kind() else {
        panic!("{error}");
    };
    for session in [plain, train(3, within(smallest), block)?] {
        let plan = session.step_plan();
        check_stays(plan);
        let svg = plan.memory_chart();
        let arena = plan.bytes(backprop_core::plan::Buffer::Arena);
        let mut drawn: Vec<[usize; 4]> = svg
            .lines()
            .filter(|line| line.starts_with("<rect"))
            .map(|tag| ["x", "y", "width", "height"].map(|name| attribute(tag, name)))
            .collect();
        let expected = plan.stays().into_iter().map(|stay| {
            let top = arena - stay.span.offset - stay.span.bytes;
            [stay.first, top, stay.last + 1 - stay.first, stay.span.bytes]
        });
        let mut expected: Vec<[usize; 4]> = expected.collect();
        drawn.sort_unstable();
        expected.sort_unstable();
        assert_eq!(drawn, expected);
    }
    Ok(())
}

#[test]
fn loops_keep_what_they_use() -> Result<()> {
    let g = Graph::new();
    let x = g.input("x", [5, 4, 8], F32);
    let w = g.parameter("w", [8, 8], F32, NORMAL);
    let start = g.full([4, 8], 0.0, F32);
    let scanned = g.scan(5, &[start], &[x], |at| {
        let h = (at.carried[0].matmul(w) + at.elements[0]).tanh();
        Left {
            carried: vec![h],
            stacked: vec![h],
        }
    });
    let loss = scanned.stacked[0].matmul(w).tanh().square().sum(..);
    let dw = g.grad(loss, &[w])?[0];
    let session = Session::compile(&g, Reference, &[dw.key()], Updates::none())?;
    check_stays(session.step_plan());
    assert!(session.step_plan().saved_activations() > 0);
    Ok(())
}
