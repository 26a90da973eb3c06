//! A network that learns to read digits, compiled: a step, which draws its images by itself, and a
//! reading of the test images. All images lie within the plans, so that nothing is fed, and the time
//! of a step is the time of the method.

use backprop::prelude::*;
use backprop::{PlanId, RandomState};

use crate::support::data::{Dataset, Images};

/// Images to learn from, `[batch, pixels]`, with the probability of every class,
/// `[batch, classes]`.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'g> {
    pub pixels: Tensor<'g>,
    pub targets: Tensor<'g>,
}

/// What is to be compiled.
pub(crate) struct Lesson<'g> {
    /// What a step lowers, as it is before the step.
    pub loss: Tensor<'g>,
    pub updates: Updates,
    /// Of each class for each of the [test images](unread).
    pub scores: Tensor<'g>,
}

pub(crate) struct Pupil<B: Backend> {
    pub session: Session<B>,
    reading: PlanId,
    hits: Key,
    images: usize,
}

/// So many of the training images, others in each step, drawn with replacement.
pub(crate) fn draw<'g>(
    g: &'g Graph,
    random: &RandomState<'g>,
    size: usize,
    data: &Dataset,
) -> Batch<'g> {
    let Images { pixels, labels } = &data.train;
    let count = data.train.len();
    // A number just below 1 may be rounded up to the count.
    let place = g.uniform(random.next_key(), [size], F32) * count as f64;
    let place = place.cast(I64).minimum(count as i32 - 1);
    let targets = g.data([count], labels).one_hot(data.classes, F32);
    Batch {
        pixels: g.data([count, data.pixels()], pixels).take(place, 0),
        targets: targets.take(place, 0),
    }
}

/// The test images, `[images, pixels]`.
pub(crate) fn unread<'g>(g: &'g Graph, data: &Dataset) -> Tensor<'g> {
    g.data([data.test.len(), data.pixels()], &data.test.pixels)
}

impl<B: Backend> Pupil<B> {
    pub(crate) fn new(g: &Graph, backend: B, data: &Dataset, lesson: Lesson<'_>) -> Result<Self> {
        let Lesson {
            loss,
            updates,
            scores,
        } = lesson;
        let labels = g.data([data.test.len()], &data.test.labels).cast(I64);
        let hits = scores.argmax(-1).eq(labels).cast(F32).sum(..).key();
        let mut session = Session::compile(g, backend, &[loss.key()], updates)?;
        let reading = session.plan(&[hits], Updates::none())?;
        Ok(Self {
            session,
            reading,
            hits,
            images: data.test.len(),
        })
    }

    /// The percentage of the test images that are read correctly.
    pub(crate) fn accuracy(&mut self) -> Result<f64> {
        self.session.run(self.reading)?;
        Ok(100.0 * self.session.scalar(self.hits)? / self.images as f64)
    }
}
