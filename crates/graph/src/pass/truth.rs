//! What truth values and choices by them come to. Derivatives of choices are full of these: a cotangent
//! that a condition hides is hidden again by the next one.

use backprop_core::Scalar;
use smallvec::smallvec;

use crate::ir::{Inputs, Ir, NodeId, Op};

/// What a function of truth values, or a choice by one, comes to.
pub(super) enum Truth {
    /// A value that is there.
    Value(NodeId),
    /// A choice from other operands.
    Choice(Inputs),
}

/// The operands of a node, if it applies `function`.
fn operands(ir: &Ir, id: NodeId, function: Scalar) -> Option<&[NodeId]> {
    let node = ir.node(id);
    (node.op == Op::Scalar(function)).then_some(node.inputs.as_slice())
}

/// Whether one truth value is the other one's negation.
fn are_opposite(ir: &Ir, a: NodeId, b: NodeId) -> bool {
    let negates = |a, b| operands(ir, a, Scalar::Not).is_some_and(|x| x[0] == b);
    negates(a, b) || negates(b, a)
}

/// Identities that hold for all truth values.
pub(super) fn truth(ir: &Ir, function: Scalar, x: &[NodeId]) -> Option<Truth> {
    match function {
        Scalar::Not => operands(ir, x[0], Scalar::Not).map(|inner| Truth::Value(inner[0])),
        Scalar::And => absorbed(ir, x, [Scalar::And, Scalar::Or]),
        Scalar::Or => absorbed(ir, x, [Scalar::Or, Scalar::And]),
        Scalar::Where => choice(ir, x),
        _ => None,
    }
}

/// `a and a = a`, `a and (a and b) = a and b`, `a and (a or b) = a`; the same with both exchanged.
fn absorbed(ir: &Ir, x: &[NodeId], [function, dual]: [Scalar; 2]) -> Option<Truth> {
    if x[0] == x[1] {
        return Some(Truth::Value(x[0]));
    }
    let side = |a: NodeId, b: NodeId| {
        let has = |function| operands(ir, b, function).is_some_and(|inner| inner.contains(&a));
        match (has(function), has(dual)) {
            (true, _) => Some(Truth::Value(b)),
            (_, true) => Some(Truth::Value(a)),
            _ => None,
        }
    };
    side(x[0], x[1]).or_else(|| side(x[1], x[0]))
}

/// A choice by a negation is the other choice; one between choices by the same condition sees one side
/// of each.
fn choice(ir: &Ir, x: &[NodeId]) -> Option<Truth> {
    let (condition, a, b) = (x[0], x[1], x[2]);
    if let Some(inner) = operands(ir, condition, Scalar::Not) {
        return Some(Truth::Choice(smallvec![inner[0], b, a]));
    }
    let inner = |id| operands(ir, id, Scalar::Where);
    let same = |inner: &&[NodeId]| inner[0] == condition;
    let opposite = |inner: &&[NodeId]| are_opposite(ir, inner[0], condition);
    if let Some(chosen) = inner(a).filter(|x| same(x) || opposite(x)) {
        let seen = if same(&chosen) { chosen[1] } else { chosen[2] };
        return Some(Truth::Choice(smallvec![condition, seen, b]));
    }
    let chosen = inner(b).filter(|x| same(x) || opposite(x))?;
    let seen = if same(&chosen) { chosen[2] } else { chosen[1] };
    Some(Truth::Choice(smallvec![condition, a, seen]))
}

#[cfg(test)]
mod tests {
    use backprop_core::{DType::Bool, DType::F64, Reference};

    use crate::{Graph, Session, Tensor, Updates};

    /// All ways of combining three truth values to a given depth, and choices by them.
    fn all<'g>(a: &[Tensor<'g>], x: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let mut truths = a.to_vec();
        truths.extend(a.iter().map(|a| a.logical_not()));
        for depth in 0..2 {
            let known = truths.clone();
            for (i, &a) in known.iter().enumerate() {
                for &b in &known[i.saturating_sub(3 + depth)..=i] {
                    truths.extend([a.logical_and(b), b.logical_or(a)]);
                }
            }
            truths.truncate(60);
        }
        let mut choices = x.to_vec();
        for (i, truth) in truths.into_iter().enumerate() {
            let [p, q] = [3 * i + 1, 7 * i].map(|k| choices[k % choices.len()]);
            choices.extend([truth.select(p, q), truth.logical_not().select(q, p)]);
        }
        choices
    }

    #[test]
    fn combinations_keep_their_values() {
        for bits in 0..8 {
            let given: Vec<bool> = (0..3).map(|i| bits >> i & 1 == 1).collect();
            let values = |fed: bool| {
                let g = Graph::new();
                let truth = |(i, &value): (usize, &bool)| match fed {
                    true => g.input(&format!("a{i}"), [], Bool),
                    false => g.full([], f64::from(u8::from(value)), Bool),
                };
                let a: Vec<Tensor<'_>> = given.iter().enumerate().map(truth).collect();
                let x = [1.0, 2.0, f64::NAN].map(|value| g.full([], value, F64));
                let keys: Vec<_> = all(&a, &x).iter().map(|x| x.key()).collect();
                let mut session = Session::compile(&g, Reference, &keys, Updates::none()).unwrap();
                for (a, value) in a.iter().zip(&given).filter(|_| fed) {
                    session.feed(*a, &[*value]).unwrap();
                }
                session.step().unwrap();
                let bits = |&key| session.scalar(key).unwrap().to_bits();
                keys.iter().map(bits).collect::<Vec<u64>>()
            };
            // Constants are folded, so that nothing is left to be simplified.
            assert_eq!(values(true), values(false), "{given:?}");
        }
    }
}
