//! A scalar recurrence: how the memory of a card fades and is renewed, fitted to review logs.
//!
//! The model is the one of the free spaced repetition scheduler (FSRS, as described by
//! open-spaced-repetition, "The Algorithm", with the power forgetting curve of its later versions).
//! A card has a stability `s` (days) and a difficulty `d` (1 to 10); after `t` days it is recalled
//! with probability `r`. There is nothing in it but scalars, a few dozen operations a review and a
//! dependence of each review on the one before, which is what an engine for large tensors is worst at.

pub mod by_hand;
mod reviews;
#[cfg(test)]
mod tests;

use backprop::prelude::*;
use backprop::{Iteration, Left};

pub use reviews::{Reviews, Sequences};

/// The number of parameters. Numbered as in FSRS; 6, 7, 17 and 18 belong to parts that this model
/// leaves out, and have a gradient of 0.
pub const PARAMETERS: usize = 21;

/// Parameters to start from, near the defaults of FSRS.
pub const INITIAL: [f64; PARAMETERS] = [
    0.212, 1.2931, 2.3065, 8.2956, 6.4133, 0.8334, 0.0, 0.0, 1.8722, 0.1666, 0.796, 1.4835, 0.0614,
    0.2629, 1.6483, 0.6014, 1.8729, 0.0, 0.0, 0.98, 0.1542,
];

/// The model on a graph, with what is to be fed.
#[derive(Clone, Copy, Debug)]
pub struct Fsrs<'g> {
    /// The grades of first reviews, `[sequences]`: 1 (again), 2 (hard), 3 (good) or 4 (easy).
    pub first: Tensor<'g>,
    /// Days from review to review, `[reviews - 1, sequences]`; 1 where a sequence has ended.
    pub intervals: Tensor<'g>,
    /// The grades of later reviews, of the same shape; 3 where a sequence has ended.
    pub grades: Tensor<'g>,
    /// Reviews of each sequence, `i64[sequences]`.
    pub lengths: Tensor<'g>,
    /// The parameters, `[21]`.
    pub parameters: Param,
    /// The mean cross-entropy of recall over all reviews but the first of each sequence.
    pub loss: Tensor<'g>,
}

/// The model compiled for a backend, with a log fed.
#[derive(Debug)]
pub struct Fitting<B: Backend> {
    /// A step computes the loss and its gradient.
    pub session: Session<B>,
    /// The mean cross-entropy.
    pub loss: Key,
    /// Its gradient by the parameters.
    pub gradient: Key,
    /// The parameters.
    pub parameters: Param,
}

/// Compiles loss and gradient for a log, in f32.
///
/// # Errors
/// Whatever building or compiling reports.
pub fn compile<B: Backend>(log: &Reviews, backend: B) -> Result<Fitting<B>> {
    let g = Graph::new();
    let model = Fsrs::build(&g, log.size, F32);
    let gradient = g.grad(model.loss, &[model.parameters])?[0];
    let (loss, gradient) = (model.loss.key(), gradient.key());
    let mut session = Session::compile(&g, backend, &[loss, gradient], Updates::none())?;
    model.feed(&mut session, log)?;
    Ok(Fitting {
        session,
        loss,
        gradient,
        parameters: model.parameters,
    })
}

/// What is known of the cards between two reviews, `[sequences]` each.
#[derive(Clone, Copy)]
struct Memory<'g> {
    stability: Tensor<'g>,
    difficulty: Tensor<'g>,
}

