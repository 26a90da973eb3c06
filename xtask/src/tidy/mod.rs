//! The rules of the project that no compiler checks. Each is a function from the tree to findings,
//! so that it is tested on trees of a few lines; the test at the end runs all of them on the
//! project itself.

mod layers;
mod layout;
mod source;
pub(crate) mod tree;
mod words;

use std::fmt;

use crate::{Outcome, api, root};
use tree::{File, Tree};

/// A breach of a rule.
#[derive(Debug, PartialEq)]
struct Finding {
    path: String,
    line: Option<usize>,
    what: String,
}

impl Finding {
    fn in_file(path: &str, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line: None,
            what: what.into(),
        }
    }

    fn at_line(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            ..Self::in_file(path, what)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.what),
            None => write!(f, "{}: {}", self.path, self.what),
        }
    }
}

const RULES: [fn(&Tree) -> Vec<Finding>; 12] = [
    layout::top_level,
    layout::readme_begins_with_the_commands,
    layers::lints_are_inherited,
    layers::arrows_go_down,
    source::files_are_short,
    source::functions_are_short,
    source::unsafe_is_in_backends_only,
    source::other_crates_forbid_unsafe,
    public_listing_is_current,
    words::nothing_unfinished,
    words::nothing_of_one_machine,
    words::names_mean_something,
];

/// A change to what is public is seen in the listing.
fn public_listing_is_current(tree: &Tree) -> Vec<Finding> {
    let listed = tree.file(api::LISTING).map_or("", |file| &file.text);
    let current = api::listing(tree);
    if listed == current {
        return Vec::new();
    }
    let same = listed
        .lines()
        .zip(current.lines())
        .take_while(|(a, b)| a == b);
    let what = "not what is public; `cargo xtask api` writes it anew";
    vec![Finding::at_line(api::LISTING, same.count() + 1, what)]
}

pub(crate) fn run(_: &[String]) -> Outcome {
    let findings = check(&Tree::read(root())?);
    if findings.is_empty() {
        println!("tidy");
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    Err(format!("{} findings", findings.len()))
}

fn check(tree: &Tree) -> Vec<Finding> {
    RULES.iter().flat_map(|rule| rule(tree)).collect()
}

/// The findings of one rule on a tree of files, one line each, as the tests of the rules compare
/// them.
#[cfg(test)]
fn findings(rule: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
    rule(&Tree::of(files))
        .iter()
        .map(Finding::to_string)
        .collect()
}

#[cfg(test)]
#[test]
fn the_project_is_tidy() {
    let findings = check(&Tree::read(root()).unwrap());
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}
