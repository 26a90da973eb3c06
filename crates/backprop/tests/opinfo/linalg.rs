//! Linear algebra.

use backprop::{DType, Tensor, Triangle};

use crate::adapt::unary;
use crate::call::{Call, Mapping, Outputs, Unsupported};
use crate::linalg_norm;

pub(crate) fn find(op: &str, variant: &str) -> Option<Mapping> {
    let mapping: Mapping = match op {
        "linalg.det" => |c| unary(c, Tensor::det),
        "logdet" => |c| unary(c, Tensor::logdet),
        "linalg.slogdet" => |c| {
            let (sign, log) = c.tensor(0, "A")?.slogdet();
            Ok(vec![sign, log])
        },
        "linalg.inv" => |c| unary(c, Tensor::inverse),
        "linalg.cholesky" => |c| {
            let factor = c.tensor(0, "A")?.cholesky();
            let upper = c.flag(1, "upper", false)?;
            Ok(vec![if upper { factor.t() } else { factor }])
        },
        "cholesky_inverse" => |c| {
            let factor = lower(c, 0, 1)?;
            let inverse = factor.solve_triangular(identity(factor), Triangle::Lower);
            Ok(vec![inverse.t().matmul(inverse)])
        },
        "cholesky_solve" => |c| {
            let factor = lower(c, 1, 2)?;
            let right = c.tensor(0, "B")?;
            let half = factor.solve_triangular(right, Triangle::Lower);
            Ok(vec![factor.t().solve_triangular(half, Triangle::Upper)])
        },
        "linalg.solve" => solve,
        "linalg.solve_triangular" => solve_triangular,
        "triangular_solve" => triangular_solve,
        "linalg.lu_solve" => lu_solve,
        "linalg.matrix_power" => |c| {
            let exponent = c.int(1, "n", 0)? as i32;
            unary(c, |a| a.matrix_power(exponent))
        },
        "matrix_exp" | "linalg.matrix_exp" => |c| unary(c, Tensor::matrix_exp),
        "linalg.multi_dot" => |c| {
            let product = c.tensors(0, "tensors")?.into_iter();
            let product = product.reduce(|product, next| product.matmul(next));
            Ok(product.into_iter().collect())
        },
        "linalg.vecdot" => |c| {
            let (x, y) = (c.tensor(0, "x")?, c.tensor(1, "y")?);
            Ok(vec![(x * y).sum(c.axis(usize::MAX, "dim", -1)?)])
        },
        "linalg.vander" => vander,
        "cross" => |c| {
            let (x, y) = (c.tensor(0, "input")?, c.tensor(1, "other")?);
            let first = x.shape().sizes().iter().position(|&size| size == 3);
            Ok(vec![
                x.cross(y, c.axis(2, "dim", first.unwrap_or(0) as i32)?),
            ])
        },
        "linalg.cross" => |c| {
            let (x, y) = (c.tensor(0, "input")?, c.tensor(1, "other")?);
            Ok(vec![x.cross(y, c.axis(usize::MAX, "dim", -1)?)])
        },
        "linalg.tensorinv" => tensorinv,
        "linalg.tensorsolve" => tensorsolve,
        "linalg.pinv" if variant == "singular" => |c| {
            let product = c.tensor(0, "a")?.matmul(c.tensor(1, "b")?.t());
            Ok(vec![product.pinv(default_tolerance(product))])
        },
        "linalg.pinv" => pinv,
        "linalg.lstsq" => lstsq,
        "linalg.svdvals" => |c| unary(c, Tensor::svdvals),
        "linalg.eigvalsh" => |c| {
            // Both triangles say the same.
            c.text(1, "UPLO", "L")?;
            unary(c, Tensor::eigvalsh)
        },
        "einsum" => |c| {
            let operands = c.tensors(0, "tensors")?;
            Ok(vec![c.g.einsum(c.text(1, "equation", "")?, &operands)])
        },
        _ => return linalg_norm::find(op),
    };
    Some(mapping)
}