impl<'g> Fsrs<'g> {
    /// Builds the model for so many sequences of so many reviews, at most, in `dtype`.
    #[track_caller]
    pub fn build(g: &'g Graph, most: Sequences, dtype: DType) -> Fsrs<'g> {
        let (count, later) = (most.count, most.reviews.saturating_sub(1));
        let first = g.input("first", [count], dtype);
        let intervals = g.input("intervals", [later, count], dtype);
        let grades = g.input("grades", [later, count], dtype);
        let lengths = g.input("lengths", [count], I64);
        let initial = Init::Values(INITIAL.to_vec());
        let parameters = g.parameter("p", [PARAMETERS], dtype, initial);
        let p = g.read(parameters).unstack(0);
        let known = Memory::first(&p, first);
        let zero = g.full([count], 0.0, dtype);
        let begin = [known.stability, known.difficulty, zero];
        let scored = lengths - 1;
        let body = |at: Iteration<'g>| {
            let before = Memory {
                stability: at.carried[0],
                difficulty: at.carried[1],
            };
            let (loss, after) = before.review(&p, at.elements[0], at.elements[1]);
            let runs = at.index.broadcast_to([count]).lt(scored);
            let carried = vec![
                runs.select(after.stability, before.stability),
                runs.select(after.difficulty, before.difficulty),
                at.carried[2] + runs.select(loss, 0.0),
            ];
            Left {
                carried,
                stacked: Vec::new(),
            }
        };
        let losses = g.scan(later, &begin, &[intervals, grades], body);
        Fsrs {
            first,
            intervals,
            grades,
            lengths,
            parameters,
            loss: losses.carried[2].sum(..) / scored.sum(..).cast(dtype),
        }
    }

    /// Feeds a log, in the type of the model.
    ///
    /// # Errors
    /// A log of another size than the model was built for.
    pub fn feed<B: Backend>(&self, session: &mut Session<B>, log: &Reviews) -> Result<()> {
        let inputs = [
            (self.first, &log.first),
            (self.intervals, &log.intervals),
            (self.grades, &log.grades),
        ];
        for (input, values) in inputs {
            match input.dtype() {
                F64 => {
                    let wide: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
                    session.feed(input, &wide)?
                }
                _ => session.feed(input, values)?,
            };
        }
        session.feed(self.lengths, &log.lengths)?;
        Ok(())
    }
}

impl<'g> Memory<'g> {
    /// After the first review, of these grades.
    fn first(p: &[Tensor<'g>], grade: Tensor<'g>) -> Memory<'g> {
        let better = grade.eq(3.0).select(p[2], p[3]);
        let stability = grade
            .eq(1.0)
            .select(p[0], grade.eq(2.0).select(p[1], better));
        Memory {
            stability,
            difficulty: limited((-grade + 3.0) * p[5] + p[4]),
        }
    }

    /// The cross-entropy of one more review, and what is known after it.
    fn review(
        self,
        p: &[Tensor<'g>],
        interval: Tensor<'g>,
        grade: Tensor<'g>,
    ) -> (Tensor<'g>, Memory<'g>) {
        let Memory {
            stability: s,
            difficulty: d,
        } = self;
        let recalled = grade.gt(1.0);
        // r = (1 + p19 t / s)^-p20, by its logarithm.
        let surprise = (interval * p[19] / s + 1.0).log() * p[20];
        let forgotten = -(-surprise).exp() + 1.0;
        let loss = recalled.select(surprise, -forgotten.log());

        let harder = (-grade + 3.0) * p[5];
        let difficulty = limited(harder * (-d + 10.0) * (1.0 / 9.0) + d);
        let bonus = grade.eq(4.0).select(p[16], 1.0);
        let bonus = grade.eq(2.0).select(p[15], bonus);
        let room = (-(s.log() * p[9]) + p[8]).exp() * (-difficulty + 11.0);
        let growth = room * ((forgotten * p[10]).exp() - 1.0) * bonus;
        let held = ((s + 1.0).log() * p[13]).exp() - 1.0;
        let left = (forgotten * p[14] - difficulty.log() * p[12]).exp();
        let stability = recalled.select(s * growth + s, held * left * p[11]);
        (
            loss,
            Memory {
                stability,
                difficulty,
            },
        )
    }
}

/// A difficulty held within its bounds.
fn limited(difficulty: Tensor<'_>) -> Tensor<'_> {
    difficulty.clamp(1.0, 10.0)
}
