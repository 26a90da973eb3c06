//! Backpropagation: the gradient from one pass forward and one back.

use backprop::prelude::*;

use crate::method::{Budget, Method, Task};
use crate::network::{Network, loss, scores};
use crate::pupil::Lesson;

pub(crate) struct Backpropagation {
    pub steps: usize,
}

impl Method for Backpropagation {
    fn name(&self) -> &'static str {
        "backpropagation"
    }

    fn budget(&self) -> Budget {
        Budget {
            steps: self.steps,
            passes: 3,
            counted: "one forward, one backward with twice its products",
            network: "rectified linear units, cross-entropy",
        }
    }

    fn build<'g>(&self, g: &'g Graph, task: &Task<'g>) -> Result<Lesson<'g>> {
        let network = Network::new(g);
        let parameters = network.parameters();
        let loss = loss(task.batch, network.weights(g));
        let gradients = g.grad(loss, &parameters)?;
        Ok(Lesson {
            loss,
            updates: task.descend(g, &parameters, &gradients, 1e-2),
            scores: scores(task.unread, network.weights(g)),
        })
    }
}
