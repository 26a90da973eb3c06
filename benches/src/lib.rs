//! The training steps on which this engine is timed, as functions that build and compile them.
#![forbid(unsafe_code)]

pub mod measure;
pub mod peer;
pub mod workload;

use backprop::prelude::*;

pub mod fsrs;
pub mod lstm;

/// How the parameters of a workload are updated.
#[derive(Clone, Copy, Debug)]
pub enum Optimizer {
    /// Gradient descent at this rate.
    Sgd(f64),
    /// Adam at this rate.
    Adam(f64),
}

/// A classifier of fully connected layers with ReLU between them, trained on softmax cross-entropy.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// A short name.
    pub name: &'static str,
    /// Inputs, hidden layers and classes.
    pub sizes: Vec<usize>,
    /// Examples a step.
    pub batch: usize,
    /// How parameters are updated.
    pub optimizer: Optimizer,
}

/// A compiled training step with its data fed.
#[derive(Debug)]
pub struct Step {
    /// The session; `session.step()` is what is timed.
    pub session: Session<Cpu>,
    /// The loss.
    pub loss: Key,
    /// Multiplications and additions of the matrix products of a step.
    pub flops: u64,
}

impl Mlp {
    /// The fully connected workloads, from small to wide.
    #[must_use]
    pub fn all() -> Vec<Mlp> {
        let mlp = |name, sizes: &[usize], batch, optimizer| Mlp {
            name,
            sizes: sizes.to_vec(),
            batch,
            optimizer,
        };
        vec![
            mlp("mlp-small", &[64, 64, 64, 10], 32, Optimizer::Sgd(0.1)),
            mlp("mlp", &[784, 512, 512, 10], 128, Optimizer::Adam(1e-3)),
            mlp(
                "mlp-wide",
                &[2048, 2048, 2048, 2048, 1000],
                256,
                Optimizer::Sgd(0.01),
            ),
        ]
    }

    /// Builds and compiles the step, with weights N(0, 0.02), inputs N(0, 1) and random labels.
    ///
    /// # Errors
    /// Whatever building or compiling reports.
    pub fn compile(&self, cpu: Cpu) -> Result<Step> {
        let g = Graph::with_seed(1);
        let classes = self.sizes.last().copied().unwrap_or(1);
        let x = g.input("x", [self.batch, self.sizes[0]], F32);
        let labels = g.input("labels", [self.batch], I32);
        let (mut parameters, mut h) = (Vec::new(), x);
        for (i, size) in self.sizes.windows(2).enumerate() {
            let init = Init::Normal {
                mean: 0.0,
                std: 0.02,
            };
            let w = g.parameter(&format!("w{i}"), [size[0], size[1]], F32, init);
            let b = g.parameter(&format!("b{i}"), [size[1]], F32, Init::Zeros);
            parameters.extend([w, b]);
            h = h.matmul(w) + b;
            if i + 2 < self.sizes.len() {
                h = h.relu();
            }
        }
        let loss = h.cross_entropy(labels, CrossEntropy::default());
        let grads = g.grad(loss, &parameters)?;
        let updates = match self.optimizer {
            Optimizer::Sgd(lr) => {
                let options = Sgd {
                    lr: lr.into(),
                    ..Sgd::default()
                };
                optim::sgd(&g, &parameters, &grads, options)
            }
            Optimizer::Adam(lr) => {
                let options = Adam {
                    lr: lr.into(),
                    ..Adam::default()
                };
                optim::adam(&g, &parameters, &grads, options)
            }
        };
        let (x, labels, loss) = (x.key(), labels.key(), loss.key());
        let mut session = Session::compile(&g, cpu, &[loss], updates)?;
        let (inputs, targets) = self.data(classes)?;
        session.feed(x, &inputs)?.feed(labels, &targets)?;
        Ok(Step {
            session,
            loss,
            flops: self.flops(),
        })
    }

    /// Inputs N(0, 1), drawn by the engine itself, and labels.
    fn data(&self, classes: usize) -> Result<(Vec<f32>, Vec<i32>)> {
        let g = Graph::with_seed(2);
        let normal = Init::Normal {
            mean: 0.0,
            std: 1.0,
        };
        let x = g.parameter("x", [self.batch, self.sizes[0]], F32, normal);
        let session = Session::compile(&g, backprop::Reference, &[], Updates::none())?;
        let labels = (0..self.batch)
            .map(|i| (i * 7919 % classes) as i32)
            .collect();
        Ok((session.parameter(x)?, labels))
    }

    /// Forward, and both products of the backward pass but the first layer's input gradient.
    fn flops(&self) -> u64 {
        let products: usize = self
            .sizes
            .windows(2)
            .map(|size| 3 * size[0] * size[1])
            .sum();
        let first = self.sizes[0] * self.sizes[1];
        (2 * self.batch * (products - first)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_learns_its_data() -> Result<()> {
        let Step {
            mut session, loss, ..
        } = Mlp::all()[0].compile(Cpu::new()?)?;
        session.step()?;
        let first = session.scalar(loss)?;
        for _ in 0..1000 {
            session.step()?;
        }
        assert!((first - 10f64.ln()).abs() < 0.1, "{first}");
        let last = session.scalar(loss)?;
        assert!(last < 0.5 * first, "{first} to {last}");
        Ok(())
    }
}
