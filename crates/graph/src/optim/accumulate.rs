//! Gradients of a batch by parts: over several steps, or one after the other within a step.

use std::panic::Location;

use backprop_core::{DType, Result, Shape};

use super::updates;
use crate::graph::{Graph, Problem, bad_attribute, bad_shape};
use crate::init::Init;
use crate::operand::Operand;
use crate::scan::{Iteration, Left};
use crate::tensor::{Param, Tensor};
use crate::updates::Updates;

/// The parts of a batch, for [`accumulate`] and [`micro_batches`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MicroBatches {
    /// How many there are.
    pub count: usize,
    /// What becomes of their losses and gradients.
    pub total: Total,
}

/// How losses and gradients of parts become those of the whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Total {
    /// Their mean: for a loss that is a mean over parts of one size.
    #[default]
    Mean,
    /// Their sum: for a loss that is a sum.
    Sum,
}

impl MicroBatches {
    /// Parts of which the mean is taken.
    #[must_use]
    pub fn mean(count: usize) -> MicroBatches {
        let total = Total::Mean;
        MicroBatches { count, total }
    }

    /// Parts of which the sum is taken.
    #[must_use]
    pub fn sum(count: usize) -> MicroBatches {
        let total = Total::Sum;
        MicroBatches { count, total }
    }

    fn check(self) -> std::result::Result<(), String> {
        match self.count {
            0 => Err("0 micro-batches".to_owned()),
            _ => Ok(()),
        }
    }

