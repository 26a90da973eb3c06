//! What fusion makes and scheduling orders: launches over values, before anything has an address.

use std::sync::Arc;

use backprop_core::{Piece, Relocate, Source};
use backprop_core::{Primitive, TensorType, View};

use crate::ir::Origin;

/// Where a value lives.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Home {
    /// In the arena.
    Temporary,
    /// A parameter's value before the step.
    Parameter(u32),
    /// A parameter's new value.
    Update(u32),
    /// Fed.
    Input(u32),
    /// Known when the graph is built.
    Data(Arc<[u8]>),
    /// Fetched; the position among the fetches.
    Result(usize),
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) tensor: TensorType,
    pub(crate) home: Home,
    pub(crate) name: String,
}

/// A launch.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) primitive: Primitive,
    /// Positions in [`Launches::values`].
    pub(crate) reads: Vec<usize>,
    pub(crate) writes: Vec<usize>,
    pub(crate) origin: Option<Origin>,
}

/// All launches of a step, in some order that respects what each reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Launches {
    pub(crate) values: Vec<Value>,
    pub(crate) list: Vec<Launch>,
    pub(crate) scopes: Vec<String>,
}

impl Launches {
    pub(crate) fn add_value(&mut self, value: Value) -> usize {
        self.values.push(value);
        self.values.len() - 1
    }

    /// Appends a launch that copies what `view` sees of a value into a new value.
    pub(crate) fn add_copy(
        &mut self,
        from: usize,
        view: View,
        to: Value,
        origin: Option<Origin>,
    ) -> usize {
        let source = Source {
            tensor: self.values[from].tensor.clone(),
            view,
        };
        let into = View::dense(view.shape);
        let primitive = Primitive::Relocate(Relocate {
            pieces: vec![Piece { from: source, into }],
            fill: None,
            output: to.tensor.clone(),
        });
        let write = self.add_value(to);
        self.list.push(Launch {
            primitive,
            reads: vec![from],
            writes: vec![write],
            origin,
        });
        write
    }
}
