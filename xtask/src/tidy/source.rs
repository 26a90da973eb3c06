//! Rules of Rust sources: short files, short functions, and `unsafe` only where kernels are.

use super::{File, Finding, Tree};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 80;

/// The crates that promise to do without `unsafe`, by their first file.
const SAFE: [&str; 7] = [
    "crates/backprop/src/lib.rs",
    "crates/core/src/lib.rs",
    "crates/graph/src/lib.rs",
    "crates/nn/src/lib.rs",
    "crates/record/src/lib.rs",
    "crates/testkit/src/lib.rs",
    "xtask/src/main.rs",
];

pub(super) fn files_are_short(tree: &Tree) -> Vec<Finding> {
    let libraries = tree.files.iter().filter(|file| file.is_library());
    let lengths = libraries.map(|file| (file, file.text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > FILE_LINES);
    long.map(|(file, lines)| {
        Finding::in_file(&file.path, format!("{lines} lines, at most {FILE_LINES}"))
    })
    .collect()
}

pub(super) fn functions_are_short(tree: &Tree) -> Vec<Finding> {
    tree.files
        .iter()
        .filter(|file| file.is_library())
        .flat_map(long_functions)
        .collect()
}

/// Functions end where the indentation of their first line comes back with a brace, since all code
/// is formatted. Tests are left out: a table of cases may be long.
fn long_functions(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in file.lines().take_while(|(_, line)| *line != "#[cfg(test)]") {
        match &open {
            None if begins_function(line) && !line.ends_with('}') && !line.ends_with(';') => {
                let indent = line.len() - line.trim_start().len();
                open = Some((number, format!("{}}}", &line[..indent])));
            }
            Some((start, end)) if line == end => {
                let lines = number - start + 1;
                if lines > FUNCTION_LINES {
                    let what = format!("a function of {lines} lines, at most {FUNCTION_LINES}");
                    findings.push(Finding::at_line(&file.path, *start, what));
                }
                open = None;
            }
            // A method that a trait only declares, over several lines.
            Some((_, end))
                if line.ends_with(';') && line.trim_start().len() + end.len() - 1 == line.len() =>
            {
                open = None
            }
            _ => {}
        }
    }
    findings
}

fn begins_function(line: &str) -> bool {
    let qualifiers = ["pub", "const", "async", "unsafe", "extern"];
    let mut words = line.split_whitespace().skip_while(|word| {
        qualifiers.contains(word) || word.starts_with("pub(") || word.starts_with('"')
    });
    words.next() == Some("fn")
}

pub(super) fn unsafe_is_in_backends_only(tree: &Tree) -> Vec<Finding> {
    let outside = |file: &&File| file.is_rust() && !file.path.starts_with("crates/backend-");
    let lines = tree
        .files
        .iter()
        .filter(outside)
        .flat_map(|file| file.lines().map(move |line| (file, line)));
    let uses = lines.filter(|(_, (_, line))| uses_unsafe(line));
    uses.map(|(file, (number, _))| {
        Finding::at_line(&file.path, number, "`unsafe` outside of the backends")
    })
    .collect()
}

fn uses_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let mut tokens = code
        .split([' ', '(', ')', '#', '[', ']'])
        .filter(|token| !token.is_empty());
    let opens = ["{", "fn", "impl", "trait", "extern"];
    tokens.any(|token| token == "unsafe")
        && opens
            .iter()
            .any(|open| code.contains(&format!("unsafe {open}")))
}

pub(super) fn other_crates_forbid_unsafe(tree: &Tree) -> Vec<Finding> {
    let forbids = |path: &str| {
        tree.file(path)
            .is_some_and(|file| file.text.contains("#![forbid(unsafe_code)]"))
    };
    let lax = SAFE.iter().filter(|path| !forbids(path));
    lax.map(|path| Finding::in_file(path, "does not say `#![forbid(unsafe_code)]`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn finds_long_files() {
        let (short, long) = ("\n".repeat(600), "\n".repeat(601));
        let files = [
            ("crates/a/src/x.rs", &*short),
            ("crates/a/src/y.rs", &*long),
            ("crates/a/tests/z.rs", &*long),
        ];
        assert_eq!(
            findings(files_are_short, &files),
            ["crates/a/src/y.rs: 601 lines, at most 600"]
        );
    }

    #[test]
    fn finds_long_functions() {
        #[track_caller]
        fn check(head: &str, body: usize, foot: &str, found: &[&str]) {
            let text = format!("mod m {{\n{head}\n{}{foot}\n", "        x;\n".repeat(body));
            let found: Vec<String> = found
                .iter()
                .map(|what| format!("crates/a/src/x.rs:2: {what}"))
                .collect();
            assert_eq!(
                findings(functions_are_short, &[("crates/a/src/x.rs", &text)]),
                found
            );
        }
        let long = ["a function of 82 lines, at most 80"];
        check("    fn f() {", 80, "    }", &long);
        check("    pub(crate) const fn f() {", 80, "    }", &long);
        check("    fn f() {", 78, "    }", &[]);
        check("    fn f();", 80, "    }", &[]);
        check("    fn f(\n        a: u8,\n    );", 80, "    }", &[]);
        check("    impl X {", 80, "    }", &[]);
        check("#[cfg(test)]\n    fn f() {", 80, "    }", &[]);
    }

    #[test]
    fn finds_unsafe_outside_of_backends() {
        #[track_caller]
        fn check(path: &str, line: &str, found: usize) {
            assert_eq!(
                findings(unsafe_is_in_backends_only, &[(path, line)]).len(),
                found,
                "{line}"
            );
        }
        let block = concat!("let x = un", "safe { f() };");
        check("crates/core/src/x.rs", block, 1);
        check(
            "benches/src/x.rs",
            concat!("un", "safe impl Send for X {}"),
            1,
        );
        check("crates/core/src/x.rs", &format!("// {block}"), 0);
        check("crates/core/src/x.rs", "#![forbid(unsafe_code)]", 0);
        check("crates/backend-cpu/src/x.rs", block, 0);
    }

    #[test]
    fn finds_crates_that_allow_unsafe() {
        let mut files = SAFE.map(|path| (path, "//! A crate.\n#![forbid(unsafe_code)]\n"));
        assert_eq!(
            findings(other_crates_forbid_unsafe, &files),
            Vec::<String>::new()
        );
        files[2].1 = "//! A crate.\n";
        let found = ["crates/graph/src/lib.rs: does not say `#![forbid(unsafe_code)]`"];
        assert_eq!(findings(other_crates_forbid_unsafe, &files), found);
    }
}
