//! Scans: a body that runs once for each element of its sequences, and hands values on.
//!
//! The body is built in the same graph by a closure, which may use any tensor from outside. A node
//! belongs to the innermost region among its operands', so that what does not depend on an
//! iteration stands outside of the loop by itself. A tensor of a body is of no use outside of it.

mod bounded;
mod cond;
mod localize;
mod region;
mod reverse;
mod sums;

use std::panic::Location;

use backprop_core::{DType, Order, Place};

use crate::graph::{Graph, Problem, bad_attribute, bad_dtype, bad_shape};
use crate::ir::{Argument, NodeId, Turn};
use crate::op::catalogue::{Entry, entries, labelled, reals};
use crate::op::{Convolution, Mask, Pool};
use crate::tensor::Tensor;

pub(crate) use localize::Open;
pub(crate) use region::stack;
pub(crate) use reverse::spread_needs;

/// What a scan gives: the carried values after the last iteration, and the values of each iteration,
/// stacked along a new first axis.
#[derive(Clone, Debug)]
pub struct Scanned<'g> {
    /// The carried values after the last iteration.
    pub carried: Vec<Tensor<'g>>,
    /// The stacked outputs.
    pub stacked: Vec<Tensor<'g>>,
}

/// One iteration of a scan, as its body sees it.
#[derive(Clone, Debug)]
pub struct Iteration<'g> {
    /// The values that the iteration before handed on; at first, the initial ones.
    pub carried: Vec<Tensor<'g>>,
    /// This iteration's element of each sequence.
    pub elements: Vec<Tensor<'g>>,
    /// The number of this iteration, `i64[]`.
    pub index: Tensor<'g>,
}

/// What an iteration leaves behind.
#[derive(Clone, Debug, Default)]
pub struct Left<'g> {
    /// Handed on to the next iteration: types and shapes of what was handed to this one.
    pub carried: Vec<Tensor<'g>>,
    /// Stacked with those of the other iterations.
    pub stacked: Vec<Tensor<'g>>,
}

/// How often a body runs.
#[derive(Clone, Copy, Debug)]
enum Trips {
    All {
        times: usize,
    },
    /// As often as the last carried value says.
    Counted {
        most: usize,
    },
}

impl Trips {
    fn most(self) -> usize {
        match self {
            Trips::All { times } => times,
            Trips::Counted { most } => most,
        }
    }

    /// The number of the carried value that says how often, among so many.
    fn count(self, carried: usize) -> Option<usize> {
        match self {
            Trips::All { .. } => None,
            Trips::Counted { .. } => carried.checked_sub(1),
        }
    }
}

