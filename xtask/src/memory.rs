//! Budgets of bytes, tried on a transformer of 12 blocks: what the plan says against what is seen.

use std::process::Command;

use serde_json::Value;

use crate::bench::target_folder;
use crate::{Outcome, root};

/// The most that a step may take longer where half of the saved activations are kept.
const MOST_TIME: f64 = 1.4;
/// How far resident memory may be from the plan and what the process takes before it.
const MOST_ABOVE: f64 = 0.1;
const MIB: f64 = (1 << 20) as f64;

/// Builds the program, times steps that keep all, half and a quarter of the saved activations, and
/// runs each in a process of its own for its resident memory. Takes the options of `memory times`.
///
/// What is resident *above* the plan and the base counts whole. It is in part the *program*: files that
/// the system maps as code runs for the first time, and takes back when it likes. The rest is memory
/// *beside* the plan: the graph, the plan and the kernels, and what the allocator keeps.
pub(super) fn run(options: &[String]) -> Outcome {
    let build = [
        "build",
        "--release",
        "-p",
        "backprop-benches",
        "--bin",
        "memory",
    ];
    let status = Command::new(env!("CARGO"))
        .args(build)
        .current_dir(root())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        return Err("the program was not built".to_owned());
    }
    let times = program("times", options)?;
    let rows = times.as_array().ok_or("no rows")?;
    println!(
        "{:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7}",
        "kept", "plan MiB", "saved MiB", "resident", "above", "program", "beside", "again", "time"
    );
    let mut wrong = Vec::new();
    for row in rows {
        let kept = number(row, "kept")?;
        let budget = (number(row, "planned")? as u64).to_string();
        let alone = program("run", &["--budget".to_owned(), budget])?;
        let (planned, base) = (number(&alone, "planned")?, number(&alone, "base_resident")?);
        let resident = number(&alone, "peak_resident")?;
        let files = number(&alone, "files")? - number(&alone, "base_files")?;
        let above = (resident - base) / planned - 1.0;
        let beside = above - files / planned;
        let time = number(row, "median_seconds")? / number(&rows[0], "median_seconds")?;
        println!(
            "{kept:>4}% {:>9.1} {:>9.1} {:>9.1} {:>8.1}% {:>9.1} {:>8.1}% {:>6.1}% {time:>7.3}",
            planned / MIB,
            number(row, "saved_activations")? / MIB,
            resident / MIB,
            100.0 * above,
            files / MIB,
            100.0 * beside,
            100.0 * number(row, "again_share")?,
        );
        if row["equal_losses"] != true {
            wrong.push(format!("{kept}%: the losses are others"));
        }
        let part = number(row, "saved_activations")? / number(&rows[0], "saved_activations")?;
        if part > kept / 100.0 {
            wrong.push(format!("{kept}%: {part:.3} of the activations are saved"));
        }
        if kept == 50.0 && time > MOST_TIME {
            wrong.push(format!("{kept}%: {time:.2} times the time"));
        }
        if above.abs() > MOST_ABOVE {
            wrong.push(format!(
                "{kept}%: resident memory is {above:+.3} off the plan"
            ));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("; ")),
    }
}

fn number(row: &Value, name: &str) -> Result<f64, String> {
    row[name].as_f64().ok_or_else(|| format!("no `{name}`"))
}

/// What the program prints.
fn program(command: &str, options: &[String]) -> Result<Value, String> {
    let output = Command::new(target_folder().join("release/memory"))
        .arg(command)
        .args(options)
        .output()
        .map_err(|why| format!("`memory {command}` did not start: {why}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())
}
