//! The program around a network that reads digits: what it is told, what it does and says.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use backprop::{Backend, Cpu, Result, weights};

use crate::data::Dataset;
use crate::model::Model;
use crate::network::EXAMPLE;
use crate::options::{Options, Show, usage};
use crate::support::confusion::Confusion;
use crate::support::exit;
use crate::train;

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
    let steps = options.epochs.get() * train::steps_an_epoch(&data);
    let mut model = Model::new(cpu, &data, options.seed, steps)?;
    describe(&model, &data, options.show);
    if let Some(file) = &options.load {
        weights::load(&mut model.session, file)?;
        println!("weights from {}\n", file.display());
    } else {
        train_and_save(&mut model, &data, &options)?;
    }
    report(&train::test(&mut model, &data)?);
    Ok(())
}

/// What is about to happen, and what memory it takes.
fn describe<B: Backend>(model: &Model<B>, data: &Dataset, show: Show) {
    let [rows, columns] = data.size;
    let (train, test) = (data.train.len(), data.test.len());
    println!("{train} images of {rows}x{columns} pixels to train on, {test} to test\n");
    if show == Show::Plan {
        println!("{}", model.session.plan_text());
    }
    println!("{}", model.session.summary());
    let plan = model.session.step_plan();
    let kib = model.session.memory_bytes() as f64 / 1024.0;
    let name = model.session.backend().name();
    println!(
        "{} launches a step, {kib:.0} KiB in all at the peak, on {name}\n",
        plan.launches()
    );
}

fn train_and_save<B: Backend>(
    model: &mut Model<B>,
    data: &Dataset,
    options: &Options,
) -> Result<(), Box<dyn Error>> {
    let history = train::train(model, data, options.epochs, options.seed)?;
    println!("{}\n", history.pace());
    let chart = history.chart();
    println!("{}", chart.terminal(72, 14));

    let folder = Path::new("target").join(EXAMPLE);
    let curve = folder.join("curve.svg");
    let file = options
        .save
        .clone()
        .unwrap_or_else(|| folder.join("weights.safetensors"));
    fs::create_dir_all(&folder)?;
    fs::write(&curve, chart.svg())?;
    weights::save(&model.session, &file)?;
    println!(
        "curves in {}, weights in {}\n",
        curve.display(),
        file.display()
    );
    Ok(())
}

fn report(confusion: &Confusion) {
    println!("{confusion}\n");
    let percent = 100.0 * confusion.accuracy();
    println!(
        "test accuracy: {percent:.1}% ({}/{})",
        confusion.correct(),
        confusion.total()
    );
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    #[test]
    fn what_was_learnt_comes_back_from_a_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits");
        let data = Dataset::digits(&folder).unwrap();
        let model = |seed| Model::new(Cpu::new().unwrap(), &data, seed, 88).unwrap();
        let file =
            std::env::temp_dir().join(format!("{EXAMPLE}-{}.safetensors", std::process::id()));

        let mut trained = model(1);
        train::train(&mut trained, &data, NonZeroUsize::new(2).unwrap(), 1).unwrap();
        weights::save(&trained.session, &file).unwrap();
        let mut loaded = model(2);
        weights::load(&mut loaded.session, &file).unwrap();
        fs::remove_file(&file).unwrap();

        let read = trained.read(&data.test).unwrap();
        assert_eq!(loaded.read(&data.test).unwrap(), read);
        let confusion = train::test(&mut loaded, &data).unwrap();
        assert!(confusion.accuracy() > 0.8, "{confusion}");
    }
}
