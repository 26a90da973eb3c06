//! Connectionist temporal classification: the likelihood of a sequence of labels whose places in
//! time are not known.

use std::panic::Location;

use backprop_core::DType;

use crate::axes::Keep;
use crate::graph::{Problem, bad_attribute, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, labelled};
use crate::op::loss::Reduce;
use crate::tensor::Tensor;

/// The logarithm of what cannot be: finite, so that differences of two of them are numbers, and so
/// low that no sum of possible ones reaches it.
const NEVER: f64 = -1e30;

/// How [`ctc_loss`](Tensor::ctc_loss) counts.
#[derive(Clone, Copy, Debug)]
pub struct Ctc<'g> {
    /// The class of no label.
    pub blank: usize,
    /// How the losses become one. [`Reduce::Mean`] divides each by the number of its labels (at
    /// least 1) first, as PyTorch does.
    pub reduce: Reduce,
    /// The loss of a sequence that its time steps have no room for, infinite as a rule; 0 leaves it
    /// out. Its gradient is 0.
    pub impossible: f64,
    /// The number of time steps of each sequence, integers `[batch]`; all, if there are none.
    pub input_lengths: Option<Tensor<'g>>,
    /// The number of labels of each sequence, integers `[batch]`; all, if there are none.
    pub target_lengths: Option<Tensor<'g>>,
}

impl Default for Ctc<'_> {
    /// Class 0 is blank; the mean over sequences that all have full length.
    fn default() -> Self {
        Ctc {
            blank: 0,
            reduce: Reduce::Mean,
            impossible: f64::INFINITY,
            input_lengths: None,
            target_lengths: None,
        }
    }
}

impl<'g> Tensor<'g> {
    /// The negative log-likelihood of integer `targets` `[batch, labels]`, in order, under these
    /// log-probabilities `[time, batch, classes]`: the sum over all alignments, in which a label may
    /// last and blanks may stand between (Graves et al., 2006, equations 6 to 8, in logarithms).
    /// Labels and lengths that are fed must be in range: anything else is an error before the step
    /// runs. 16-bit types are computed in `f32`.
    #[track_caller]
    #[must_use]
    pub fn ctc_loss(self, targets: Tensor<'g>, how: Ctc<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "ctc_loss");
        let lengths = how.input_lengths.into_iter().chain(how.target_lengths);
        let operands: Vec<Tensor<'g>> = [self, targets].into_iter().chain(lengths).collect();
        self.graph.compose(name, &operands, place, || {
            check(self, targets, how)?;
            let (targets, how) = limited(self, targets, how);
            let path = Path::new(targets, how);
            let last = path.forward(self.widened(), how.input_lengths);
            let losses = -path.ends(last);
            let possible = losses.lt(-NEVER * 0.5);
            let losses = possible.select(losses, how.impossible);
            let loss = match how.reduce {
                Reduce::Mean => (losses / path.divisor(losses)).mean(..),
                reduce => reduce.apply(losses),
            };
            Ok(loss.cast(self.dtype()))
        })
    }
}

/// Labels and lengths, on condition that they are in range.
#[track_caller]
fn limited<'g>(x: Tensor<'g>, targets: Tensor<'g>, how: Ctc<'g>) -> (Tensor<'g>, Ctc<'g>) {
    let below = |lengths: Option<Tensor<'g>>, most: usize| {
        lengths.map(|lengths| lengths.limited("ctc_loss", most + 1))
    };
    let how = Ctc {
        input_lengths: below(how.input_lengths, x.shape().size(0)),
        target_lengths: below(how.target_lengths, targets.shape().size(1)),
        ..how
    };
    (targets.limited("ctc_loss", x.shape().size(2)), how)
}

fn check(x: Tensor<'_>, targets: Tensor<'_>, how: Ctc<'_>) -> Result<(), Problem> {
    let (name, shape) = ("ctc_loss", x.shape());
    let (&[time, batch, classes], &[rows, _]) = (shape.sizes(), targets.shape().sizes()) else {
        let what = format!("{shape} with targets {}", targets.shape());
        let help = "[time, batch, classes] with [batch, labels], shorter ones filled up";
        return Err(bad_shape(name, what).help(help));
    };
    if rows != batch || time == 0 {
        let what = format!("{shape} with targets {}", targets.shape());
        return Err(bad_shape(name, what));
    }
    if !x.dtype().is_float() {
        return Err(bad_dtype(
            name,
            format!("log-probabilities of {}", x.dtype()),
        ));
    }
    if how.blank >= classes {
        let what = format!("blank {} of {classes} classes", how.blank);
        return Err(bad_attribute(name, what));
    }
    let given = [how.input_lengths, how.target_lengths]
        .into_iter()
        .flatten();
    for integers in given.clone().chain([targets]) {
        if !matches!(integers.dtype(), DType::I32 | DType::I64) {
            let problem = bad_dtype(name, format!("labels or lengths of {}", integers.dtype()));
            return Err(problem.help("convert with `.cast(I64)`"));
        }
    }
    for lengths in given {
        if lengths.shape().sizes() != [batch] {
            let what = format!("lengths {} for {batch} sequences", lengths.shape());
            return Err(bad_shape(name, what));
        }
    }
    Ok(())
}

