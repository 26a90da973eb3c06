//! A table of parameters and of what a plan does.

use std::fmt::Write as _;

use backprop_core::Plan;
use backprop_core::plan::{Buffer, format_bytes};

use crate::ir::Ir;

pub(crate) fn table(ir: &Ir, plan: &Plan) -> String {
    let mut text = String::new();
    let width = ir
        .parameters
        .iter()
        .map(|p| p.name.len())
        .max()
        .unwrap_or(0)
        .max(9);
    let _ = writeln!(
        text,
        "{:width$}  {:<18} {:>10} {:>11}",
        "parameter", "type", "elements", "bytes"
    );
    let (mut elements, mut bytes) = (0, 0);
    for parameter in &ir.parameters {
        let tensor = ir.node(parameter.node).tensor();
        elements += tensor.shape.count();
        bytes += tensor.bytes();
        let kind = tensor.to_string();
        let size = format_bytes(tensor.bytes());
        let count = tensor.shape.count();
        let _ = writeln!(
            text,
            "{:width$}  {kind:<18} {count:>10} {size:>11}",
            parameter.name
        );
    }
    let _ = writeln!(
        text,
        "{:width$}  {:<18} {elements:>10} {:>11}",
        "all",
        "",
        format_bytes(bytes)
    );
    let kinds: Vec<String> = plan
        .launches_by_kind()
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    let arena = format_bytes(plan.bytes(Buffer::Arena));
    let _ = writeln!(text, "a step: {}; {arena} of temporaries", kinds.join(", "));
    text
}