/// The identity in the shape of square matrices.
fn identity(like: Tensor<'_>) -> Tensor<'_> {
    let at = |axis| like.graph().coordinate(like.shape(), axis);
    at(like.rank() - 1)
        .eq(at(like.rank() - 2))
        .cast(like.dtype())
}

/// A triangular factor that may be given as the upper one.
fn lower<'g>(c: &Call<'g, '_>, at: usize, upper: usize) -> Result<Tensor<'g>, Unsupported> {
    let factor = c.tensor(at, "L")?;
    let upper = c.flag(upper, "upper", false)?;
    Ok(if upper { factor.t() } else { factor })
}

fn triangle(upper: bool, unit: bool) -> Triangle {
    match (upper, unit) {
        (false, false) => Triangle::Lower,
        (false, true) => Triangle::UnitLower,
        (true, false) => Triangle::Upper,
        (true, true) => Triangle::UnitUpper,
    }
}

/// A list of right sides may be a vector for each matrix, with all batch axes of the matrices.
fn solve<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (a, b) = (c.tensor(0, "A")?, c.tensor(1, "B")?);
    let left = c.flag(usize::MAX, "left", true)?;
    let shape = a.shape();
    let is_vector = b.rank() == 1 || b.shape().sizes() == &shape.sizes()[..shape.rank() - 1];
    Ok(vec![match (is_vector, left) {
        (true, _) => a.solve(b.unsqueeze(-1)).squeeze(-1),
        (false, true) => a.solve(b),
        (false, false) => a.t().solve(b.t()).t(),
    }])
}

fn solve_triangular<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (a, b) = (c.tensor(0, "A")?, c.tensor(1, "B")?);
    let unit = c.flag(usize::MAX, "unitriangular", false)?;
    let triangle = triangle(c.flag(usize::MAX, "upper", false)?, unit);
    Ok(vec![match c.flag(usize::MAX, "left", true)? {
        true => a.solve_triangular(b, triangle),
        false => {
            let transposed = triangle.transposed();
            a.t().solve_triangular(b.t(), transposed).t()
        }
    }])
}

/// The second output is the matrix itself.
fn triangular_solve<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (b, a) = (c.tensor(0, "b")?, c.tensor(1, "A")?);
    let unit = c.flag(4, "unitriangular", false)?;
    let triangle = triangle(c.flag(2, "upper", true)?, unit);
    let x = match c.flag(3, "transpose", false)? {
        true => a.t().solve_triangular(b, triangle.transposed()),
        false => a.solve_triangular(b, triangle),
    };
    Ok(vec![x, a])
}

/// From packed factors and pivots: rows that were exchanged one after the other, counted from 1.
fn lu_solve<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (factors, b) = (c.tensor(0, "LU")?, c.tensor(2, "B")?);
    let pivots = c.known(1, "pivots")?.unwrap_or_default();
    let left = c.flag(usize::MAX, "left", true)?;
    let transposed = c.flag(usize::MAX, "adjoint", false)? == left;
    let n = factors.shape().size(factors.rank() - 1);
    let (mut order, mut inverse) = (Vec::new(), Vec::new());
    for exchanges in pivots.chunks(n.max(1)) {
        let mut rows: Vec<usize> = (0..n).collect();
        for (row, &other) in exchanges.iter().enumerate() {
            rows.swap(row, other as usize - 1);
        }
        let position = |row| rows.iter().position(|&r| r == row).unwrap();
        inverse.extend((0..n).map(|row| position(row) as i64));
        order.extend(rows.iter().map(|&row| row as i64));
    }
    let right = if left { b } else { b.t() };
    let right = right + (factors * 0.0).sum([-2, -1]).unsqueeze(-1).unsqueeze(-1);
    let rows_of = |x: Tensor<'g>, order: &[i64]| {
        let shape = factors.shape().with(factors.rank() - 1, 1);
        let order = c.g.data(shape, order);
        x.gather(-2, order.broadcast_to(x.shape()))
    };
    let x = match transposed {
        true => {
            let y = factors.t().solve_triangular(right, Triangle::Lower);
            let y = factors.t().solve_triangular(y, Triangle::UnitUpper);
            rows_of(y, &inverse)
        }
        false => {
            let y = rows_of(right, &order);
            let y = factors.solve_triangular(y, Triangle::UnitLower);
            factors.solve_triangular(y, Triangle::Upper)
        }
    };
    Ok(vec![if left { x } else { x.t() }])
}

