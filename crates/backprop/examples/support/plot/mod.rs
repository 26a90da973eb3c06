//! Curves, for the terminal and as SVG. Both read the same charts and share the scales, so that
//! they show the same numbers.

mod scale;
mod svg;
mod terminal;

pub(crate) use scale::Scale;

/// One or more panels over the same horizontal axis.
pub(crate) struct Chart {
    /// What the horizontal axis counts.
    pub x: &'static str,
    pub x_scale: Scale,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

/// Curves over one vertical axis, later ones on top.
pub(crate) struct Panel {
    pub title: &'static str,
    pub scale: Scale,
    /// What is written behind the numbers of the vertical axis, as in `%`.
    pub unit: &'static str,
    pub curves: Vec<Curve>,
}

/// Points joined by lines. Curves of the same label have the same colour; a strong one bears its
/// label. A point that is not finite leaves a gap.
pub(crate) struct Curve {
    pub label: &'static str,
    pub stroke: Stroke,
    pub points: Vec<(f64, f64)>,
}

/// How much a curve stands out.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Stroke {
    Faint,
    Strong,
}

impl Chart {
    /// Panels over a linear axis.
    pub(crate) fn new(x: &'static str, panels: Vec<Panel>) -> Self {
        Self {
            x,
            x_scale: Scale::Linear,
            panels,
        }
    }

    /// The first panel's strong curves, drawn with braille dots in about `columns` by `rows`
    /// characters. Where there are several, the name of each stands beside its end.
    pub(crate) fn terminal(&self, columns: usize, rows: usize) -> String {
        let first = self.panels.first();
        first.map_or_else(String::new, |panel| {
            terminal::draw(self, panel, [columns, rows])
        })
    }

    /// Every panel as [`terminal`](Chart::terminal) draws the first, one under the other.
    pub(crate) fn terminal_panels(&self, columns: usize, rows: usize) -> String {
        let panels = self.panels.iter();
        let drawn: Vec<String> = panels
            .map(|panel| terminal::draw(self, panel, [columns, rows]))
            .collect();
        drawn.join("\n")
    }

    /// All panels as an SVG document.
    pub(crate) fn svg(&self) -> String {
        svg::draw(self)
    }

    fn x_axis(&self) -> scale::Axis {
        let curves = self.panels.iter().flat_map(|panel| &panel.curves);
        let points = curves.flat_map(|curve| &curve.points);
        scale::Axis::over(self.x_scale, points.map(|&(x, _)| x))
    }
}

impl Panel {
    /// Curves of numbers that have no unit.
    pub(crate) fn new(title: &'static str, scale: Scale, curves: Vec<Curve>) -> Self {
        Self {
            title,
            scale,
            unit: "",
            curves,
        }
    }

    fn y_axis<'a>(&'a self, shown: impl Fn(&Curve) -> bool + 'a) -> scale::Axis {
        let curves = self.curves.iter().filter(move |curve| shown(curve));
        let points = curves.flat_map(|curve| &curve.points);
        scale::Axis::over(self.scale, points.map(|&(_, y)| y))
    }
}

impl Curve {
    pub(crate) fn new(label: &'static str, stroke: Stroke, points: Vec<(f64, f64)>) -> Self {
        Self {
            label,
            stroke,
            points,
        }
    }
}

/// Moves ascending places apart, so that labels there do not cover one another: by at least `apart`,
/// within `low..=high` as far as there is room.
fn spread(places: &mut [f64], apart: f64, (low, high): (f64, f64)) {
    let mut free = low;
    for place in places.iter_mut() {
        *place = place.max(free);
        free = *place + apart;
    }
    let mut free = high;
    for place in places.iter_mut().rev() {
        *place = place.min(free);
        free = *place - apart;
    }
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn labels_keep_apart_and_within() {
        #[track_caller]
        fn check(mut places: [f64; 3], expected: [f64; 3]) {
            spread(&mut places, 2.0, (0.0, 10.0));
            assert_eq!(places, expected);
        }
        check([1.0, 4.0, 9.0], [1.0, 4.0, 9.0]);
        check([1.0, 2.0, 2.5], [1.0, 3.0, 5.0]);
        check([-1.0, 9.5, 10.0], [0.0, 8.0, 10.0]);
    }
}
