//! The program around the solver: what it is told, what it does and says.

use std::error::Error;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use backprop::{Backend, Cpu, Result};

use crate::burgers::VISCOSITY;
use crate::options::{Options, Show, usage};
use crate::solver::{Profile, Solver};
use crate::support::plot::{Chart, Curve, Panel, Scale, Stroke};
use crate::support::{exit, progress};

/// How often the error is looked at, in all.
const LOOKS: usize = 100;
/// The names of [`TIMES`](crate::solver::TIMES).
const LABELS: [&str; 4] = ["t = 0", "t = 0.2", "t = 0.5", "t = 1"];

/// Runs the example as the command line says.
pub(crate) fn main() -> ExitCode {
    exit::after(Options::parse(std::env::args_os().skip(1)), run)
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    if options.show == Show::Usage {
        print!("{}", usage());
        return Ok(());
    }
    let cpu = match options.threads {
        Some(threads) => Cpu::builder().threads(threads.get()).build()?,
        None => Cpu::new()?,
    };
    println!("u_t + u u_x = {VISCOSITY} u_xx for x and t from 0 to 1, u = 0 at x = 0 and x = 1\n");
    let mut solver = Solver::new(cpu, options.seed, options.steps.get())?;
    describe(&solver, options.show);

    let started = Instant::now();
    let course = solve(&mut solver, options.steps)?;
    let seconds = started.elapsed().as_secs_f64();
    let solution = solution(&solver.profiles()?);
    println!("{}\n{}", course.terminal(72, 14), solution.terminal(72, 14));

    let folder = Path::new("target/pinn");
    fs::create_dir_all(folder)?;
    let files = [folder.join("curve.svg"), folder.join("solution.svg")];
    for (file, chart) in files.iter().zip([&course, &solution]) {
        fs::write(file, chart.svg())?;
    }
    let [curve, solution] = files.map(|file| file.display().to_string());
    let steps = options.steps;
    println!("{steps} steps in {seconds:.1} s; curves in {curve}, the solution in {solution}\n");
    let error = solver.error()?;
    println!("error against the exact solution: {error:.1e} (relative L2)");
    Ok(())
}

/// What memory solving takes.
fn describe<B: Backend>(solver: &Solver<B>, show: Show) {
    let session = &solver.session;
    if show == Show::Plan {
        println!("{}", session.plan_text());
    }
    println!("{}", session.summary());
    println!(
        "{} launches a step, {:.0} KiB in all at the peak, on {}\n",
        session.step_plan().launches(),
        session.memory_bytes() as f64 / 1024.0,
        session.backend().name()
    );
}

/// Trains, and gives the course of it.
fn solve<B: Backend>(solver: &mut Solver<B>, steps: NonZeroUsize) -> Result<Chart> {
    let steps = steps.get();
    let bar = progress::bar(steps, "steps");
    let every = steps.div_ceil(LOOKS);
    let (mut losses, mut means, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    errors.push((0.0, solver.error()?));
    for done in 1..=steps {
        losses.push((done as f64, solver.step()?));
        if done % every == 0 || done == steps {
            let error = solver.error()?;
            errors.push((done as f64, error));
            let recent = &losses[losses.len().saturating_sub(every)..];
            let mean = recent.iter().map(|(_, loss)| loss).sum::<f64>() / recent.len() as f64;
            means.push((done as f64, mean));
            bar.set_message(format!("residual {mean:.1e}, error {error:.1e}"));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let panel = Panel {
        title: "mean squared residual, and relative L2 error (log scale)",
        scale: Scale::Log,
        unit: "",
        curves: vec![
            curve("residual", Stroke::Faint, losses),
            curve("residual", Stroke::Strong, means),
            curve("error", Stroke::Strong, errors),
        ],
    };
    Ok(Chart {
        x: "step",
        x_scale: Scale::Linear,
        panels: vec![panel],
    })
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
        u.push(curve(label, Stroke::Faint, over(exact.clone())));
        u.push(curve(label, Stroke::Strong, over(found.clone())));
        off.push(curve(label, Stroke::Strong, over(difference)));
    }
    let panel = |title, curves| Panel {
        title,
        scale: Scale::Linear,
        unit: "",
        curves,
    };
    Chart {
        x: "x",
        x_scale: Scale::Linear,
        panels: vec![
            panel("u, found and exact", u),
            panel("what the found one is off", off),
        ],
    }
}

fn curve(label: &'static str, stroke: Stroke, points: Vec<(f64, f64)>) -> Curve {
    Curve {
        label,
        stroke,
        points,
    }
}
