//! Products of vectors, matrices and arrays.

use backprop::Tensor;

use crate::adapt::binary;
use crate::call::{Call, Mapping, Outputs, items};

pub(crate) fn find(op: &str, _variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "matmul" | "mm" | "bmm" | "mv" | "dot" => |c| binary(c, |a, b| a.matmul(b)),
        "outer" => |c| binary(c, |a, b| a.outer(b)),
        "kron" => |c| binary(c, |a, b| a.kron(b)),
        "addmm" | "addmv" | "baddbmm" => |c| added(c, |a, b| a.matmul(b)),
        "addbmm" => |c| added(c, |a, b| a.matmul(b).sum(0)),
        "addr" => |c| added(c, |a, b| a.outer(b)),
        "inner" => inner,
        "tensordot" => tensordot,
        _ => return None,
    };
    Some(mapping)
}

/// `beta input + alpha product(a, b)`; an input times 0 does not count, whatever is in it.
fn added<'g>(
    c: &Call<'g, '_>,
    product: impl FnOnce(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
) -> Outputs<'g> {
    let [input, a, b] = [c.tensor(0, "input")?, c.tensor(1, "a")?, c.tensor(2, "b")?];
    let [beta, alpha] = [
        c.float(usize::MAX, "beta", 1.0)?,
        c.float(usize::MAX, "alpha", 1.0)?,
    ];
    let product = product(a, b) * alpha;
    Ok(vec![match beta {
        0.0 => product,
        _ => product + input * beta,
    }])
}

fn inner<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    binary(c, |a, b| match a.rank().min(b.rank()) {
        0 => a * b,
        _ => contracted(a, b, &[a.rank() - 1], &[b.rank() - 1]),
    })
}

/// `dims` is a number of axes, or the axes of both sides.
fn tensordot<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (a, b) = (c.tensor(0, "a")?, c.tensor(1, "b")?);
    let sides = c.value(2, "dims").and_then(items);
    let axes = |side: usize, x: Tensor<'g>| -> Option<Vec<usize>> {
        let list = items(sides?.get(side)?)?.iter();
        let axis = |axis: i64| axis.rem_euclid(x.rank() as i64) as usize;
        list.map(|value| value.as_i64().map(axis)).collect()
    };
    let product = match (axes(0, a), axes(1, b)) {
        (Some(left), Some(right)) => contracted(a, b, &left, &right),
        _ => {
            let count = c.int(2, "dims", 2)? as usize;
            let left: Vec<usize> = (a.rank() - count..a.rank()).collect();
            let right: Vec<usize> = (0..count).collect();
            contracted(a, b, &left, &right)
        }
    };
    Ok(vec![product])
}

/// The sum of products over pairs of axes.
fn contracted<'g>(a: Tensor<'g>, b: Tensor<'g>, left: &[usize], right: &[usize]) -> Tensor<'g> {
    let mut letters: Vec<char> = ('A'..).take(a.rank()).collect();
    let of_a: String = letters.iter().collect();
    let mut of_b: Vec<char> = ('a'..).take(b.rank()).collect();
    for (&i, &j) in left.iter().zip(right) {
        of_b[j] = letters[i];
    }
    let shared: Vec<char> = left.iter().map(|&i| letters[i]).collect();
    letters.extend(&of_b);
    letters.retain(|letter| !shared.contains(letter));
    let (of_b, result): (String, String) = (of_b.iter().collect(), letters.iter().collect());
    let equation = format!("{of_a},{of_b}->{result}");
    a.graph().einsum(&equation, &[a, b])
}
