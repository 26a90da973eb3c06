//! Attention and its vjp.

use super::Number;
use super::fused::{operand, sweep};
use super::number::points;
use crate::{Attention, AttentionVjp, Heads, KeyMask, Shape, Source};

/// Operands as numbers, one batch element after the other.
struct Values {
    query: Vec<f64>,
    key: Vec<f64>,
    value: Vec<f64>,
    mask: Option<Mask>,
}

enum Mask {
    /// What is added to each score.
    Add(Vec<f64>),
    /// Which scores count.
    Where(Vec<bool>),
}

fn space(heads: &Heads, rows: usize, columns: usize) -> Shape {
    let batch = heads.batch.sizes().iter().copied();
    batch.chain([rows, columns]).collect()
}

fn reals(numbers: Vec<Number>) -> Vec<f64> {
    numbers.into_iter().map(Number::real).collect()
}

fn seen(source: &Source, values: &[Number]) -> Vec<f64> {
    let elements = points(source.view.shape).map(|at| source.view.element(&at));
    elements.map(|element| values[element].real()).collect()
}

impl Values {
    /// The operands' values, and what else is read.
    fn new<'r>(heads: &Heads, reads: &'r [Vec<Number>]) -> (Values, &'r [Vec<Number>]) {
        let (query, reads) = reads.split_at(heads.query.inputs.len());
        let (key, reads) = reads.split_at(heads.key.inputs.len());
        let (value, reads) = reads.split_at(heads.value.inputs.len());
        let (mask, reads) = match &heads.mask {
            KeyMask::Add(source) => (Some(Mask::Add(seen(source, &reads[0]))), &reads[1..]),
            KeyMask::Where(source) => {
                let mask = seen(source, &reads[0]).into_iter().map(|x| x != 0.0);
                (Some(Mask::Where(mask.collect())), &reads[1..])
            }
            KeyMask::None | KeyMask::Causal => (None, reads),
        };
        let values = Values {
            query: reals(operand(
                &heads.query,
                space(heads, heads.queries, heads.depth),
                query,
            )),
            key: reals(operand(
                &heads.key,
                space(heads, heads.keys, heads.depth),
                key,
            )),
            value: reals(operand(
                &heads.value,
                space(heads, heads.keys, heads.width),
                value,
            )),
            mask,
        };
        (values, reads)
    }

    /// The scores of query number `row`, counted over the whole batch.
    fn scores(&self, heads: &Heads, row: usize) -> Vec<f64> {
        let (b, i) = (row / heads.queries, row % heads.queries);
        let query = &self.query[row * heads.depth..][..heads.depth];
        let score = |j: usize| {
            let key = &self.key[(b * heads.keys + j) * heads.depth..][..heads.depth];
            let score = dot(query, key) * heads.scale();
            match &self.mask {
                Some(Mask::Add(mask)) => score + mask[row * heads.keys + j],
                Some(Mask::Where(mask)) if !mask[row * heads.keys + j] => f64::NEG_INFINITY,
                Some(Mask::Where(_)) => score,
                None if heads.mask == KeyMask::Causal && j > i => f64::NEG_INFINITY,
                None => score,
            }
        };
        (0..heads.keys).map(score).collect()
    }

    fn value(&self, heads: &Heads, row: usize, j: usize) -> &[f64] {
        let b = row / heads.queries;
        &self.value[(b * heads.keys + j) * heads.width..][..heads.width]
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(total: &mut [f64], factor: f64, values: &[f64]) {
    for (total, value) in total.iter_mut().zip(values) {
        *total += factor * value;
    }
}

fn log_sum_exp(scores: &[f64]) -> f64 {
    let high = scores.iter().fold(
        f64::NEG_INFINITY,
        |a, &b| if b.is_nan() { b } else { a.max(b) },
    );
    if high == f64::NEG_INFINITY {
        // The weights of a query that sees nothing are 0.
        return f64::INFINITY;
    }
    let sum: f64 = scores.iter().map(|score| libm::exp(score - high)).sum();
    high + libm::log(sum)
}

pub(super) fn attention(spec: &Attention, reads: &[Vec<Number>]) -> Vec<Vec<Number>> {
    let heads = &spec.heads;
    let (values, reads) = Values::new(heads, reads);
    let (mut sums, mut all_lse) = (Vec::new(), Vec::new());
    for row in 0..heads.batch.count() * heads.queries {
        let scores = values.scores(heads, row);
        let lse = log_sum_exp(&scores);
        let mut out = vec![0.0; heads.width];
        for (j, score) in scores.into_iter().enumerate() {
            let p = libm::exp(score - lse);
            add(&mut out, p, values.value(heads, row, j));
        }
        all_lse.push(Number::Real(lse).round(spec.lse.dtype));
        sums.extend(
            out.into_iter()
                .map(|x| Number::Real(x).round(spec.accumulator)),
        );
    }
    let mut written = sweep(spec.space, &spec.epilogue, reads, Some(&sums));
    written.push(all_lse);
    written
}

pub(super) fn attention_vjp(spec: &AttentionVjp, reads: &[Vec<Number>]) -> Vec<Vec<Number>> {
    let heads = &spec.heads;
    let (values, rest) = Values::new(heads, reads);
    let [out, lse, g] = [(&spec.out, 0), (&spec.lse, 1), (&spec.cotangent, 2)]
        .map(|(source, k)| seen(source, &rest[k]));
    let mut dq = vec![0.0; values.query.len()];
    let mut dk = vec![0.0; values.key.len()];
    let mut dv = vec![0.0; values.value.len()];
    let (depth, width, scale) = (heads.depth, heads.width, heads.scale());
    for row in 0..heads.batch.count() * heads.queries {
        let (out, g) = (&out[row * width..][..width], &g[row * width..][..width]);
        let query = &values.query[row * depth..][..depth];
        for (j, score) in values.scores(heads, row).into_iter().enumerate() {
            let p = libm::exp(score - lse[row]);
            let ds = p * (dot(g, values.value(heads, row, j)) - dot(g, out)) * scale;
            let at = row / heads.queries * heads.keys + j;
            add(&mut dv[at * width..][..width], p, g);
            add(&mut dk[at * depth..][..depth], ds, query);
            add(
                &mut dq[row * depth..][..depth],
                ds,
                &values.key[at * depth..][..depth],
            );
        }
    }
    let round = |(values, result): (Vec<f64>, &crate::TensorType)| {
        let numbers = values.into_iter().map(Number::Real);
        numbers.map(|number| number.round(result.dtype)).collect()
    };
    [dq, dk, dv]
        .into_iter()
        .zip(&spec.results)
        .map(round)
        .collect()
}
