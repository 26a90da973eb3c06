//! What a method of learning is: a rule that turns a batch into new weights, as nodes of a graph.

use backprop::optim::Rate;
use backprop::prelude::*;

use crate::pupil::{Batch, Lesson};

/// Images in a step.
pub(crate) const BATCH: usize = 32;

/// A way to train the network, or one like it.
pub(crate) trait Method {
    fn name(&self) -> &'static str;

    fn budget(&self) -> Budget;

    /// Adds the parameters, one step of learning and a reading of images to a graph.
    fn build<'g>(&self, g: &'g Graph, task: &Task<'g>) -> Result<Lesson<'g>>;
}

/// What a method may spend.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    pub steps: usize,
    /// Passes of one batch through the network in a step; what is not a forward pass counts as many
    /// as its products of matrices would fill.
    pub passes: usize,
    /// What these passes are.
    pub counted: &'static str,
    /// The network that learns, as far as it differs from that of the others.
    pub network: &'static str,
}

/// What every method is given.
pub(crate) struct Task<'g> {
    pub batch: Batch<'g>,
    /// The test images, `[images, pixels]`.
    pub unread: Tensor<'g>,
    /// A random key, fresh in every step.
    pub key: Tensor<'g>,
    pub steps: usize,
}

impl Task<'_> {
    /// One optimizer for all methods: what differs is where the direction comes from. It treats
    /// every weight for itself, so that a local rule stays local.
    pub(crate) fn descend<'g>(
        &self,
        g: &'g Graph,
        parameters: &[Param],
        directions: &[Tensor<'g>],
        peak: f64,
    ) -> Updates {
        let lr = Rate::one_cycle(peak, self.steps);
        optim::adam(
            g,
            parameters,
            directions,
            Adam {
                lr,
                ..Adam::default()
            },
        )
    }
}
