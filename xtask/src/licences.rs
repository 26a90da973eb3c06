//! The licences of everything that is built in.

use std::process::Command;

use serde_json::Value;

use crate::{Outcome, root};

/// Licences that ask for no more than to be named.
const ALLOWED: [&str; 11] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks the licence of each package that `Cargo.lock` names.
pub(crate) fn run(_: &[String]) -> Outcome {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(root())
        .output()
        .map_err(|why| format!("`cargo metadata` did not start: {why}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let metadata = serde_json::from_slice(&output.stdout);
    let metadata: Value = metadata.map_err(|why| format!("`cargo metadata`: {why}"))?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let refused: Vec<String> = packages.iter().filter_map(refusal).collect();
    match refused.is_empty() {
        true => {
            println!("the licences of {} packages are allowed", packages.len());
            Ok(())
        }
        false => Err(refused.join("\n")),
    }
}

/// What is against a package.
fn refusal(package: &Value) -> Option<String> {
    let (name, version) = (&package["name"], &package["version"]);
    match package["license"].as_str() {
        Some(licence) if allows(licence) => None,
        Some(licence) => Some(format!("{name} {version}: {licence} is not allowed")),
        None => Some(format!("{name} {version}: names no licence")),
    }
}

/// Whether an expression of the Software Package Data Exchange can be met by allowed licences.
fn allows(expression: &str) -> bool {
    // An old way to write OR.
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    if let Some((left, right)) = split(expression, " OR ") {
        return allows(left) || allows(right);
    }
    if let Some((left, right)) = split(expression, " AND ") {
        return allows(left) && allows(right);
    }
    match expression
        .strip_prefix('(')
        .and_then(|e| e.strip_suffix(')'))
    {
        Some(inner) => allows(inner),
        None => ALLOWED.contains(&expression),
    }
}

/// The sides of the first operator that stands outside of parentheses.
fn split<'e>(expression: &'e str, operator: &str) -> Option<(&'e str, &'e str)> {
    let outside = |&(at, _): &(usize, &str)| {
        let count = |bracket: char| expression[..at].matches(bracket).count();
        count('(') == count(')')
    };
    let (at, _) = expression.match_indices(operator).find(outside)?;
    Some((&expression[..at], &expression[at + operator.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_expressions() {
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0",
            "(GPL-3.0 AND MIT) OR Zlib",
        ] {
            assert!(allows(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR Apache-2.0) AND AGPL-3.0",
            "GPL-3.0 OR (MIT AND LGPL-2.1)",
            "MIT-0.5",
        ] {
            assert!(!allows(bad), "{bad}");
        }
    }
}
