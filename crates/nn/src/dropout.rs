//! Dropout: a layer without parameters.

use backprop_graph::Tensor;

/// Zeros with probability `p` in training, and what is left times `1 / (1 - p)` (Srivastava et al.,
/// "Dropout", 2014). An evaluation goes without it.
///
/// ```
/// # use backprop_core::{DType::F32, Reference};
/// # use backprop_graph::{Graph, Session};
/// # use backprop_nn::Dropout;
/// let g = Graph::new();
/// let random = g.random_state("random", 7);
/// let dropout = Dropout { p: 0.5 };
/// let y = dropout.train(g.full([1000], 1.0, F32), random.next_key());
///
/// let mut session = Session::compile(&g, Reference, &[y.key()], random.updates())?;
/// session.step()?;
/// assert!(session.fetch::<f32>(y)?.iter().all(|&y| y == 0.0 || y == 2.0));
/// # Ok::<(), backprop_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dropout {
    /// The probability of a zero: at least 0 and below 1.
    pub p: f64,
}

impl Dropout {
    /// The output in training, of the shape of `x`. Two layers want two keys.
    #[track_caller]
    #[must_use]
    pub fn train<'g>(&self, x: Tensor<'g>, key: Tensor<'g>) -> Tensor<'g> {
        match self.p {
            0.0 => x,
            p => x.dropout(p, key),
        }
    }
}
