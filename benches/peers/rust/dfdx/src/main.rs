//! dfdx. What is left out: convolutions, which need a nightly compiler here, recurrent layers, which it
//! has none of, and transformers, whose blocks have other parameters.

use std::error::Error;

use backprop_benches::peer::{Call, Peer};
use backprop_benches::workload::{Slot, Values};
use dfdx::optim::{Adam, AdamConfig, Optimizer, Sgd, SgdConfig};
use dfdx::prelude::*;

const VERSION: &str = "0.13.0";

type Taped<S> = Tensor<S, f32, Cpu, OwnedTape<f32, Cpu>>;
type Loss<O> = fn(Taped<O>, Tensor<O, f32, Cpu>) -> Taped<Rank0>;
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let call = Call::from_arguments()?;
    let values = &Shared(&call);
    let measured = match call.workload.id {
        "W0" => {
            let model = (
                (values.linear::<2, 2>(0)?, ReLU),
                (values.linear::<2, 1>(1)?, Sigmoid),
            );
            let target = values.tensor::<Rank2<1, 1>>("y")?;
            let case = (values.tensor::<Rank2<1, 2>>("x")?, target, mse_loss as Loss<_>);
            run(&call, model, case, |model| descent(model, 0.1))
        }
        "W1" => {
            let model = (
                (values.linear::<64, 64>(0)?, ReLU),
                (values.linear::<64, 64>(1)?, ReLU),
                values.linear::<64, 10>(2)?,
            );
            let case = values.classes::<32, 64, 10>()?;
            run(&call, model, case, |model| descent(model, 0.1))
        }
        "W2" => {
            let model = (
                (values.linear::<784, 512>(0)?, ReLU),
                (values.linear::<512, 512>(1)?, ReLU),
                values.linear::<512, 10>(2)?,
            );
            let case = values.classes::<128, 784, 10>()?;
            let adam = AdamConfig {
                lr: 1e-3,
                ..AdamConfig::default()
            };
            run(&call, model, case, |model| Adam::new(model, adam))
        }
        "W3" => {
            let model = (
                (values.linear::<2048, 2048>(0)?, ReLU),
                (values.linear::<2048, 2048>(1)?, ReLU),
                (values.linear::<2048, 2048>(2)?, ReLU),
                values.linear::<2048, 1000>(3)?,
            );
            let case = values.classes::<256, 2048, 1000>()?;
            run(&call, model, case, |model| descent(model, 0.01))
        }
        "W7" => {
            let model = Elementwise {
                w: values.tensor("w")?,
                b: values.tensor("b")?,
            };
            let target = Cpu::default().zeros();
            let case = (values.tensor("x")?, target, mean_square as Loss<_>);
            run(&call, model, case, |model| descent(model, 0.01))
        }
        "W9" => {
            let layer = |i| Ok::<_, Box<dyn Error>>((values.matrix::<512, 512>(i)?, ReLU));
            let modules = (0..99).map(layer).collect::<Outcome<_>>()?;
            let model = (Repeated::<_, 99> { modules }, values.matrix::<512, 512>(99)?);
            let target = values.tensor::<Rank2<1, 512>>("y")?;
            let case = (values.tensor::<Rank2<1, 512>>("x")?, target, mse_loss as Loss<_>);
            run(&call, model, case, |model| descent(model, 1e-3))
        }
        other => Err(format!("{other} is left out").into()),
    };
    println!("{}", measured?);
    Ok(())
}

fn descent<M>(model: &M, lr: f64) -> Sgd<M, f32, Cpu> {
    let options = SgdConfig {
        lr,
        ..SgdConfig::default()
    };
    Sgd::new(model, options)
}

/// The values that all engines share.
struct Shared<'c>(&'c Call);

impl Shared<'_> {
    fn slot(&self, name: &str) -> Outcome<&(Slot, Values)> {
        let found = self.0.values.get(name);
        found.ok_or_else(|| format!("nothing is called {name}").into())
    }

    fn tensor<S: ConstShape>(&self, name: &str) -> Outcome<Tensor<S, f32, Cpu>> {
        match &self.slot(name)?.1 {
            Values::F32(values) => {
                Ok(Cpu::default().tensor_from_vec(values.clone(), S::default()))
            }
            Values::I32(_) => Err(format!("{name} is no float").into()),
        }
    }

    fn linear<const I: usize, const O: usize>(
        &self,
        number: usize,
    ) -> Outcome<modules::Linear<I, O, f32, Cpu>> {
        Ok(modules::Linear {
            weight: self.tensor(&format!("layers.{number}.weight"))?,
            bias: self.tensor(&format!("layers.{number}.bias"))?,
        })
    }

    fn matrix<const I: usize, const O: usize>(
        &self,
        number: usize,
    ) -> Outcome<modules::UnbiasedLinear<I, O, f32, Cpu>> {
        let weight = self.tensor(&format!("layers.{number}.weight"))?;
        Ok(modules::UnbiasedLinear { weight })
    }

    /// Inputs, the probabilities of classes, and their loss.
    fn classes<const B: usize, const I: usize, const O: usize>(
        &self,
    ) -> Outcome<Case<Rank2<B, I>, Rank2<B, O>>> {
        let Values::I32(labels) = &self.slot("labels")?.1 else {
            return Err("labels are integers".into());
        };
        let mut wanted = vec![0.0; B * O];
        for (row, &label) in labels.iter().enumerate() {
            wanted[row * O + label as usize] = 1.0;
        }
        let wanted = Cpu::default().tensor_from_vec(wanted, Rank2::default());
        let loss: Loss<_> = cross_entropy_with_logits_loss;
        Ok((self.tensor("x")?, wanted, loss))
    }
}

