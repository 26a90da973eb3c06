//! The training steps on which this engine and its peers are timed side by side: forward, backward
//! and update, on data that is already in memory, in `f32`.
//!
//! A [`Workload`] builds its graph; [`Workload::compile`] makes a [`Training`] of it on any backend.
//! Every parameter and input says how it is [filled](Fill); [`file::write`] draws them from one seed
//! into a file that all engines read, so that their losses can be compared. A [`Variant`] is the same
//! network in other numbers or of another size, for tests.

mod cnn;
mod dense;
mod draft;
mod elementwise;
pub mod file;
mod fill;
mod lstm;
mod transformer;
mod unet;

use backprop::prelude::*;
use backprop::{DType, Element, PlanId, Shape};

pub use draft::{Draft, Size, Start, Variant};
pub use fill::{Fill, Values};
pub use transformer::DEEP_GPT;

/// The seed of the values that all engines share.
pub const SEED: u64 = 1234;

/// A training step.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// How it is called in tables and options.
    pub id: &'static str,
    /// What it trains.
    pub about: &'static str,
    /// Multiplications and additions of matrix products and convolutions.
    pub operations: Operations,
    /// What the arithmetic of a step is held against.
    pub bound: Bound,
    build: for<'g> fn(&mut Draft<'g>) -> Result<Network<'g>>,
}

/// Multiplications and additions of matrix products and convolutions; a step needs no gradient of the
/// data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operations {
    /// Of the forward pass.
    pub forward: u64,
    /// Of a whole step.
    pub step: u64,
}

/// What limits a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// Fixed costs: there is next to nothing to compute.
    Latency,
    /// Multiply-adds.
    Arithmetic,
    /// The memory's bandwidth: this many bytes have to be read and written in a step.
    Bandwidth(u64),
}

/// What a workload's graph comes to.
#[derive(Debug)]
pub struct Network<'g> {
    /// What an inference returns.
    pub output: Tensor<'g>,
    /// What the step makes smaller.
    pub loss: Tensor<'g>,
    /// What the step does to parameters.
    pub updates: Updates,
}

/// A parameter or an input that is filled before the first step.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Its name in files.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// How it is filled.
    pub fill: Fill,
    target: Target,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Target {
    Parameter(Param),
    Input(Key),
}

/// A compiled training step.
#[derive(Debug)]
pub struct Training<B: Backend> {
    /// Its first plan is the step.
    pub session: Session<B>,
    /// The loss before the update of the last step.
    pub loss: Key,
    output: Key,
    slots: Vec<Slot>,
    dtype: DType,
    start: Start,
}

/// Every workload, in the order of tables.
pub static ALL: [Workload; 11] = [
    dense::SEED_NETWORK,
    dense::MLP_SMALL,
    dense::MLP,
    dense::MLP_WIDE,
    cnn::CNN,
    lstm::LSTM,
    transformer::GPT,
    elementwise::ELEMENTWISE,
    unet::UNET,
    dense::DEEP,
    dense::DEEP_HUGE,
];

impl Workload {
    /// The workload of this name.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Workload> {
        ALL.iter().find(|workload| workload.id == id)
    }

    /// Builds, differentiates and compiles the step as it is timed. Parameters are 0 until they are
    /// [filled](Training::fill).
    ///
    /// # Errors
    /// Whatever building or compiling reports.
    pub fn compile<B: Backend>(&self, backend: B) -> Result<Training<B>> {
        self.compile_as(Variant::default(), backend)
    }

    /// [Compiles](Workload::compile) the step in other numbers or of another size.
    ///
    /// # Errors
    /// Whatever building or compiling reports.
    pub fn compile_as<B: Backend>(&self, variant: Variant, backend: B) -> Result<Training<B>> {
        let g = Graph::new();
        let mut draft = Draft::new(&g, variant);
        let network = (self.build)(&mut draft)?;
        let slots = draft.into_slots();
        let (loss, output) = (network.loss.key(), network.output.key());
        Ok(Training {
            session: Session::compile_with(&g, backend, &[loss], network.updates, variant.options)?,
            loss,
            output,
            slots,
            dtype: variant.dtype,
            start: variant.start,
        })
    }

    /// The parameters and inputs, in the order in which they were made.
    ///
    /// # Errors
    /// Whatever building reports.
    pub fn slots(&self) -> Result<Vec<Slot>> {
        let g = Graph::new();
        let mut draft = Draft::new(&g, Variant::default());
        (self.build)(&mut draft)?;
        g.check()?;
        Ok(draft.into_slots())
    }
}

