//! The program around the solver: what it is told, what it does and says.

use std::error::Error;
use std::num::NonZeroUsize;
use std::time::Instant;

use backprop::{Backend, Result};
use lexopt::Parser;
use lexopt::prelude::*;

use crate::burgers::VISCOSITY;
use crate::solver::{Profile, Solver};
use crate::support::command::{Common, Example};
use crate::support::folder::Folder;
use crate::support::plot::{Chart, Curve, Panel, Scale, Stroke};
use crate::support::track::Track;
use crate::support::{progress, step};

const STEPS: NonZeroUsize = NonZeroUsize::new(12_000).unwrap();
/// How often the error is looked at, in all.
const LOOKS: usize = 100;
/// The names of [`TIMES`](crate::solver::TIMES).
const LABELS: [&str; 4] = ["t = 0", "t = 0.2", "t = 0.5", "t = 1"];

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Program {
    steps: NonZeroUsize,
}

impl Default for Program {
    fn default() -> Self {
        Self { steps: STEPS }
    }
}

impl Example for Program {
    const NAME: &'static str = "pinn";
    const PURPOSE: &'static str =
        "Solves Burgers' equation by a network whose derivatives fit together.";

    fn usage() -> String {
        format!("--steps N  of training, each at other points [{STEPS}]\n")
    }

    fn set(&mut self, option: &str, parser: &mut Parser) -> Result<(), lexopt::Error> {
        match option {
            "steps" => self.steps = parser.value()?.parse()?,
            other => return Err(Long(other).unexpected()),
        }
        Ok(())
    }

    fn run(&self, common: &Common) -> Result<(), Box<dyn Error>> {
        println!(
            "u_t + u u_x = {VISCOSITY} u_xx for x and t from 0 to 1, u = 0 at x = 0 and x = 1\n"
        );
        let folder = Folder::of(Self::NAME)?;
        let steps = self.steps.get();
        let mut solver = Solver::new(common.cpu()?, common.seed, steps)?;
        step::describe(&solver.session, common.show);

        let started = Instant::now();
        let course = solve(&mut solver, steps)?;
        let seconds = started.elapsed().as_secs_f64();
        let solution = solution(&solver.profiles()?);
        println!("{}\n{}", course.terminal(72, 14), solution.terminal(72, 14));

        let curve = folder.write("curve.svg", course.svg())?;
        let solution = folder.write("solution.svg", solution.svg())?;
        println!(
            "{steps} steps in {seconds:.1} s; curves in {curve}, the solution in {solution}\n"
        );
        let error = solver.error()?;
        println!("error against the exact solution: {error:.1e} (relative L2)");
        Ok(())
    }
}

/// Trains, and gives the course of it.
fn solve<B: Backend>(solver: &mut Solver<B>, steps: usize) -> Result<Chart> {
    let bar = progress::bar(steps, "steps");
    let every = steps.div_ceil(LOOKS);
    let mut residuals = Track::new(1, every);
    let mut errors = vec![(0.0, solver.error()?)];
    for done in 1..=steps {
        residuals.push(solver.step()?);
        if done % every == 0 || done == steps {
            let error = solver.error()?;
            errors.push((done as f64, error));
            let residual = residuals.mean();
            bar.set_message(format!("residual {residual:.1e}, error {error:.1e}"));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut curves = Vec::from(residuals.curves("residual"));
    curves.push(Curve::new("error", Stroke::Strong, errors));
    let title = "mean squared residual, and relative L2 error (log scale)";
    Ok(Chart::new(
        "step",
        vec![Panel::new(title, Scale::Log, curves)],
    ))
}

/// The solution from wall to wall, and what it is off.
fn solution(profiles: &[Profile]) -> Chart {
    let (mut u, mut off) = (Vec::new(), Vec::new());
    for (profile, label) in profiles.iter().zip(LABELS) {
        let Profile { x, found, exact } = profile;
        // Curves end at a wall, with a label that says so: what rounding leaves there is dropped.
        let shown = |value: f64| (value * 1e6).round() / 1e6 + 0.0;
        let over = |values: Vec<f64>| {
            x.iter()
                .copied()
                .zip(values.into_iter().map(shown))
                .collect()
        };
        let difference = found.iter().zip(exact).map(|(a, b)| a - b).collect();
        u.push(Curve::new(label, Stroke::Faint, over(exact.clone())));
        u.push(Curve::new(label, Stroke::Strong, over(found.clone())));
        off.push(Curve::new(label, Stroke::Strong, over(difference)));
    }
    let panel = |title, curves| Panel::new(title, Scale::Linear, curves);
    let off = panel("what the found one is off", off);
    Chart::new("x", vec![panel("u, found and exact", u), off])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::command;

    #[test]
    fn reads_the_command_line() {
        let given = "--steps 30";
        let expected = Program {
            steps: NonZeroUsize::new(30).unwrap(),
        };
        let wrong = ["--steps 0", "--steps 1.5", "--seed", "--epochs 3", "stray"];
        command::check(given, expected, &wrong);
    }
}
