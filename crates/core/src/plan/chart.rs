//! A plan's memory over time as a drawing.

use std::fmt::Write as _;

use super::{Buffer, Plan, Stay, Use, format_bytes};

/// The size of the drawing and of the part that shows the arena, in pixels.
const SIZE: (usize, usize) = (1000, 600);
const HEAD: usize = 70;
const MARGIN: usize = 10;

/// What is drawn in which colour.
const COLOURS: [(Use, &str, &str, &str); 4] = [
    (Use::Gradient, "gradient", "gradients", "#e0a030"),
    (Use::Saved, "saved", "saved activations", "#3b74b8"),
    (Use::Temporary, "temporary", "temporaries", "#7fb77e"),
    (Use::Scratch, "scratch", "scratch", "#b06aa8"),
];

impl Plan {
    /// The memory of a step over time as SVG: each value of the arena is a rectangle, from the line
    /// that makes it to the last one that reads it, at its place in the arena, lowest bytes at the
    /// bottom. What and where it is shows under the pointer.
    ///
    /// In the inner drawing a unit is one [line](Plan::lines) wide and one byte high.
    #[must_use]
    pub fn memory_chart(&self) -> String {
        let (width, height) = SIZE;
        let (lines, arena) = (self.lines().len().max(1), self.bytes(Buffer::Arena).max(1));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<style>\n"
        );
        for (_, class, _, colour) in COLOURS {
            let _ = writeln!(svg, ".{class} {{ fill: {colour} }}");
        }
        svg.push_str("</style>\n");
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"20\">{lines} launches over {} of temporaries; besides, {} of \
             parameters, {} of inputs and results</text>",
            format_bytes(arena),
            format_bytes(self.bytes(Buffer::State)),
            format_bytes(self.bytes(Buffer::Io)),
        );
        for (i, (_, class, name, _)) in COLOURS.iter().enumerate() {
            let x = MARGIN + i * 170;
            let _ = writeln!(
                svg,
                "<circle class=\"{class}\" cx=\"{}\" cy=\"45\" r=\"6\"/><text x=\"{}\" y=\"50\">{name}\
                 </text>",
                x + 6,
                x + 18
            );
        }
        let _ = writeln!(
            svg,
            "<svg x=\"{MARGIN}\" y=\"{HEAD}\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {lines} {arena}\" \
             preserveAspectRatio=\"none\">",
            width - 2 * MARGIN,
            height - HEAD - MARGIN
        );
        for stay in self.stays() {
            self.draw(&mut svg, &stay, arena);
        }
        svg.push_str("</svg>\n</svg>\n");
        svg
    }

    fn draw(&self, svg: &mut String, stay: &Stay, arena: usize) {
        let class = COLOURS.iter().find(|(holds, ..)| *holds == stay.holds);
        let class = class.map_or("", |(_, class, ..)| class);
        let Stay {
            first, last, span, ..
        } = *stay;
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{first}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}\
             </title></rect>",
            arena.saturating_sub(span.offset + span.bytes),
            last - first + 1,
            span.bytes,
            escaped(&self.title(stay))
        );
    }

    /// What a stay is, in words: the value or the kernel, its bytes, its lines and its place.
    fn title(&self, stay: &Stay) -> String {
        let lines = self.lines();
        let value = stay.value.map(|id| &self.values()[id.index()]);
        let what = match value {
            Some(value) => format!("{} {}", value.name, value.tensor),
            None => {
                let primitive = lines[stay.first].primitive;
                format!("scratch of {}", self.primitives()[primitive].name())
            }
        };
        let bytes = format_bytes(stay.span.bytes);
        let mut text = format!("{what}: {bytes}, lines {} to {}", stay.first, stay.last);
        if let Some(place) = lines[stay.first].place {
            let _ = write!(text, ", {place}");
        }
        text
    }
}

/// Text between the tags of XML.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;")
}
