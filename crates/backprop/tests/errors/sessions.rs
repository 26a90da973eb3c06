//! Requests to a session, and derivatives and updates asked of a graph, that make no sense: state
//! is what it was before each of them.

use std::panic::{AssertUnwindSafe, Location};

use backprop::prelude::*;
use backprop::{Combine, Left, PlanId, Reference, Scatter};

use crate::table::{Row, hold};
use crate::{Trained, trained};

type Request = fn(&mut Trained) -> Result<()>;

#[track_caller]
const fn request(expected: &'static str, attempt: Request) -> Row<Request> {
    Row {
        place: Location::caller(),
        expected,
        attempt,
    }
}

static REQUESTS: &[Row<Request>] = &[
    request("NotFed", |t| t.session.step()),
    request("Mismatch", |t| t.session.feed(t.x, &[0.0f32; 5]).map(drop)),
    request("Mismatch", |t| t.session.feed(t.x, &[0.0f32; 0]).map(drop)),
    request("Mismatch", |t| t.session.feed(t.x, &[0.0f32; 12]).map(drop)),
    request("Mismatch", |t| t.session.feed(t.x, &[0.0f64; 6]).map(drop)),
    request("Mismatch", |t| t.session.feed(t.x, &[0i32; 6]).map(drop)),
    request("Mismatch", |t| {
        t.session.feed(t.labels, &[0i64, 1]).map(drop)
    }),
    request("Mismatch", |t| {
        t.session.feed(t.labels, &[true, false]).map(drop)
    }),
    request("OutOfRange", |t| {
        t.session.feed(t.labels, &[0i32, 4]).map(drop)
    }),
    request("OutOfRange", |t| {
        t.session.feed(t.labels, &[-1i32, 0]).map(drop)
    }),
    request("OutOfRange", |t| {
        t.session.feed(t.labels, &[i32::MIN, i32::MAX]).map(drop)
    }),
    request("Unknown", |t| t.session.feed(t.loss, &[0.0f32]).map(drop)),
    request("Unknown", |t| {
        t.session.feed(t.logits, &[0.0f32; 8]).map(drop)
    }),
    request("MixedGraphs", |t| {
        t.session.feed(t.foreign, &[0.0f32; 6]).map(drop)
    }),
    request("Unknown", |t| t.session.feed(t.late, &[0.0f32]).map(drop)),
    request("Unknown", |t| t.session.scalar(t.loss).map(drop)),
    request("Unknown", |t| t.session.fetch::<f32>(t.loss).map(drop)),
    request("Unknown", |t| t.session.fetch::<f32>(t.logits).map(drop)),
    request("Unknown", |t| t.session.fetch::<f32>(t.x).map(drop)),
    request("Unknown", |t| t.session.fetch::<f32>(t.late).map(drop)),
    request("MixedGraphs", |t| {
        t.session.fetch::<f32>(t.foreign).map(drop)
    }),
    request("Mismatch", |t| t.session.set_parameter(t.w, &[0.0f32; 3])),
    request("Mismatch", |t| t.session.set_parameter(t.w, &[0.0f32; 13])),
    request("Mismatch", |t| t.session.set_parameter::<f32>(t.w, &[])),
    request("Mismatch", |t| t.session.set_parameter(t.w, &[0.0f64; 12])),
    request("Mismatch", |t| t.session.set_parameter(t.w, &[0i32; 12])),
    request("Mismatch", |t| t.session.set_parameter_bytes(t.w, &[0; 47])),
    request("Mismatch", |t| t.session.set_parameter_bytes(t.w, &[0; 49])),
    request("Mismatch", |t| t.session.set_parameter_bytes(t.w, &[])),
    request("Mismatch", |t| t.session.parameter::<i32>(t.w).map(drop)),
    request("Mismatch", |t| t.session.parameter::<f64>(t.w).map(drop)),
    request("MixedGraphs", |t| t.session.parameter::<f32>(t.v).map(drop)),
    request("MixedGraphs", |t| t.session.parameter_bytes(t.v).map(drop)),
    request("MixedGraphs", |t| t.session.set_parameter(t.v, &[0.0f32])),
    request("Mismatch", |t| {
        t.session.set_parameter_bytes(t.mask, &[0, 1, 2])
    }),
    request("MixedGraphs", |t| {
        t.session.plan(&[t.foreign], Updates::none()).map(drop)
    }),
    request("Unknown", |t| {
        t.session.plan(&[t.late], Updates::none()).map(drop)
    }),
    request("Unknown", |t| {
        let none = other_plan(&t.session);
        t.session.run(none)
    }),
    request("Unknown", |t| {
        let none = other_plan(&t.session);
        t.session.profile_of(none, 1).map(drop)
    }),
    request("NotFed", |t| t.session.profile(1).map(drop)),
];