impl Graph {
    /// Runs a body `times` times, each time on the next element along the first axis of all
    /// `sequences` (of which there are `times`), handing `initial` values from one iteration to the
    /// next. The graph has as many nodes, and a plan as many launches, for a thousand iterations as
    /// for ten. Derivatives run the other way.
    ///
    /// ```
    /// use backprop_core::{DType::F32, Reference};
    /// use backprop_graph::{Graph, Left, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let x = g.input("x", [4], F32);
    /// let sums = g.scan(4, &[g.full([], 0.0, F32)], &[x], |at| {
    ///     let sum = at.carried[0] + at.elements[0];
    ///     Left { carried: vec![sum], stacked: vec![sum] }
    /// });
    /// let dx = g.grad(sums.stacked[0].sum(..), &[x])?[0];
    /// let keys = [sums.stacked[0].key(), dx.key()];
    /// let mut session = Session::compile(&g, Reference, &keys, Updates::none())?;
    /// session.feed(x, &[1f32, 2.0, 3.0, 4.0])?.step()?;
    /// assert_eq!(session.fetch::<f32>(keys[0])?, [1.0, 3.0, 6.0, 10.0]);
    /// assert_eq!(session.fetch::<f32>(keys[1])?, [4.0, 3.0, 2.0, 1.0]);
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    #[track_caller]
    pub fn scan<'g>(
        &'g self,
        times: usize,
        initial: &[Tensor<'g>],
        sequences: &[Tensor<'g>],
        body: impl FnOnce(Iteration<'g>) -> Left<'g>,
    ) -> Scanned<'g> {
        let place = Location::caller();
        let how = Trips::All { times };
        self.iterate(("scan", place), how, (initial, sequences), body)
    }

    /// As [`scan`](Graph::scan), for the first `count` elements of sequences of `most`: how many is one
    /// integer of each step, from 0 to `most`. What iterations stack that do not run is 0, and their
    /// elements get no gradient. Only what runs costs time.
    ///
    /// ```
    /// use backprop_core::{DType::{F32, I32}, Reference};
    /// use backprop_graph::{Graph, Left, Session, Updates};
    ///
    /// let g = Graph::new();
    /// let (x, count) = (g.input("x", [4], F32), g.input("count", [], I32));
    /// let zero = g.full([], 0.0, F32);
    /// let sum = g.scan_counted(count, 4, &[zero], &[x], |at| {
    ///     let sum = at.carried[0] + at.elements[0];
    ///     Left { carried: vec![sum], stacked: vec![sum] }
    /// });
    /// let keys = [sum.carried[0].key(), sum.stacked[0].key()];
    /// let mut session = Session::compile(&g, Reference, &keys, Updates::none())?;
    /// session.feed(x, &[1f32, 2.0, 3.0, 4.0])?.feed(count, &[3])?.step()?;
    /// assert_eq!(session.scalar(keys[0])?, 6.0);
    /// assert_eq!(session.fetch::<f32>(keys[1])?, [1.0, 3.0, 6.0, 0.0]);
    /// # Ok::<(), backprop_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// A count outside of `0..=most`: of the feed if it is fed, of the step if it is computed.
    #[track_caller]
    pub fn scan_counted<'g>(
        &'g self,
        count: Tensor<'g>,
        most: usize,
        initial: &[Tensor<'g>],
        sequences: &[Tensor<'g>],
        body: impl FnOnce(Iteration<'g>) -> Left<'g>,
    ) -> Scanned<'g> {
        let place = Location::caller();
        let count = self.at(place, || self.count("scan_counted", count, most));
        let initial = [initial, &[count]].concat();
        let how = Trips::Counted { most };
        let ends = (initial.as_slice(), sequences);
        let mut scanned = self.iterate(("scan_counted", place), how, ends, |mut at| {
            let count = at.carried.pop();
            let mut left = body(at);
            left.carried.extend(count);
            left
        });
        scanned.carried.pop();
        scanned
    }

    /// A number of iterations, known to be possible.
    #[track_caller]
    fn count<'g>(&'g self, operation: &str, count: Tensor<'g>, most: usize) -> Tensor<'g> {
        let (dtype, shape) = (count.dtype(), count.shape());
        if dtype.is_integer() && shape.rank() == 0 {
            return count
                .limited(operation, most.saturating_add(1))
                .cast(DType::I64);
        }
        let problem = match dtype.is_integer() {
            true => bad_shape(operation, format!("a count of shape {shape}")),
            false => bad_dtype(operation, format!("a count of type {dtype}")),
        };
        let problem = problem.help("how many iterations run is one integer");
        self.refuse(operation, &[count], Location::caller(), problem)
    }

    /// Builds a scan. Where it is counted, the last carried value says how often it runs.
    fn iterate<'g>(
        &'g self,
        (name, place): (&str, Place),
        how: Trips,
        (initial, sequences): (&[Tensor<'g>], &[Tensor<'g>]),
        body: impl FnOnce(Iteration<'g>) -> Left<'g>,
    ) -> Scanned<'g> {
        let times = how.most();
        let operands = [initial, sequences].concat();
        if let Err(problem) = self.check_scan(name, times, &operands, sequences) {
            let failed = self.refuse(name, &operands, place, problem);
            return failed.silent_scan((initial.len(), sequences.len()), body);
        }
        let local = operands.iter().map(|x| self.localize(x.id));
        let Some(local) = local.collect::<Option<Vec<NodeId>>>() else {
            self.leak(name, &operands, place);
            let failed = self.poison(self.origin(place));
            return failed.silent_scan((initial.len(), sequences.len()), body);
        };
        let local: Vec<Tensor<'g>> = local.into_iter().map(|id| self.tensor(id)).collect();
        let (initial, sequences) = local.split_at(initial.len());
        let numbers = self.at(place, || self.coordinate([times], 0));
        let count = how.count(initial.len());
        self.open((times, count), Turn::Forward, None);
        let carried = initial
            .iter()
            .map(|&x| self.argument(Argument::Carried, x))
            .collect();
        let elements = sequences
            .iter()
            .map(|&x| self.argument(Argument::Element, x))
            .collect();
        let index = self.argument(Argument::Element, numbers);
        let left = body(Iteration {
            carried,
            elements,
            index,
        });
        let fits = self.check_left((name, place), initial, &left.carried);
        let scanned = self.close(initial, left, place);
        match fits {
            true => scanned,
            false => Scanned {
                carried: initial.to_vec(),
                ..scanned
            },
        }
    }

    fn check_scan(
        &self,
        name: &str,
        times: usize,
        operands: &[Tensor<'_>],
        sequences: &[Tensor<'_>],
    ) -> Result<(), Problem> {
        if times == 0 {
            return Err(bad_attribute(name, "0 iterations"));
        }
        if isize::try_from(times.saturating_mul(DType::I64.size())).is_err() {
            return Err(bad_attribute(name, format!("{times} iterations")));
        }
        if !operands.iter().all(|x| self.is_sound(*x)) {
            return Err(bad_attribute(name, "an operand failed to build"));
        }
        match sequences
            .iter()
            .find(|x| x.shape().sizes().first() != Some(&times))
        {
            Some(x) => {
                let what = format!("{times} iterations over a sequence {}", x.shape());
                Err(bad_shape(name, what)
                    .help("sequences have an element an iteration, along axis 0"))
            }
            None => Ok(()),
        }
    }

    /// Whether what an iteration hands on has the types of what was handed to it.
    fn check_left(
        &self,
        (name, place): (&str, Place),
        initial: &[Tensor<'_>],
        carried: &[Tensor<'_>],
    ) -> bool {
        if initial.len() != carried.len() {
            let what = format!(
                "{} values come in, {} are handed on",
                initial.len(),
                carried.len()
            );
            self.refuse(name, carried, place, bad_attribute(name, what));
            return false;
        }
        initial.iter().zip(carried).all(|(&before, &after)| {
            let [a, b] = [before, after].map(|x| (x.dtype(), x.shape()));
            if a == b || !self.is_sound(after) {
                return self.is_sound(after);
            }
            let what = format!("{}{} comes in, {}{} is handed on", a.0, a.1, b.0, b.1);
            let problem = match a.0 == b.0 {
                true => bad_shape(name, what),
                false => bad_dtype(name, what),
            };
            self.refuse(name, &[before, after], place, problem);
            false
        })
    }
}

impl<'g> Tensor<'g> {
    /// What a scan gives that failed to build: as many tensors as it would have, all of them this one.
    fn silent_scan(
        self,
        (carried, elements): (usize, usize),
        body: impl FnOnce(Iteration<'g>) -> Left<'g>,
    ) -> Scanned<'g> {
        let left = body(Iteration {
            carried: vec![self; carried],
            elements: vec![self; elements],
            index: self,
        });
        Scanned {
            carried: vec![self; carried],
            stacked: vec![self; left.stacked.len()],
        }
    }
}

/// Inputs to try scans on.
pub(crate) fn entries() -> Vec<Entry> {
    let mut all = scans();
    all.extend(bounded::entries());
    all.extend(cond::entries());
    all
}

fn scans() -> Vec<Entry> {
    let rows = || reals(&[&[3, 2], &[2, 2], &[2]]);
    entries! {
        scan_of_captured rows() => |x| {
            let scanned = x[0].graph().scan(4, &[x[0]], &[], |at| {
                let next = (at.carried[0].matmul(x[1]) + x[2]).tanh();
                Left { carried: vec![next], stacked: vec![] }
            });
            scanned.carried[0]
        };
        scan_of_elements rows() => |x| {
            let scanned = x[0].graph().scan(3, &[x[2]], &[x[0]], |at| {
                let next = (at.carried[0] * at.elements[0]).sin() + at.elements[0];
                let seen = at.carried[0].matmul(x[1]) + at.index.cast(DType::F64);
                Left { carried: vec![next], stacked: vec![seen, next] }
            });
            scanned.stacked[0] * scanned.stacked[1] + scanned.carried[0]
        };
        scan_of_optional_primitives reals(&[&[3, 1, 1, 3, 3], &[1, 1, 2, 2]]) => |x| {
            let scanned = x[0].graph().scan(3, &[x[1]], &[x[0]], |at| {
                let image = at.elements[0].conv(at.carried[0], Convolution::default());
                let pool = Pool { stride: Some(1.into()), ..Pool::default() };
                let largest = at.elements[0].max_pool(pool);
                let seen = image.attention(largest, at.carried[0], Mask::Causal);
                let sorted = seen.sort(-1, Order::Descending).0;
                Left { carried: vec![sorted.tanh()], stacked: vec![largest * seen] }
            });
            scanned.stacked[0] + scanned.carried[0]
        };
        scan_that_swaps reals(&[&[2]]) => |x| {
            let scanned = x[0].graph().scan(3, &[x[0], x[0].exp()], &[], |at| {
                let [a, b] = [at.carried[0], at.carried[1]];
                Left { carried: vec![b, a * 0.5], stacked: vec![a * b] }
            });
            scanned.carried[0] * scanned.carried[1] + scanned.stacked[0].sum(0)
        };
        scan_with_lengths labelled(&[&[4, 2], &[2]], &[2], 5) => |x| {
            let graph = x[0].graph();
            let scanned = graph.scan(4, &[x[1]], &[x[0]], |at| {
                let next = (at.carried[0] + at.elements[0]).sin();
                let runs = at.index.cast(x[2].dtype()).broadcast_to([2]).lt(x[2]);
                let next = runs.select(next, at.carried[0]);
                Left { carried: vec![next], stacked: vec![runs.select(next, 0.0)] }
            });
            scanned.stacked[0].sum(0) * scanned.carried[0]
        };
        scan_counted labelled(&[&[4, 2], &[2]], &[], 5) => |x| {
            let graph = x[0].graph();
            let scanned = graph.scan_counted(x[2], 4, &[x[1]], &[x[0]], |at| {
                let next = (at.carried[0] * at.elements[0]).sin() + x[1];
                Left { carried: vec![next], stacked: vec![next * at.elements[0]] }
            });
            scanned.carried[0] + scanned.stacked[0]
        };
        scan_counted_in_a_scan labelled(&[&[3, 2], &[2, 2]], &[3], 3) => |x| {
            let graph = x[0].graph();
            let scanned = graph.scan(3, &[x[1]], &[x[0], x[2]], |outer| {
                let inner = graph.scan_counted(outer.elements[1], 2, &[outer.elements[0]], &[x[1]], |at| {
                    let next = (at.carried[0] * outer.carried[0].sum(0)).sin() + at.elements[0];
                    Left { carried: vec![next], stacked: vec![next] }
                });
                let left = inner.stacked[0] + inner.carried[0] + outer.carried[0];
                Left { carried: vec![left], stacked: inner.carried }
            });
            scanned.stacked[0].sum(0) + scanned.carried[0]
        };
        scan_in_a_scan rows() => |x| {
            let graph = x[0].graph();
            let scanned = graph.scan(3, &[x[2]], &[x[0]], |outer| {
                let inner = graph.scan(2, &[outer.carried[0]], &[x[1]], |at| {
                    let next = (at.carried[0] * outer.elements[0] + at.elements[0] * x[2]).sin();
                    Left { carried: vec![next], stacked: vec![next * outer.carried[0]] }
                });
                let left = inner.carried[0] + inner.stacked[0].sum(0);
                Left { carried: vec![left], stacked: vec![left.square()] }
            });
            scanned.stacked[0] + scanned.carried[0]
        };
    }
}