impl<B: Backend> Training<B> {
    /// The parameters and inputs, in the order in which they were made.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Sets the parameters and inputs to what `values` gives for each; only the inputs where the
    /// parameters have been [drawn](Start::Drawn).
    ///
    /// # Errors
    /// Those of `values`; values of another type or number.
    pub fn fill(&mut self, mut values: impl FnMut(&Slot) -> Result<Values>) -> Result<()> {
        let is_open = |slot: &&Slot| match slot.target {
            Target::Parameter(_) => self.start == Start::Zero,
            Target::Input(_) => true,
        };
        for slot in self.slots.iter().filter(is_open) {
            let session = &mut self.session;
            match values(slot)? {
                Values::F32(values) if self.dtype == F64 => {
                    let values: Vec<f64> = values.into_iter().map(f64::from).collect();
                    slot.target.set(session, &values)?;
                }
                Values::F32(values) => slot.target.set(session, &values)?,
                Values::I32(values) => slot.target.set(session, &values)?,
            }
        }
        Ok(())
    }

    /// The loss of so many steps, each before its update.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn losses(&mut self, steps: usize) -> Result<Vec<f64>> {
        let step = |_| {
            self.session.step()?;
            self.session.scalar(self.loss)
        };
        (0..steps).map(step).collect()
    }

    /// Adds the plan that computes the output alone.
    ///
    /// # Errors
    /// Whatever compiling reports.
    pub fn inference(&mut self) -> Result<PlanId> {
        self.session.plan(&[self.output], Updates::none())
    }
}

impl Target {
    fn set<T: Element>(self, session: &mut Session<impl Backend>, values: &[T]) -> Result<()> {
        match self {
            Target::Parameter(parameter) => session.set_parameter(parameter, values),
            Target::Input(key) => session.feed(key, values).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses of some steps on the values that all engines share.
    fn losses(workload: &Workload, steps: usize) -> Vec<f64> {
        let cpu = Cpu::builder().threads(1).build().unwrap();
        let mut training = workload.compile(cpu).unwrap();
        training
            .fill(|slot| Ok(slot.fill.draw(SEED, &slot.name, slot.shape)))
            .unwrap();
        training.losses(steps).unwrap()
    }

    #[test]
    fn names_are_unique() {
        for workload in &ALL {
            assert!(std::ptr::eq(
                Workload::named(workload.id).unwrap(),
                workload
            ));
        }
    }

    #[test]
    fn every_workload_builds() {
        for workload in &ALL {
            let slots = workload.slots().unwrap();
            let mut names: Vec<&str> = slots.iter().map(|slot| &*slot.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), slots.len(), "{}", workload.id);
        }
    }

    #[test]
    fn small_workloads_learn_their_data() {
        for (id, first) in [("W1", 10f64.ln()), ("W2", 10f64.ln()), ("W6", 65f64.ln())] {
            let losses = losses(Workload::named(id).unwrap(), 3);
            assert!((losses[0] - first).abs() < 0.3, "{id}: {losses:?}");
            assert!(losses[2] < losses[0], "{id}: {losses:?}");
        }
    }

    #[test]
    fn the_seed_network_is_computed_by_hand() {
        let workload = Workload::named("W0").unwrap();
        let slots = workload.slots().unwrap();
        let value = |name: &str| {
            let slot = slots.iter().find(|slot| slot.name == name).unwrap();
            match slot.fill.draw(SEED, &slot.name, slot.shape) {
                Values::F32(values) => values.into_iter().map(f64::from).collect::<Vec<f64>>(),
                Values::I32(_) => panic!("{name} is no float"),
            }
        };
        let (x, y) = (value("x"), value("y"));
        let (w, b) = (value("layers.0.weight"), value("layers.0.bias"));
        let hidden = [0, 1].map(|i| (w[2 * i] * x[0] + w[2 * i + 1] * x[1] + b[i]).max(0.0));
        let (w, b) = (value("layers.1.weight"), value("layers.1.bias"));
        let out = 1.0 / (1.0 + (-(w[0] * hidden[0] + w[1] * hidden[1] + b[0])).exp());
        let loss = losses(workload, 1)[0];
        assert!((loss - (out - y[0]).powi(2)).abs() < 1e-7, "{loss}");
    }
}