/// Powers as running products, which have a gradient at 0.
fn vander<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let x = c.tensor(0, "x")?;
    let x = if x.rank() == 0 { x.unsqueeze(0) } else { x };
    let own = x.shape().size(x.rank() - 1);
    let count = c.int(usize::MAX, "N", own as i64)? as usize;
    let column = x.unsqueeze(-1);
    let shape = column.shape();
    let wide = column.broadcast_to(shape.with(shape.rank() - 1, count.saturating_sub(1)));
    let one = c.g.full(shape, 1.0, x.dtype());
    Ok(vec![c.g.concat(&[one, wide], -1).cumprod(-1)])
}

fn tensorinv<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let a = c.tensor(0, "A")?;
    let split = c.int(1, "ind", 2)? as usize;
    let shape = a.shape();
    let (first, last) = shape.sizes().split_at(split);
    let n: usize = first.iter().product();
    let result = [last, first].concat();
    let square = a.reshape([n as isize, n as isize]);
    let result: Vec<isize> = result.into_iter().map(|size| size as isize).collect();
    Ok(vec![square.inverse().reshape(result)])
}

fn tensorsolve<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (a, b) = (c.tensor(0, "A")?, c.tensor(1, "B")?);
    let moved = c.ints(2, "dims")?.unwrap_or_default();
    let rank = a.rank() as i64;
    let moved: Vec<i64> = moved.iter().map(|axis| axis.rem_euclid(rank)).collect();
    let kept = (0..rank).filter(|axis| !moved.contains(axis));
    let order: Vec<i32> = kept
        .chain(moved.iter().copied())
        .map(|axis| axis as i32)
        .collect();
    let a = a.permute(order);
    let shape = a.shape();
    let result: Vec<isize> = shape.sizes()[b.rank()..]
        .iter()
        .map(|&size| size as isize)
        .collect();
    let n = b.shape().count() as isize;
    let x = a.reshape([n, n]).solve(b.flatten_from(0));
    Ok(vec![x.reshape(result)])
}

fn default_tolerance(a: Tensor<'_>) -> f64 {
    let [.., rows, columns] = *a.shape().sizes() else {
        return 0.0;
    };
    rows.max(columns) as f64 * f64::EPSILON
}

fn pinv<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let a = c.tensor(0, "A")?;
    // Of symmetric matrices alike.
    c.flag(usize::MAX, "hermitian", false)?;
    let tolerance = match c.value(usize::MAX, "rtol") {
        Some(value) if value.get("tensor").is_some() => c
            .known(usize::MAX, "rtol")?
            .and_then(|values| values.first().copied()),
        Some(value) => value.as_f64(),
        None => None,
    };
    Ok(vec![
        a.pinv(tolerance.unwrap_or_else(|| default_tolerance(a))),
    ])
}

/// The solution of least squares (and of least norm, where there are many), and the sums of squared
/// residuals, which some drivers give where there are more equations than unknowns.
fn lstsq<'g>(c: &Call<'g, '_>) -> Outputs<'g> {
    let (a, b) = (c.tensor(0, "a")?, c.tensor(1, "b")?);
    let gives = c.text(usize::MAX, "driver", "gelsy")? != "gelsy";
    let x = a.pinv(default_tolerance(a)).matmul(b);
    let [.., rows, columns] = *a.shape().sizes() else {
        return Ok(vec![x]);
    };
    let residuals = match gives && rows > columns {
        true => (a.matmul(x) - b).square().sum(-2),
        false => c.g.full([0], 0.0, DType::F64),
    };
    Ok(vec![x, residuals])
}
