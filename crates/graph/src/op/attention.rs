//! Scaled dot-product attention.

use std::panic::Location;

use backprop_core::{
    Attention as Spec, AttentionVjp as SpecVjp, Body, DType, Heads, KeyMask, Operand, Primitive,
    Shape, Source, TensorType,
};

use crate::axes::Keep;
use crate::composite::{Composite, Sample, Vjp};
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

/// What is dropped of the weights of attention in training.
#[derive(Clone, Copy, Debug)]
pub struct WeightDropout<'g> {
    /// The probability that a query does not see a key: at least 0 and below 1.
    pub p: f64,
    /// The key it is drawn from.
    pub key: Tensor<'g>,
}

impl<'g> Tensor<'g> {
    /// `softmax(q k^T / sqrt(d)) v` (arXiv:1706.03762) of queries `[.., queries, d]` (this), keys
    /// `[.., keys, d]` and values `[.., keys, e]`, giving `[.., queries, e]`. A query that may attend
    /// to nothing gives zeros.
    #[track_caller]
    #[must_use]
    pub fn attention(self, keys: Tensor<'g>, values: Tensor<'g>, mask: Mask<'g>) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "attention");
        let operands = operands([self, keys, values], mask);
        self.graph.compose(name, &operands, place, || {
            let attention = Attention::new([self, keys, values], mask)?;
            let operands = attention.broadcast(&operands)?;
            let outputs = self.graph.apply_composite(attention, &operands);
            let missing = || bad_shape(name, "no output");
            outputs.first().copied().ok_or_else(missing)
        })
    }
}

impl<'g> Tensor<'g> {
    /// [`attention`](Tensor::attention) in training: of the weights after the softmax, each is 0 with a
    /// probability `p`, and divided by `1 - p` otherwise (as PyTorch's
    /// `scaled_dot_product_attention` has it). Holds all weights, `[.., queries, keys]`, in memory.
    ///
    /// ```
    /// use backprop_core::DType::F32;
    /// use backprop_graph::{Graph, Mask, WeightDropout};
    ///
    /// let g = Graph::new();
    /// let random = g.random_state("random", 7);
    /// let x = g.input("x", [2, 5, 8], F32);
    /// let drop = WeightDropout { p: 0.1, key: random.next_key() };
    /// let y = x.attention_with_dropout(x, x, Mask::Causal, drop);
    /// assert_eq!(y.shape().sizes(), [2, 5, 8]);
    /// ```
    #[track_caller]
    #[must_use]
    pub fn attention_with_dropout(
        self,
        keys: Tensor<'g>,
        values: Tensor<'g>,
        mask: Mask<'g>,
        drop: WeightDropout<'g>,
    ) -> Tensor<'g> {
        let (place, name) = (Location::caller(), "attention_with_dropout");
        if drop.p == 0.0 {
            return self.attention(keys, values, mask);
        }
        let operands = operands([self, keys, values], mask);
        let all = [operands.as_slice(), &[drop.key]].concat();
        self.graph.compose(name, &all, place, || {
            let attention = Attention::new([self, keys, values], mask)?;
            let operands = attention.broadcast(&operands)?;
            let (blind, scores) = sighted(attention.scores(&operands));
            let weights = blind.select(0.0, scores.softmax(-1));
            Ok(weights.dropout(drop.p, drop.key).matmul(operands[2]))
        })
    }
}

/// Queries, keys, values, and the mask if it is a tensor.
fn operands<'g>(parts: [Tensor<'g>; 3], mask: Mask<'g>) -> Vec<Tensor<'g>> {
    let given = match mask {
        Mask::Where(mask) | Mask::Add(mask) => Some(mask),
        Mask::None | Mask::Causal => None,
    };
    parts.into_iter().chain(given).collect()
}

/// Which keys a query sees; a tensor that says so is one more operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sees {
    All,
    Causal,
    Where,
    Add,
}

/// Attention over operands with the same batch axes. Outputs the result and the logarithm of the sum
/// of the exponentials of each query's scores.
#[derive(Clone, Debug)]
struct Attention {
    batch: Shape,
    queries: usize,
    keys: usize,
    depth: usize,
    width: usize,
    sees: Sees,
}

/// Its vjp by queries, keys and values: operands are those of the attention, its two outputs and the
/// cotangent of the first.
#[derive(Clone, Debug)]
struct AttentionVjp(Attention);

