//! The program around a network that reads digits: what it is told, what it does and says.

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use backprop::{Backend, Persist, Result};
use lexopt::Parser;
use lexopt::prelude::*;

use crate::model::Model;
use crate::network::{EPOCHS, EXAMPLE};
use crate::support::command::{Common, Example};
use crate::support::data::Dataset;
use crate::support::folder::Folder;
use crate::support::step;
use crate::train::{self, Training};

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Program {
    epochs: NonZeroUsize,
    data: Option<PathBuf>,
    save: Option<PathBuf>,
    load: Option<PathBuf>,
    resume: Option<PathBuf>,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            epochs: EPOCHS,
            data: None,
            save: None,
            load: None,
            resume: None,
        }
    }
}

impl Example for Program {
    const NAME: &'static str = EXAMPLE;
    const PURPOSE: &'static str = "Trains a network to read handwritten digits.";

    fn usage() -> String {
        format!(
            "\
--epochs N  passes over the training images [{EPOCHS}]
--data FOLDER  with MNIST's four files, unpacked [the digits of the project]
--save FILE  where the weights go [target/{EXAMPLE}/weights.safetensors]
--load FILE  test these weights instead of training
--resume FILE  go on from this checkpoint if it is there, and replace it after every pass
"
        )
    }

    fn set(&mut self, option: &str, parser: &mut Parser) -> Result<(), lexopt::Error> {
        match option {
            "epochs" => self.epochs = parser.value()?.parse()?,
            "data" => self.data = Some(parser.value()?.into()),
            "save" => self.save = Some(parser.value()?.into()),
            "load" => self.load = Some(parser.value()?.into()),
            "resume" => self.resume = Some(parser.value()?.into()),
            other => return Err(Long(other).unexpected()),
        }
        Ok(())
    }

    fn run(&self, common: &Common) -> Result<(), Box<dyn Error>> {
        let data = Dataset::load(self.data.as_deref())?;
        println!("{data}\n");
        let steps = self
            .epochs
            .get()
            .saturating_mul(train::steps_an_epoch(&data));
        let mut model = Model::new(common.cpu()?, &data, common.seed, steps)?;
        step::describe(&model.session, common.show);
        if let Some(file) = &self.load {
            model.session.load(file)?;
            println!("weights from {}\n", file.display());
        } else {
            self.train_and_save(&mut model, &data, common.seed)?;
        }
        train::test(&mut model, &data)?.report("test accuracy");
        Ok(())
    }
}

impl Program {
    fn train_and_save<B: Backend>(
        &self,
        model: &mut Model<B>,
        data: &Dataset,
        seed: u64,
    ) -> Result<()> {
        let folder = Folder::of(EXAMPLE)?;
        let training = Training {
            epochs: self.epochs,
            seed,
            checkpoint: self.resume.as_deref(),
        };
        let history = train::train(model, data, training)?;
        println!("{}\n", history.pace());
        let chart = history.chart();
        folder.keep(&chart, &model.session, self.save.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use backprop::{Checkpoint, Cpu};

    use super::*;
    use crate::support::command;

    #[test]
    fn reads_the_command_line() {
        let given = "--epochs 3 --data d --save s --load l --resume r";
        let expected = Program {
            epochs: NonZeroUsize::new(3).unwrap(),
            data: Some("d".into()),
            save: Some("s".into()),
            load: Some("l".into()),
            resume: Some("r".into()),
        };
        let wrong = [
            "--epochs many",
            "--epochs 0",
            "--threads 0",
            "--seed",
            "--fast",
            "stray",
        ];
        command::check(given, expected, &wrong);
    }

    /// A training of two epochs, one after the other if there is a checkpoint between them.
    fn trained(checkpoint: Option<&Path>) -> (Model<Cpu>, Dataset) {
        let data = Dataset::digits().unwrap();
        let epochs = |epochs| Training {
            epochs: NonZeroUsize::new(epochs).unwrap(),
            seed: 1,
            checkpoint,
        };
        let mut model = Model::new(Cpu::new().unwrap(), &data, 1, 88).unwrap();
        if checkpoint.is_some() {
            train::train(&mut model, &data, epochs(1)).unwrap();
            model = Model::new(Cpu::new().unwrap(), &data, 2, 88).unwrap();
        }
        let history = train::train(&mut model, &data, epochs(2)).unwrap();
        assert_eq!(
            history.pace().contains("trained on 1408"),
            checkpoint.is_some()
        );
        (model, data)
    }

    #[test]
    fn what_was_learnt_comes_back_from_a_file() {
        let file = |what: &str| {
            let name = format!("{EXAMPLE}-{what}-{}.safetensors", std::process::id());
            std::env::temp_dir().join(name)
        };
        let (mut whole, data) = trained(None);
        let (weights, checkpoint) = (file("weights"), file("checkpoint"));
        whole.session.save(&weights).unwrap();
        let mut loaded = Model::new(Cpu::new().unwrap(), &data, 2, 88).unwrap();
        loaded.session.load(&weights).unwrap();
        let (resumed, _) = trained(Some(&checkpoint));
        for file in [weights, checkpoint] {
            fs::remove_file(file).unwrap();
        }
        let bytes = |model: &Model<Cpu>| {
            let saved = Checkpoint::of(&model.session).unwrap();
            saved.to_bytes().unwrap()
        };
        assert!(bytes(&resumed) == bytes(&whole));

        let read = whole.read(&data.test).unwrap();
        assert_eq!(loaded.read(&data.test).unwrap(), read);
        let confusion = train::test(&mut loaded, &data).unwrap();
        // Guesses are right once in ten; the slowest learner, `lstm`, reads two in three.
        assert!(confusion.accuracy() > 0.5, "{confusion}");
    }
}
