//! All methods one after the other, and what is printed and drawn of them.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use backprop::{Backend, Result};

use crate::ABOUT;
use crate::backpropagation::Backpropagation;
use crate::data::Dataset;
use crate::differences::FiniteDifferences;
use crate::equilibrium::EquilibriumPropagation;
use crate::forward_forward::ForwardForward;
use crate::learner::{Course, Learner};
use crate::method::{BATCH, Budget, Method};
use crate::network::{WIDTHS, count};
use crate::options::Options;
use crate::perturbation::Perturbation;
use crate::support::plot::{Chart, Curve, Panel, Scale, Stroke};

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

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits");
    let data = Dataset::digits(&folder)?;
    let cpu = options.cpu()?;
    let mut courses = vec![];
    for method in methods() {
        let mut learner = Learner::new(cpu.clone(), &*method, &data, options.seed)?;
        if courses.is_empty() {
            describe(&learner, &data);
        }
        let course = learner.train()?;
        println!("{}", course.outcome());
        courses.push(course);
    }
    report(&courses)
}

/// What is trained, and what memory the plan of the first method takes.
fn describe<B: Backend>(learner: &Learner<B>, data: &Dataset) {
    let [pixels, hidden, classes] = WIDTHS;
    println!(
        "{} images to train on in batches of {BATCH}, {} to test\n\
         {pixels} pixels, {hidden} hidden units, {classes} classes: {} weights\n",
        data.train.len(),
        data.test.len(),
        count()
    );
    println!("{}", learner.pupil.summary());
}

fn report(courses: &[Course]) -> Result<(), Box<dyn Error>> {
    let chart = chart(courses);
    println!("\n{}", chart.terminal(84, 20));
    let folder = Path::new("target").join(ABOUT.example);
    let file = folder.join("curve.svg");
    fs::create_dir_all(&folder)?;
    fs::write(&file, chart.svg())?;
    println!("curves in {}\n", file.display());
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
    let curve = |course: &Course| Curve {
        label: course.name,
        stroke: Stroke::Strong,
        points: course.points.clone(),
    };
    let panel = Panel {
        title: "test accuracy by forward passes (log scale)",
        scale: Scale::Linear,
        unit: "%",
        curves: courses.iter().map(curve).collect(),
    };
    Chart {
        x: "forward passes",
        x_scale: Scale::Log,
        panels: vec![panel],
    }
}