impl Attention {
    fn new(operands: [Tensor<'_>; 3], mask: Mask<'_>) -> Result<Attention, Problem> {
        let [q, k, v] = operands.map(Tensor::shape);
        let what = format!("queries {q}, keys {k} and values {v} do not fit");
        let help = "[.., queries, d], [.., keys, d] and [.., keys, e] do";
        let misfit = || bad_shape("attention", what.clone()).help(help);
        let size = |shape: Shape, back: usize| shape.size(shape.rank() - back);
        let matrices = [q, k, v].iter().all(|shape| shape.rank() >= 2);
        if !matrices || size(q, 1) != size(k, 1) || size(k, 2) != size(v, 2) {
            return Err(misfit());
        }
        let batch = |shape: Shape| shape.filter(|axis| axis + 2 < shape.rank());
        let both = batch(q).broadcast(&batch(k));
        let mut batch = both
            .and_then(|both| both.broadcast(&batch(v)))
            .ok_or_else(misfit)?;
        let sees = match mask {
            Mask::None => Sees::All,
            Mask::Causal => Sees::Causal,
            Mask::Where(mask) if mask.dtype() != DType::Bool => {
                let problem = bad_dtype("attention", format!("a mask of type {}", mask.dtype()));
                return Err(problem.help("compare first, as in `mask.ne(0)`, or use `Mask::Add`"));
            }
            Mask::Where(_) => Sees::Where,
            Mask::Add(_) => Sees::Add,
        };
        if let Mask::Where(mask) | Mask::Add(mask) = mask {
            let shape = mask.shape();
            let leading = shape.filter(|axis| axis + 2 < shape.rank());
            batch = batch.broadcast(&leading).ok_or_else(misfit)?;
        }
        Ok(Attention {
            batch,
            queries: size(q, 2),
            keys: size(k, 2),
            depth: size(q, 1),
            width: size(v, 1),
            sees,
        })
    }

    fn scale(&self) -> f64 {
        1.0 / (self.depth as f64).sqrt()
    }

    /// The batch axes, then two more.
    fn space(&self, rows: usize, columns: usize) -> Option<Shape> {
        Shape::new(&[self.batch.sizes(), &[rows, columns]].concat())
    }

    /// The shapes of queries, keys, values and mask.
    fn spaces(&self) -> Option<[Shape; 4]> {
        Some([
            self.space(self.queries, self.depth)?,
            self.space(self.keys, self.depth)?,
            self.space(self.keys, self.width)?,
            self.space(self.queries, self.keys)?,
        ])
    }

    /// The operands with all batch axes.
    fn broadcast<'g>(&self, operands: &[Tensor<'g>]) -> Result<Vec<Tensor<'g>>, Problem> {
        let spaces = self.spaces();
        let spaces = spaces.ok_or_else(|| bad_shape("attention", "too many batch axes"))?;
        let each = operands.iter().zip(spaces);
        Ok(each
            .map(|(operand, space)| operand.broadcast_to(space))
            .collect())
    }

    /// What the softmax is of.
    fn scores<'g>(&self, inputs: &[Tensor<'g>]) -> Tensor<'g> {
        let scores = (inputs[0] * self.scale()).matmul(inputs[1].t());
        let allowed = match self.sees {
            Sees::All => return scores,
            Sees::Add => return scores + inputs[3],
            Sees::Where => inputs[3],
            Sees::Causal => {
                let (shape, row) = (scores.shape(), scores.rank() - 2);
                let along = |axis| scores.graph.coordinate(shape, axis);
                along(row + 1).le(along(row))
            }
        };
        allowed.select(scores, f64::NEG_INFINITY)
    }

    /// How many operands there are.
    fn operands(&self) -> usize {
        match self.sees {
            Sees::All | Sees::Causal => 3,
            Sees::Where | Sees::Add => 4,
        }
    }

    fn heads(&self, inputs: &[TensorType]) -> Option<Heads> {
        let source = |k: usize| inputs.get(k).cloned().map(Source::dense);
        let operand = |k: usize| source(k).map(Operand::plain);
        Some(Heads {
            batch: self.batch,
            queries: self.queries,
            keys: self.keys,
            depth: self.depth,
            width: self.width,
            scale: self.scale().to_bits(),
            mask: match self.sees {
                Sees::All => KeyMask::None,
                Sees::Causal => KeyMask::Causal,
                Sees::Where => KeyMask::Where(source(3)?),
                Sees::Add => KeyMask::Add(source(3)?),
            },
            query: operand(0)?,
            key: operand(1)?,
            value: operand(2)?,
        })
    }

    fn sample(&self) -> Sample {
        let spaces = self.spaces().into_iter().flatten();
        let inputs = spaces.take(3);
        Sample {
            inputs: inputs
                .map(|shape| (DType::F64, shape.sizes().to_vec(), (-2.0, 2.0)))
                .collect(),
        }
    }
}

/// Which queries see nothing, and scores that are 0 for these.
fn sighted<'g>(scores: Tensor<'g>) -> (Tensor<'g>, Tensor<'g>) {
    let highest = match scores.shape().count() {
        0 => scores.number(f64::NEG_INFINITY),
        _ => scores.stop_gradient().max(Keep(-1)),
    };
    let blind = highest.eq(f64::NEG_INFINITY).broadcast_to(scores.shape());
    (blind, blind.select(0.0, scores))
}