/// The states of the alignment, `[batch, 2 labels + 1]`: a blank before, between and after labels.
struct Path<'g> {
    classes: Tensor<'g>,
    /// Where a blank may be left out: between different labels.
    skips: Tensor<'g>,
    /// The number of labels, `[batch, 1]`.
    lengths: Tensor<'g>,
}

impl<'g> Path<'g> {
    fn new(targets: Tensor<'g>, how: Ctc<'g>) -> Path<'g> {
        let targets = targets.cast(DType::I64);
        let graph = targets.graph;
        let shape = targets.shape();
        let (batch, labels) = (shape.size(0), shape.size(1));
        let blank = graph.full([batch, labels], how.blank as f64, DType::I64);
        let pairs = graph.stack(&[blank, targets], 2);
        let pairs = pairs.reshape_to([batch, 2 * labels].into_iter().collect());
        let classes = pairs.pad([0, 0], [0, 1], how.blank as f64);
        let earlier = delayed(classes, 2, how.blank as f64);
        let full = || graph.full([batch], labels as f64, DType::I64);
        Path {
            classes,
            skips: classes
                .ne(earlier)
                .logical_and(classes.ne(classes.number(how.blank as f64))),
            lengths: how
                .target_lengths
                .unwrap_or_else(full)
                .cast(DType::I64)
                .unsqueeze(1),
        }
    }

    /// The log-likelihood of every state at each sequence's last time step.
    fn forward(&self, x: Tensor<'g>, lengths: Option<Tensor<'g>>) -> Tensor<'g> {
        let (time, shape) = (x.shape().size(0), self.classes.shape());
        let lengths = lengths.map(|lengths| lengths.cast(DType::I64).unsqueeze(1));
        let all = [time, shape.size(0), shape.size(1)];
        let emitted = x.gather(2, self.classes.broadcast_to(all));
        let emitted = emitted.gt(NEVER).select(emitted, NEVER);
        let steps = emitted.unstack(0);
        let Some((&first, rest)) = steps.split_first() else {
            return emitted;
        };
        let state = x.graph.coordinate(shape, 1);
        let first = state.lt(state.number(2.0)).select(first, NEVER);
        (1..).zip(rest).fold(first, |before, (t, &emitted)| {
            let after = self.step(before) + emitted;
            match lengths {
                Some(lengths) => lengths
                    .gt(lengths.number(f64::from(t)))
                    .select(after, before),
                None => after,
            }
        })
    }

    /// A state is reached from itself, the one before, and past a blank.
    fn step(&self, stay: Tensor<'g>) -> Tensor<'g> {
        let next = delayed(stay, 1, NEVER);
        let skip = self.skips.select(delayed(stay, 2, NEVER), NEVER);
        log_sum(&[stay, next, skip])
    }

    /// The log-likelihood of the two states in which an alignment may end: the last label and the
    /// blank after it.
    fn ends(&self, states: Tensor<'g>) -> Tensor<'g> {
        let position = states.graph.coordinate(states.shape(), 1);
        let end = self.lengths + self.lengths;
        let reached = position
            .le(end)
            .logical_and(position.ge(end - end.number(1.0)));
        let ends = reached.select(states, NEVER);
        let most = ends.stop_gradient().max(Keep(1));
        (ends - most).exp().sum(1).log() + most.squeeze(1)
    }

    fn divisor(&self, losses: Tensor<'g>) -> Tensor<'g> {
        self.lengths.squeeze(1).cast(losses.dtype()).maximum(1.0)
    }
}

/// Moved by `count` places along axis 1.
fn delayed(x: Tensor<'_>, count: usize, first: f64) -> Tensor<'_> {
    let size = x.shape().size(1);
    let count = count.min(size);
    x.narrow(1, 0, size - count).pad([0, count], [0, 0], first)
}

/// `log(sum(e^x))` over tensors, point by point.
fn log_sum<'g>(parts: &[Tensor<'g>; 3]) -> Tensor<'g> {
    let most = parts.map(Tensor::stop_gradient);
    let most = most[0].maximum(most[1]).maximum(most[2]);
    let [a, b, c] = parts.map(|part| (part - most).exp());
    (a + b + c).log() + most
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let speech = || labelled(&[&[5, 3, 4]], &[3, 2], 4);
    entries! {
        ctc_loss speech() => |x| x[0].log_softmax(-1).ctc_loss(x[1], Ctc::default());
        ctc_loss_of_lengths speech() => |x| {
            let how = Ctc {
                input_lengths: Some(x[0].graph().data([3], &[5i64, 4, 2])),
                target_lengths: Some(x[0].graph().data([3], &[2i64, 0, 1])),
                reduce: Reduce::None,
                blank: 3,
                ..Ctc::default()
            };
            x[0].log_softmax(-1).ctc_loss(x[1], how)
        };
    }
}
