//! The program around the network that draws: what it is told, what it does and says.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use backprop::Backend;
use lexopt::Parser;
use lexopt::prelude::*;

use crate::denoiser::{self, Denoiser};
use crate::learn;
use crate::model::Model;
use crate::network;
use crate::sheet::Sheet;
use crate::support::command::{Common, Example};
use crate::support::confusion::Confusion;
use crate::support::data::{Dataset, Images};
use crate::support::folder::Folder;
use crate::support::step;
use crate::train::{self, Training};

const EPOCHS: NonZeroUsize = NonZeroUsize::new(20).unwrap();
/// Drawings at the end, each of several images of each class.
const DRAWINGS: usize = 5;

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Program {
    epochs: NonZeroUsize,
    data: Option<PathBuf>,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            epochs: EPOCHS,
            data: None,
        }
    }
}

impl Example for Program {
    const NAME: &'static str = "diffusion";
    const PURPOSE: &'static str = "Learns to draw handwritten digits out of noise.";

    fn usage() -> String {
        format!(
            "\
--epochs N  passes over the training images [{EPOCHS}]
--data FOLDER  with MNIST's four files, unpacked [the digits of the project]
"
        )
    }

    fn set(&mut self, option: &str, parser: &mut Parser) -> Result<(), lexopt::Error> {
        match option {
            "epochs" => self.epochs = parser.value()?.parse()?,
            "data" => self.data = Some(parser.value()?.into()),
            other => return Err(Long(other).unexpected()),
        }
        Ok(())
    }

    fn run(&self, common: &Common) -> Result<(), Box<dyn Error>> {
        let data = Dataset::load(self.data.as_deref())?;
        println!("{data}\n");
        let folder = Folder::of(Self::NAME)?;
        let cpu = common.cpu()?;
        let steps = self
            .epochs
            .get()
            .saturating_mul(learn::steps_an_epoch(&data));
        let mut denoiser = Denoiser::new(cpu.clone(), &data, common.seed, steps)?;
        step::describe(&denoiser.session, common.show);

        let history = learn::learn(&mut denoiser, &data, self.epochs, &folder)?;
        let outcome = history.outcome();
        let chart = history.chart();
        println!("{}", chart.terminal(72, 14));
        let curve = folder.write("curve.svg", chart.svg())?;
        let first = folder.file(&learn::sheet_of(0));
        println!(
            "a drawing an epoch from {} on, curves in {curve}\n\n{outcome}\n",
            first.display()
        );

        let drawn = draw(&mut denoiser, &data)?;
        let sheet = Sheet::new(&drawn.pixels, data.size, data.classes);
        let sheet = folder.write("samples.png", sheet.png()?)?;
        println!("{} drawings in {sheet}", drawn.len());
        let read = reader(cpu, &data, common.seed, &folder)?.read(&drawn)?;
        let asked = drawn.labels.iter().map(|&class| class as usize);
        Confusion::new(data.classes, asked.zip(read)).report("recognised samples");
        Ok(())
    }
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
    folder: &Folder,
) -> Result<Model<B>, Box<dyn Error>> {
    let epochs = network::EPOCHS;
    let steps = epochs.get() * train::steps_an_epoch(data);
    let mut reader = Model::new(backend, data, seed, steps)?;
    let training = Training {
        epochs,
        seed,
        checkpoint: None,
    };
    let history = train::train(&mut reader, data, training)?;
    let accuracy = 100.0 * train::test(&mut reader, data)?.accuracy();
    let pace = history.pace();
    let curve = folder.write("reader.svg", history.chart().svg())?;
    println!(
        "read by the network of the example `{}`, {pace}\n\
         it reads {accuracy:.1}% of the test images, curves in {curve}\n",
        network::EXAMPLE
    );
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::command;

    #[test]
    fn reads_the_command_line() {
        let given = "--epochs 3 --data d";
        let expected = Program {
            epochs: NonZeroUsize::new(3).unwrap(),
            data: Some("d".into()),
        };
        let wrong = [
            "--epochs 0",
            "--epochs -1",
            "--seed x",
            "--threads",
            "--data",
            "--steps 5",
            "stray",
        ];
        command::check(given, expected, &wrong);
    }
}
