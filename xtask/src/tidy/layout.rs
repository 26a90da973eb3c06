//! What lies at the top of the project, and what a newcomer reads first.

use super::{Finding, Tree};
use crate::ci::TEST;

const TOP_LEVEL: [&str; 9] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "crates",
    "rust-toolchain.toml",
    "xtask",
];

/// The command that shows the engine at work.
const SHOW: &str = "cargo run --release --example digits";

pub(super) fn top_level(tree: &Tree) -> Vec<Finding> {
    let stray = |name: &&String| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str());
    let finding =
        |name: &String| Finding::in_file(name, "does not belong at the top of the project");
    tree.top_level.iter().filter(stray).map(finding).collect()
}

pub(super) fn readme_begins_with_the_commands(tree: &Tree) -> Vec<Finding> {
    let commands = [SHOW.to_owned(), TEST.join(" ")];
    let readme = tree.file("README.md").map_or("", |file| &file.text);
    let block = readme
        .lines()
        .skip_while(|line| !line.starts_with("```"))
        .skip(1);
    let begins: Vec<&str> = block
        .take(commands.len())
        .map(|line| line.split('#').next().unwrap_or_default().trim_end())
        .collect();
    if begins == commands {
        return Vec::new();
    }
    let what = format!(
        "its first code block does not begin with `{}`",
        commands.join("` and `")
    );
    vec![Finding::in_file("README.md", what)]
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn finds_strays_at_the_top() {
        let files = [
            ("README.md", ""),
            (".ci/run", ""),
            ("crates/core/Cargo.toml", ""),
            ("notes/a.md", ""),
        ];
        assert_eq!(
            findings(top_level, &files),
            ["notes: does not belong at the top of the project"]
        );
    }

    #[test]
    fn reads_the_first_block_of_the_readme() {
        #[track_caller]
        fn check(readme: &str, holds: bool) {
            let found = findings(readme_begins_with_the_commands, &[("README.md", readme)]);
            assert_eq!(found.is_empty(), holds, "{found:?}");
        }
        let commands =
            "cargo run --release --example digits\ncargo test --workspace   # all of it\n";
        check(&format!("# name\n```sh\n{commands}```\n"), true);
        check(&format!("```sh\n{commands}cargo xtask\n```\n"), true);
        check(&format!("```sh\ncargo build\n{commands}```\n"), false);
        check(&format!("```\nother\n```\n```\n{commands}```\n"), false);
        check(commands, false);
        check("", false);
    }
}
