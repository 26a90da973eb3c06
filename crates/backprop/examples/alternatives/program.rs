//! All methods one after the other, and what is printed and drawn of them.

use std::error::Error;
use std::fmt::Write as _;

use crate::backpropagation::Backpropagation;
use crate::differences::FiniteDifferences;
use crate::equilibrium::EquilibriumPropagation;
use crate::forward_forward::ForwardForward;
use crate::learner::{Course, Learner};
use crate::method::{BATCH, Budget, Method};
use crate::network::{WIDTHS, count};
use crate::perturbation::Perturbation;
use crate::support::command::{Common, Example};
use crate::support::data::Dataset;
use crate::support::folder::Folder;
use crate::support::plot::{Chart, Curve, Panel, Scale, Stroke};
use crate::support::step;

/// The methods with their budgets, backpropagation first: the others are compared with it.
fn methods() -> [Box<dyn Method>; 5] {
    [
        Box::new(Backpropagation { steps: 1000 }),
        Box::new(FiniteDifferences { steps: 500 }),
        Box::new(Perturbation {
            steps: 8000,
            rounds: 4,
        }),
        Box::new(ForwardForward { steps: 5000 }),
        Box::new(EquilibriumPropagation { steps: 3000 }),
    ]
}

#[derive(Default)]
pub(crate) struct Program;

impl Example for Program {
    const NAME: &'static str = "alternatives";
    const PURPOSE: &'static str =
        "Trains one network by backpropagation and by methods that do without.";

    fn run(&self, common: &Common) -> Result<(), Box<dyn Error>> {
        let folder = Folder::of(Self::NAME)?;
        let data = Dataset::digits()?;
        let [pixels, hidden, classes] = WIDTHS;
        println!(
            "{data}, in batches of {BATCH}\n\
             {pixels} pixels, {hidden} hidden units, {classes} classes: {} weights\n",
            count()
        );
        let cpu = common.cpu()?;
        let mut courses = vec![];
        for method in methods() {
            let mut learner = Learner::new(cpu.clone(), &*method, &data, common.seed)?;
            if courses.is_empty() {
                step::describe(&learner.pupil.session, common.show);
            }
            let course = learner.train()?;
            println!("{}", course.outcome());
            courses.push(course);
        }
        report(&courses, &folder)
    }
}

fn report(courses: &[Course], folder: &Folder) -> Result<(), Box<dyn Error>> {
    let chart = chart(courses);
    println!("\n{}", chart.terminal(84, 20));
    let curve = folder.write("curve.svg", chart.svg())?;
    println!("curves in {curve}\n");
    println!("{}", table(courses));
    let results: Vec<String> = courses
        .iter()
        .map(|course| format!("{} {:.1}%", course.name, course.accuracy()))
        .collect();
    println!("test accuracy: {}", results.join(", "));
    Ok(())
}

/// What each method reached at what cost, a step's time beside that of the first method, and how
/// its passes are counted.
fn table(courses: &[Course]) -> String {
    let mut text = format!(
        "{:<25}{:>9}{:>8}{:>16}{:>10}{:>14}{:>12}\n",
        "method", "accuracy", "steps", "forward passes", "time", "median step", "relative"
    );
    let seconds = |course: &Course| course.step.as_secs_f64();
    let first = courses.first().map_or(f64::NAN, seconds);
    for course in courses {
        let step = seconds(course);
        // A string can always be written to.
        let _ = writeln!(
            text,
            "{:<25}{:>8.1}%{:>8}{:>16}{:>8.2} s{:>11.0} us{:>11.1}x",
            course.name,
            course.accuracy(),
            course.budget.steps,
            course.passes(),
            course.took.as_secs_f64(),
            1e6 * step,
            step / first
        );
    }
    text += "\npasses in a step, and how they are counted; what network learns\n";
    for Course { name, budget, .. } in courses {
        let Budget {
            passes,
            counted,
            network,
            ..
        } = budget;
        let _ = writeln!(text, "{name:<25}{passes:>5}  {counted}; {network}");
    }
    text
}

fn chart(courses: &[Course]) -> Chart {
    let curve = |course: &Course| Curve::new(course.name, Stroke::Strong, course.points.clone());
    let title = "test accuracy by forward passes (log scale)";
    let curves = courses.iter().map(curve).collect();
    let panel = Panel {
        unit: "%",
        ..Panel::new(title, Scale::Linear, curves)
    };
    Chart {
        x_scale: Scale::Log,
        ..Chart::new("forward passes", vec![panel])
    }
}
