//! What a compiled training step does and takes.

use backprop::{Backend, Session};

use super::command::Show;

/// Lines of a table of parameters that can be read at a glance.
const GLANCE: usize = 40;

/// Prints the parameters of a session and what a step takes; of many parameters, each with its two
/// moments, only the sum unless the whole plan is to be shown.
pub(crate) fn describe<B: Backend>(session: &Session<B>, show: Show) {
    let summary = session.summary();
    let all = match show {
        Show::Plan => {
            println!("{}", session.plan_text());
            true
        }
        Show::Totals => summary.lines().count() <= GLANCE,
    };
    let lines = summary.lines();
    lines
        .skip_while(|line| !all && !line.starts_with("all "))
        .for_each(|line| println!("{line}"));
    println!(
        "\n{} launches a step, {:.0} KiB in all at the peak, on {}\n",
        session.step_plan().launches(),
        session.memory_bytes() as f64 / 1024.0,
        session.backend().name()
    );
}
