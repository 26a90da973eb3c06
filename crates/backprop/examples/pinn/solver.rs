//! The session that solves the equation: a training step, and two looks at the solution.

use backprop::PlanId;
use backprop::optim::Rate;
use backprop::prelude::*;

use crate::burgers::{Points, exact, residual};
use crate::network::{Network, PRECISION};

/// Points in a training step, drawn anew each time.
const BATCH: usize = 256;
/// Points along space, and along time, at which the solution is judged.
const GRID: usize = 65;
/// The highest learning rate.
const RATE: f64 = 2e-2;
/// The times at which the solution is shown.
pub(crate) const TIMES: [f64; 4] = [0.0, 0.2, 0.5, 1.0];

/// A network and its plans. Nothing is ever fed: the equation is all there is to learn from.
pub(crate) struct Solver<B: Backend> {
    pub session: Session<B>,
    loss: Key,
    error: (PlanId, Key),
    profiles: (PlanId, [Key; 3]),
}

/// The solution at one time, from wall to wall.
pub(crate) struct Profile {
    pub x: Vec<f64>,
    pub found: Vec<f64>,
    pub exact: Vec<f64>,
}

impl<B: Backend> Solver<B> {
    /// A network to be trained for `steps` steps.
    pub(crate) fn new(backend: B, seed: u64, steps: usize) -> Result<Self> {
        let g = Graph::with_seed(seed);
        let network = Network::new(&g);
        let random = g.random_state("random", seed);
        let points = Points {
            x: g.uniform(random.next_key(), [BATCH, 1], PRECISION),
            t: g.uniform(random.next_key(), [BATCH, 1], PRECISION),
        };
        let loss = residual(network.u(points), points)?.square().mean(..);
        let parameters = network.parameters();
        let gradients = g.grad(loss, &parameters)?;
        let options = Adam {
            lr: Rate::cosine(RATE, steps / 50, steps),
            ..Adam::default()
        };
        let updates = optim::adam(&g, &parameters, &gradients, options).and(random.updates());

        let times: Vec<f64> = (0..GRID).map(|i| i as f64 / (GRID - 1) as f64).collect();
        let all = grid(&g, &times);
        let (found, known) = (network.u(all), exact(all));
        let error = ((found - known).square().sum(..) / known.square().sum(..)).sqrt();
        let shown = grid(&g, &TIMES);
        let profiles = [shown.x, network.u(shown), exact(shown)].map(|values| values.key());

        let mut session = Session::compile(&g, backend, &[loss.key()], updates)?;
        Ok(Self {
            error: (session.plan(&[error.key()], Updates::none())?, error.key()),
            profiles: (session.plan(&profiles, Updates::none())?, profiles),
            session,
            loss: loss.key(),
        })
    }

    /// One training step; the mean square of the residual before it.
    pub(crate) fn step(&mut self) -> Result<f64> {
        self.session.step()?;
        self.session.scalar(self.loss)
    }

    /// The distance from the exact solution, over the norm of that, both in the L2 norm over a grid of
    /// space and time.
    pub(crate) fn error(&mut self) -> Result<f64> {
        let (plan, error) = self.error;
        self.session.run(plan)?;
        self.session.scalar(error)
    }

    /// The solution at [`TIMES`].
    pub(crate) fn profiles(&mut self) -> Result<Vec<Profile>> {
        let (plan, keys) = self.profiles;
        self.session.run(plan)?;
        let [x, found, exact] = keys.map(|key| self.session.fetch::<f32>(key));
        let (x, found, exact) = (x?, found?, exact?);
        let part = |values: &[f32], i: usize| {
            let part = values[i * GRID..][..GRID].iter();
            part.map(|&value| f64::from(value)).collect()
        };
        let profile = |i: usize| Profile {
            x: part(&x, i),
            found: part(&found, i),
            exact: part(&exact, i),
        };
        Ok((0..TIMES.len()).map(profile).collect())
    }
}

/// All points from wall to wall at one time after the other.
fn grid<'g>(g: &'g Graph, times: &[f64]) -> Points<'g> {
    let shape = [times.len(), GRID];
    let x = g.coordinate(shape, 1).cast(PRECISION) / (GRID - 1) as f64;
    let t = g
        .data([times.len(), 1], times)
        .cast(PRECISION)
        .broadcast_to(shape);
    Points {
        x: x.reshape([-1, 1]),
        t: t.reshape([-1, 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_steps_reduce_the_loss_and_the_error() {
        let mut solver = Solver::new(Cpu::new().unwrap(), 1, 60).unwrap();
        let (loss, error) = (solver.step().unwrap(), solver.error().unwrap());
        let mut last = loss;
        for _ in 0..59 {
            last = solver.step().unwrap();
        }
        let after = solver.error().unwrap();
        assert!(last < 0.3 * loss, "from {loss} to {last}");
        assert!(after < 0.5 * error, "from {error} to {after}");
    }

    #[test]
    fn profiles_go_from_wall_to_wall() {
        let mut solver = Solver::new(Cpu::new().unwrap(), 1, 1).unwrap();
        let profiles = solver.profiles().unwrap();
        assert_eq!(profiles.len(), TIMES.len());
        for profile in &profiles {
            assert_eq!((profile.x[0], profile.x[GRID - 1]), (0.0, 1.0));
            assert!(profile.found[0].abs() < 1e-6 && profile.exact[GRID - 1].abs() < 1e-6);
        }
        let start = &profiles[0];
        let off = start
            .found
            .iter()
            .zip(&start.exact)
            .map(|(a, b)| (a - b).abs());
        assert!(off.fold(0.0, f64::max) < 1e-6, "the beginning is known");
    }
}
