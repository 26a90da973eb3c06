//! A command of a task: printed before it runs, so that it can be repeated by hand.

use std::fmt;
use std::process::Command;

use crate::{Outcome, root};

/// A command line with the variables set for it.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    pub(crate) variable: Option<(&'static str, &'static str)>,
    pub(crate) words: &'static [&'static str],
}

impl Line {
    pub(crate) const fn new(words: &'static [&'static str]) -> Self {
        Self {
            variable: None,
            words,
        }
    }

    pub(crate) const fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.variable = Some((name, value));
        self
    }

    /// Prints the command, runs it at the top of the workspace with some further words, and waits
    /// for it.
    pub(crate) fn run(&self, further: &[String]) -> Outcome {
        let shown = [&[self.to_string()], further].concat().join(" ");
        println!("$ {shown}");
        let [program, words @ ..] = self.words else {
            return Err("an empty command".to_owned());
        };
        let status = Command::new(program)
            .args(words)
            .args(further)
            .envs(self.variable)
            .current_dir(root())
            .status()
            .map_err(|why| format!("`{shown}` did not start: {why}"))?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("`{shown}` failed ({status})")),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, value)) = self.variable {
            write!(f, "{name}='{value}' ")?;
        }
        f.write_str(&self.words.join(" "))
    }
}