    /// The total of what was added up.
    fn of(self, sum: Tensor<'_>) -> Tensor<'_> {
        match self.total {
            Total::Mean => sum / self.count as f64,
            Total::Sum => sum,
        }
    }
}

/// Adds up the gradients of several steps, and applies what `apply` makes of their total in the last of
/// them; then begins anew. In the other steps the parameters and all state of the optimizer stay as
/// they are, its step count too. For a mean loss the parameters move as by one step on the whole batch,
/// in the memory of a part and one more value for each parameter, however many parts there are.
///
/// ```
/// use backprop_core::{DType::F32, Reference};
/// use backprop_graph::optim::{AdamW, MicroBatches, accumulate, adamw};
/// use backprop_graph::{Graph, Init, Session};
///
/// let g = Graph::new();
/// let x = g.input("x", [8, 3], F32);
/// let w = g.parameter("w", [3, 2], F32, Init::Ones);
/// let loss = x.matmul(w).square().mean(..);
/// let gradients = g.grad(loss, &[w])?;
/// let updates = accumulate(&g, &[w], &gradients, MicroBatches::mean(4), |gradients| {
///     adamw(&g, &[w], gradients, AdamW::default())
/// });
///
/// let mut session = Session::compile(&g, Reference, &[loss.key()], updates)?;
/// for part in 0..4 {
///     assert_eq!(session.parameter::<f32>(w)?, [1.0; 6]);
///     session.feed(x, &[part as f32; 24])?.step()?;
/// }
/// assert_ne!(session.parameter::<f32>(w)?, [1.0; 6]);
/// # Ok::<(), backprop_core::Error>(())
/// ```
///
/// A loss scale goes inside (`|gradients| scale.updates(gradients, ..)`): it then moves once for all
/// parts, as the optimizer does. The sums are parameters, as `w.accumulate.sum`: `f32` for 16 bits. It is
/// an error if there are no parts.
#[track_caller]
pub fn accumulate<'g>(
    graph: &'g Graph,
    parameters: &[Param],
    gradients: &[Tensor<'g>],
    parts: MicroBatches,
    apply: impl FnOnce(&[Tensor<'g>]) -> Updates,
) -> Updates {
    let pairs = (parameters, gradients);
    let mut totals = None;
    let kept = updates(graph, "accumulate", pairs, Location::caller(), |group| {
        parts.check()?;
        let count = group.shared("count", DType::I64, Init::Zeros);
        let seen = graph.read(count) + 1;
        let due = seen.ge(seen.number(parts.count as f64));
        let mut kept = Updates::set(count, due.select(0, seen));
        let mut all = Vec::new();
        for slot in group.slots() {
            let (state, sum) = group.state(&slot, "sum", 0.0);
            let sum = sum + slot.gradient;
            all.push(parts.of(sum).cast(graph.read(slot.parameter).dtype()));
            kept = kept.with(state, due.select(0.0, sum));
        }
        totals = Some((due, all));
        Ok(kept)
    });
    match totals {
        Some((due, all)) => apply(&all).when(due).and(kept),
        None => kept,
    }
}

/// The loss of a batch, and its gradients.
#[derive(Clone, Debug)]
pub struct Graded<'g> {
    /// The loss.
    pub loss: Tensor<'g>,
    /// Its gradients, in the order in which they were asked for.
    pub gradients: Vec<Tensor<'g>>,
}

/// The loss of a batch and its gradients with respect to `wrt`, taken part after part within one step:
/// the tensors of `batch` are cut along their first axes into as many parts of one size, and `loss`
/// gets a part of each as the [elements](Iteration::elements) of an iteration. What is kept for the
/// backward pass is that of one part at a time. Random numbers want a key of their own for each part:
/// fold in the iteration's [index](Iteration::index).
///
/// ```
/// use backprop_core::{DType::F32, Reference};
/// use backprop_graph::optim::{AdamW, MicroBatches, adamw, micro_batches};
/// use backprop_graph::{Graph, Init, Session};
///
/// let g = Graph::new();
/// let (x, y) = (g.input("x", [8, 3], F32), g.input("y", [8, 2], F32));
/// let w = g.parameter("w", [3, 2], F32, Init::Ones);
/// let parts = MicroBatches::mean(4); // Of two rows each.
/// let graded = micro_batches(&g, &[x, y], &[w], parts, |part| {
///     (part.elements[0].matmul(w) - part.elements[1]).square().mean(..)
/// })?;
/// let updates = adamw(&g, &[w], &graded.gradients, AdamW::default());
/// let mut session = Session::compile(&g, Reference, &[graded.loss.key()], updates)?;
/// session.feed(x, &[1f32; 24])?.feed(y, &[1f32; 16])?.step()?;
/// assert_eq!(session.scalar(graded.loss)?, 4.0);
/// # Ok::<(), backprop_core::Error>(())
/// ```
///
/// # Errors
/// As [`Graph::grad`]; no parts; a first axis that they do not divide.
#[track_caller]
pub fn micro_batches<'g, W: Operand<'g> + Copy>(
    graph: &'g Graph,
    batch: &[Tensor<'g>],
    wrt: &[W],
    parts: MicroBatches,
    loss: impl FnOnce(&Iteration<'g>) -> Tensor<'g>,
) -> Result<Graded<'g>> {
    let (place, name) = (Location::caller(), "micro_batches");
    let cut = graph.within(graph.origin_of(name, place), || cut(graph, batch, parts));
    let cut = cut.or_else(|problem| {
        graph.refuse(name, batch, place, problem);
        graph.check().map(|()| Vec::new())
    })?;
    let types: Vec<DType> = wrt.iter().map(|w| graph.read(*w).dtype()).collect();
    let zero = |w: &W| graph.read(*w).widened().number(0.0);
    let zeros: Vec<Tensor<'g>> = graph.at(place, || wrt.iter().map(zero).collect());
    let mut failed = None;
    let scanned = graph.scan(parts.count, &zeros, &cut, |at| {
        let part = loss(&Iteration {
            carried: Vec::new(),
            ..at.clone()
        });
        let stacked = vec![part];
        match graph.grad_at(part, wrt, place) {
            Ok(new) => {
                let sums = at.carried.iter().zip(new);
                let carried = sums.map(|(&sum, new)| sum + new.widened()).collect();
                Left { carried, stacked }
            }
            Err(error) => {
                failed = Some(error);
                let carried = at.carried;
                Left { carried, stacked }
            }
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    graph.check()?;
    let total = |sum: Tensor<'g>, dtype| parts.of(sum).cast(dtype);
    let (sums, losses) = (scanned.carried, scanned.stacked.first().copied());
    Ok(graph.at(place, || Graded {
        loss: losses.map_or_else(
            || graph.full([], 0.0, DType::F32),
            |all| total(all.widened().sum(..), all.dtype()),
        ),
        gradients: sums
            .into_iter()
            .zip(types)
            .map(|(sum, ty)| total(sum, ty))
            .collect(),
    }))
}

/// The tensors of a batch as `[parts, rows of a part, ..]`.
fn cut<'g>(
    graph: &'g Graph,
    batch: &[Tensor<'g>],
    parts: MicroBatches,
) -> std::result::Result<Vec<Tensor<'g>>, Problem> {
    let name = "micro_batches";
    let fewest = parts.check();
    fewest.map_err(|what| bad_attribute(name, what))?;
    let each = batch.iter().map(|&x| {
        let shape = x.shape();
        let (rows, rest) = match shape.sizes() {
            [rows, rest @ ..] if rows % parts.count == 0 => (rows / parts.count, rest),
            // It has been said why there is none.
            _ if !graph.is_sound(x) => return Ok(x),
            _ => {
                let what = format!("{shape} in {} parts", parts.count);
                return Err(bad_shape(name, what).help("they divide the first axis"));
            }
        };
        let sizes = [&[parts.count, rows], rest].concat();
        let cut = Shape::new(&sizes).ok_or_else(|| bad_shape(name, "too many axes"))?;
        Ok(x.reshape_to(cut))
    });
    each.collect()
}
