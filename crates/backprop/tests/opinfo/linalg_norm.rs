//! Norms of vectors and matrices.

use backprop::{Keep, Tensor};
use serde_json::Value;

use crate::adapt::in_dtype;
use crate::call::{Call, Mapping, Outputs, Unsupported, unsupported};

pub(crate) fn find(op: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "linalg.vector_norm" => |c| {
            let x = in_dtype(c, c.tensor(0, "x")?)?;
            let order = Order::of(c.value(1, "ord"))?.unwrap_or(Order::P(2.0));
            let Order::P(p) = order else {
                return unsupported(format!("order {order:?} of a vector"));
            };
            // A number counts as a list of one.
            Ok(vec![match (c.reduced(2)?, x.rank()) {
                (_, 0) => x.norm(p, ..),
                (reduced, _) => x.norm(p, reduced),
            }])
        },
        "linalg.matrix_norm" => |c| {
            let order = Order::of(c.value(1, "ord"))?;
            of_matrices(c, order.unwrap_or(Order::Frobenius))
        },
        "linalg.norm" => norm,
        "linalg.cond" => cond,
        _ => return None,
    };
    Some(mapping)
}

/// The sum of the singular values.
pub(crate) fn nuclear<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    of_matrices(c, Order::Nuclear)
}

/// Over two axes, the last ones unless others are given.
fn of_matrices<'g>(c: &Call<'g, '_>, order: Order) -> Outputs<'g> {
    let x = in_dtype(c, c.tensor(0, "A")?)?;
    let axes = c.ints(2, "dim")?.unwrap_or(vec![-2, -1]);
    let norm = matrix_norm(x, order, [axes[0] as i32, axes[1] as i32]);
    Ok(vec![kept(c, norm, x, &axes, 3)?])
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Order {
    P(f64),
    Frobenius,
    Nuclear,
}

impl Order {
    fn of(value: Option<&Value>) -> Result<Option<Order>, Unsupported> {
        let Some(value) = value else { return Ok(None) };
        let special = value.get("float").and_then(Value::as_str);
        let order = match (special, value.as_str(), value.as_f64()) {
            (Some("inf"), ..) => Order::P(f64::INFINITY),
            (Some("-inf"), ..) => Order::P(f64::NEG_INFINITY),
            (_, Some("fro"), _) => Order::Frobenius,
            (_, Some("nuc"), _) => Order::Nuclear,
            (.., Some(p)) => Order::P(p),
            _ => return unsupported(format!("order {value}")),
        };
        Ok(Some(order))
    }
}

/// Over two axes, rows and columns, which stay with size 1 as the last two.
fn matrix_norm<'g>(x: Tensor<'g>, order: Order, [rows, columns]: [i32; 2]) -> Tensor<'g> {
    let a = x.move_axes([rows, columns], [-2, -1]);
    let extreme = |values: Tensor<'g>, p: f64, axis: i32| match p > 0.0 {
        true => values.max(Keep(axis)),
        false => values.min(Keep(axis)),
    };
    match order {
        Order::P(p) if p.is_infinite() => extreme(a.norm(1.0, Keep(-1)), p, -2),
        Order::P(p) if p.abs() == 1.0 => extreme(a.norm(1.0, Keep(-2)), p, -1),
        Order::P(p) => extreme(a.svdvals().unsqueeze(-2), p, -1),
        Order::Nuclear => a.svdvals().unsqueeze(-2).sum(Keep(-1)),
        Order::Frobenius => a.norm(2.0, Keep([-2, -1])),
    }
}

/// A norm that still has its two axes, as the caller wants it.
fn kept<'g>(
    c: &Call<'g, '_>,
    norm: Tensor<'g>,
    x: Tensor<'g>,
    axes: &[i64],
    keepdim: usize,
) -> Result<Tensor<'g>, Unsupported> {
    let rank = x.rank() as i64;
    let shape = axes.iter().fold(x.shape(), |shape, axis| {
        shape.with(axis.rem_euclid(rank) as usize, 1)
    });
    Ok(match c.flag(keepdim, "keepdim", false)? {
        true => norm.reshape(
            shape
                .sizes()
                .iter()
                .map(|&n| n as isize)
                .collect::<Vec<_>>(),
        ),
        false => norm.squeeze(-1).squeeze(-1),
    })
}

/// Of a vector or a matrix, as the axes say, or without them and without an order of everything.
fn norm<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = in_dtype(c, c.tensor(0, "A")?)?;
    let order = Order::of(c.value(1, "ord"))?;
    let axes = c.ints(2, "dim")?;
    let all = || (0..x.rank() as i64).collect::<Vec<_>>();
    let matrix = match (&axes, order) {
        (Some(axes), Some(_)) if axes.len() == 2 => Some(axes.clone()),
        (None, Some(_)) if x.rank() == 2 => Some(all()),
        _ => None,
    };
    if let (Some(axes), Some(order)) = (matrix, order) {
        let norm = matrix_norm(x, order, [axes[0] as i32, axes[1] as i32]);
        return Ok(vec![kept(c, norm, x, &axes, 3)?]);
    }
    let p = match order {
        Some(Order::P(p)) => p,
        _ => 2.0,
    };
    Ok(vec![x.norm(p, c.reduced(2)?)])
}

fn cond<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let a = c.tensor(0, "A")?;
    let order = Order::of(c.value(1, "p"))?.unwrap_or(Order::P(2.0));
    if order == Order::P(2.0) || order == Order::P(-2.0) {
        let values = a.svdvals();
        let (largest, smallest) = (values.max(-1), values.min(-1));
        return Ok(vec![match order == Order::P(2.0) {
            true => largest / smallest,
            false => smallest / largest,
        }]);
    }
    let norm = |x| matrix_norm(x, order, [-2, -1]).squeeze(-1).squeeze(-1);
    Ok(vec![norm(a) * norm(a.inverse())])
}
