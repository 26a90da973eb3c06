//! A graph as something to look at: a drawing, or a page for a browser.

mod dot;
mod items;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::graph::Graph;
use crate::session::{Profile, escaped};
use items::{Item, items};

/// What a [page](Graph::page) shows besides the graph.
#[derive(Clone, Copy, Debug, Default)]
pub struct Page<'p> {
    /// The title.
    pub title: &'p str,
    /// Where the time of a step goes, for each line of the user's source.
    pub profile: Option<&'p Profile>,
}

impl Graph {
    /// The graph as one HTML page that needs nothing else: its operations by scope, which can be folded,
    /// searched by name, type and place, and gone through along their operands, users and gradients.
    /// An operation shows its type, bytes, place and scope, and with a profile the time of a step that
    /// its line takes, its gradient included.
    ///
    /// ```
    /// use backprop_core::DType::F32;
    /// use backprop_graph::{Graph, Page};
    ///
    /// let g = Graph::new();
    /// let _ = g.input("x", [2, 3], F32).softmax(-1);
    /// let html = g.page(Page { title: "softmax", ..Page::default() });
    /// assert!(html.starts_with("<!DOCTYPE html>"));
    /// // std::fs::write("graph.html", html)?;
    /// ```
    #[must_use]
    pub fn page(&self, page: Page<'_>) -> String {
        let items = items(&self.ir.borrow());
        let mut data = "[".to_owned();
        for (number, item) in items.iter().enumerate() {
            let comma = if number == 0 { "\n" } else { ",\n" };
            data.push_str(comma);
            write_item(&mut data, item, page.profile);
        }
        data.push_str("\n]");
        // Nothing in the data ends the script that it is in.
        let data = data.replace('<', "\\u003c");
        let title = match page.title {
            "" => "graph",
            title => title,
        };
        let title = title.replace('&', "&amp;").replace('<', "&lt;");
        TEMPLATE.replace("{title}", &title).replace("{data}", &data)
    }
}

const TEMPLATE: &str = include_str!("page.html");

/// Writes an item as JSON.
fn write_item(text: &mut String, item: &Item, profile: Option<&Profile>) {
    let inputs: Vec<String> = item.inputs.iter().map(usize::to_string).collect();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{{\"kind\":\"{}\",\"name\":\"{}\",\"type\":\"{}\",\"bytes\":{},\"place\":\"{}\",\"scope\":\"{}\",\
         \"nodes\":{},\"inputs\":[{}]",
        item.kind.name(),
        escaped(&item.name),
        escaped(&item.tensor),
        item.bytes,
        escaped(&item.place.to_string()),
        escaped(&item.scope),
        item.nodes,
        inputs.join(",")
    );
    if let Some(of) = item.of {
        let _ = write!(text, ",\"of\":{of}");
    }
    if let Some(micros) = profile.and_then(|profile| time(item, profile)) {
        let _ = write!(text, ",\"us\":{micros:.2}");
    }
    text.push('}');
}

/// The time that an item's line takes in a step, in microseconds.
fn time(item: &Item, profile: &Profile) -> Option<f64> {
    let mut lines: BTreeMap<&str, f64> = BTreeMap::new();
    for line in profile
        .lines()
        .iter()
        .filter(|line| line.place == Some(item.place))
    {
        *lines.entry(&line.scope).or_default() += profile.micros_a_step(line);
    }
    lines.get(item.path.as_str()).copied()
}
