//! Burgers' equation, `u_t + u u_x = nu u_xx`, between walls where `u` is 0: what flows runs into what
//! stands before it, and a front steepens until viscosity spreads it.

use std::f64::consts::PI;

use backprop::prelude::*;

/// `nu`.
pub(crate) const VISCOSITY: f64 = 0.1;
/// How far the solution is from a sharp front, for which this would be 1.
const OFFSET: f64 = 1.2;

/// Points of space and time, each tensor `[points, 1]` and from 0 to 1.
#[derive(Clone, Copy)]
pub(crate) struct Points<'g> {
    pub x: Tensor<'g>,
    pub t: Tensor<'g>,
}

/// The solution `u = -2 nu p_x / p` that Cole and Hopf's transformation makes of the solution
/// `p = OFFSET + exp(-pi^2 nu t) cos(pi x)` of the heat equation (W. L. Wood, "An exact solution for
/// Burger's equation", 2006, doi:10.1002/cnm.850).
pub(crate) fn exact(Points { x, t }: Points<'_>) -> Tensor<'_> {
    let fading = (t * (-PI * PI * VISCOSITY)).exp();
    let angle = x * PI;
    fading * angle.sin() * (2.0 * PI * VISCOSITY) / (fading * angle.cos() + OFFSET)
}

/// What `u` lacks to solve the equation, at each of the points that it is computed from.
pub(crate) fn residual<'g>(u: Tensor<'g>, Points { x, t }: Points<'g>) -> Result<Tensor<'g>> {
    let g = u.graph();
    // Every output depends on its own point alone, so that all points can move at once.
    let along = |y: Tensor<'g>, axis: Tensor<'g>| -> Result<Tensor<'g>> {
        let ones = g.full(axis.shape(), 1.0, axis.dtype());
        Ok(g.jvp(&[y], &[(axis, ones)])?[0])
    };
    let (u_t, u_x) = (along(u, t)?, along(u, x)?);
    let u_xx = along(u_x, x)?;
    Ok(u_t + u * u_x - u_xx * VISCOSITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the residual comes to at some points, for a function of them.
    fn residuals(u: impl for<'g> Fn(Points<'g>) -> Tensor<'g>) -> Vec<f64> {
        let g = Graph::new();
        let [x, t] = ["x", "t"].map(|name| g.input(name, [5, 1], F64));
        let points = Points { x, t };
        let residual = residual(u(points), points).unwrap();
        let mut session =
            Session::compile(&g, Cpu::new().unwrap(), &[residual.key()], Updates::none()).unwrap();
        session.feed(x, &[0.0, 0.3, 0.5, 0.9, 1.0]).unwrap();
        session.feed(t, &[0.0, 0.2, 1.0, 0.01, 0.7]).unwrap();
        session.step().unwrap();
        session.fetch(residual).unwrap()
    }

    #[test]
    fn the_exact_solution_leaves_nothing() {
        let left = residuals(exact);
        assert!(left.iter().all(|r| r.abs() < 1e-12), "{left:?}");
    }

    #[test]
    fn what_solves_something_else_leaves_something() {
        // u = t x^2 gives u_t + u u_x - nu u_xx = x^2 + 2 t^2 x^3 - 2 nu t.
        let left = residuals(|Points { x, t }| t * x.square());
        let expected = |x: f64, t: f64| x * x + 2.0 * t * t * x.powi(3) - 2.0 * VISCOSITY * t;
        for (r, (x, t)) in
            left.iter()
                .zip([(0.0, 0.0), (0.3, 0.2), (0.5, 1.0), (0.9, 0.01), (1.0, 0.7)])
        {
            assert!((r - expected(x, t)).abs() < 1e-12, "{left:?}");
        }
    }

    #[test]
    fn the_exact_solution_stands_still_at_the_walls() {
        let g = Graph::new();
        let (x, t) = (g.data([2, 1], &[0.0, 1.0]), g.data([2, 1], &[0.0, 0.5]));
        let u = exact(Points { x, t });
        let mut session =
            Session::compile(&g, Cpu::new().unwrap(), &[u.key()], Updates::none()).unwrap();
        session.step().unwrap();
        let u: Vec<f64> = session.fetch(u).unwrap();
        assert!(u.iter().all(|u| u.abs() < 1e-12), "{u:?}");
    }
}
