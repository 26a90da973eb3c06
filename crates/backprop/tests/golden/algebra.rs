//! Linear algebra.

use backprop::{Tensor, Triangle};

use crate::cases::Case;
use crate::operations::axis;

/// Singular values that count as 0, relative to the largest; above the rounding of `f32`.
const TOLERANCE: f64 = 1e-5;

/// The output of a case, or `None` if it is of another family.
pub(crate) fn build<'g>(case: &Case, x: &[Tensor<'g>]) -> Option<Tensor<'g>> {
    let a = x[0];
    Some(match case.op.as_str() {
        "cholesky" => a.cholesky(),
        "solve" => a.solve(x[1]),
        "solve_triangular" => {
            let triangle = match (case.truth("upper"), case.truth("unit")) {
                (false, false) => Triangle::Lower,
                (false, true) => Triangle::UnitLower,
                (true, false) => Triangle::Upper,
                (true, true) => Triangle::UnitUpper,
            };
            match case.truth("left") {
                true => a.solve_triangular(x[1], triangle),
                false => {
                    let columns = x[1].t();
                    a.t().solve_triangular(columns, triangle.transposed()).t()
                }
            }
        }
        "inverse" => a.inverse(),
        "det" => a.det(),
        "matrix_power" => a.matrix_power(case.integer("exponent") as i32),
        "logdet" => a.logdet(),
        "matrix_exp" => a.matrix_exp(),
        "cross" => a.cross(x[1], axis(case)),
        "eigvalsh" => a.eigvalsh(),
        "eigh" => {
            let (values, vectors) = a.eigh();
            (vectors * values.exp().unsqueeze(-2)).matmul(vectors.t())
        }
        "svdvals" => a.svdvals(),
        "svd" => {
            let (u, s, v) = a.svd();
            (u * s.square().unsqueeze(-2)).matmul(v.t())
        }
        "pinv" => a.pinv(TOLERANCE),
        "pinv_of_product" => a.matmul(x[1]).pinv(TOLERANCE),
        _ => return None,
    })
}
