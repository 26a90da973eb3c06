//! A graph in the language of Graphviz.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::items::{Item, Kind, items};
use crate::graph::Graph;

/// The items of a scope, and the scopes inside of it.
#[derive(Default)]
struct Scope {
    items: Vec<usize>,
    inner: BTreeMap<String, Scope>,
}

impl Graph {
    /// The graph in the language of Graphviz: one box an operation, with its type; scopes are boxes
    /// around them, backward operations are dashed.
    ///
    /// ```
    /// use backprop_core::DType::F32;
    /// use backprop_graph::Graph;
    ///
    /// let g = Graph::new();
    /// let x = g.input("x", [2, 3], F32);
    /// let _ = g.scope("layer", |_| x.softmax(-1));
    /// let dot = g.dot(); // $ dot -Tsvg graph.dot -o graph.svg
    /// assert!(dot.contains(r#"n1 [label="softmax\nf32[2, 3]"]"#));
    /// assert!(dot.contains("n0 -> n1"));
    /// ```
    #[must_use]
    pub fn dot(&self) -> String {
        let items = items(&self.ir.borrow());
        let mut root = Scope::default();
        for (number, item) in items.iter().enumerate() {
            let mut scope = &mut root;
            for part in item.scope.split('.').filter(|part| !part.is_empty()) {
                scope = scope.inner.entry(part.to_owned()).or_default();
            }
            scope.items.push(number);
        }
        let mut text = "digraph graph_of_operations {\nrankdir=LR; node [shape=box];\n".to_owned();
        write_scope(&mut text, &items, &root, "cluster");
        for (number, item) in items.iter().enumerate() {
            for input in &item.inputs {
                let _ = writeln!(text, "n{input} -> n{number};");
            }
        }
        text + "}\n"
    }
}

/// Writes a scope; scopes nest as deep as the user's blocks do.
fn write_scope(text: &mut String, items: &[Item], scope: &Scope, id: &str) {
    for &number in &scope.items {
        let item = &items[number];
        let style = match item.kind {
            Kind::Input => ", shape=ellipse",
            Kind::Parameter => ", shape=ellipse, style=filled",
            Kind::Forward => "",
            Kind::Backward => ", style=dashed",
        };
        let (name, tensor) = (quoted(&item.name), &item.tensor);
        let _ = writeln!(text, "n{number} [label=\"{name}\\n{tensor}\"{style}];");
    }
    for (i, (name, inner)) in scope.inner.iter().enumerate() {
        let id = format!("{id}_{i}");
        let _ = writeln!(text, "subgraph {id} {{\nlabel=\"{}\";", quoted(name));
        write_scope(text, items, inner, &id);
        text.push_str("}\n");
    }
}

/// Text inside of the quotes of the language.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
