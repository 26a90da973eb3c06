//! Words that have no place in the project. They are spelled in two halves here, so that this file
//! passes too.

use super::{File, Finding, Tree};

pub(super) fn nothing_unfinished(tree: &Tree) -> Vec<Finding> {
    let words = [
        (concat!("todo", "!"), "unfinished code"),
        (concat!("unimplemented", "!"), "unfinished code"),
        (concat!("#[", "ignore"), "a test that does not run"),
    ];
    containing(tree, &words)
}

pub(super) fn nothing_of_one_machine(tree: &Tree) -> Vec<Finding> {
    let words = [
        (concat!("../", "shared"), "a path outside of the project"),
        (concat!("/wo", "rk/"), "a path of one machine"),
        (concat!("/ro", "ot/"), "a path of one machine"),
        (concat!("index.", "crates.io"), "a registry's host"),
        (concat!("static.", "crates.io"), "a registry's host"),
        (concat!("pypi.", "org"), "a registry's host"),
        (concat!("files.python", "hosted.org"), "a registry's host"),
        (concat!("registry.npm", "js.org"), "a registry's host"),
    ];
    containing(tree, &words)
}

fn containing(tree: &Tree, words: &[(&str, &str)]) -> Vec<Finding> {
    let find = |file: &File| {
        let lines = file.lines().flat_map(|(number, line)| {
            let here = words
                .iter()
                .filter(move |(word, _)| stands_alone(line, word));
            here.map(move |(word, why)| {
                Finding::at_line(&file.path, number, format!("`{word}`: {why}"))
            })
        });
        lines.collect::<Vec<_>>()
    };
    tree.files
        .iter()
        .filter(|file| file.path != "Cargo.lock")
        .flat_map(find)
        .collect()
}

/// Whether the line has the word, and not only as the end of a longer one.
fn stands_alone(line: &str, word: &str) -> bool {
    let joins = |before: char| before.is_alphanumeric() || "._~}".contains(before);
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(joins))
}

/// Names that say nothing about what a type is for.
const EMPTY_NAMES: [&str; 6] = ["Manager", "Helper", "Helpers", "Util", "Utils", "Impl"];

pub(super) fn names_mean_something(tree: &Tree) -> Vec<Finding> {
    let rust = tree.files.iter().filter(|file| file.is_rust());
    rust.flat_map(|file| empty_type_names(file).chain(empty_file_name(file)))
        .collect()
}

fn empty_type_names(file: &File) -> impl Iterator<Item = Finding> {
    file.lines().filter_map(|(number, line)| {
        let name = type_name(line)?;
        let part = camel_parts(name).find(|part| EMPTY_NAMES.contains(part))?;
        Some(Finding::at_line(
            &file.path,
            number,
            format!("`{part}` in the name `{name}` says nothing"),
        ))
    })
}

fn empty_file_name(file: &File) -> Option<Finding> {
    let stem = file
        .path
        .trim_end_matches("/mod.rs")
        .trim_end_matches(".rs")
        .rsplit('/')
        .next()?;
    let part = stem.split('_').find(|part| {
        EMPTY_NAMES
            .iter()
            .any(|empty| empty.eq_ignore_ascii_case(part))
    })?;
    Some(Finding::in_file(
        &file.path,
        format!("`{part}` in the name of the file says nothing"),
    ))
}

/// The name of the type or trait that the line begins to define.
fn type_name(line: &str) -> Option<&str> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| *word == "pub" || word.starts_with("pub("));
    let defines = ["struct", "enum", "trait", "type", "union"].contains(&words.next()?);
    let name = words
        .next()?
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()?;
    defines.then_some(name)
}

fn camel_parts(name: &str) -> impl Iterator<Item = &str> {
    let starts = name
        .char_indices()
        .filter(|(_, c)| c.is_uppercase())
        .map(|(at, _)| at);
    let starts: Vec<usize> = starts.chain([name.len()]).collect();
    (1..starts.len()).map(move |i| &name[starts[i - 1]..starts[i]])
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn finds_unfinished_code() {
        let text = concat!("fn f() {\n    todo", "!()\n}\n#[", "ignore = \"slow\"]\n");
        let found = findings(
            nothing_unfinished,
            &[("a.rs", text), ("b.md", "what to do!")],
        );
        assert_eq!(found.len(), 2);
        assert!(
            found[0].starts_with("a.rs:2: ") && found[1].starts_with("a.rs:4: "),
            "{found:?}"
        );
    }

    #[test]
    fn finds_paths_and_hosts_of_one_machine() {
        #[track_caller]
        fn check(path: &str, line: &str, found: usize) {
            assert_eq!(
                findings(nothing_of_one_machine, &[(path, line)]).len(),
                found,
                "{line}"
            );
        }
        check("a.md", concat!("see /wo", "rk/notes"), 1);
        check("a.rs", concat!("include_str!(\"../", "shared/x\")"), 1);
        check("a.toml", concat!("https://index.", "crates.io/serde"), 1);
        check(
            "a.md",
            "https://crates.io/crates/half and /net/work/x and x/root/y",
            0,
        );
        check("Cargo.lock", concat!("https://index.", "crates.io/"), 0);
    }

    #[test]
    fn finds_empty_names() {
        #[track_caller]
        fn check(path: &str, line: &str, part: Option<&str>) {
            let found = findings(names_mean_something, &[(path, line)]);
            assert_eq!(found.len(), part.iter().len(), "{found:?}");
            assert!(
                found
                    .iter()
                    .all(|found| found.contains(&format!("`{}`", part.unwrap()))),
                "{found:?}"
            );
        }
        check("a.rs", "pub struct PlanManager<'a> {", Some("Manager"));
        check("a.rs", "pub(crate) enum UtilKind {", Some("Util"));
        check("a.rs", "type Impl = u8;", Some("Impl"));
        check("a.rs", "struct Utility;", None);
        check("a.rs", "struct Simple { manager: Simplifier }", None);
        check("a.rs", "impl Plan {", None);
        check("src/utils.rs", "", Some("utils"));
        check("src/shape_helpers/mod.rs", "", Some("helpers"));
        check("src/plan.rs", "", None);
    }
}
