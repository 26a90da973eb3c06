//! The same curves as a figure: one panel under the other, thin grid lines, and the last value
//! written at the end of each curve instead of a legend.

use super::scale::Axis;
use super::{Chart, Curve, Panel, Stroke, spread};

const WIDTH: f64 = 720.0;
const LEFT: f64 = 64.0;
/// Room for the names of curves: so much at least, and for each character about so much.
const MARGIN: f64 = 128.0;
const CHARACTER: f64 = 7.0;
const TOP: f64 = 48.0;
const PANEL: f64 = 180.0;
const GAP: f64 = 64.0;
const BOTTOM: f64 = 52.0;
/// One for each name of a curve, the same in all panels.
const COLOURS: [&str; 6] = [
    "#2563eb", "#d97706", "#059669", "#7c3aed", "#dc2626", "#0891b2",
];
const STYLE: &str = "text{font:12px system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#4b5563}\
    .title{font-size:14px;font-weight:600;fill:#111827}.label{font-weight:600;fill:inherit}\
    .grid{stroke:#e5e7eb}.axis{stroke:#9ca3af}\
    polyline{fill:none;stroke-linejoin:round;stroke-linecap:round}";

pub(crate) fn draw(chart: &Chart) -> String {
    let panels = chart.panels.len() as f64;
    let height = TOP + panels * PANEL + (panels - 1.0).max(0.0) * GAP + BOTTOM;
    let x = chart.x_axis();
    let right = WIDTH - margin(chart);
    let mut drawn = String::new();
    for (i, panel) in chart.panels.iter().enumerate() {
        let y = panel.y_axis(|_| true).padded(0.04);
        let frame = Frame {
            chart,
            x: &x,
            y: &y,
            top: TOP + i as f64 * (PANEL + GAP),
            right,
        };
        drawn += &frame.panel(panel);
    }
    let name = text((LEFT + right) / 2.0, height - 12.0, "middle", "", chart.x);
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' \
         viewBox='0 0 {WIDTH} {height}'>\n<style>{STYLE}</style>\n\
         <rect width='100%' height='100%' fill='#ffffff'/>\n{drawn}{name}</svg>\n"
    )
}

/// Room for the longest of the labels at the ends of curves.
fn margin(chart: &Chart) -> f64 {
    let panels = chart.panels.iter();
    let labels = panels.flat_map(|panel| {
        let strong = panel.curves.iter().filter(|curve| is_strong(curve));
        strong.map(|curve| curve.label.chars().count() + " 0.123".len() + panel.unit.len())
    });
    let longest = labels.max().unwrap_or(0) as f64;
    (16.0 + CHARACTER * longest).clamp(MARGIN, WIDTH / 2.0)
}

fn is_strong(curve: &Curve) -> bool {
    curve.stroke == Stroke::Strong
}

/// Where the values of a panel lie on the page.
struct Frame<'a> {
    chart: &'a Chart,
    x: &'a Axis,
    y: &'a Axis,
    top: f64,
    right: f64,
}

