//! What a downstream crate does with the public interface alone: operations of its own, a backend of
//! its own, and a session in a struct of its own.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

mod tiny;

use backprop_core::{DType::F64, Reference, Result};
use backprop_graph::{
    Composite, Graph, Init, Key, Param, PlanId, Sample, Session, Tensor, Updates, Vjp, optim,
};
use tiny::Tiny;

backprop_testkit::conformance!(Tiny);

/// `x^2 / (1 + x^2)`, with the derived gradient.
#[derive(Debug)]
struct Saturate;

impl Composite for Saturate {
    fn name(&self) -> &str {
        "saturate"
    }
    fn decompose<'g>(&self, x: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let square = x[0].square();
        vec![square / (square + 1.0)]
    }
    fn samples(&self) -> Vec<Sample> {
        vec![Sample::reals(&[&[3, 5]])]
    }
}

/// The same with a gradient of its own: `2 x / (1 + x^2)^2`.
#[derive(Debug)]
struct SaturateByHand;

impl Composite for SaturateByHand {
    fn name(&self) -> &str {
        "saturate_by_hand"
    }
    fn decompose<'g>(&self, x: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        Saturate.decompose(x)
    }
    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let x = cx.inputs[0];
        let slope = x * 2.0 / (x.square() + 1.0).square();
        Some(vec![cx.cotangents[0].map(|g| g * slope)])
    }
    fn samples(&self) -> Vec<Sample> {
        Saturate.samples()
    }
}

/// An extension of the engine's tensor.
trait Saturates<'g> {
    fn saturate(self) -> Tensor<'g>;
}

impl<'g> Saturates<'g> for Tensor<'g> {
    #[track_caller]
    fn saturate(self) -> Tensor<'g> {
        self.graph().apply_one(SaturateByHand, &[self])
    }
}

/// The value of `build`, its gradient and the gradient's, summed up, at some points.
fn derivatives(build: impl for<'g> Fn(Tensor<'g>) -> Tensor<'g>) -> Vec<f64> {
    let g = Graph::new();
    let x = g.input("x", [4], F64);
    let y = build(x);
    let first = g.grad(y.sum(..), &[x]).unwrap()[0];
    let second = g.grad(first.sum(..), &[x]).unwrap()[0];
    let keys = [y.key(), first.key(), second.key()];
    let mut session = Session::compile(&g, Tiny, &keys, Updates::none()).unwrap();
    session
        .feed(x, &[-1.5, 0.0, 0.3, 2.0])
        .unwrap()
        .step()
        .unwrap();
    let fetch = |key: &Key| session.fetch::<f64>(*key).unwrap();
    keys.iter().flat_map(fetch).collect()
}

#[test]
fn an_operation_with_and_without_a_gradient_of_its_own() {
    let derived = derivatives(|x| x.graph().apply_one(Saturate, &[x]));
    let by_hand = derivatives(|x| x.saturate());
    for (a, b) in derived.iter().zip(&by_hand) {
        assert!((a - b).abs() < 1e-12, "{derived:?}\n{by_hand:?}");
    }
    let expected = 2.25 / 3.25;
    assert!((derived[0] - expected).abs() < 1e-15, "{derived:?}");
}

/// A model that owns its session. Nothing in it names a graph, a tensor or a lifetime.
struct Fit {
    session: Session<Tiny>,
    x: Key,
    y: Key,
    loss: Key,
    prediction: Key,
    evaluation: PlanId,
    w: Param,
}

impl Fit {
    fn new() -> Result<Fit> {
        let g = Graph::new();
        let (x, y) = (g.input("x", [3], F64), g.input("y", [3], F64));
        let w = g.parameter("w", [1], F64, Init::Constant(0.5));
        let prediction = (x * w).saturate();
        let loss = (prediction - y).square().mean(..);
        let grads = g.grad(loss, &[w])?;
        let options = optim::Sgd {
            lr: 0.5.into(),
            ..optim::Sgd::default()
        };
        let updates = optim::sgd(&g, &[w], &grads, options);
        let mut session = Session::compile(&g, Tiny, &[loss.key()], updates)?;
        let evaluation = session.plan(&[prediction.key()], Updates::none())?;
        Ok(Fit {
            session,
            x: x.key(),
            y: y.key(),
            loss: loss.key(),
            prediction: prediction.key(),
            evaluation,
            w,
        })
    }

    fn step(&mut self, xs: &[f64], ys: &[f64]) -> Result<f64> {
        self.session.feed(self.x, xs)?.feed(self.y, ys)?.step()?;
        self.session.scalar(self.loss)
    }

    fn predict(&mut self, xs: &[f64]) -> Result<Vec<f64>> {
        self.session.feed(self.x, xs)?.run(self.evaluation)?;
        self.session.fetch(self.prediction)
    }
}

#[test]
fn a_session_lives_in_a_struct_and_trains_in_another_thread() {
    let fit = Fit::new().unwrap();
    let trained = std::thread::spawn(move || -> Result<Fit> {
        let mut fit = fit;
        let xs = [0.5, 1.0, 2.0];
        let ys = xs.map(|x: f64| (1.5 * x).powi(2) / (1.0 + (1.5 * x).powi(2)));
        for _ in 0..2000 {
            fit.step(&xs, &ys)?;
        }
        Ok(fit)
    });
    let mut fit = trained.join().unwrap().unwrap();
    let w: Vec<f64> = fit.session.parameter(fit.w).unwrap();
    assert!((w[0] - 1.5).abs() < 1e-3, "{w:?}");
    let before = fit.predict(&[1.0, 1.0, 1.0]).unwrap();
    assert!((before[0] - 2.25 / 3.25).abs() < 1e-3);
    assert_eq!(
        fit.session.parameter::<f64>(fit.w).unwrap(),
        w,
        "an evaluation changes nothing"
    );
}

#[test]
fn the_own_backend_gives_what_the_reference_gives() {
    fn loss<B: backprop_core::Backend>(backend: B) -> f64 {
        let g = Graph::with_seed(5);
        let x = g.input("x", [4, 3], F64);
        let w = g.parameter("w", [3, 2], F64, Init::Xavier);
        let loss = x.matmul(w).softmax(-1).log().mean(..);
        let mut session = Session::compile(&g, backend, &[loss.key()], Updates::none()).unwrap();
        let xs: Vec<f64> = (0..12).map(|i| f64::from(i) / 6.0 - 1.0).collect();
        session.feed(x, &xs).unwrap().step().unwrap();
        session.scalar(loss).unwrap()
    }
    assert!((loss(Tiny) - loss(Reference)).abs() < 1e-12);
}
