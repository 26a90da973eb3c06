//! Random numbers that differ from step to step: a counter among the parameters.

use std::cell::Cell;
use std::panic::Location;

use backprop_core::DType;

use crate::graph::Graph;
use crate::init::Init;
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// Keys that are fresh in every step: a seed, and a counter of the keys used so far that lives among
/// the parameters. Every [`next_key`](RandomState::next_key) takes one number, and
/// [`updates`](RandomState::updates) moves the counter past all of them. Saved and restored with the
/// other parameters, it draws what an uninterrupted run would have drawn.
///
/// A plan that draws from it but does not move it would draw the same in every run; compiling one is
/// an error.
///
/// ```
/// use backprop_core::{DType::F32, Reference};
/// use backprop_graph::{Graph, Session};
///
/// let g = Graph::new();
/// let random = g.random_state("dropout", 7);
/// let x = g.full([64], 1.0, F32).dropout(0.5, random.next_key());
/// let y = x.dropout(0.1, random.next_key());
///
/// let mut session = Session::compile(&g, Reference, &[y.key()], random.updates())?;
/// session.step()?;
/// let first = session.fetch::<f32>(y)?;
/// session.step()?;
/// assert_ne!(first, session.fetch::<f32>(y)?);
/// # Ok::<(), backprop_core::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a plan that draws from it needs its `updates()`"]
pub struct RandomState<'g> {
    counter: Param,
    base: Tensor<'g>,
    taken: Cell<i32>,
}

impl Graph {
    /// Keys of a seed that are fresh in every step, counted by the parameter `name`.
    #[track_caller]
    pub fn random_state(&self, name: &str, seed: u64) -> RandomState<'_> {
        self.at(Location::caller(), || {
            let none: [usize; 0] = [];
            let counter = self.parameter(name, none, DType::I64, Init::Zeros);
            self.ir.borrow_mut().counters.push(counter.index);
            RandomState {
                counter,
                base: self.random_key(seed),
                taken: Cell::new(0),
            }
        })
    }
}

impl<'g> RandomState<'g> {
    /// The parameter that counts the keys.
    pub fn counter(&self) -> Param {
        self.counter
    }

    /// A key that no other call and no other step gives:
    /// [`fold_in`](Tensor::fold_in) of the seed's key and the next number. In the body of a scan it
    /// is one key for all iterations: fold in their index.
    #[track_caller]
    #[must_use]
    pub fn next_key(&self) -> Tensor<'g> {
        let number = self.taken.get();
        self.taken.set(number + 1);
        let graph = self.base.graph;
        graph.at(Location::caller(), || {
            self.base.fold_in(graph.read(self.counter) + number)
        })
    }

    /// Moves the counter past the keys taken: for the updates of every plan that draws from them.
    #[track_caller]
    pub fn updates(self) -> Updates {
        let graph = self.base.graph;
        graph.at(Location::caller(), || {
            Updates::set(self.counter, graph.read(self.counter) + self.taken.get())
        })
    }
}
