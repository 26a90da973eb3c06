//! A workload's graph while it is built: layers whose parameters say how they are filled.

use backprop::nn::{Conv, Features, Filter, GroupNorm, Groups, LayerNorm, Linear};
use backprop::prelude::*;
use backprop::{CompileOptions, DType};

use super::{Fill, Slot, Target};

/// Standard deviation of weights.
const WEIGHT: Fill = Fill::Normal(0.02);

/// What is built of a workload: by default, what is timed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variant {
    /// The type of parameters and of inputs that are no integers.
    pub dtype: DType,
    /// How much of it there is.
    pub size: Size,
    /// What its parameters start with.
    pub start: Start,
    /// How it is compiled.
    pub options: CompileOptions,
}

/// What parameters start with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// 0, so that compiling does not draw numbers that are to be replaced.
    Zero,
    /// What the graph draws for a [`Fill`]: other numbers than those that engines share, and never more
    /// than a few of them beside the parameters.
    Drawn,
}

/// How large a workload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// As it is timed.
    Full,
    /// The same network with sizes so small that the reference backend trains it in moments.
    Small,
}

impl Default for Variant {
    fn default() -> Variant {
        Variant {
            dtype: F32,
            size: Size::Full,
            start: Start::Zero,
            options: CompileOptions::default(),
        }
    }
}

/// A graph under construction, with what there is to fill in it.
#[derive(Debug)]
pub struct Draft<'g> {
    /// The graph.
    pub g: &'g Graph,
    variant: Variant,
    slots: Vec<Slot>,
}

impl<'g> Draft<'g> {
    pub(super) fn new(g: &'g Graph, variant: Variant) -> Draft<'g> {
        Draft {
            g,
            variant,
            slots: Vec::new(),
        }
    }

    pub(super) fn into_slots(self) -> Vec<Slot> {
        self.slots
    }

    /// The type of parameters.
    pub(super) fn dtype(&self) -> DType {
        self.variant.dtype
    }

    /// The sizes of this variant.
    pub(super) fn sizes<T>(&self, full: T, small: T) -> T {
        match self.variant.size {
            Size::Full => full,
            Size::Small => small,
        }
    }

    /// All parameters so far.
    pub(super) fn parameters(&self) -> Vec<Param> {
        let parameter = |slot: &Slot| match slot.target {
            Target::Parameter(parameter) => Some(parameter),
            Target::Input(_) => None,
        };
        self.slots.iter().filter_map(parameter).collect()
    }

    #[track_caller]
    pub(super) fn parameter(&mut self, name: &str, shape: &[usize], fill: Fill) -> Param {
        let init = match self.variant.start {
            Start::Zero => Init::Zeros,
            Start::Drawn => fill.init(),
        };
        let parameter = self.g.parameter(name, shape, self.dtype(), init);
        self.slots.push(Slot {
            name: name.to_owned(),
            shape: self.g.read(parameter).shape(),
            fill,
            target: Target::Parameter(parameter),
        });
        parameter
    }

    #[track_caller]
    pub(super) fn input(&mut self, name: &str, shape: &[usize], fill: Fill) -> Tensor<'g> {
        let dtype = match fill.dtype() {
            F32 => self.dtype(),
            integer => integer,
        };
        let input = self.g.input(name, shape, dtype);
        self.slots.push(Slot {
            name: name.to_owned(),
            shape: input.shape(),
            fill,
            target: Target::Input(input.key()),
        });
        input
    }

    /// `name.weight`, small and random, and `name.bias`, 0.
    #[track_caller]
    pub(super) fn linear(&mut self, name: &str, features: Features) -> Linear {
        let Features { input, output } = features;
        Linear {
            weight: self.parameter(&format!("{name}.weight"), &[output, input], WEIGHT),
            bias: Some(self.parameter(&format!("{name}.bias"), &[output], Fill::Zeros)),
        }
    }

    /// As [`linear`](Draft::linear), for square windows.
    #[track_caller]
    pub(super) fn conv(&mut self, name: &str, filter: Filter<2>) -> Conv {
        let [rows, columns] = filter.taps;
        let shape = [filter.output, filter.input, rows, columns];
        Conv {
            weight: self.parameter(&format!("{name}.weight"), &shape, WEIGHT),
            bias: Some(self.parameter(&format!("{name}.bias"), &[filter.output], Fill::Zeros)),
            how: filter.how,
        }
    }

    #[track_caller]
    pub(super) fn layer_norm(&mut self, name: &str, width: usize) -> LayerNorm {
        let [weight, bias] = self.affine(name, width);
        LayerNorm {
            weight,
            bias,
            eps: 1e-5,
        }
    }

    #[track_caller]
    pub(super) fn group_norm(&mut self, name: &str, groups: Groups) -> GroupNorm {
        let [weight, bias] = self.affine(name, groups.channels);
        GroupNorm {
            weight,
            bias,
            groups: groups.groups,
            eps: 1e-5,
        }
    }

    #[track_caller]
    fn affine(&mut self, name: &str, width: usize) -> [Param; 2] {
        [
            self.parameter(&format!("{name}.weight"), &[width], Fill::Ones),
            self.parameter(&format!("{name}.bias"), &[width], Fill::Zeros),
        ]
    }
}