/// The number of a plan that the session does not have.
fn other_plan(session: &Session<Reference>) -> PlanId {
    let g = Graph::new();
    let one = g.full([], 1.0, F32);
    let _ = session;
    let mut other = Session::compile(&g, Reference, &[one.key()], Updates::none()).unwrap();
    other.plan(&[], Updates::none()).unwrap()
}

#[test]
fn a_session_survives_bad_requests() {
    let mut trained = trained();
    let state = |t: &Trained| -> Vec<Vec<u8>> {
        let all = t.session.parameters();
        let bytes = all.iter().map(|p| t.session.parameter_bytes(p.parameter));
        bytes.map(Result::unwrap).collect()
    };
    let before = state(&trained);
    hold(REQUESTS, |row| {
        let error = row.fails(AssertUnwindSafe(|| (row.attempt)(&mut trained)))?;
        let kept = state(&trained) == before;
        let here = error.place().map(Location::file) == Some(file!());
        let holds = kept && here;
        holds
            .then_some(())
            .ok_or_else(|| format!("{}: kept {kept}: {error}", row.place))
    });
    let (x, labels) = (trained.x, trained.labels);
    let session = &mut trained.session;
    session.feed(x, &[0.5f32; 6]).unwrap();
    session.feed(labels, &[0i32, 3]).unwrap().step().unwrap();
    let wide = session.fetch::<f64>(trained.loss).unwrap_err();
    assert!(wide.to_string().contains("f32"), "{wide}");
    assert!(session.scalar(trained.loss).unwrap().is_finite());
    assert_ne!(state(&trained), before);
}

/// Asks a graph with `x` (`f32[2, 3]`) and the parameters `w` (`f32[3]`) and `v` (`f32[3]`).
type Question = for<'g> fn(&'g Graph, Tensor<'g>, [Param; 2]) -> Result<Updates>;

#[track_caller]
const fn question(expected: &'static str, attempt: Question) -> Row<Question> {
    Row {
        place: Location::caller(),
        expected,
        attempt,
    }
}

/// What a derivative was asked for, without the derivative.
fn nothing<T>(outcome: Result<T>) -> Result<Updates> {
    outcome.map(|_| Updates::none())
}

