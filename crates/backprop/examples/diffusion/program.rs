//! The program around the network that draws: what it is told, what it does and says.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use backprop::{Backend, Cpu};

use crate::data::{Dataset, Images};
use crate::denoiser::{self, Denoiser};
use crate::learn;
use crate::model::Model;
use crate::network::{self, EXAMPLE};
use crate::options::{Options, Show, usage};
use crate::sheet::Sheet;
use crate::support::confusion::Confusion;
use crate::support::exit;
use crate::train;

/// Drawings at the end, each of several images of each class.
const DRAWINGS: usize = 5;

/// Runs the example as the command line says.
pub(crate) fn main() -> ExitCode {
    exit::after(Options::parse(std::env::args_os().skip(1)), run)
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    if options.show == Show::Usage {
        print!("{}", usage());
        return Ok(());
    }
    let data = match &options.data {
        Some(folder) => Dataset::mnist(folder)?,
        None => Dataset::digits(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits"))?,
    };
    let cpu = match options.threads {
        Some(threads) => Cpu::builder().threads(threads.get()).build()?,
        None => Cpu::new()?,
    };
    let folder = Path::new("target/diffusion");
    fs::create_dir_all(folder)?;

    let steps = options
        .epochs
        .get()
        .saturating_mul(learn::steps_an_epoch(&data));
    let mut denoiser = Denoiser::new(cpu.clone(), &data, options.seed, steps)?;
    describe(&denoiser, &data, options.show);
    let history = learn::learn(&mut denoiser, &data, options.epochs, folder)?;
    let outcome = history.outcome();
    let chart = history.chart();
    fs::write(folder.join("curve.svg"), chart.svg())?;
    println!("{}", chart.terminal(72, 14));
    println!(
        "a drawing an epoch from {} on, curves in {}\n\n{outcome}\n",
        learn::sheet_of(folder, 0).display(),
        folder.join("curve.svg").display()
    );

    let drawn = draw(&mut denoiser, &data)?;
    let sheet = folder.join("samples.png");
    Sheet::new(&drawn.pixels, data.size, data.classes).write(&sheet)?;
    println!("{} drawings in {}", drawn.len(), sheet.display());
    let read = reader(cpu, &data, options.seed, folder)?.read(&drawn)?;
    let asked = drawn.labels.iter().map(|&class| class as usize);
    report(&Confusion::new(data.classes, asked.zip(read)));
    Ok(())
}

/// What is about to happen, and what memory it takes.
fn describe<B: Backend>(denoiser: &Denoiser<B>, data: &Dataset, show: Show) {
    let [rows, columns] = data.size;
    let (train, test) = (data.train.len(), data.test.len());
    println!("{train} images of {rows}x{columns} pixels to train on, {test} to validate\n");
    let session = &denoiser.session;
    let summary = session.summary();
    if show == Show::Plan {
        println!("{}\n{summary}", session.plan_text());
    } else {
        // Each of many parameters has two moments and a mean: a long table.
        let totals = summary.lines().skip_while(|line| !line.starts_with("all "));
        totals.for_each(|line| println!("{line}"));
    }
    println!(
        "{} launches a step, {:.0} KiB in all at the peak, on {}\n",
        session.step_plan().launches(),
        session.memory_bytes() as f64 / 1024.0,
        session.backend().name()
    );
}

/// Images of the network's own, with the classes that it was asked for.
fn draw<B: Backend>(denoiser: &mut Denoiser<B>, data: &Dataset) -> backprop::Result<Images> {
    let mut drawn = Images {
        pixels: Vec::new(),
        labels: Vec::new(),
    };
    // Number 0 is drawn after each epoch.
    for number in 1..=DRAWINGS {
        drawn.pixels.extend(denoiser.draw(number)?);
        drawn.labels.extend(denoiser::classes(data));
    }
    Ok(drawn)
}

/// A network that has learnt to read, and has never seen a drawing.
fn reader<B: Backend>(
    backend: B,
    data: &Dataset,
    seed: u64,
    folder: &Path,
) -> Result<Model<B>, Box<dyn Error>> {
    let epochs = network::EPOCHS;
    let steps = epochs.get() * train::steps_an_epoch(data);
    let mut reader = Model::new(backend, data, seed, steps)?;
    let history = train::train(&mut reader, data, epochs, seed)?;
    let accuracy = 100.0 * train::test(&mut reader, data)?.accuracy();
    let (pace, curve) = (history.pace(), folder.join("reader.svg"));
    fs::write(&curve, history.chart().svg())?;
    println!(
        "read by the network of the example `{EXAMPLE}`, {pace}\n\
         it reads {accuracy:.1}% of the test images, curves in {}\n",
        curve.display()
    );
    Ok(reader)
}

fn report(confusion: &Confusion) {
    println!("{confusion}\n");
    let percent = 100.0 * confusion.accuracy();
    println!(
        "recognised samples: {percent:.1}% ({}/{})",
        confusion.correct(),
        confusion.total()
    );
}
