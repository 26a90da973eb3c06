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
    /// The first panel's strong curves, drawn with braille dots in about `columns` by `rows`
    /// characters.
    pub(crate) fn terminal(&self, columns: usize, rows: usize) -> String {
        terminal::draw(self, columns, rows)
    }

    /// All panels as an SVG document.
    pub(crate) fn svg(&self) -> String {
        svg::draw(self)
    }

    fn x_axis(&self) -> scale::Axis {
        let curves = self.panels.iter().flat_map(|panel| &panel.curves);
        let points = curves.flat_map(|curve| &curve.points);
        scale::Axis::over(Scale::Linear, points.map(|&(x, _)| x))
    }
}

impl Panel {
    fn y_axis<'a>(&'a self, shown: impl Fn(&Curve) -> bool + 'a) -> scale::Axis {
        let curves = self.curves.iter().filter(move |curve| shown(curve));
        let points = curves.flat_map(|curve| &curve.points);
        scale::Axis::over(self.scale, points.map(|&(_, y)| y))
    }
}