static QUESTIONS: &[Row<Question>] = &[
    question("Shape", |g, x, [w, _]| nothing(g.grad(x * w, &[w]))),
    question("Unreachable", |g, x, [w, v]| {
        nothing(g.grad((x * w).sum(..), &[v]))
    }),
    question("DType", |g, x, [w, _]| {
        nothing(g.grad((x * w).argmax(1).sum(..), &[w]))
    }),
    question("NotDifferentiable", |g, x, [w, _]| {
        nothing(g.grad((x * w).argmax(1).cast(F32).sum(..), &[w]))
    }),
    question("NotDifferentiable", |g, x, [w, _]| {
        nothing(g.grad((x * w).gt(0.5).select(1.0, 0.0).sum(..), &[w]))
    }),
    question("NotDifferentiable", |g, x, [w, _]| {
        nothing(g.grad((x * w).cast(I32).cast(F32).sum(..), &[w]))
    }),
    question("MixedGraphs", |g, x, [w, _]| {
        let other = Graph::new();
        let foreign = other.parameter("w", [3], F32, Init::Zeros);
        nothing(g.grad((x * w).sum(..), &[foreign]))
    }),
    question("MixedGraphs", |g, _, [w, _]| {
        let other = Graph::new();
        let loss = other.input("y", [], F32);
        nothing(g.check().and_then(|()| other.grad(loss, &[w])))
    }),
    question("Shape", |g, x, [w, _]| {
        nothing(g.vjp(&[(x * w, x.sum(0))], &[w]))
    }),
    question("DType", |g, x, [w, _]| {
        nothing(g.vjp(&[(x * w, x.cast(F64))], &[w]))
    }),
    question("Shape", |g, x, [w, _]| nothing(g.jvp(&[x * w], &[(w, x)]))),
    question("Shape", |g, x, [w, _]| {
        nothing(g.jvp(&[x * w], &[(w, x.cast(F64))]))
    }),
    question("NotDifferentiable", |g, x, [w, _]| {
        let indices = g.data([1, 3], &[0i64, 1, 0]);
        let last = Scatter {
            combine: Combine::Last,
            include_self: true,
        };
        let y = x
            .scatter_reduce(0, indices, (x * w).narrow(0, 0, 1), last)
            .floor()
            .cast(I32);
        nothing(g.grad(y.cast(F32).sum(..), &[w]))
    }),
    question("Shape", |g, x, [w, _]| {
        let inner = g.scan(2, &[x], &[], |at| {
            let _ = g.grad((at.carried[0] * w).sum(..), &[w]);
            Left {
                carried: vec![at.carried[0].sum(0)],
                stacked: vec![],
            }
        });
        let _ = inner;
        nothing(g.check())
    }),
    question("Mismatch", |g, x, [w, _]| {
        Ok(Updates::set(w, (x * w).sum(..)).and(nil(g)))
    }),
    question("Mismatch", |g, _, [w, _]| {
        Ok(Updates::set(w, g.read(w).cast(F64)))
    }),
    question("Unknown", |g, _, [w, _]| {
        Ok(Updates::set(w, g.read(w)).with(w, g.read(w)))
    }),
    question("MixedGraphs", |_, _, [w, _]| {
        let other = Graph::new();
        Ok(Updates::set(w, other.input("y", [3], F32)))
    }),
    question("MixedGraphs", |g, _, [w, _]| {
        let other = Graph::new();
        let foreign = other.parameter("w", [3], F32, Init::Zeros);
        Ok(Updates::set(foreign, g.read(w)))
    }),
    question("Attribute", |g, _, [w, v]| {
        Ok(optim::sgd(g, &[w, v], &[g.read(w)], Sgd::default()))
    }),
    question("Attribute", |g, _, [w, _]| {
        Ok(optim::adamw(
            g,
            &[w],
            &[g.read(w).sum(..)],
            AdamW::default(),
        ))
    }),
    question("DType", |g, _, [w, _]| {
        Ok(Updates::set(w, g.read(w)).when(g.read(w).sum(..)))
    }),
    question("Shape", |g, _, [w, _]| {
        Ok(Updates::set(w, g.read(w)).when(g.read(w).gt(0.0)))
    }),
    question("Unknown", |g, _, [w, _]| {
        let state = g.random_state("random", 0);
        Ok(Updates::set(w, g.uniform(state.next_key(), [3], F32)))
    }),
    question("OutOfMemory", |g, _, [w, _]| {
        let wide = g.read(w).reshape([3, 1]).broadcast_to([3, 1 << 58]);
        let big = g.parameter("big", [3, 1 << 58], F32, Init::Zeros);
        Ok(Updates::set(big, wide))
    }),
    question("OutOfMemory", |g, _, [w, _]| {
        let each = [1usize << 60];
        let big = ["a", "b", "c", "d"].map(|name| g.parameter(name, each, F32, Init::Zeros));
        Ok(Updates::set(
            w,
            big.map(|p| g.read(p).sum(..))
                .into_iter()
                .fold(g.read(w), |a, b| a + b),
        ))
    }),
    question("OutOfMemory", |g, _, [w, _]| {
        let big = g.input("big", [1 << 59], F64);
        Ok(Updates::set(w, g.read(w) + big.sum(..).cast(F32)))
    }),
    question("Shape", |g, x, [w, _]| {
        let wide = x.reshape([6, 1]).broadcast_to([6, 1 << 57]);
        let sorted = wide.sort(1, backprop::Order::Ascending).0;
        Ok(Updates::set(w, g.read(w) + sorted.narrow(0, 0, 1).sum(..)))
    }),
];

/// No updates, of a graph.
fn nil(_: &Graph) -> Updates {
    Updates::none()
}

#[test]
fn derivatives_and_updates_that_make_no_sense() {
    hold(QUESTIONS, |row| {
        let tried = row.fails(|| {
            let g = Graph::new();
            let x = g.input("x", [2, 3], F32);
            let [w, v] = ["w", "v"].map(|name| g.parameter(name, [3], F32, Init::Ones));
            let updates = (row.attempt)(&g, x, [w, v])?;
            Session::compile(&g, Reference, &[], updates)
        });
        tried.map(drop)
    });
}

/// On the CPU as on the reference: more memory than there is, and than there can be.
#[cfg(feature = "cpu")]
#[test]
fn memory_that_the_cpu_does_not_have_is_an_error() {
    for each in [1usize << 50, 1 << 60] {
        let g = Graph::new();
        let big = ["a", "b", "c", "d"].map(|name| g.parameter(name, [each], F32, Init::Zeros));
        let sum = big.map(|p| g.read(p).sum(..).key());
        let outcome = Session::compile(&g, Cpu::new().unwrap(), &sum, Updates::none());
        let error = outcome.map(drop).unwrap_err();
        let kind = error.kind();
        assert!(
            matches!(kind, backprop::ErrorKind::OutOfMemory { .. }),
            "{error}"
        );
    }
}