impl Frame<'_> {
    fn panel(&self, panel: &Panel) -> String {
        let title = text(LEFT, self.top - 14.0, "start", "title", panel.title);
        let curves: String = panel.curves.iter().map(|curve| self.curve(curve)).collect();
        [title, self.grid(panel.unit), curves, self.end_labels(panel)].concat()
    }

    fn colour(&self, curve: &Curve) -> &'static str {
        let mut names: Vec<&str> = Vec::new();
        for curve in self.chart.panels.iter().flat_map(|panel| &panel.curves) {
            if !names.contains(&curve.label) {
                names.push(curve.label);
            }
        }
        let index = names.iter().position(|name| *name == curve.label);
        COLOURS[index.unwrap_or(0) % COLOURS.len()]
    }

    fn across(&self, value: f64) -> Option<f64> {
        Some(LEFT + self.x.position(value)? * (self.right - LEFT))
    }

    fn down(&self, value: f64) -> Option<f64> {
        Some(self.top + (1.0 - self.y.position(value)?) * PANEL)
    }

    fn grid(&self, unit: &str) -> String {
        let bottom = self.top + PANEL;
        let rows = self.y.ticks(6).into_iter().filter_map(|(value, label)| {
            let y = self.down(value)?;
            let number = text(LEFT - 8.0, y + 4.0, "end", "", &format!("{label}{unit}"));
            Some(line("grid", (LEFT, y), (self.right, y)) + &number)
        });
        let columns = self.x.ticks(8).into_iter().filter_map(|(value, label)| {
            let x = self.across(value)?;
            let number = text(x, bottom + 18.0, "middle", "", &label);
            Some(line("axis", (x, bottom), (x, bottom + 4.0)) + &number)
        });
        let base = line("axis", (LEFT, bottom), (self.right, bottom));
        rows.chain(columns).chain([base]).collect()
    }

    /// One polyline for each run of points without a gap.
    fn curve(&self, curve: &Curve) -> String {
        let colour = self.colour(curve);
        let (width, opacity) = match curve.stroke {
            Stroke::Faint => (1.0, 0.3),
            Stroke::Strong => (2.0, 1.0),
        };
        let place =
            |&(x, y): &(f64, f64)| Some(format!("{:.1},{:.1}", self.across(x)?, self.down(y)?));
        let places: Vec<Option<String>> = curve.points.iter().map(place).collect();
        let runs = places.split(Option::is_none).filter(|run| !run.is_empty());
        let polyline = |run: &[Option<String>]| {
            let points = run
                .iter()
                .flatten()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(" ");
            format!(
                "<polyline stroke='{colour}' stroke-width='{width}' opacity='{opacity}' points='{points}'/>\n"
            )
        };
        runs.map(polyline).collect()
    }

    /// The name and last value of each strong curve, kept apart where curves end close together.
    fn end_labels(&self, panel: &Panel) -> String {
        let last = |curve: &Curve| {
            curve
                .points
                .iter()
                .rev()
                .find_map(|&(_, y)| Some((self.down(y)?, y)))
        };
        let strong = panel.curves.iter().filter(|curve| is_strong(curve));
        let mut labels: Vec<_> = strong
            .filter_map(|curve| {
                let (y, value) = last(curve)?;
                let words = format!("{} {}{}", curve.label, three_digits(value), panel.unit);
                Some((y, words, self.colour(curve)))
            })
            .collect();
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut places: Vec<f64> = labels.iter().map(|label| label.0).collect();
        spread(&mut places, 16.0, (self.top, self.top + PANEL));
        let label = |((_, words, colour), y): ((f64, String, &str), f64)| {
            format!(
                "<g fill='{colour}'>{}</g>\n",
                text(self.right + 8.0, y + 4.0, "start", "label", &words).trim_end()
            )
        };
        labels.into_iter().zip(places).map(label).collect()
    }
}

/// The value with three digits that mean something.
fn three_digits(value: f64) -> String {
    if value != 0.0 && !(1e-6..1e6).contains(&value.abs()) {
        return format!("{value:.2e}");
    }
    let magnitude = if value == 0.0 {
        0.0
    } else {
        value.abs().log10().floor()
    };
    format!("{value:.*}", (2.0 - magnitude).clamp(0.0, 12.0) as usize)
}

fn line(class: &str, from: (f64, f64), to: (f64, f64)) -> String {
    let ((x1, y1), (x2, y2)) = (from, to);
    format!("<line class='{class}' x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}'/>\n")
}

fn text(x: f64, y: f64, anchor: &str, class: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text class='{class}' x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{words}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::super::Scale;
    use super::*;

    #[test]
    fn writes_three_digits() {
        #[track_caller]
        fn check(value: f64, written: &str) {
            assert_eq!(three_digits(value), written);
        }
        check(100.0, "100");
        check(93.06, "93.1");
        check(-1.5, "-1.50");
        check(0.000_451_2, "0.000451");
        check(0.0, "0.00");
        check(12345.0, "12345");
        check(4.512e-20, "4.51e-20");
    }

    #[test]
    fn draws_panels_with_gaps_and_labels() {
        let points = vec![(0.0, 2.0), (1.0, 1.0), (2.0, f64::NAN), (3.0, 0.5)];
        let curve = |stroke, label| Curve {
            label,
            stroke,
            points: points.clone(),
        };
        let curves = vec![curve(Stroke::Faint, "each"), curve(Stroke::Strong, "a < b")];
        let panel = |title| Panel {
            title,
            scale: Scale::Log,
            unit: "%",
            curves: vec![],
        };
        let chart = Chart {
            x: "epoch",
            x_scale: Scale::Linear,
            panels: vec![
                Panel {
                    curves,
                    ..panel("loss")
                },
                panel("none"),
            ],
        };
        let svg = chart.svg();
        assert_eq!(
            svg.matches("<polyline").count(),
            4,
            "a gap splits each of two curves"
        );
        assert!(svg.contains(">a &lt; b 0.500%<"), "{svg}");
        assert!(!svg.contains(">each"), "only strong curves are named");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("</svg>").count(), 1);
    }
}
