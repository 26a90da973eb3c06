//! The listing of everything public, kept in `crates/backprop/api.txt`: a change to it is seen in
//! review.
//!
//! It is read off the sources, not compiled: all code is formatted, and the compiler sees to it that
//! what says `pub` can be reached from outside (the lint `unreachable_pub`).

mod scan;

use std::fs;

use crate::tidy::tree::Tree;
use crate::{Outcome, root};

pub(crate) const LISTING: &str = "crates/backprop/api.txt";

/// Writes the listing anew.
pub(crate) fn run(_: &[String]) -> Outcome {
    let text = listing(&Tree::read(root())?);
    let file = root().join(LISTING);
    fs::write(&file, text).map_err(|why| format!("{}: {why}", file.display()))
}

/// A heading for each file with public items, in the order of paths, and an item a line.
pub(crate) fn listing(tree: &Tree) -> String {
    let mut files: Vec<_> = tree.files.iter().filter(|file| file.is_library()).collect();
    files.sort_by_key(|file| &file.path);
    let mut names = scan::Names::default();
    files.iter().for_each(|file| names.learn(&file.text));
    let mut text = String::from(
        "Everything public, by file. Made by `cargo xtask api`; a difference is a change for users.\n",
    );
    for file in files {
        let items = scan::items(&file.text, &names);
        if !items.is_empty() {
            let path = file.path.trim_start_matches("crates/");
            text += &format!("\n{path}\n");
            text.extend(items.iter().map(|item| format!("    {item}\n")));
        }
    }
    text
}
