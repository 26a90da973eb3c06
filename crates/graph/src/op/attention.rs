//! Scaled dot-product attention.

use std::panic::Location;

use backprop_core::DType;

use crate::axes::Keep;
use crate::graph::{Problem, bad_dtype, bad_shape};
use crate::op::catalogue::{Entry, entries, reals};
use crate::tensor::Tensor;

/// Which keys a query may attend to.
#[derive(Clone, Copy, Debug, Default)]
pub enum Mask<'g> {
    /// All.
    #[default]
    None,
    /// Those up to its own position.
    Causal,
    /// Those where this truth value holds; broadcast to `[.., queries, keys]`.
    Where(Tensor<'g>),
    /// All, with these numbers added to the scores; broadcast to `[.., queries, keys]`.
    Add(Tensor<'g>),
}

impl<'g> Tensor<'g> {
    /// `softmax(q k^T / sqrt(d)) v` (arXiv:1706.03762) of queries `[.., queries, d]` (this), keys
    /// `[.., keys, d]` and values `[.., keys, e]`, giving `[.., queries, e]`. A query that may attend
    /// to nothing gives NaN.
    #[track_caller]
    #[must_use]
    pub fn attention(self, keys: Tensor<'g>, values: Tensor<'g>, mask: Mask<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "attention");
        let given = match mask {
            Mask::Where(mask) | Mask::Add(mask) => Some(mask),
            Mask::None | Mask::Causal => None,
        };
        let operands: Vec<Tensor<'g>> = [self, keys, values].into_iter().chain(given).collect();
        self.graph.compose(name, &operands, place, || {
            check(self, keys, values)?;
            let width = self.shape().size(self.rank() - 1) as f64;
            let scores = (self * (1.0 / width.sqrt())).matmul(keys.t());
            let weights = masked(scores, mask)?.softmax(-1);
            Ok(weights.matmul(values))
        })
    }
}

fn check(q: Tensor<'_>, k: Tensor<'_>, v: Tensor<'_>) -> Result<(), Problem> {
    let [q, k, v] = [q, k, v].map(Tensor::shape);
    let size = |shape: backprop_core::Shape, back: usize| shape.size(shape.rank() - back);
    let matrices = [q, k, v].iter().all(|shape| shape.rank() >= 2);
    if matrices && size(q, 1) == size(k, 1) && size(k, 2) == size(v, 2) {
        return Ok(());
    }
    let what = format!("queries {q}, keys {k} and values {v} do not fit");
    let help = "[.., queries, d], [.., keys, d] and [.., keys, e] do";
    Err(bad_shape("attention", what).help(help))
}

fn masked<'g>(scores: Tensor<'g>, mask: Mask<'g>) -> Result<Tensor<'g>, Problem> {
    let allowed = match mask {
        Mask::None => return Ok(scores),
        Mask::Add(bias) => return Ok(scores + bias),
        Mask::Where(allowed) => allowed,
        Mask::Causal => {
            let (shape, row) = (scores.shape(), scores.rank() - 2);
            let graph = scores.graph;
            graph
                .coordinate(shape, row + 1)
                .le(graph.coordinate(shape, row))
        }
    };
    if allowed.dtype() != DType::Bool {
        let problem = bad_dtype("attention", format!("a mask of type {}", allowed.dtype()));
        return Err(problem.help("compare first, as in `mask.ne(0)`, or use `Mask::Add`"));
    }
    Ok(allowed.select(scores, f64::NEG_INFINITY))
}

/// Inputs to try the operations on.
pub(super) fn entries() -> Vec<Entry> {
    let three = || reals(&[&[2, 3, 2], &[2, 4, 2], &[2, 4, 3]]);
    entries! {
        attention three() => |x| x[0].attention(x[1], x[2], Mask::None);
        attention_causal three() => |x| x[0].attention(x[1], x[2], Mask::Causal);
        attention_where three() => |x| {
            let scores = x[0].matmul(x[1].t()).stop_gradient();
            let mask = scores.ge(scores.mean(Keep(-1)));
            x[0].attention(x[1], x[2], Mask::Where(mask))
        };
        attention_add reals(&[&[2, 3, 2], &[2, 4, 2], &[2, 4, 3], &[3, 4]]) => |x| {
            x[0].attention(x[1], x[2], Mask::Add(x[3]))
        };
    }
}
