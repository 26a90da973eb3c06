//! Another revision of this engine, built beside it.

use std::process::Command;

use super::engine::Engine;
use super::{build, folder, output};
use crate::root;

/// The engine of a revision: a working tree of its own, and a folder of its own for what is built.
pub(super) fn engine(revision: &str) -> Result<Engine, String> {
    let git = |words: &[&str]| output(Command::new("git").args(words).current_dir(root()));
    let commit = format!("{revision}^{{commit}}");
    let hash = git(&["rev-parse", "--short=12", "--verify", &commit])?;
    let hash = hash.trim();
    let tree = folder().join("against").join(hash);
    if !tree.exists() {
        // A tree that was deleted by hand is still on git's list.
        git(&["worktree", "prune"])?;
        git(&["worktree", "add", "--detach", &tree.to_string_lossy(), hash])?;
    }
    if !tree.join("benches/src/bin/workload.rs").exists() {
        return Err(format!("{revision} is older than its workloads"));
    }
    let program = build(&tree, Some(&folder().join("against").join("target")))?;
    // The next revision is built into the same folder.
    let kept = tree.with_extension("workload");
    std::fs::copy(program, &kept).map_err(|why| format!("{}: {why}", kept.display()))?;
    Ok(Engine::own(&format!("backprop {hash}"), &kept))
}
