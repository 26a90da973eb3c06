//! All networks one after the other, and what is printed and drawn of them.

use std::error::Error;
use std::fmt::Write as _;

use crate::network::{Activation, DEPTH, Structure, Variant, WIDTH};
use crate::study::Study;
use crate::support::command::{Common, Example};
use crate::support::data::Dataset;
use crate::support::folder::Folder;
use crate::support::plot::{Chart, Curve, Panel, Scale, Stroke};
use crate::support::{progress, step};

/// Training steps of each network.
const STEPS: usize = 600;

/// What was found out about a network.
struct Finding {
    variant: Variant,
    /// Of the gradient of each layer's weights, before training.
    norms: Vec<f64>,
    /// On the test images after training, in percent.
    accuracy: f64,
}

#[derive(Default)]
pub(crate) struct Program;

impl Example for Program {
    const NAME: &'static str = "vanishing";
    const PURPOSE: &'static str = "Shows how gradients vanish in deep networks, and what helps.";

    fn run(&self, common: &Common) -> Result<(), Box<dyn Error>> {
        let folder = Folder::of(Self::NAME)?;
        let data = Dataset::digits()?;
        println!("{data}\n{DEPTH} layers of {WIDTH} units, trained for {STEPS} steps each\n");
        let study = Study {
            data: &data,
            depth: DEPTH,
            seed: common.seed,
            steps: STEPS,
        };
        let cpu = common.cpu()?;
        let bar = progress::bar(Variant::all().count() * STEPS, "steps");
        let mut findings = vec![];
        for variant in Variant::all() {
            bar.set_message(variant.to_string());
            let norms = study.gradient_norms(cpu.clone(), variant)?;
            let mut pupil = study.pupil(cpu.clone(), variant)?;
            if findings.is_empty() {
                bar.suspend(|| step::describe(&pupil.session, common.show));
            }
            for _ in 0..STEPS {
                pupil.session.step()?;
                bar.inc(1);
            }
            let accuracy = pupil.accuracy()?;
            findings.push(Finding {
                variant,
                norms,
                accuracy,
            });
        }
        bar.finish_and_clear();
        report(&findings, &folder)
    }
}

fn report(findings: &[Finding], folder: &Folder) -> Result<(), Box<dyn Error>> {
    let chart = chart(findings);
    println!("{}", chart.terminal_panels(72, 14));
    let curves = folder.write("gradients.svg", chart.svg())?;
    println!("curves in {curves}\n");
    println!("{}", table(findings));
    let by_accuracy = |a: &&Finding, b: &&Finding| a.accuracy.total_cmp(&b.accuracy);
    if let (Some(best), Some(worst)) = (
        findings.iter().max_by(by_accuracy),
        findings.iter().min_by(by_accuracy),
    ) {
        println!(
            "test accuracy: best {:.1}% ({}), worst {:.1}% ({})",
            best.accuracy, best.variant, worst.accuracy, worst.variant
        );
    }
    Ok(())
}

fn table(findings: &[Finding]) -> String {
    let mut text = format!(
        "{:<30}{:>14}{:>14}{:>14}{:>16}\n",
        "gradient of the weights of", "first layer", "last layer", "first / last", "test accuracy"
    );
    for Finding {
        variant,
        norms,
        accuracy,
    } in findings
    {
        let (first, last) = ends(norms);
        let ratio = first / last;
        // A string can always be written to.
        let _ = writeln!(
            text,
            "{:<30}{first:>14.1e}{last:>14.1e}{ratio:>14.1e}{accuracy:>15.1}%",
            variant.to_string()
        );
    }
    text
}

/// The norms of the first layer and of the last.
fn ends(norms: &[f64]) -> (f64, f64) {
    let norm = |at: Option<&f64>| at.copied().unwrap_or(f64::NAN);
    (norm(norms.first()), norm(norms.last()))
}

/// A panel for each structure, with a curve for each activation, all over the same range.
fn chart(findings: &[Finding]) -> Chart {
    let curve = |structure: Structure, activation: Activation| {
        let variant = Variant {
            structure,
            activation,
        };
        let found = findings.iter().find(|finding| finding.variant == variant);
        let norms = found.map_or(&[][..], |finding| &finding.norms);
        let numbered = norms.iter().enumerate();
        let points = numbered.map(|(i, &norm)| (i as f64 + 1.0, norm)).collect();
        Curve::new(activation.name(), Stroke::Strong, points)
    };
    let all = || findings.iter().flat_map(|finding| finding.norms.iter());
    let over = Scale::LogOver(
        all().copied().fold(1.0, f64::min),
        all().copied().fold(1.0, f64::max),
    );
    let panel = |structure: Structure| {
        let curves = Activation::ALL.map(|activation| curve(structure, activation));
        Panel::new(structure.title(), over, curves.into())
    };
    Chart::new("layer", Structure::ALL.map(panel).into())
}
