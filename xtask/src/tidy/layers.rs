//! What the manifests promise: inherited lints, and dependencies that only go down.

use super::{File, Finding, Tree};

/// Each crate with the crates of the workspace that it may be built on. Tests may reach further,
/// since nobody depends on them.
const LAYERS: [(&str, &[&str]); 10] = [
    ("backprop-core", &[]),
    ("backprop-graph", &["backprop-core"]),
    ("backprop-nn", &["backprop-core", "backprop-graph"]),
    ("backprop-record", &["backprop-core"]),
    ("backprop-cpu", &["backprop-core"]),
    ("backprop-cuda", &["backprop-core"]),
    ("backprop-testkit", &["backprop-core", "backprop-graph"]),
    (
        "backprop",
        &[
            "backprop-core",
            "backprop-graph",
            "backprop-nn",
            "backprop-record",
            "backprop-cpu",
            "backprop-cuda",
        ],
    ),
    (
        "backprop-benches",
        &[
            "backprop",
            "backprop-core",
            "backprop-graph",
            "backprop-cpu",
            "backprop-cuda",
            "backprop-testkit",
        ],
    ),
    ("xtask", &[]),
];

pub(super) fn lints_are_inherited(tree: &Tree) -> Vec<Finding> {
    let inherits = |file: &&File| {
        entries(file).any(|(section, entry)| section == "lints" && entry == "workspace = true")
    };
    let missing = manifests(tree).filter(|file| !inherits(file));
    missing
        .map(|file| Finding::in_file(&file.path, "does not say `[lints] workspace = true`"))
        .collect()
}

pub(super) fn arrows_go_down(tree: &Tree) -> Vec<Finding> {
    manifests(tree).flat_map(forbidden_arrows).collect()
}

fn forbidden_arrows(file: &File) -> Vec<Finding> {
    let name = entries(file).find_map(|(section, entry)| match entry.split_once('=') {
        Some((key, value)) if section == "package" && key.trim() == "name" => {
            Some(value.trim().trim_matches('"'))
        }
        _ => None,
    });
    let Some(name) = name else {
        return vec![Finding::in_file(&file.path, "has no package name")];
    };
    let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
        return vec![Finding::in_file(
            &file.path,
            format!("`{name}` has no place in the layers"),
        )];
    };
    let mine = |dependency: &&str| LAYERS.iter().any(|(layer, _)| layer == dependency);
    let up = dependencies(file)
        .filter(mine)
        .filter(|dependency| !allowed.contains(dependency));
    up.map(|up| Finding::in_file(&file.path, format!("`{name}` may not depend on `{up}`")))
        .collect()
}

/// The names under `[dependencies]`, `[build-dependencies]` and those of single targets.
fn dependencies(file: &File) -> impl Iterator<Item = &str> {
    entries(file).filter_map(|(section, entry)| {
        let (table, name) = match section.rsplit_once("dependencies.") {
            Some((table, name)) => (format!("{table}dependencies"), name),
            None => (section.to_owned(), entry.split(['.', '=', ' ']).next()?),
        };
        let counts = table.ends_with("dependencies") && !table.ends_with("dev-dependencies");
        counts.then_some(name.trim_matches('"'))
    })
}

fn manifests(tree: &Tree) -> impl Iterator<Item = &File> {
    let folders = ["crates/", "benches/", "xtask/"];
    // The peers are a workspace of their own.
    let member = move |path: &str| {
        folders.iter().any(|folder| path.starts_with(folder)) && !path.starts_with("benches/peers/")
    };
    tree.files
        .iter()
        .filter(move |file| member(&file.path) && file.path.ends_with("Cargo.toml"))
}

/// The lines of a manifest that set something, each with the section that it stands in.
fn entries(file: &File) -> impl Iterator<Item = (&str, &str)> {
    let mut section = "";
    file.text.lines().map(str::trim).filter_map(move |line| {
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = header;
        }
        line.contains('=').then_some((section, line))
    })
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn finds_manifests_without_lints() {
        let files = [
            (
                "crates/a/Cargo.toml",
                "[package]\n[lints]\nworkspace = true\n",
            ),
            (
                "crates/b/Cargo.toml",
                "[package]\nedition.workspace = true\n",
            ),
            (
                "xtask/Cargo.toml",
                "[lints]\n[dependencies]\nworkspace = true\n",
            ),
            ("Cargo.toml", "[workspace]\n"),
        ];
        let found = ["crates/b", "xtask"]
            .map(|c| format!("{c}/Cargo.toml: does not say `[lints] workspace = true`"));
        assert_eq!(findings(lints_are_inherited, &files), found);
    }

    #[test]
    fn finds_arrows_that_go_up() {
        #[track_caller]
        fn check(name: &str, rest: &str, found: &[&str]) {
            let manifest = format!("[package]\nname = \"{name}\"\n{rest}");
            let found: Vec<String> = found
                .iter()
                .map(|what| format!("crates/x/Cargo.toml: {what}"))
                .collect();
            assert_eq!(
                findings(arrows_go_down, &[("crates/x/Cargo.toml", &manifest)]),
                found
            );
        }
        check(
            "backprop-graph",
            "[dependencies]\nhalf.workspace = true\nbackprop-core.workspace = true\n",
            &[],
        );
        check(
            "backprop-cpu",
            "[dev-dependencies]\nbackprop-testkit.workspace = true\n",
            &[],
        );
        let to_graph = "`backprop-core` may not depend on `backprop-graph`";
        check(
            "backprop-core",
            "[dependencies]\nbackprop-graph = { workspace = true }\n",
            &[to_graph],
        );
        check(
            "backprop-core",
            "[dependencies.backprop-graph]\nworkspace = true\n",
            &[to_graph],
        );
        check(
            "backprop-core",
            "[build-dependencies]\nbackprop-graph.workspace = true\n",
            &[to_graph],
        );
        check(
            "backprop-core",
            "[target.'cfg(unix)'.dependencies]\nbackprop-graph.workspace = true\n",
            &[to_graph],
        );
        check(
            "backprop-other",
            "",
            &["`backprop-other` has no place in the layers"],
        );
        let nameless = findings(arrows_go_down, &[("xtask/Cargo.toml", "[package]\n")]);
        assert_eq!(nameless, ["xtask/Cargo.toml: has no package name"]);
    }
}