/// The logarithm of the sum of the exponentials of each query's scores. It is infinite where there are
/// none, so that all weights are 0.
fn log_sums<'g>(scores: Tensor<'g>) -> Tensor<'g> {
    let (blind, scores) = sighted(scores);
    let lse = scores.logsumexp(-1);
    if scores.shape().count() == 0 {
        return lse.number(f64::INFINITY);
    }
    blind.any(-1).select(f64::INFINITY, lse)
}

/// `exp(scores - lse)`, of the type of the scores.
fn weights<'g>(scores: Tensor<'g>, lse: Tensor<'g>) -> Tensor<'g> {
    (scores.widened() - lse.unsqueeze(-1))
        .exp()
        .cast(scores.dtype())
}

impl Composite for Attention {
    fn name(&self) -> &str {
        "attention"
    }

    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let scores = self.scores(inputs);
        let lse = log_sums(scores.widened());
        vec![weights(scores, lse).matmul(inputs[2]), lse]
    }

    /// A cotangent of the second output comes from derivatives of higher order only, which go through
    /// the decomposition; so do the gradients of added masks.
    fn gradient<'g>(&self, cx: &Vjp<'g, '_>) -> Option<Vec<Option<Tensor<'g>>>> {
        let (&[Some(g), None], [out, lse]) = (cx.cotangents, cx.outputs) else {
            return None;
        };
        if self.sees == Sees::Add {
            return None;
        }
        let operands = [cx.inputs, &[*out, *lse, g]].concat();
        let by = g
            .graph
            .apply_composite(AttentionVjp(self.clone()), &operands);
        let by = by.into_iter().map(Some).chain([None]);
        Some(by.take(self.operands()).collect())
    }

    fn primitive(&self, inputs: &[TensorType]) -> Option<Primitive> {
        let dtype = inputs.first()?.dtype;
        let space = self.space(self.queries, self.width)?;
        let lse = Shape::new(&[self.batch.sizes(), &[self.queries]].concat())?;
        let accumulator = dtype.accumulator();
        Some(Primitive::Attention(Box::new(Spec {
            heads: self.heads(inputs)?,
            accumulator,
            space,
            epilogue: Body::store_rounded(accumulator, TensorType::dense(dtype, space)),
            lse: TensorType::dense(accumulator, lse),
        })))
    }

    fn samples(&self) -> Vec<Sample> {
        vec![self.sample()]
    }
}

impl Composite for AttentionVjp {
    fn name(&self) -> &str {
        "attention_vjp"
    }

    /// As [`backprop_core::AttentionVjp`] says.
    fn decompose<'g>(&self, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let AttentionVjp(attention) = self;
        let (operands, results) = inputs.split_at(attention.operands());
        let &[out, lse, g] = results else {
            return Vec::new();
        };
        let [q, k, v] = [operands[0], operands[1], operands[2]];
        let p = weights(attention.scores(operands), lse);
        let along = (g * out).sum(Keep(-1));
        let ds = p * (g.matmul(v.t()) - along) * attention.scale();
        vec![ds.matmul(k), ds.t().matmul(q), p.t().matmul(g)]
    }

    fn primitive(&self, inputs: &[TensorType]) -> Option<Primitive> {
        let AttentionVjp(attention) = self;
        let (operands, results) = inputs.split_at_checked(attention.operands())?;
        let [out, lse, cotangent] = results else {
            return None;
        };
        let [q, k, v, _] = attention.spaces()?;
        let dense = |tensor: &TensorType| Source::dense(tensor.clone());
        Some(Primitive::AttentionVjp(Box::new(SpecVjp {
            heads: attention.heads(operands)?,
            out: dense(out),
            lse: dense(lse),
            cotangent: dense(cotangent),
            results: [q, k, v].map(|shape| TensorType::dense(out.dtype, shape)),
        })))
    }

    fn samples(&self) -> Vec<Sample> {
        let AttentionVjp(attention) = self;
        let mut sample = attention.sample();
        let space = attention.space(attention.queries, attention.width);
        let rows = attention.space(attention.queries, 1);
        for shape in [space, rows.map(|s| s.filter(|a| a + 1 < s.rank())), space] {
            let sizes = shape.map_or_else(Vec::new, |shape| shape.sizes().to_vec());
            sample.inputs.push((DType::F64, sizes, (-2.0, 2.0)));
        }
        vec![sample]
    }
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
        attention_with_dropout three() => |x| {
            let drop = WeightDropout { p: 0.3, key: x[0].graph().random_key(3) };
            x[0].attention_with_dropout(x[1], x[2], Mask::Causal, drop)
        };
    }
}
