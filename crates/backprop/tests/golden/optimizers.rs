//! Twelve steps of linear regression under each optimizer.

use backprop::optim::{
    Adagrad, Adam, AdamW, Momentum, Rate, RmsProp, Sgd, adagrad, adam, adamw, rmsprop, sgd,
};
use backprop::{Backend, DType, Graph, Init, Param, Result, Session, Tensor, Updates};

use crate::cases::{Case, Golden, fetch};
use crate::{Outcome, compare, tolerance};

const STEPS: usize = 12;

pub(crate) fn run(
    golden: &Golden,
    case: &Case,
    backend: &impl Backend,
    dtype: DType,
) -> Option<Outcome> {
    let g = Graph::new();
    let start = |name: &str| Init::Values(golden.numbers(case, name));
    let (x, y) = (g.input("x", [8, 3], dtype), g.input("y", [8, 2], dtype));
    let w = g.parameter("w", [3, 2], dtype, start("w0"));
    let b = g.parameter("b", [2], dtype, start("b0"));
    let loss = (x.matmul(w) + b - y).square().mean(..);
    let updates = match g.grad(loss, &[w, b]) {
        Ok(gradients) => updates(&g, case, &[w, b], &gradients)?,
        Err(error) => return Some(Err(error.to_string())),
    };
    let train = || -> Result<[Vec<f64>; 3]> {
        let mut session = Session::compile(&g, backend.clone(), &[loss.key()], updates)?;
        golden.feed(&mut session, case, "x", x)?;
        golden.feed(&mut session, case, "y", y)?;
        let mut losses = Vec::new();
        for _ in 0..STEPS {
            session.step()?;
            losses.extend(fetch(&session, loss)?);
        }
        let value = |parameter: Param| match dtype {
            DType::F32 => {
                let values = session.parameter::<f32>(parameter)?;
                Ok(values.into_iter().map(f64::from).collect())
            }
            _ => session.parameter::<f64>(parameter),
        };
        Ok([losses, value(w)?, value(b)?])
    };
    let compared = |results: [Vec<f64>; 3]| -> Outcome {
        for (name, got) in ["losses", "w_end", "b_end"].iter().zip(results) {
            let expected = golden.numbers(case, name);
            compare(name, &got, &expected, tolerance(&case.name, dtype))?;
        }
        Ok(())
    };
    Some(
        train()
            .map_err(|error| error.to_string())
            .and_then(compared),
    )
}

/// `None` for an optimizer that is missing.
fn updates<'g>(
    g: &'g Graph,
    case: &Case,
    parameters: &[Param],
    grads: &[Tensor<'g>],
) -> Option<Updates> {
    let lr = Rate::constant(case.number("lr"));
    let (eps, weight_decay) = (|| case.number("eps"), case.number("weight_decay"));
    Some(match case.text("optimizer") {
        "sgd" | "sgd_momentum" | "sgd_nesterov_decay" => {
            let style = match case.truth("nesterov") {
                true => Momentum::Nesterov,
                false => Momentum::Heavy,
            };
            let options = Sgd {
                lr,
                momentum: case.number("momentum"),
                dampening: case.number("dampening"),
                style,
                weight_decay,
            };
            sgd(g, parameters, grads, options)
        }
        "adam" => {
            let (betas, eps) = (case.pair("betas"), eps());
            let options = Adam {
                lr,
                betas,
                eps,
                weight_decay,
                ..Adam::default()
            };
            adam(g, parameters, grads, options)
        }
        "adamw" => {
            let (betas, eps) = (case.pair("betas"), eps());
            let options = AdamW {
                lr,
                betas,
                eps,
                weight_decay,
                ..AdamW::default()
            };
            adamw(g, parameters, grads, options)
        }
        "rmsprop" => {
            let options = RmsProp {
                lr,
                alpha: case.number("alpha"),
                eps: eps(),
                momentum: case.number("momentum"),
                weight_decay,
            };
            rmsprop(g, parameters, grads, options)
        }
        "adagrad" => {
            let options = Adagrad {
                lr,
                initial: case.number("initial_accumulator_value"),
                eps: eps(),
                weight_decay,
            };
            adagrad(g, parameters, grads, options)
        }
        _ => return None,
    })
}
