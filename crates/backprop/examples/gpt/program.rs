//! The program around the transformer: what it is told, what it does and says.

use std::error::Error;
use std::f64::consts::LN_2;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use backprop::nn::Dropout;
use backprop::{Backend, Cpu, weights};

use crate::corpus::{Corpus, unigram_entropy};
use crate::model::{Model, Sampling, Training};
use crate::network::Sizes;
use crate::options::{Options, Show, USAGE};
use crate::source::Source;
use crate::support::exit;
use crate::train;

/// Characters of a sample during the training, and of the one after it.
const SAMPLES: [usize; 2] = [160, 600];

/// Runs the example as the command line says.
pub(crate) fn main() -> ExitCode {
    exit::after(Options::parse(std::env::args_os().skip(1)), run)
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    if options.show == Show::Usage {
        print!("{USAGE}");
        return Ok(());
    }
    let sizes = Sizes::default();
    let source = match &options.text {
        Some(file) => Source::file(file)?,
        None => Source::tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))?,
    };
    let corpus = Corpus::new(&source, sizes.context)?;
    introduce(&source, &corpus);
    let cpu = match options.threads {
        Some(threads) => Cpu::builder().threads(threads.get()).build()?,
        None => Cpu::new()?,
    };
    let training = Training {
        steps: options.steps.get(),
        seed: options.seed,
        dropout: Dropout { p: options.dropout },
    };
    let mut model = Model::new(cpu, &corpus.vocabulary, sizes, training)?;
    describe(&model, options.show);
    if let Some(file) = &options.load {
        model.load(file)?;
        println!("weights from {}\n", file.display());
    } else {
        train_and_save(&mut model, &corpus, training, &options)?;
    }
    report(&mut model, &corpus, options.temperature)
}

fn introduce(source: &Source, corpus: &Corpus) {
    println!(
        "{}: {} characters to train on, {} to validate, {} different ones",
        source.name,
        corpus.train.len(),
        corpus.validation.len(),
        corpus.vocabulary.len()
    );
    let entropy = unigram_entropy(&corpus.validation);
    println!(
        "unigram entropy of the validation text: {entropy:.3} nats ({:.3} bits) per character\n",
        entropy / LN_2
    );
}

/// What is about to happen, and what memory it takes.
fn describe<B: Backend>(model: &Model<B>, show: Show) {
    if show == Show::Plan {
        println!("{}\n{}", model.session.plan_text(), model.session.summary());
    }
    let plan = model.session.step_plan();
    let kib = model.session.memory_bytes() as f64 / 1024.0;
    let name = model.session.backend().name();
    println!(
        "{} weights, {} launches a step, {kib:.0} KiB in all at the peak, on {name}\n",
        model.weights,
        plan.launches()
    );
}

fn train_and_save<B: Backend>(
    model: &mut Model<B>,
    corpus: &Corpus,
    training: Training,
    options: &Options,
) -> Result<(), Box<dyn Error>> {
    let sampling = Sampling {
        count: SAMPLES[0],
        temperature: options.temperature,
    };
    let history = train::train(model, corpus, training, sampling)?;
    println!("{}\n", history.pace());
    let chart = history.chart(corpus);
    println!("{}", chart.terminal(72, 14));

    let folder = Path::new("target/gpt");
    let curve = folder.join("curve.svg");
    let default = folder.join("weights.safetensors");
    let file = options.save.as_ref().unwrap_or(&default);
    fs::create_dir_all(folder)?;
    fs::write(&curve, chart.svg())?;
    weights::save(&model.session, file)?;
    println!(
        "curves in {}, weights in {}\n",
        curve.display(),
        file.display()
    );
    Ok(())
}

fn report<B: Backend>(
    model: &mut Model<B>,
    corpus: &Corpus,
    temperature: f64,
) -> Result<(), Box<dyn Error>> {
    let sampling = Sampling {
        count: SAMPLES[1],
        temperature,
    };
    let text = train::write(model, corpus, sampling)?;
    println!("a sample at temperature {temperature}:\n{text}\n");
    let loss = model.validate(&corpus.validation, usize::MAX)?;
    let entropy = unigram_entropy(&corpus.validation);
    println!("validation loss: {loss:.3} (unigram entropy {entropy:.3})");
    Ok(())
}