/// W7: a module of its own.
#[derive(Clone, Debug)]
struct Elementwise {
    w: Tensor<Rank1<COUNT>, f32, Cpu>,
    b: Tensor<Rank1<COUNT>, f32, Cpu>,
}

const COUNT: usize = 4_194_304;

impl TensorCollection<f32, Cpu> for Elementwise {
    type To<E: Dtype, D: Device<E>> = ();

    fn iter_tensors<V: ModuleVisitor<Self, f32, Cpu>>(visitor: &mut V) -> Result<Option<()>, V::Err> {
        let options = TensorOptions::reset_to_zeros;
        visitor.visit_fields(
            (
                Self::tensor("w", |s| &s.w, |s| &mut s.w, options()),
                Self::tensor("b", |s| &s.b, |s| &mut s.b, options()),
            ),
            |_| (),
        )
    }
}

impl<T: Tape<f32, Cpu>> Module<Tensor<Rank1<COUNT>, f32, Cpu, T>> for Elementwise {
    type Output = Tensor<Rank1<COUNT>, f32, Cpu, T>;
    type Error = <Cpu as HasErr>::Err;

    fn try_forward(
        &self,
        x: Tensor<Rank1<COUNT>, f32, Cpu, T>,
    ) -> Result<Self::Output, Self::Error> {
        let gate = x.with_empty_tape().try_sigmoid()?;
        x.try_mul(self.w.clone())?
            .try_add(self.b.clone())?
            .try_fast_gelu()?
            .try_mul(gate)
    }
}

/// The mean of squares, by rows: dfdx adds one number to another, and the sum of four million squares
/// in a row is 1% off.
fn mean_square(
    output: Taped<Rank1<COUNT>>,
    _: Tensor<Rank1<COUNT>, f32, Cpu>,
) -> Taped<Rank0> {
    let squares = output.square().reshape::<Rank2<2048, { COUNT / 2048 }>>();
    squares.mean::<Rank1<2048>, Axis<1>>().mean()
}

type Case<I, O> = (Tensor<I, f32, Cpu>, Tensor<O, f32, Cpu>, Loss<O>);

/// A model with what it learns.
struct Network<M, U, I: Shape, O: Shape> {
    model: M,
    update: U,
    case: Case<I, O>,
    gradients: Option<Gradients<f32, Cpu>>,
    last: f32,
}

fn run<M, U, I: Shape, O: Shape>(
    call: &Call,
    model: M,
    case: Case<I, O>,
    update: impl FnOnce(&M) -> U,
) -> Outcome<String>
where
    Network<M, U, I, O>: Peer,
    M: ZeroGrads<f32, Cpu>,
{
    let mut network = Network {
        update: update(&model),
        gradients: Some(model.alloc_grads()),
        model,
        case,
        last: f32::NAN,
    };
    Ok(call.measure("dfdx", VERSION, &mut network)?.to_string())
}

impl<M, U, I: Shape, O: Shape> Peer for Network<M, U, I, O>
where
    M: ZeroGrads<f32, Cpu>
        + Module<Tensor<I, f32, Cpu>, Output = Tensor<O, f32, Cpu>>
        + Module<Taped<I>, Output = Taped<O>>,
    U: Optimizer<M, Cpu, f32>,
{
    fn step(&mut self) -> Outcome<()> {
        let (x, target, loss) = &self.case;
        let gradients = self.gradients.take().ok_or("a step failed before")?;
        let output = self.model.forward(x.clone().traced(gradients));
        let loss = loss(output, target.clone());
        self.last = loss.array();
        let mut gradients = loss.backward();
        let updated = self.update.update(&mut self.model, &gradients);
        updated.map_err(|why| format!("{why:?}"))?;
        self.model.zero_grads(&mut gradients);
        self.gradients = Some(gradients);
        Ok(())
    }

    fn loss(&self) -> Outcome<f64> {
        Ok(f64::from(self.last))
    }

    fn infer(&mut self) -> Outcome<()> {
        let output: Tensor<O, f32, Cpu> = self.model.forward(self.case.0.clone());
        drop(output);
        Ok(())
    }
}
