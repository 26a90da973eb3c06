//! The text files of the project: those that git tracks or, where there is no git, all outside of
//! build folders.

use std::fs;
use std::path::Path;
use std::process::Command;

pub(crate) struct File {
    /// Relative to the top, with `/` between folders.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is part of a crate's library, rather than of its tests, examples or benches.
    pub(crate) fn is_library(&self) -> bool {
        self.is_rust() && self.path.starts_with("crates/") && self.path.contains("/src/")
    }

    /// The lines with their numbers.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(i, line)| (i + 1, line))
    }
}

pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    /// The first components of all paths, text or not, sorted.
    pub(crate) top_level: Vec<String>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let paths = match tracked(root) {
            Some(paths) => paths,
            None => walk(root).map_err(|why| format!("{}: {why}", root.display()))?,
        };
        // A file that git still tracks may be deleted already, and not every file is text.
        let text = |path: &String| fs::read_to_string(root.join(path)).ok();
        let files = paths
            .iter()
            .filter_map(|path| Some((path.as_str(), text(path)?)));
        let files = files
            .map(|(path, text)| File {
                path: path.to_owned(),
                text,
            })
            .collect();
        Ok(Self {
            files,
            top_level: first_components(&paths),
        })
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let paths: Vec<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        let file = |&(path, text): &(&str, &str)| File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        Self {
            top_level: first_components(&paths),
            files: files.iter().map(file).collect(),
        }
    }
}

fn first_components(paths: &[String]) -> Vec<String> {
    let first = paths.iter().filter_map(|path| path.split('/').next());
    let mut names: Vec<String> = first.map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let listing = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output()
        .ok()?;
    let names = String::from_utf8(listing.stdout).ok()?;
    let names: Vec<String> = names.split_terminator('\0').map(str::to_owned).collect();
    (listing.status.success() && !names.is_empty()).then_some(names)
}

fn walk(root: &Path) -> std::io::Result<Vec<String>> {
    let mut folders = vec![root.to_path_buf()];
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            match entry.file_type()?.is_dir() {
                true if [".git", "target"].iter().any(|skipped| name == *skipped) => {}
                true => folders.push(path),
                false => paths.extend(
                    path.strip_prefix(root)
                        .ok()
                        .map(|path| path.display().to_string()),
                ),
            }
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root;

    #[test]
    fn walking_finds_the_files_that_git_tracks() {
        let walked = walk(root()).unwrap();
        assert!(walked.contains(&"xtask/src/tidy/tree.rs".to_owned()));
        assert!(!walked.iter().any(|path| path.starts_with(".git/")));
        if let Some(tracked) = tracked(root()) {
            let here = tracked.iter().filter(|path| root().join(path).exists());
            assert_eq!(
                here.filter(|path| !walked.contains(path))
                    .collect::<Vec<_>>(),
                Vec::<&String>::new()
            );
        }
    }

    #[test]
    fn knows_libraries_from_their_tests() {
        let tree = Tree::of(&[
            ("crates/a/src/b.rs", ""),
            ("crates/a/tests/c.rs", ""),
            ("xtask/src/d.rs", ""),
        ]);
        let libraries = tree.files.iter().filter(|file| file.is_library());
        assert_eq!(
            libraries.map(|file| &file.path).collect::<Vec<_>>(),
            ["crates/a/src/b.rs"]
        );
        assert_eq!(tree.top_level, ["crates", "xtask"]);
    }
}
